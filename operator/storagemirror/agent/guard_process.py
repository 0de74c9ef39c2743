"""The process of a guard: first the second one, which waits; then, when nobody else is, the guard.

Two containers of a pod run this. Which of them is the guard, the lock says. A guard that is killed is followed by the
other at once, which thaws what it left; the killed one comes back as the second. The second also thaws what is frozen
beyond its deadline, for a guard that lives and does nothing. At SIGTERM it waits for the guard to end, and looks
whether something is left to thaw: so whichever of them survives longest does it.
"""

from __future__ import annotations

import os
import threading
import time

from storagemirror.agent.guard import Guard
from storagemirror.agent.guard_parts import Volume, Wake, Worker, say, stay_in_memory
from storagemirror.agent.guard_shared import POINT, Shared
from storagemirror.agent.guard_start import Start
from storagemirror.fs.freeze import Outcome

_LOOK_SECONDS = 1.0
_OVERDUE_SECONDS = 1.0
"""So much beyond its deadline a freeze is thawed by the second."""


class Second:
    """The one who waits."""

    def __init__(self, volume: Volume, shared: Shared, wake: Wake, worker: Worker) -> None:
        self._volume = volume
        self._shared = shared
        self._wake = wake
        self._worker = worker
        self._guard = threading.Event()

    def wait(self) -> None:
        """Until nobody else is the guard."""
        if self._shared.try_to_become_guard():
            return
        say("another one is the guard; waiting")
        threading.Thread(target=self._become, daemon=True).start()
        while not self._guard.is_set():
            self._wake.wait(_LOOK_SECONDS)
            done = self._worker.done()
            if done is not None and done.answer.outcome is Outcome.DONE:
                say("thawed the volume, which the guard had left frozen beyond the deadline")
            self._look()
        while self._worker.busy:  # the guard that follows needs it
            self._wake.wait(_LOOK_SECONDS)
            self._worker.done()
        say("the guard is gone: this is the guard now")

    def _become(self) -> None:
        self._shared.become_guard()
        self._guard.set()
        self._wake.wake()

    def _look(self) -> None:
        note = self._shared.read_note()
        overdue = note is not None and note.kind == POINT and note.overdue(_OVERDUE_SECONDS)
        if overdue and not self._worker.busy and not self._guard.is_set():
            self._worker.do(self._volume.thaw)


def guard(volume: Volume, directory: str, stranger_seconds: float) -> int:
    """Be the second of the volume, and then its guard; returns the exit status. `directory` is what both share.
    `stranger_seconds`: see `Start`."""
    shared, wake = Shared(directory), Wake()
    wake.on_signals()
    worker = Worker(wake)
    if not stay_in_memory():
        say("cannot stay in memory (no CAP_IPC_LOCK): on a machine that runs out of it, a thaw may come late")
    Second(volume, shared, wake, worker).wait()
    start = Start(volume, shared, wake, say, stranger_seconds)
    if not wake.ending:
        Guard(volume, shared, wake, worker, start).run()
    return 0 if _last_look(start, shared, wake, worker) else 1


def _last_look(start: Start, shared: Shared, wake: Wake, worker: Worker) -> bool:
    """Told to end, and nobody else is the guard: whether nothing is left frozen."""
    while True:
        worker.do(start.rescue)
        while (done := worker.done()) is None:
            wake.wait(_LOOK_SECONDS)
        note = shared.read_note()
        if done.answer.outcome is Outcome.DONE or note is None or note.kind != POINT:
            return done.answer.outcome is Outcome.DONE
        time.sleep(0.2)


def end(status: int) -> None:
    """End this process at once: a thread that hangs in the kernel must not keep the interpreter waiting."""
    os._exit(status)
