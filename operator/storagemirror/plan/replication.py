"""What spec.replication says, as the order of a source agent says it; and what its report says, as the status does."""

from __future__ import annotations

import math

from storagemirror.api.durations import seconds
from storagemirror.api.replication import PointStatus, QueueLevel, QueueLimits, QueueStatus, Replication
from storagemirror.contract import CompareBy, PointsMade, Queued, QueueOrder, ReplicationMode, ReplicationOrder
from storagemirror.plan.quantities import quantity


def replication_order(replication: Replication, mode: ReplicationMode, run: str | None) -> ReplicationOrder:
    """For a source agent: in `mode` just now, with the run that is due."""
    return ReplicationOrder(
        consistency=replication.consistency,
        interval_seconds=seconds(replication.point_interval),
        max_stall_seconds=seconds(replication.max_stall),
        mode=mode,
        run=run,
        queue=QueueOrder(memory=_bytes(replication.queue.memory), disk=_bytes(replication.queue.disk)),
        remirror=None if replication.remirror is None else CompareBy(replication.remirror.value),
    )


def point_status(made: PointsMade | None) -> PointStatus | None:
    """None where no points are made."""
    if made is None:
        return None
    return PointStatus(
        number=made.number,
        at=made.at,
        group=made.group,
        made=made.made,
        put_off=made.put_off,
        why=made.why,
        stall_p50_milliseconds=_milliseconds(made.stall_p50),
        stall_p99_milliseconds=_milliseconds(made.stall_p99),
        interval_seconds=None if made.interval_seconds is None else math.ceil(made.interval_seconds),
        told_again=made.told_again,
        missed=made.missed,
        untraced=made.untraced,
    )


def queue_status(queued: Queued | None, limits: QueueLimits) -> QueueStatus | None:
    """None where the agent has not said."""
    if queued is None:
        return None
    level = QueueLevel.NORMAL
    if queued.overflowed:
        level = QueueLevel.OVERFLOWED
    elif queued.percent >= limits.alert_percent:
        level = QueueLevel.ALERT
    return QueueStatus(
        level=level,
        percent=min(100, queued.percent),
        memory_bytes=queued.memory_bytes,
        disk_bytes=queued.disk_bytes,
        names=queued.names,
        overflows=queued.overflows,
    )


def _bytes(text: str) -> int:
    return math.ceil(quantity(text))


def _milliseconds(found: float | None) -> int | None:
    return None if found is None else round(found * 1000)
