"""Is the admission gate in force? Asked by a dry run, in the name of an account that is not exempt.

What counts is a refusal that names our policy: a pod may be refused for other reasons, and a server that has not yet
heard of the pair's new status lets it through.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from storagemirror.api.mirrorpair import MirrorPair
from storagemirror.api.sides import Side
from storagemirror.errors import ApiUnavailable, Changed
from storagemirror.kube import paths
from storagemirror.kube.client import Api
from storagemirror.kube.faults import Denied
from storagemirror.plan.observed import GateSeen, Unseen
from storagemirror.resources.probe import probe_pod

NOT_INSTALLED = "the chart was installed without the gate (gate.enabled=false)"


@dataclass(frozen=True)
class Gate:
    """How to try it. `account`: the user in whose name; empty where the chart has no gate."""

    account: str = ""
    policy: str = "storagemirror-gate"


def try_gate(api: Api, gate: Gate, pair: MirrorPair, sides: tuple[Side, ...]) -> dict[Side, GateSeen | Unseen]:
    """What admission says to a pod that mounts each of these sides: every volume's claim must be refused."""
    return {side: _side(api, gate, pair, side) for side in sides}


def _side(api: Api, gate: Gate, pair: MirrorPair, side: Side) -> GateSeen | Unseen:
    if not gate.account:
        return GateSeen(False, NOT_INSTALLED)
    for volume in pair.spec.volumes:
        claim = volume.source.claim_name if side is Side.SOURCE else volume.target.claim_name
        pod = probe_pod(pair.metadata.namespace, claim, pair.spec.agents.resources)
        found = _ask(api, gate, pod, claim, side)
        if not isinstance(found, GateSeen) or not found.refused:
            return found
    return GateSeen(True)


def _ask(api: Api, gate: Gate, pod: Mapping[str, object], claim: str, side: Side) -> GateSeen | Unseen:
    try:
        api.create(paths.PODS, pod, dry_run=True, user=gate.account)
    except Denied as e:
        # Its own words, not its name alone: a policy that cannot be judged (an API server that has just started does
        # not know our kinds) refuses everything in its name, and lets go again without a word.
        if gate.policy in e.message and f"the {side} side is closed to new pods" in e.message:
            return GateSeen(True)
        said = e.message
    except ApiUnavailable as e:
        return Unseen(f"the gate could not be tried: {e.message}")
    except Changed as e:
        said = e.message
    else:
        return GateSeen(False, f"a pod that mounts {claim} would be let in")
    return GateSeen(False, f"a pod that mounts {claim} was refused for another reason: {said}")
