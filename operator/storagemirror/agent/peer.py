"""What a target agent knows of its source agent, and the moment at which it counts as lost.

    Never ──let in──> Connected ──goodbye, or we let go──> Left
                        ^   │                                │
                        │   └──no word for interval × missed──> Lost
                        └──let in, or a word again───────────────┘

Beats count only while both are ordered to run: under another order nobody is missed, so `Lost` becomes `Left`. A
connection that breaks says nothing by itself: the source may be back before it is missed. Time is taken on the
monotonic clock, and the last word is the one that came, not the one that was read: our own thread may be waiting for
its disk meanwhile.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol

from storagemirror.clock import Clock, rfc3339
from storagemirror.contract import Action, Order, PeerSeen, PeerState

_LEAST_SECONDS = 0.02
_RETURN_SECONDS = 0.2
"""How often one that is lost, on a connection that still stands, is looked for."""


class Line(Protocol):
    """What is needed of a `TargetSession`."""

    @property
    def source_ns(self) -> int | None: ...
    def quiet_seconds(self) -> float: ...


class PeerWatch:
    """Thread-safe; `run` is a thread of its own."""

    def __init__(self, clock: Clock, changed: Callable[[], None]) -> None:
        """`changed` is called when there is something to tell at once."""
        self._clock = clock
        self._changed = changed
        self._news = threading.Condition()
        self._state = PeerState.NEVER
        self._since_ns = clock.now_ns()
        self._who: tuple[object, ...] | None = None
        self._limit: float | None = None
        self._line: Line | None = None
        self._heard: float | None = None
        self._source_ns: int | None = None
        self._ended = False

    def expect(self, order: Order | None) -> None:
        """Under this order; None: under none, or we are to stop."""
        running = order is not None and order.action is Action.RUN
        who = (order.instance, order.epoch, order.pair_uid, order.volume) if order is not None and running else None
        with self._news:
            self._limit = order.beat.interval_seconds * order.beat.missed if order is not None and running else None
            if who != self._who:
                self._who = who
                self._let_go()
            self._news.notify_all()

    def come(self, line: Line) -> None:
        """The source was let in."""
        with self._news:
            if self._limit is None:
                return
            self._line = line
            self._listen()
            self._become(PeerState.CONNECTED)
            self._news.notify_all()

    def gone(self, line: Line, *, let_go: bool) -> None:
        """Its connection has ended. `let_go`: it said goodbye, or we did not want it any more."""
        with self._news:
            if self._line is not line:
                return
            if let_go:
                self._let_go()
            else:
                self._listen()
                self._line = None
            self._news.notify_all()

    def seen(self) -> PeerSeen:
        """As it is reported."""
        with self._news:
            self._listen()
            heard_ns = None
            if self._heard is not None:
                heard_ns = self._clock.now_ns() - int((self._clock.monotonic() - self._heard) * 1e9)
            return PeerSeen(
                state=self._state,
                since=rfc3339(self._since_ns),
                last_heard=None if heard_ns is None else rfc3339(heard_ns),
                source_time=None if self._source_ns is None else rfc3339(self._source_ns),
            )

    def run(self) -> None:
        """Miss the source in time, until `close`."""
        with self._news:
            while not self._ended:
                self._news.wait(self.check())

    def close(self) -> None:
        """End `run`; nobody is expected any more."""
        self.expect(None)
        with self._news:
            self._ended = True
            self._news.notify_all()

    def check(self) -> float | None:
        """Judge the silence; seconds until that is due again, None: when something happens."""
        with self._news:
            if self._limit is None or self._heard is None or self._state not in (PeerState.CONNECTED, PeerState.LOST):
                return None
            self._listen()
            left = self._heard + self._limit - self._clock.monotonic()
            if self._state is PeerState.LOST:
                if left <= 0:
                    return _RETURN_SECONDS if self._line is not None else None
                if self._line is None:
                    return None  # a later limit makes no word of what was none
                self._become(PeerState.CONNECTED)
            if left <= 0:
                self._become(PeerState.LOST)
                return _RETURN_SECONDS
            return max(left, _LEAST_SECONDS)

    def _let_go(self) -> None:
        self._listen()
        self._line = None
        if self._state is not PeerState.NEVER:
            self._become(PeerState.LEFT)

    def _listen(self) -> None:
        """Take what the line knows."""
        line = self._line
        if line is None:
            return
        heard = self._clock.monotonic() - line.quiet_seconds()
        self._heard = heard if self._heard is None else max(self._heard, heard)
        if line.source_ns is not None:
            self._source_ns = line.source_ns

    def _become(self, state: PeerState) -> None:
        if state is self._state:
            return
        self._state = state
        self._since_ns = self._clock.now_ns()
        self._changed()
