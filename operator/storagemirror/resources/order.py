"""The order: a ConfigMap that the agent can only read."""

from __future__ import annotations

from typing import Any

from storagemirror.contract import ORDER_KEY, Order, encode
from storagemirror.resources import labels
from storagemirror.resources.names import AgentRef


def order_config_map(
    ref: AgentRef, order: Order, *, resource_version: str | None, idle_since: str | None = None
) -> dict[str, Any]:
    """The ConfigMap of `order`. With `resource_version` the API refuses it when somebody else was faster."""
    # The number stands here once more, so that an order whose text is spoiled still tells it.
    notes = {labels.INSTANCE: str(order.instance)} | ({labels.IDLE_SINCE: idle_since} if idle_since else {})
    metadata = ref.metadata(annotations=notes)
    if resource_version is not None:
        metadata["resourceVersion"] = resource_version
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {ORDER_KEY: encode(order)}}
