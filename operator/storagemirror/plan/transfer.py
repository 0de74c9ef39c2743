"""What spec.transfer says, as an agent's order says it."""

from __future__ import annotations

from storagemirror.api.transfer import Transfer
from storagemirror.contract import BandwidthWindow, TransferOrder
from storagemirror.plan.quantities import quantity

_DEFAULT_LEVEL = 3


def transfer_order(transfer: Transfer, volumes: int) -> TransferOrder:
    """For the source agent of one of `volumes` volumes. They share the limits in equal parts: so the pair never sends
    more than it may, whichever of them are busy."""
    share = max(1, volumes)
    return TransferOrder(
        bandwidth=tuple(
            BandwidthWindow(
                limit=max(1, int(quantity(window.limit)) // share),
                days=window.days,
                begin=window.begin,
                end=window.end,
            )
            for window in transfer.bandwidth
        ),
        time_zone=transfer.time_zone,
        compression=transfer.compression,
        level=transfer.level or _DEFAULT_LEVEL,
        read_limit=None if transfer.read_limit is None else max(1, int(quantity(transfer.read_limit)) // share),
    )
