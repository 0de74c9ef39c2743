"""Whether a copy that is to be one moment of the source is one, and up to when it has what the source did.

A target's agent says of its own volume whether it is exactly a point. While a point is applied it is none, for a
moment; whatever is killed then, draining the copy finishes that point. So before anything is touched an agent that has
no trouble is trusted to do so, and what came of it is judged again when the copy is drained.
"""

from __future__ import annotations

from dataclasses import dataclass

from storagemirror.api.reasons import Reason
from storagemirror.api.replication import CopyPointStatus
from storagemirror.contract import Consistency, Report, Role
from storagemirror.plan.times import later
from storagemirror.plan.view import View

CONTENT_UNKNOWN = frozenset({Reason.BETWEEN_POINTS, Reason.SYNC_FAILED, Reason.JOURNAL_DAMAGED, Reason.TARGET_CHANGED})
"""Where a copy is none for one of these, nobody can say what is in it of what was acknowledged."""


@dataclass(frozen=True)
class NoPoint:
    """Why a copy is at no point."""

    reason: Reason
    message: str


def by_points(view: View) -> bool:
    """Whether the copy is to be one point: on the way to the target, where the pair asks for it."""
    wanted = view.observed.pair.spec.replication.consistency is Consistency.POINT
    return wanted and not view.turned and not view.elsewhere


def why_no_point(
    view: View, target: Report | None, *, drained: bool = False, group: int | None = None
) -> NoPoint | None:
    """Why the copy would not be promoted as a point; None where it would, or need not be one.

    `target` is what its agent says now. `drained`: it has taken in everything that had come, so that nothing more can
    make it one. `group`: the point that all copies of the pair can be brought to (`grouping.common_group`)."""
    if not by_points(view):
        return None
    found, name = target.copy_point if target is not None else None, view.name
    if found is None:
        return NoPoint(
            Reason.NO_POINT, f"The copy of volume {name} is at no point: none is known that was applied to it."
        )
    if found.promotable or (not drained and _being_applied(target)):
        return None
    if group is not None and found.held_group == group:
        return None  # it holds that one back
    reason = _known(found.reason)
    text = f"The copy of volume {name} is at no point ({found.reason or reason}): {found.message}."
    if reason in (Reason.MIRRORING, Reason.TARGET_CHANGED):
        text += " The next point after a mirror makes it one; a Failover promotes it as it is with "
        text += "spec.acceptLoss.noPoint."
    return NoPoint(reason, text)


def _being_applied(target: Report | None) -> bool:
    """Whether it is none only because a point is being applied, or will be as soon as it is drained."""
    found = target.copy_point if target is not None else None
    if target is None or found is None or target.problem is not None:
        return False
    return not found.promotable and found.reason == Reason.BETWEEN_POINTS


def _known(word: str) -> Reason:
    """An agent's word; one of a newer release says no more than that it is none."""
    try:
        return Reason(word)
    except ValueError:
        return Reason.AT_NO_POINT


def copy_point_status(view: View, target: Report | None) -> CopyPointStatus | None:
    """For the status: what is known of the copy now. None where none is asked for, and while nobody copies it.

    Of a point that is held back it says nothing: whether a promotion would take it depends on the other volumes. It
    would never take an earlier one than that which was applied."""
    if not by_points(view) or view.resting:
        return None
    before = view.before.copy_point
    found = target.copy_point if target is not None else None
    if target is None or (found is None and target.volume is None):
        return before  # its agent is not heard, or has not opened the volume yet
    if found is None:
        return CopyPointStatus(promotable=False, reason=Reason.NO_POINT, message="No point was ever applied.")
    if not found.promotable:
        if before is not None and before.promotable and _being_applied(target):
            return before
        return CopyPointStatus(promotable=False, reason=found.reason, message=found.message)
    through = later(found.at, _seen_through(view, found.number))
    if before is not None and before.promotable and (before.number, before.at) == (found.number, found.at):
        through = later(through, view.past(before.synced_through))
    return CopyPointStatus(
        promotable=True,
        number=found.number,
        at=found.at,
        group=found.group,
        group_at=found.group_at,
        synced_through=through,
    )


def _seen_through(view: View, number: int) -> str | None:
    """Up to when the source found nothing changed since that point; None where it does not say, or speaks of another
    one."""
    last = view.last_report(Role.SOURCE)
    same = last is not None and last.points is not None and last.points.number == number
    return last.synced_through if last is not None and same else None


def content_unknown(point: CopyPointStatus | None) -> bool:
    """Whether nobody can say what a copy that is at no point holds."""
    return point is not None and not point.promotable and _known(point.reason) in CONTENT_UNKNOWN
