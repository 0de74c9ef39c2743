"""What spec.replication says, as the order of a source agent says it; and what its report says, as the status does."""

from __future__ import annotations

from storagemirror.api.durations import seconds
from storagemirror.api.replication import PointStatus, Replication
from storagemirror.contract import PointsMade, ReplicationMode, ReplicationOrder


def replication_order(replication: Replication, mode: ReplicationMode, run: str | None) -> ReplicationOrder:
    """For a source agent: in `mode` just now, with the run that is due."""
    return ReplicationOrder(
        consistency=replication.consistency,
        interval_seconds=seconds(replication.point_interval),
        max_stall_seconds=seconds(replication.max_stall),
        mode=mode,
        run=run,
    )


def point_status(made: PointsMade | None) -> PointStatus | None:
    """None where no points are made."""
    if made is None:
        return None
    return PointStatus(
        number=made.number,
        at=made.at,
        made=made.made,
        put_off=made.put_off,
        why=made.why,
        stall_p50_milliseconds=_milliseconds(made.stall_p50),
        stall_p99_milliseconds=_milliseconds(made.stall_p99),
        missed=made.missed,
        untraced=made.untraced,
    )


def _milliseconds(found: float | None) -> int | None:
    return None if found is None else round(found * 1000)
