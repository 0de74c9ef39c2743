"""What an agent's pod takes over from its surroundings: the writer's traits, and where it may run."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any


@dataclass(frozen=True)
class WriterTraits:
    """What an agent takes over from the pod that writes the source."""

    run_as_user: int | None = None
    run_as_group: int | None = None
    groups: tuple[int, ...] = ()
    """Supplemental groups, the writer's fsGroup among them: agents never set fsGroup, which would change the volume."""
    se_linux: tuple[tuple[str, str], ...] = ()
    tolerations: tuple[tuple[tuple[str, str | int], ...], ...] = ()
    priority_class: str = ""


NO_WRITER = WriterTraits()
"""Nothing to take over."""


class Apart(StrEnum):
    """How strictly a target agent is kept off the source's node."""

    REQUIRED = "Required"
    """Its volume is not bound yet: where the agent goes, the volume will be."""
    PREFERRED = "Preferred"
    """The volume is bound and may leave no choice; or `Required` found no node."""


@dataclass(frozen=True)
class Placement:
    """Where an agent may run. With nothing set the scheduler follows the volume."""

    node: str | None = None
    """Only here (a source agent beside its writer)."""
    avoid: str | None = None
    """Not here, as `apart` says (a target agent and the source's node)."""
    apart: Apart = Apart.PREFERRED

    def affinity(self) -> dict[str, Any] | None:
        """As `spec.affinity`. By node name in matchFields: the scheduler still has its say, unlike with nodeName."""
        if self.node is not None:
            return {"nodeAffinity": _required("In", self.node)}
        if self.avoid is None:
            return None
        if self.apart is Apart.REQUIRED:
            return {"nodeAffinity": _required("NotIn", self.avoid)}
        preference = {"weight": 100, "preference": _term("NotIn", self.avoid)}
        return {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [preference]}}


ANYWHERE = Placement()
"""Wherever the volume can be."""


def _term(operator: str, node: str) -> dict[str, Any]:
    return {"matchFields": [{"key": "metadata.name", "operator": operator, "values": [node]}]}


def _required(operator: str, node: str) -> dict[str, Any]:
    return {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [_term(operator, node)]}}
