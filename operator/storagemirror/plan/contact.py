"""When the source was last heard, and how far behind the copy was then.

Both ends of a lag are on the source's clock: what its last word said the time was, and up to when the copy has
everything. The time of the outage itself does not count, and what is not known is not zero.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from storagemirror.contract import PeerSeen, PeerState, Role
from storagemirror.plan.grouping import settled
from storagemirror.plan.lifecycle import SILENT_SECONDS
from storagemirror.plan.pointed import content_unknown, copy_point_status
from storagemirror.plan.times import later, read
from storagemirror.plan.view import View
from storagemirror.plan.volumes import heard_report


@dataclass(frozen=True)
class Contact:
    """Of one volume, or of all of a pair's. None: not known."""

    last_heard: str | None
    """On the target agent's clock."""
    lag_seconds: int | None
    """Rounded up."""
    synced_through: str | None
    lag_bytes: int | None


def peer_of(view: View) -> PeerSeen | None:
    """What the target agent says of its source agent now; None while it is not heard."""
    report = heard_report(view, Role.TARGET)
    return report.peer if report is not None else None


def lost(view: View) -> bool:
    """Whether the target agent has missed its source for interval × missed."""
    peer = peer_of(view)
    return peer is not None and peer.state is PeerState.LOST


def connected(view: View) -> bool:
    """Whether the target agent hears its source."""
    peer = peer_of(view)
    return peer is not None and peer.state is PeerState.CONNECTED


def source_silent(view: View, seconds: float = SILENT_SECONDS) -> bool:
    """Whether the source agent's Lease has not moved for `seconds`, by our own clock while we listened."""
    heard = view.heard(Role.SOURCE)
    return heard is not None and heard.silent_for >= seconds


def contact_of(view: View, group: int | None = None) -> Contact:
    """Of one volume: what the target agent says now, else what the status remembers. Of a copy that is kept by points:
    up to when it has everything, as a point. `group`: the point that all copies are brought to; None: as they are."""
    before, peer = view.before, peer_of(view)
    heard_at, source_time = before.last_contact, before.source_time
    if peer is not None and peer.source_time is not None:
        heard_at, source_time = peer.last_heard, peer.source_time
    through = view.past(before.synced_through)
    for report in (view.last_report(Role.SOURCE), view.last_report(Role.TARGET)):
        through = later(through, report.synced_through if report is not None else None)
    target = heard_report(view, Role.TARGET)
    if target is not None and target.copy_point is not None:
        target = msgspec.structs.replace(target, copy_point=settled(target.copy_point, group))
    point = copy_point_status(view, target)
    if point is not None and point.promotable:
        # What is not in the point is lost, whatever a mark of live changes once said.
        through = point.synced_through
    elif content_unknown(point):
        through = None
    last = view.last_report(Role.SOURCE)
    return Contact(heard_at, _lag(source_time, through), through, last.lag_bytes if last is not None else None)


def _lag(source_time: str | None, through: str | None) -> int | None:
    then, safe = read(source_time), read(through)
    return None if then is None or safe is None else max(0, math.ceil((then - safe).total_seconds()))


def worst_contact(contacts: Sequence[Contact]) -> Contact:
    """Of a whole pair: the largest lag, the earliest safe time; not known where any volume's is not."""
    lags = [c.lag_seconds for c in contacts]
    sizes = [c.lag_bytes for c in contacts]
    throughs = [c.synced_through for c in contacts]
    heard: str | None = None
    for c in contacts:
        heard = later(heard, c.last_heard)
    known = [t for t in throughs if t is not None]
    return Contact(
        heard,
        None if None in lags else max((lag for lag in lags if lag is not None), default=None),
        min(known) if len(known) == len(throughs) and known else None,
        None if None in sizes else sum(size for size in sizes if size is not None),
    )
