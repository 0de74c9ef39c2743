"""The phases that only a restore has: Validating by rules of its own, Mirroring, AwaitingCutOver; and the end of a copy
elsewhere.

In all of them the application goes on where it lives. What is copied onto the source is no copy until it is whole; what
the old side had written is kept aside there before, by the agent that writes.
"""

from __future__ import annotations

from dataclasses import replace

from storagemirror.api.operation import CutOver, Diverged, OperationPhase
from storagemirror.api.reasons import Reason
from storagemirror.contract import Phase as AgentPhase
from storagemirror.contract import ProofStage, Report, Role
from storagemirror.plan.asking import BY_RESTORE, approved_by
from storagemirror.plan.contact import connected
from storagemirror.plan.course import proven
from storagemirror.plan.homecoming import NEVER, elsewhere_obstacle, home_obstacle
from storagemirror.plan.operating import LATER, SOON, Move, Stage, end, go, pace, stay
from storagemirror.plan.phases_before import cannot_fence, equal
from storagemirror.plan.phases_fence import reports
from storagemirror.plan.times import written
from storagemirror.plan.view import View
from storagemirror.plan.volumes import heard_report

HOME_SECONDS = 900.0
"""Seconds for which a restore may wait before it is begun: a node that comes back takes its time."""
AWAY = 15.0
"""Seconds for which an agent may be on its way without a word about it."""
DIVERGED = ".storagemirror/diverged"


def validating(stage: Stage) -> Move:
    """Until nothing stands in the way."""
    aside = stage.operation.elsewhere
    found = elsewhere_obstacle(stage) if aside else home_obstacle(stage)
    if found is not None:
        if found.reason in NEVER or stage.waited >= HOME_SECONDS:
            return end(stage, OperationPhase.FAILED, found.reason, f"Refused; nothing was touched: {found.message}")
        return stay(stage, found.reason, found.message, again=pace(stage))
    if aside:
        return go(stage, OperationPhase.MIRRORING, f"The {_live(stage)} is copied; nothing live is touched.")
    text = "What the old side wrote after it was cut off is kept aside; then the live side is copied back, and serves."
    return go(stage, OperationPhase.MIRRORING, text)


def mirroring(stage: Stage) -> Move:
    """Until the copy is whole and follows. However long that takes: the live side serves."""
    behind = [v for v in stage.views if not _follows(stage, v)]
    if not behind:
        return _whole(stage)
    if stage.observed.pair.spec.paused:
        return stay(stage, Reason.PAUSED, "The pair is paused.", again=pace(stage))
    reason, text = _waits(stage, behind)
    return stay(stage, reason, text, again=pace(stage))


def awaiting_cut_over(stage: Stage) -> Move:
    """Until a person says that the application may move; the copy follows meanwhile."""
    behind = [v for v in stage.views if not _follows(stage, v)]
    if behind:
        text = f"Volume {', '.join(v.name for v in behind)} does not follow any more; it is made whole again."
        return go(stage, OperationPhase.MIRRORING, text)
    by = _says_when(stage)
    if by is not None:
        return _prove(stage, by)
    text = "The source's volumes are whole and follow. The application moves home when a person says so."
    return stay(stage, Reason.AWAITING_CUT_OVER, text, again=max(LATER, pace(stage)))


def proving_elsewhere(stage: Stage) -> Move:
    """All of it, by checksum, while the application runs."""
    equality = equal(stage, ProofStage.LIVE)
    if proven(stage.operation, stage.volumes, ProofStage.LIVE):
        return go(stage, OperationPhase.DRAINING, "Proven equal; what has come is taken in, and the claims let go of.")
    if any(heard_report(v, Role.SOURCE) is None for v in stage.views) and stage.waited >= AWAY:
        return go(stage, OperationPhase.MIRRORING, "The live side's agent is not heard: it is begun again.")
    text = f"Compared by checksum; {len(equality)} of {len(stage.volumes)} volumes proven equal."
    return stay(stage, Reason.PROVING, text, again=SOON, also={"equality": equality})


def draining_elsewhere(stage: Stage) -> Move:
    """Until it is durable, and nobody's copy any more."""
    waiting = [v.name for v in stage.views if not reports(stage, v, AgentPhase.PROMOTED)]
    if waiting:
        text = f"Volume {', '.join(waiting)} is made durable and let go of."
        return stay(stage, Reason.DRAINING, text, again=pace(stage))
    claims = ", ".join(v.claim_name(Role.TARGET) for v in stage.views)
    text = f"Claim {claims} holds what the live side held; nothing live was touched."
    return end(stage, OperationPhase.COMPLETED, Reason.RESTORE_COMPLETED, text)


def noted(stage: Stage, move: Move) -> Move:
    """What the agents tell of a copy in every phase: what was kept aside, and what went over the wire."""
    told = {"diverged": _diverged(stage), "sent_bytes": _sent(stage)}
    return replace(move, operation=move.operation.model_copy(update=told))


def _sent(stage: Stage) -> int | None:
    """Bytes on the wire of the agents that read; None where that is not known."""
    found = [heard_report(v, Role.SOURCE) for v in stage.views]
    known = [r.bytes_sent for r in found if r is not None]
    before = stage.operation.sent_bytes
    if len(known) < len(found):
        return before
    return max(sum(known), before or 0)


def _whole(stage: Stage) -> Move:
    """What comes next once everything is copied."""
    by = _says_when(stage)
    if stage.operation.elsewhere or by is not None:
        return _prove(stage, by)
    text = "The source's volumes are whole and follow; a person says when the application moves."
    return go(stage, OperationPhase.AWAITING_CUT_OVER, text)


def _says_when(stage: Stage) -> str | None:
    """Who lets the application move; None while nobody does. As the Restore reads now: somebody may think again."""
    if stage.request is not None:
        return approved_by(stage.request, stage.observed.pair)
    return BY_RESTORE if stage.operation.cut_over is CutOver.AUTOMATIC else None


def _prove(stage: Stage, by: str | None) -> Move:
    if (found := cannot_fence(stage)) is not None:
        return stay(stage, found.reason, found.message, again=pace(stage))
    text = "Both are proven equal while the application runs."
    return go(stage, OperationPhase.PROVING, text, also={"approved_by": by})


def _follows(stage: Stage, view: View) -> bool:
    """Whether a volume is whole and follows; home, with what the old side wrote kept aside."""
    report = heard_report(view, Role.SOURCE)
    if report is None or report.epoch != stage.observed.pair.status.epoch or not connected(view):
        return False
    if report.phase is not AgentPhase.REPLICATING or report.mirrored_at is None:
        return False
    return stage.operation.elsewhere or any(d.volume == view.name for d in _diverged(stage))


def _diverged(stage: Stage) -> tuple[Diverged, ...]:
    """What was kept aside, as far as it has been told; what was told stays."""
    if stage.operation.elsewhere:
        return ()
    found = {d.volume: d for d in stage.operation.diverged}
    for view in stage.views:
        report = heard_report(view, Role.TARGET)
        kept = report.kept if report is not None else None
        if kept is None or kept.attempt != stage.operation.attempt:
            continue
        found[view.name] = Diverged(
            volume=view.name,
            epoch=kept.epoch,
            path=f"{DIVERGED}/{kept.epoch}",
            entries=kept.entries,
            bytes=kept.bytes,
            deleted=kept.deleted,
            first=kept.first[:16],
            complete=kept.known,
            at=kept.at or written(stage.now),
        )
    return tuple(found[name] for name in sorted(found))


def _waits(stage: Stage, behind: list[View]) -> tuple[Reason, str]:
    """Why it is not whole yet, for people."""
    names = {v.name for v in behind}
    whole = f"The {_live(stage)} is the live side, serves, and holds everything."
    verdicts = [v for judged in stage.judged if judged.view.name in names for v in judged.verdicts]
    hard = next((v for v in verdicts if v.stalled), None)
    if hard is not None:
        return _known(hard.reason), f"{hard.message} {whole}"
    for role, reason in ((Role.SOURCE, Reason.LIVE_SIDE_NOT_HEARD), (Role.TARGET, Reason.HOME_NOT_HEARD)):
        silent = [v.name for v in behind if heard_report(v, role) is None]
        if silent and stage.waited >= AWAY:
            side = stage.views[0].side(role).value.lower()
            why = f" {verdicts[0].message}" if verdicts else ""
            return reason, f"The agent of volume {', '.join(silent)} beside the {side} is not heard.{why} {whole}"
    text = "; ".join(_progress(v) for v in behind)
    return Reason.MIRRORING, f"{text}. The {_live(stage)} serves meanwhile."


def _known(word: Reason | str) -> Reason:
    """An agent's own word, where it is one of the catalogue's."""
    try:
        return Reason(word)
    except ValueError:
        return Reason.MIRRORING


def _progress(view: View) -> str:
    report = heard_report(view, Role.SOURCE)
    target = heard_report(view, Role.TARGET)
    if report is None or target is None:
        return f"Volume {view.name}: its agents start"
    if not connected(view):
        return f"Volume {view.name}: its agents connect"
    return f"Volume {view.name} is copied{_percent(report)}"


def _percent(report: Report) -> str:
    """In steps that are worth a write of the status."""
    found = report.progress
    if found is None or not found.bytes_total:
        return ""
    return f", {min(100, found.bytes_done * 100 // found.bytes_total) // 5 * 5} %"


def _live(stage: Stage) -> str:
    side = stage.observed.pair.status.active_side
    return (side.value if side is not None else "Source").lower()
