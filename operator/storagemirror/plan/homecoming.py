"""May this restore be done? Asked before anything is touched; the lists of rules are the specification.

Home: the application must be able to live there again, and nobody may be writing there. Elsewhere: the claim must be
nobody's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from storagemirror.api.reasons import Reason
from storagemirror.api.sides import Side
from storagemirror.api.status import Writer
from storagemirror.plan import claims
from storagemirror.plan.objects import Node
from storagemirror.plan.operating import Stage
from storagemirror.plan.validating import Obstacle, not_paused, unmounted
from storagemirror.plan.view import View

Rule = Callable[[Stage], Obstacle | None]


def home_obstacle(stage: Stage) -> Obstacle | None:
    """What stands in the way home; None where nothing does."""
    return next((found for rule in HOME if (found := rule(stage)) is not None), None)


def elsewhere_obstacle(stage: Stage) -> Obstacle | None:
    """The same for a copy elsewhere."""
    return next((found for rule in ELSEWHERE if (found := rule(stage)) is not None), None)


def goes_on(stage: Stage) -> Obstacle | None:
    return not_paused(stage.asked)


def home_exists(stage: Stage) -> Obstacle | None:
    for workload in stage.workloads(Side.SOURCE):
        if stage.observed.workloads.get((workload.kind, workload.name)) is None:
            return Obstacle(Reason.WORKLOAD_MISSING, f"The application's {workload.kind} {workload.name} is missing.")
    return None


def home_mounts_the_source(stage: Stage) -> Obstacle | None:
    missing = unmounted(stage.observed, Side.SOURCE)
    if not missing:
        return None
    return Obstacle(Reason.HOME_MISMATCH, f"None of the application's pods mount the source claim {missing}.")


def claims_usable(stage: Stage) -> Obstacle | None:
    """Both claims of each volume, as they are used on the way home."""
    return _claims([replace(v, homeward=True) for v in stage.views])


def old_side_unused(stage: Stage) -> Obstacle | None:
    """Two must not write the source: a pod of before that comes back with its node is waited for until it has ended."""
    left = [w for w in stage.writers if w.side is Side.SOURCE]
    if not left:
        return None
    names = ", ".join(_told(stage, w) for w in left[:5])
    more = f" and {len(left) - 5} more" if len(left) > 5 else ""
    return Obstacle(Reason.OLD_SIDE_IN_USE, f"Not seen to have ended on the old side: pod {names}{more}.")


def _told(stage: Stage, writer: Writer) -> str:
    where = f" on node {writer.node}" if writer.node else ""
    if writer.gone_since is None:
        return f"{writer.name}{where}"
    node = stage.observed.nodes.get(writer.node)
    ready = isinstance(node, Node) and node.ready
    return f"{writer.name}{where} (gone from the API; its node {'is Ready' if ready else 'is not Ready'})"


def writers_are_known(stage: Stage) -> Obstacle | None:
    if stage.known_since is not None:
        return None
    return Obstacle(Reason.WRITERS_UNKNOWN, "Not every node has been Ready since the pair was made.")


def gate_works(stage: Stage) -> Obstacle | None:
    gate = stage.observed.pair.status.gate
    if gate is None or gate.in_force:
        return None
    return Obstacle(Reason.GATE_NOT_IN_FORCE, f"The admission gate does not keep pods off the old side: {gate.message}")


def volumes_known(stage: Stage) -> Obstacle | None:
    own = {v.name for v in stage.observed.pair.spec.volumes}
    strange = [t.name for t in stage.operation.to if t.name not in own]
    if not strange:
        return None
    return Obstacle(Reason.VOLUME_UNKNOWN, f"The pair has no volume {', '.join(strange)}.")


def claims_are_others(stage: Stage) -> Obstacle | None:
    volumes = stage.observed.pair.spec.volumes
    own = {name for v in volumes for name in (v.source.claim_name, v.target.claim_name)}
    taken = [t.claim_name for t in stage.operation.to if t.claim_name in own]
    if not taken:
        return None
    return Obstacle(Reason.CLAIM_TAKEN, f"The claim {', '.join(taken)} is one of the pair's own.")


def claims_elsewhere_usable(stage: Stage) -> Obstacle | None:
    return _claims(stage.views)


def _claims(views: list[View]) -> Obstacle | None:
    for view in views:
        verdict = claims.first(claims.TO_BEGIN, view)
        if verdict is not None and isinstance(verdict.reason, Reason):
            return Obstacle(verdict.reason, verdict.message)
    return None


HOME: tuple[Rule, ...] = (
    goes_on,
    home_exists,
    home_mounts_the_source,
    claims_usable,
    writers_are_known,
    old_side_unused,
    gate_works,
)

ELSEWHERE: tuple[Rule, ...] = (volumes_known, claims_are_others, goes_on, claims_elsewhere_usable)

NEVER = frozenset({Reason.VOLUME_UNKNOWN, Reason.CLAIM_TAKEN})
"""What no waiting mends."""
