"""Volumes whose points are of one moment: who belongs together, who leads, and which moment all copies can be at.

A target holds a point of the group back until all targets have theirs: its copy can be at the one before, where it is,
or at the one that it holds. Where one copy is at a point of the group already, all others are at it or hold it, unless
a source's agent was replaced meanwhile. So there is mostly a point that all can be at, and a promotion settles on it.

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


def settled(point: CopyPoint, group: int | None) -> CopyPoint:
    """What the copy is once its target has settled on the point of the group with this number; None: as it is."""
    if group is None or point.held_group != group:
        return point
    return CopyPoint(
        promotable=True,
        number=point.held_number,
        at=point.held_at,
        group=point.held_group,
        group_at=point.held_group_at,
    )


def common_group(views: Sequence[View], targets: Sequence[Report | None]) -> int | None:
    """Number of the latest point of the group that every copy is at, or can be brought to; None: there is none, or it
    is no group. `targets` as for `points_differ`."""
    if not views or not grouped(views[0].observed.pair) or not all(map(by_points, views)):
        return None
    points = [report.copy_point for report in targets if report is not None and report.copy_point is not None]
    return latest_common(points) if len(points) == len(views) else None


def latest_common(points: Sequence[CopyPoint]) -> int | None:
    """Number of the latest point of the group that all of these copies are at, or can be brought to."""
    common = set.intersection(*map(_reached, points)) if points else set()
    held = {point.held_group for point in points}
    # Of two that all can be at, one is held by all: that is the later one, whatever a clock was set to between.
    return max(common, key=lambda group: (group in held, group), default=None)


def _reached(point: CopyPoint) -> set[int]:
    """Numbers of the group's points that the copy is at, or can be brought to."""
    at = {point.group} if point.promotable and point.group is not None else set()
    return at if point.held_group is None else at | {point.held_group}


def points_differ(views: Sequence[View], targets: Sequence[Report | None], *, drained: bool = False) -> str:
    """Why the copies of a pair's volumes cannot be of one moment, as a sentence; empty where they can, need not be, or
    are about to.

    `targets`: what their agents say now. `drained`: all have taken in what had come, so that nothing more changes."""
    if not views or not grouped(views[0].observed.pair) or not all(map(by_points, views)):
        return ""
    points = [report.copy_point if report is not None else None for report in targets]
    known = [point for point in points if point is not None and point.promotable]
    if len(known) < len(views):
        return ""  # which of them is none, and why, is told of each
    if common_group(views, targets) is not None:
        return ""
    if not drained and _flowing(views, targets, known):
        return ""
    each = "; ".join(f"{view.name} at {_named(point)}" for view, point in zip(views, known, strict=True))
    return f"The copies of the volumes are of different moments: {each}."


def _named(point: CopyPoint) -> str:
    if point.group is None:
        return f"a point of its own, of {point.at}"
    held = "" if point.held_group is None else f", and point {point.held_group} held back"
    return f"the group's point {point.group}, of {point.group_at}{held}"


def _flowing(views: Sequence[View], targets: Sequence[Report | None], points: Sequence[CopyPoint]) -> bool:
    """Whether the next point is about to make them one."""
    peers = [report.peer for report in targets if report is not None]
    if not any(peer is not None and peer.state is PeerState.CONNECTED for peer in peers):
        return False
    latest = max((at for point in points if (at := read(point.at)) is not None), default=None)
    interval = seconds(views[0].observed.pair.spec.replication.point_interval)
    return latest is not None and views[0].now - latest < timedelta(seconds=max(FLOWING_SECONDS, 3 * interval))
