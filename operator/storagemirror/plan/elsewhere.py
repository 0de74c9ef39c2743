"""Copies elsewhere: claims that a Restore names beside the pair's own, each a volume for as long as it goes on."""

from __future__ import annotations

from datetime import datetime

from storagemirror.api.mirrorpair import MirrorPair, SourceVolume, TargetVolume, Volume
from storagemirror.api.sides import Side
from storagemirror.plan.course import operation_of
from storagemirror.plan.observed import Observed
from storagemirror.plan.view import View


def elsewhere_volumes(pair: MirrorPair) -> tuple[tuple[str, Volume], ...]:
    """Of the restore that goes on: the name of a volume of the pair, and the volume whose source is its live claim."""
    operation = operation_of(pair.status)
    if operation is None or not operation.elsewhere:
        return ()
    own = {v.name: v for v in pair.spec.volumes}
    live = pair.status.active_side or Side.SOURCE
    found: list[tuple[str, Volume]] = []
    for number, to in enumerate(operation.to):
        if to.name not in own:
            continue
        volume = own[to.name]
        source = volume.source.claim_name if live is Side.SOURCE else volume.target.claim_name
        target = TargetVolume(claim_name=to.claim_name, claim_template=to.claim_template)
        # Not validated: no volume of the pair's own can have such a name.
        made = Volume.model_construct(name=agent_volume(number), source=SourceVolume(claim_name=source), target=target)
        found.append((to.name, made))
    return tuple(found)


def agent_volume(number: int) -> str:
    """What its agents call the volume: the same for each attempt, so that what was begun is gone on with."""
    return f"restore.{number}"


def elsewhere_views(observed: Observed, now: datetime) -> tuple[View, ...]:
    """The same, as the rules look at volumes."""
    return tuple(View(observed, volume, now, elsewhere=name) for name, volume in elsewhere_volumes(observed.pair))


def claims_elsewhere(pair: MirrorPair) -> frozenset[str]:
    """The claims that are written."""
    return frozenset(v.target.claim_name for _, v in elsewhere_volumes(pair))
