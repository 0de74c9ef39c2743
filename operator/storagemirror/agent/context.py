"""What the parts of one agent share."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from storagemirror.agent.orders import Orders
from storagemirror.agent.settings import Settings
from storagemirror.agent.tls import Tls
from storagemirror.agent.view import View
from storagemirror.clock import Clock
from storagemirror.contract import Order
from storagemirror.errors import Superseded


@dataclass(frozen=True)
class Context:
    """One agent process. `stop` is set once, when it is to end."""

    settings: Settings
    view: View
    orders: Orders
    tls: Tls
    clock: Clock
    stop: threading.Event = field(default_factory=threading.Event)

    def order(self) -> Order | None:
        """The order that is meant for us: None while there is none yet, or only one for the agent before us.

        `Superseded` when it is meant for an agent after us.
        """
        order = self.orders.current()
        if order is None:
            return None
        if order.instance > self.settings.instance:
            raise Superseded(
                f"this agent is number {self.settings.instance}, the order is for number {order.instance}",
                hint="nothing to do: another pod has taken over",
            )
        return order if order.instance == self.settings.instance else None


class Backoff:
    """Waits that double: from `first` to `longest` seconds."""

    def __init__(self, first: float, longest: float) -> None:
        self._first = first
        self._longest = longest
        self._next = first

    def reset(self) -> None:
        """It went well: begin anew."""
        self._next = self._first

    def next(self) -> float:
        """How long to wait now."""
        now, self._next = self._next, min(self._next * 2, self._longest)
        return now
