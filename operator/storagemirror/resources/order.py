"""The order: a ConfigMap that the agent can only read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from storagemirror.contract import ORDER_KEY, Order, encode
from storagemirror.resources import labels
from storagemirror.resources.names import AgentRef
from storagemirror.resources.placement import WriterTraits


@dataclass(frozen=True)
class Kept:
    """What the operator keeps beside an order, so that its restart does not miss it."""

    idle_since: str | None = None
    """Source: since when no pod has been using it, RFC 3339."""
    traits: WriterTraits | None = None
    """What was taken over from the last writer that was seen."""
    nowhere_else: bool = False
    """Target: the scheduler has found no node but the source's."""
    claims: str | None = None
    """UIDs of the claims that the order is for, as source/target."""
    fresh_from: int = 0
    """The first number that worked with these claims."""


def kept_of(annotations: Mapping[str, str]) -> Kept:
    """From an order's annotations; what cannot be read counts as not there."""
    try:
        traits = msgspec.json.decode(annotations.get(labels.TRAITS, ""), type=WriterTraits)
    except msgspec.MsgspecError:
        traits = None
    fresh = annotations.get(labels.FRESH_FROM, "")
    return Kept(
        idle_since=annotations.get(labels.IDLE_SINCE),
        traits=traits,
        nowhere_else=annotations.get(labels.NOWHERE_ELSE) == "true",
        claims=annotations.get(labels.CLAIMS),
        fresh_from=int(fresh) if fresh.isascii() and fresh.isdigit() else 0,
    )


def order_config_map(
    ref: AgentRef, order: Order, *, resource_version: str | None, kept: Kept | None = None
) -> dict[str, Any]:
    """The ConfigMap of `order`. With `resource_version` the API refuses it when somebody else was faster."""
    kept = kept or Kept()
    # The number stands here once more, so that an order whose text is spoiled still tells it.
    notes = {labels.INSTANCE: str(order.instance)}
    if kept.idle_since is not None:
        notes[labels.IDLE_SINCE] = kept.idle_since
    if kept.nowhere_else:
        notes[labels.NOWHERE_ELSE] = "true"
    if kept.claims is not None:
        notes[labels.CLAIMS] = kept.claims
    if kept.fresh_from:
        notes[labels.FRESH_FROM] = str(kept.fresh_from)
    if kept.traits is not None:
        notes[labels.TRAITS] = msgspec.json.encode(kept.traits).decode()
    metadata = ref.metadata(annotations=notes)
    if resource_version is not None:
        metadata["resourceVersion"] = resource_version
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {ORDER_KEY: encode(order)}}
