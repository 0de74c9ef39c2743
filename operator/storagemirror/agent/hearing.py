"""What a session of the target tells, put into the view."""

from __future__ import annotations

from collections.abc import Callable

from storagemirror.agent.view import View
from storagemirror.clock import Clock
from storagemirror.contract import Phase
from storagemirror.entry import NotKeptKind
from storagemirror.sync.observer import Event, EventKind, Progress


class Hearing:
    """The observer of one session; `let_in` is called with the number of the source agent that was let in, `kept` when
    what deviates is kept aside."""

    def __init__(self, view: View, clock: Clock, let_in: Callable[[int], None], kept: Callable[[], None]) -> None:
        self._view = view
        self._clock = clock
        self._let_in = let_in
        self._kept = kept

    def progress(self, progress: Progress) -> None:
        """See `Observer`."""
        self._view.progress(progress)

    def not_kept(self, kind: NotKeptKind, path: bytes) -> None:
        """See `Observer`."""
        self._view.not_kept(kind, path)

    def event(self, event: Event) -> None:
        """See `Observer`."""
        view = self._view
        view.event(event)
        held = view.sight.phase is Phase.HELD
        if event.kind is EventKind.CONNECTED:
            self._let_in(event.instance or 0)
            # A hold stays shown until what was held is through.
            view.see(peer_connected=True, problem=view.sight.problem if held else None)
        elif event.kind is EventKind.KEPT:
            self._kept()
        elif event.kind is EventKind.MIRROR_STARTED and not held and view.sight.phase is not Phase.REPLICATING:
            view.see(phase=Phase.MIRRORING)
        elif event.kind is EventKind.MIRROR_ENDED:
            whole_ns = view.sight.mirrored_ns if event.detail else self._clock.now_ns()
            view.see(phase=Phase.REPLICATING, mirrored_ns=whole_ns, problem=None)
        elif event.kind is EventKind.MARKED and event.through_ns is not None:
            view.see(through_ns=event.through_ns)
