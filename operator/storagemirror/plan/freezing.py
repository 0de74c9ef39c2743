"""Whether a volume can be frozen, so that points in time can be taken of it; and if not, why."""

from __future__ import annotations

from dataclasses import dataclass

from storagemirror.api.agents import Privilege
from storagemirror.api.reasons import Reason
from storagemirror.contract import Report
from storagemirror.plan.observed import Unseen
from storagemirror.plan.view import View


@dataclass(frozen=True)
class WhyNot:
    """Why a volume is not frozen. `lasting`: that is known, and will stay so for now; else it is not known yet."""

    reason: Reason | str
    message: str
    lasting: bool = True


def why_not_frozen(view: View, source: Report | None) -> WhyNot | None:
    """The first reason that holds; None where it can be. `source` is what its agent says now."""
    asked, consent = view.observed.pair.spec.agents.privilege, view.observed.consent
    name = view.observed.pair.metadata.namespace
    if asked is not Privilege.FREEZE:
        message = f"The agents' privilege is {asked.value}: no volume is frozen, and changes are applied as they come."
        return WhyNot(Reason.PRIVILEGE_NOT_ASKED, message)
    if isinstance(consent, Unseen):
        return WhyNot(Reason.UNKNOWN, f"Whether namespace {name} allows it is not known: {consent.why}.", lasting=False)
    if not consent:
        message = f"Namespace {name} does not allow agents that can freeze volumes; they run as with Baseline."
        return WhyNot(Reason.NAMESPACE_DOES_NOT_ALLOW, message)
    said = source.freezing if source is not None else None
    if said is None:
        return WhyNot(Reason.GUARD_NOT_READY, f"The guard of volume {view.name} has not been heard.", lasting=False)
    if not said.able:
        return WhyNot(said.reason, f"Volume {view.name} cannot be frozen: {said.message}.")
    return None
