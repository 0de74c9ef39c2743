"""The guard of a volume: the one process that freezes and thaws it. It serves the engine over a Unix socket.

    IDLE ── freeze ──> FREEZING ── FIFREEZE is back ──> FROZEN ── thaw, deadline, end of connection, SIGTERM ──> THAWING
     ^                    │ it failed                                                                              │
     └────────────────────┴───────────────────────────── FITHAW is back ───────────────────────────────────────────┘

The main thread waits for the socket, for signals and for deadlines, and never for the disk: FIFREEZE and FITHAW have no
time limit, so a worker calls them. A FIFREEZE that is not back at the deadline is refused then, and thawed as soon as
it is back. What cannot be thawed is tried again until it can. Nothing here is left to the engine: it may be dead.

Before FIFREEZE a note is written, after FITHAW it is removed (`guard_shared`). So the other guard knows what to do when
this one is killed, at whatever moment.

A later fence will outrank a point: it takes the place of FROZEN and is not thawed by deadline or connection. Its note
has another word than a point's, which guards of today leave alone.
"""

from __future__ import annotations

import socket
import time
from enum import Enum

from storagemirror.agent.guard_engines import Engines
from storagemirror.agent.guard_parts import Done, Volume, Wake, Worker, longest_freeze, say
from storagemirror.agent.guard_shared import Shared
from storagemirror.agent.guard_start import (
    BY_ANOTHER,
    FAILED,
    LASTING,
    NOT_PERMITTED,
    NOT_READY,
    PASSING,
    Start,
)
from storagemirror.fs.freeze import Outcome

AGAIN_SECONDS = 0.2
"""Between two tries to thaw."""
LOOK_AGAIN_SECONDS = 5.0
"""Between two looks at a volume that could not be frozen, for a reason that may pass."""
_NEVER = float("inf")


class _State(Enum):
    STARTING = "it looks at the volume"
    IDLE = ""
    FREEZING = "an earlier freeze has not come back"
    FROZEN = "the volume is frozen for another"
    THAWING = "the volume is being thawed"


class Guard:
    """One guard, from when nobody else is until it is told to end."""

    def __init__(self, volume: Volume, shared: Shared, wake: Wake, worker: Worker, start: Start) -> None:
        self._volume = volume
        self._shared = shared
        self._wake = wake
        self._worker = worker
        self._start = start
        self._engines = Engines(shared.socket, say)
        self._state = _State.STARTING
        self._next = 0.0
        """When to do by ourselves what the state wants then (time.monotonic)."""
        self._holder: socket.socket | None = None
        """Who asked for the freeze that is going on. None when it is gone, or was told no."""
        self._number = 0
        self._asked = False
        """The holder has asked for the thaw, and waits for the answer."""
        self._froze = 0.0
        self._lost = ("", "")
        """Why the point is void, where it is: reason and text."""

    def run(self) -> int:
        """Guard until SIGTERM; returns the exit status. What is frozen by then is thawed before."""
        while not (self._wake.ending and self._state in (_State.IDLE, _State.STARTING) and not self._worker.busy):
            for connection, fields in self._engines.wait(self._wake.fd, self._next - time.monotonic()):
                self._obey(connection, fields)
            self._wake.drain()
            done = self._worker.done()
            if done is not None:
                self._came_back(done)
            if self._wake.ending and self._state is _State.FROZEN:
                self._thaw("GuardGone", "the guard was told to end")
            if time.monotonic() >= self._next:
                self._in_time()
        say("ending")
        return 0

    # -- beginning

    def _began(self) -> None:
        able = self._start.seen
        say(f"{self._volume.path} can be frozen" if able.able else f"not frozen here: {able.reason}: {able.text}")
        if able.able or able.kind == LASTING:
            self._state, self._next = _State.IDLE, _NEVER
        else:
            self._next = time.monotonic() + LOOK_AGAIN_SECONDS

    # -- what comes back, and when it does not

    def _came_back(self, done: Done) -> None:
        if self._state is _State.STARTING:
            self._began()
        elif self._state is _State.FREEZING:
            self._frozen(done)
        else:
            self._thawed(done)

    def _in_time(self) -> None:
        """The time has come for what the state does by itself."""
        self._next = _NEVER
        if self._state is _State.STARTING:
            self._worker.do(self._start.look)
        elif self._state is _State.FREEZING:
            say("FIFREEZE is not back at the deadline: refused; thawed when it is")
            self._refuse(PASSING, "FreezeTooSlow", "the disk was not done with the freeze in time")
        elif self._state is _State.FROZEN:
            self._thaw("DeadlinePassed", "the guard thawed at the deadline")
        elif self._state is _State.THAWING:
            self._worker.do(self._volume.thaw)

    def _frozen(self, done: Done) -> None:
        outcome, self._froze = done.answer.outcome, done.begun
        if outcome is Outcome.DONE:
            self._state = _State.FROZEN
            if self._holder is None:
                self._thaw()
            elif not self._tell(self._holder, "frozen", self._number, _micros(done.ended - done.begun)):
                say("the engine went while the volume was frozen for it")
            return
        self._idle()
        if outcome is Outcome.ALREADY_FROZEN:
            self._refuse(PASSING, BY_ANOTHER, "another tool has frozen the volume")
        elif outcome is Outcome.NOT_PERMITTED:
            self._refuse(LASTING, NOT_PERMITTED, done.answer.text)
        else:
            self._refuse(PASSING, FAILED, done.answer.text)

    def _thaw(self, reason: str = "", text: str = "") -> None:
        """With a reason: of our own accord, and the point is void."""
        if reason:
            say(f"thawing: {text}")
            self._lost = (reason, text)
        self._state, self._next = _State.THAWING, _NEVER
        self._worker.do(self._volume.thaw)

    def _thawed(self, done: Done) -> None:
        outcome = done.answer.outcome
        if outcome is Outcome.NOT_FROZEN:
            say("somebody else has thawed the volume: the point is void")
            self._lost = ("ThawedByAnother", "another process thawed the volume: what was read is no point in time")
        elif outcome is not Outcome.DONE:
            say(f"cannot thaw: {done.answer.text}; trying again")
            self._lost = ("ThawFailed", f"the volume could not be thawed at once: {done.answer.text}")
            self._next = time.monotonic() + AGAIN_SECONDS
            return
        self._idle()
        if self._asked and self._holder is not None:
            if self._lost[0]:
                self._tell(self._holder, "lost", self._number, *self._lost)
            else:
                self._tell(self._holder, "thawed", self._number, _micros(done.ended - self._froze))

    def _idle(self) -> None:
        self._shared.remove_note()
        self._state, self._next = _State.IDLE, _NEVER

    # -- the engine

    def _obey(self, connection: socket.socket, fields: list[str] | None) -> None:
        word = fields[0] if fields is not None else ""
        if fields is None:
            self._gone(connection)
        elif word == "able" and self._start.seen.able:
            self._tell(connection, "able")
        elif word == "able":
            self._tell(connection, "refused", 0, *self._start.seen[1:])
        elif word == "freeze":
            self._ask_freeze(connection, int(fields[1]), int(fields[2]) / 1000)
        elif word == "thaw":
            self._ask_thaw(connection, int(fields[1]))
        else:
            say(f"expected a request of an engine, got {word!r}")
            self._engines.leave(connection)
            self._gone(connection)

    def _ask_freeze(self, connection: socket.socket, number: int, seconds: float) -> None:
        if not self._start.seen.able:
            self._tell(connection, "refused", number, *self._start.seen[1:])
        elif self._wake.ending:
            self._tell(connection, "refused", number, PASSING, NOT_READY, "the guard is ending")
        elif self._state is not _State.IDLE:
            self._tell(connection, "refused", number, PASSING, "GuardBusy", self._state.value)
        else:
            seconds = min(seconds, longest_freeze())
            try:
                self._shared.write_note(seconds)
            except OSError as e:
                self._tell(connection, "refused", number, PASSING, FAILED, f"the guard cannot write its note: {e}")
                return
            self._holder, self._number, self._asked, self._lost = connection, number, False, ("", "")
            self._state, self._next = _State.FREEZING, time.monotonic() + seconds
            self._worker.do(self._volume.freeze)

    def _ask_thaw(self, connection: socket.socket, number: int) -> None:
        if connection is not self._holder or number != self._number:
            self._tell(connection, "lost", number, "ThawedByAnother", "there is no such freeze")
        elif self._state is _State.FROZEN:
            self._asked = True
            self._thaw()
        elif self._state is _State.THAWING:  # of our own accord: told when it is done
            self._asked = True
        else:
            self._tell(connection, "lost", number, *self._lost)

    def _refuse(self, kind: str, reason: str, text: str) -> None:
        if self._holder is not None:
            self._tell(self._holder, "refused", self._number, kind, reason, text)
        self._holder = None

    def _tell(self, connection: socket.socket, word: str, *fields: object) -> bool:
        told = self._engines.tell(connection, word, *fields)
        if not told:
            self._gone(connection)
        return told

    def _gone(self, connection: socket.socket) -> None:
        """A connection has ended. What is frozen for it is thawed."""
        if connection is self._holder:
            self._holder = None
            if self._state is _State.FROZEN:
                self._thaw("EngineGone", "the engine has gone")


def _micros(seconds: float) -> int:
    return int(seconds * 1e6)
