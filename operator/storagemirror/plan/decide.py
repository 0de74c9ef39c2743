"""`decide`: from what was observed to what is done and said. Pure: no clock, no socket, no memory."""

from __future__ import annotations

from datetime import datetime

from storagemirror.api.mirrorpair import MirrorPair
from storagemirror.api.sides import Side
from storagemirror.api.status import MirrorPairStatus, Phase, VolumeStatus
from storagemirror.contract import FIRST_EPOCH, Role
from storagemirror.plan import claims
from storagemirror.plan.agents import Agent, verdict_of
from storagemirror.plan.conditions import Whole, conditions
from storagemirror.plan.course import COPYING_ELSEWHERE, fenced, operation_of
from storagemirror.plan.decisions import Action, DeletePod, Effect, Plan, Verdict, WriteOrder
from storagemirror.plan.elsewhere import elsewhere_views, elsewhere_volumes
from storagemirror.plan.failing import Failing, Volumes, failing, failing_told, phase_told
from storagemirror.plan.lifecycle import agent_steps, claim_steps
from storagemirror.plan.observed import Observed, Unseen
from storagemirror.plan.publish import settled, summed
from storagemirror.plan.runs import schedule_invalid
from storagemirror.plan.schedules import seconds_left
from storagemirror.plan.view import View
from storagemirror.plan.volumes import Judged, volume_status
from storagemirror.plan.where import COPIED, Leave, Where, source_place, target_place
from storagemirror.plan.writers import release_steps
from storagemirror.resources import labels
from storagemirror.resources.names import AgentRef

BLIND_AGAIN = 2.0
"""Seconds until what could not be looked at is looked at again."""

_WORST_FIRST = (
    Phase.ERROR,
    Phase.HELD,
    Phase.DISCONNECTED,
    Phase.PENDING,
    Phase.MIRRORING,
    Phase.PAUSED,
    Phase.WAITING,
    Phase.REPLICATING,
    Phase.FAILED_OVER,
)


def decide(observed: Observed, now: datetime) -> Plan:
    """What to do about one pair, what its status should say, and when to look again by itself."""
    pair = observed.pair
    if pair.metadata.deletion_timestamp is not None:
        # The children go with their owner; nothing of ours waits for anything.
        return Plan(release_steps(observed, pair), pair.status)
    if pair.status.epoch is None or pair.status.active_side is None:
        # The one write that says which side is live, before anything acts on it.
        first = {"epoch": pair.status.epoch or FIRST_EPOCH, "active_side": pair.status.active_side or Side.SOURCE}
        return Plan((), pair.status.model_copy(update=first), requeue=0.0)
    actions: list[Action] = list(_forgotten(observed))
    again: list[float] = []
    judged: list[Judged] = []
    for volume in pair.spec.volumes:
        found, steps, waits = _volume(View(observed, volume, now))
        judged.append(found)
        actions.extend(steps)
        again.extend(waits)
    aside: list[Judged] = []
    for view in elsewhere_views(observed, now):
        found, steps, waits = _volume(view) if _copied_elsewhere(pair) else (Judged(view, Leave(COPIED), ()), [], [])
        aside.append(found)
        actions.extend(steps)
        again.extend(waits)
    if any(v.effect is Effect.KEEP and not v.stalled for j in (*judged, *aside) for v in j.verdicts):
        # What cannot be seen just now is no news.
        return Plan((), pair.status, BLIND_AGAIN)
    part = failing(observed, Volumes(judged, aside), now)
    again.extend(part.again)
    fresh = tuple(map(volume_status, judged))
    status = _status(pair, judged, fresh, part)
    coming = (part.next_time for v in status.volumes for part in (v.verify, v.run) if part is not None)
    left = (seconds_left(next_time, now) for next_time in coming)
    again.extend(seconds for seconds in left if seconds is not None)
    return Plan((*actions, *part.actions), status, min(again, default=None), fresh, part.shown)


def _copied_elsewhere(pair: MirrorPair) -> bool:
    operation = operation_of(pair.status)
    return operation is not None and operation.phase in COPYING_ELSEWHERE


def _volume(view: View) -> tuple[Judged, list[Action], list[float]]:
    verdict = claims.first(claims.rules_for(view), view)
    source = source_place(view)
    target = target_place(view, source)
    places: dict[Role, Where] = {Role.SOURCE: source, Role.TARGET: target}
    actions: list[Action] = []
    again: list[float] = []
    if verdict is None or verdict.effect < Effect.STOP:
        actions.extend(claim_steps(view) if verdict is None or verdict.effect is not Effect.KEEP else ())
    # The target first: it listens, and has an address, before the source begins to dial.
    for role in (Role.TARGET, Role.SOURCE):
        steps = agent_steps(view, role, places[role], verdict)
        actions.extend(steps.actions)
        if steps.again is not None:
            again.append(steps.again)
    verdicts: list[Verdict] = [verdict] if verdict is not None else []
    if verdict is None or verdict.effect is Effect.WAIT:
        paused = view.observed.pair.spec.paused and (bool(view.elsewhere) or not fenced(view.observed.pair.status))
        for role in Role:
            agent = Agent(view, role, places[role])
            if paused and agent.pod is None:
                continue
            if verdict is not None and agent.pod is None:
                continue
            found = verdict_of(agent)
            if found is not None:
                verdicts.append(found)
    unscheduled = schedule_invalid(view)
    if unscheduled is not None:
        verdicts.append(unscheduled)
    if verdict is not None and not verdict.stalled:
        again.append(claims.PROVISIONING_SECONDS)
    ordered = {a.order.role: a.order.instance for a in actions if isinstance(a, WriteOrder)}
    return Judged(view, source, tuple(verdicts), ordered), actions, again


def _forgotten(observed: Observed) -> list[Action]:
    """Pods of volumes that are no longer in the spec."""
    if isinstance(observed.pods, Unseen):
        return []
    meta = observed.pair.metadata
    kept = {v.name for v in (*observed.pair.spec.volumes, *(v for _, v in elsewhere_volumes(observed.pair)))}
    found: list[Action] = []
    for pod in observed.pods:
        marks = pod.metadata.labels
        if marks.get(labels.PAIR) != meta.uid or marks.get(labels.VOLUME) in kept or pod.leaving:
            continue
        role = Role.TARGET if marks.get(labels.ROLE) == Role.TARGET.value.lower() else Role.SOURCE
        ref = AgentRef(meta.name, meta.uid, meta.namespace, marks.get(labels.VOLUME, ""), role)
        found.append(DeletePod(ref, pod.metadata.name, pod.metadata.uid, "its volume is no longer in the spec"))
    return found


def _status(
    pair: MirrorPair, judged: list[Judged], fresh: tuple[VolumeStatus, ...], found: Failing
) -> MirrorPairStatus:
    before = {v.name: v for v in pair.status.volumes}
    volumes = tuple(settled(before[v.name], v) if v.name in before else v for v in fresh)
    status = pair.status.model_copy(update=dict(found.status))
    told, going_on = failing_told(status)
    whole = Whole(judged, volumes, pair.spec.paused, found.conditions, told, going_on)
    return summed(
        status.model_copy(
            update={
                "observed_generation": pair.metadata.generation,
                "phase": phase_told(status, worst(volumes)),
                "conditions": conditions(whole, pair.status.conditions, generation=pair.metadata.generation),
                "volumes": volumes,
            }
        )
    )


def worst(volumes: tuple[VolumeStatus, ...]) -> Phase:
    """The phase of the volume that needs a look most."""
    found = {v.phase for v in volumes}
    return next((phase for phase in _WORST_FIRST if phase in found), Phase.PENDING)
