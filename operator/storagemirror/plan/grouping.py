"""Volumes whose points are of one moment: who belongs together, who leads, and whether copies are of the same moment.

A pair is one application, so all of its volumes are one group where it asks for points that follow each other. Of
points in runs (`mode` Scheduled and Manual) each volume has its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from storagemirror.api.durations import seconds
from storagemirror.api.mirrorpair import MirrorPair
from storagemirror.contract import Consistency, CopyPoint, GroupOrder, Peer, PeerState, ReplicationMode, Report, Role
from storagemirror.plan.pointed import by_points
from storagemirror.plan.times import read
from storagemirror.plan.view import View

FLOWING_SECONDS = 30.0
"""While points come, one copy is at the next point before another is, and what agents say of it is some seconds old.
Only where the latest is older than this, and than three intervals, they are taken to differ for good."""


def grouped(pair: MirrorPair) -> bool:
    """Whether the points of its volumes are to be of one moment."""
    replication = pair.spec.replication
    follows = replication.mode is ReplicationMode.CONTINUOUS
    return replication.consistency is Consistency.POINT and follows and len(pair.spec.volumes) > 1


def group_order(view: View, which: Role) -> GroupOrder | None:
    """For the agent of a volume; None where its points are its own, or it makes none."""
    pair = view.observed.pair
    if which is not Role.SOURCE or view.turned or view.elsewhere or not grouped(pair):
        return None
    lead = pair.spec.volumes[0]
    members = tuple(volume.name for volume in pair.spec.volumes)
    if view.volume.name == lead.name:
        return GroupOrder(members=members)
    pod = View(view.observed, lead, view.now).current_pod(Role.SOURCE)
    there = pod is not None and not pod.leaving and pod.status.pod_ip
    return GroupOrder(members=members, peer=Peer(address=there) if there else None)


def others_are_written(view: View) -> bool:
    """Whether somebody uses another volume of the group: without this one's agent there would be no points of it."""
    pair = view.observed.pair
    if view.elsewhere or view.turned or not grouped(pair):
        return False
    return any(View(view.observed, volume, view.now).writers for volume in pair.spec.volumes)


def points_differ(views: Sequence[View], targets: Sequence[Report | None], *, drained: bool = False) -> str:
    """Why the copies of a pair's volumes are not of one moment, as a sentence; empty where they are, need not be, or
    are about to be.

    `targets`: what their agents say now. `drained`: all have taken in what had come, so that nothing more changes."""
    if not views or not grouped(views[0].observed.pair) or not all(map(by_points, views)):
        return ""
    points = [report.copy_point if report is not None else None for report in targets]
    known = [point for point in points if point is not None and point.promotable]
    if len(known) < len(views):
        return ""  # which of them is none, and why, is told of each
    if len({(point.group, point.group_at) for point in known}) == 1 and known[0].group is not None:
        return ""
    if not drained and _flowing(views, targets, known):
        return ""
    each = "; ".join(f"{view.name} at {_named(point)}" for view, point in zip(views, known, strict=True))
    return f"The copies of the volumes are of different moments: {each}."


def _named(point: CopyPoint) -> str:
    if point.group is None:
        return f"a point of its own, of {point.at}"
    return f"the group's point {point.group}, of {point.group_at}"


def _flowing(views: Sequence[View], targets: Sequence[Report | None], points: Sequence[CopyPoint]) -> bool:
    """Whether the next point is about to make them one."""
    peers = [report.peer for report in targets if report is not None]
    if not any(peer is not None and peer.state is PeerState.CONNECTED for peer in peers):
        return False
    latest = max((at for point in points if (at := read(point.at)) is not None), default=None)
    interval = seconds(views[0].observed.pair.spec.replication.point_interval)
    return latest is not None and views[0].now - latest < timedelta(seconds=max(FLOWING_SECONDS, 3 * interval))
