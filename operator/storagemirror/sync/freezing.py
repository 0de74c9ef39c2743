"""What the engine asks for to have a volume stand still for a moment, and how the guard of the volume is asked.

    try:
        with freezer.freeze(0.5) as frozen:     # nobody writes from here on
            read(what=changed, within=frozen.left())
    except NotFrozen: ...                       # put the point off: `reason` and `message` say why
    except CannotFreeze: ...                    # no points here until somebody changes something
    except FreezeLost: ...                      # it did not stand still all the time: throw the point away
    point_holds()

Only the guard freezes and thaws. Its deadline is the backstop for an engine that hangs; an engine that dies is thawed
at once. A freeze does not keep the volume from being read.
"""

from __future__ import annotations

import socket
import time
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Protocol

from storagemirror.errors import Passing, Permanent, ProtocolError
from storagemirror.sync import guardwords


class NotFrozen(Passing):
    """Not now: the volume was not frozen, or is not any more. `reason`: `GuardNotReady`, `FreezeTooSlow`,
    `FrozenByAnother`, `GuardBusy`, `FreezeFailed`."""

    reason = "NotFrozen"


class CannotFreeze(Permanent):
    """Not here: `reason` is `FilesystemShared`, `FilesystemCannotFreeze` or `FreezeNotPermitted`."""

    reason = "CannotFreeze"


class FreezeLost(Passing):
    """The volume was frozen, and did not stay so until it was thawed: what was read meanwhile is no point in time.
    `reason`: `ThawedByAnother`, `DeadlinePassed`, `GuardGone`, `ThawFailed`."""

    reason = "FreezeLost"


class Frozen(Protocol):
    """A volume that stands still."""

    @property
    def freeze_seconds(self) -> float:
        """How long the call FIFREEZE took. Writes began to wait somewhere within it."""
        ...

    @property
    def stall_seconds(self) -> float:
        """After `thaw`: from the call FIFREEZE to the end of the thaw, the longest that a write waited."""
        ...

    def left(self) -> float:
        """Seconds until the guard thaws by itself; not above zero when it has. Be done well before."""
        ...

    def thaw(self) -> None:
        """Let writes go on. `FreezeLost` when the point does not hold. Further calls do nothing."""
        ...


class Freezer(Protocol):
    """Freezes one volume. For one thread."""

    def check(self) -> None:
        """Return when the volume can be frozen; `NotFrozen` or `CannotFreeze` when it cannot."""
        ...

    def freeze(self, deadline_seconds: float) -> AbstractContextManager[Frozen]:
        """Entering it freezes: `NotFrozen`, `CannotFreeze`. Leaving it thaws, unless `thaw` was called: `FreezeLost`,
        but for an exception that is on its way already.

        Both together take `deadline_seconds` at most, counted from the call: FIFREEZE has no time limit of its own, so
        what is not frozen by then is `NotFrozen` (`FreezeTooSlow`), and is thawed when the kernel is done with it.
        """
        ...


PATIENCE_SECONDS = 2.0
"""How much longer than it may take the guard's answer is waited for: then it is given up."""


class GuardFreezer:
    """A `Freezer` by the guard that listens at `path`. Connects by itself, again when the guard was replaced."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._socket: socket.socket | None = None
        self._number = 0

    def close(self) -> None:
        """Let go of the guard, which thaws what is frozen."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def check(self) -> None:
        """See `Freezer`."""
        answer = self._ask(PATIENCE_SECONDS, "able")
        if answer[0] != "able":
            _raise_refusal(answer)

    def freeze(self, deadline_seconds: float) -> AbstractContextManager[Frozen]:
        """See `Freezer`."""
        return _GuardedFreeze(self, deadline_seconds)

    def begin(self, deadline_seconds: float) -> tuple[int, float]:
        """Number of the freeze, and how many seconds FIFREEZE took. For `_GuardedFreeze`."""
        self._number += 1
        milliseconds = max(1, int(deadline_seconds * 1000))
        answer = self._ask(deadline_seconds + PATIENCE_SECONDS, "freeze", self._number, milliseconds)
        if answer[0] != "frozen":
            _raise_refusal(answer)
        return self._number, int(answer[2]) / 1e6

    def end(self, number: int) -> float:
        """For how many seconds it was frozen; `FreezeLost`. For `_GuardedFreeze`."""
        if self._socket is None:
            raise FreezeLost("the guard is gone", reason="GuardGone")
        try:
            answer = self._ask(PATIENCE_SECONDS, "thaw", number)
        except NotFrozen as e:
            raise FreezeLost(e.message, reason="GuardGone") from e
        if answer[0] != "thawed":
            raise FreezeLost(answer[-1], reason=answer[2])
        return int(answer[2]) / 1e6

    def _ask(self, seconds: float, word: str, *fields: object) -> list[str]:
        """The guard's answer; `NotFrozen` (`GuardNotReady`) when there is none. Then the connection is closed."""
        try:
            if self._socket is None:
                self._socket = _connect(self._path)
            self._socket.settimeout(seconds)
            self._socket.send(guardwords.encode(word, *fields))
            packet = self._socket.recv(guardwords.LONGEST_MESSAGE)
            if not packet:
                raise ConnectionResetError("it closed the connection")
            return guardwords.decode(packet)
        except (OSError, ProtocolError) as e:
            self.close()
            raise NotFrozen(f"the guard does not answer: {e}", reason="GuardNotReady") from e


class _GuardedFreeze:
    """One freeze, from its beginning to its end."""

    def __init__(self, guard: GuardFreezer, deadline_seconds: float) -> None:
        self._guard = guard
        self._seconds = deadline_seconds
        self._deadline = 0.0
        self._number: int | None = None
        self.freeze_seconds = 0.0
        self.stall_seconds = 0.0

    def __enter__(self) -> _GuardedFreeze:
        self._deadline = time.monotonic() + self._seconds
        self._number, self.freeze_seconds = self._guard.begin(self._seconds)
        return self

    def left(self) -> float:
        return self._deadline - time.monotonic()

    def thaw(self) -> None:
        number, self._number = self._number, None
        if number is not None:
            self.stall_seconds = self._guard.end(number)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.thaw()
        except FreezeLost:
            if kind is None:
                raise


def _connect(path: str) -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
    try:
        made.settimeout(PATIENCE_SECONDS)
        made.connect(path)
    except OSError:
        made.close()
        raise
    return made


def _raise_refusal(answer: list[str]) -> None:
    if answer[0] != "refused":
        raise NotFrozen(f"the guard answered {answer[0]!r} to another question", reason="GuardNotReady")
    error = CannotFreeze if answer[2] == "lasting" else NotFrozen
    raise error(answer[4], reason=answer[3])
