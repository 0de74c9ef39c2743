"""The directory that the two guards of a volume and its engine share: lock, note and socket.

guard.lock   whoever holds it (flock) is the guard; the other waits for it. The kernel lets go of it when the process
             that held it has ended, and not before its last call has come back: a FIFREEZE that a kill could not
             interrupt is over by then.
frozen       the note: written before each FIFREEZE, removed after the FITHAW. So whoever finds it while nobody else
             is the guard knows that the volume may stand still, and that nobody will thaw it.
guard.sock   where the guard listens
"""

from __future__ import annotations

import fcntl
import os
import time
from typing import NamedTuple

from storagemirror.sync.guardwords import SOCKET_NAME

POINT = "point"
"""A freeze for a point in time: to be thawed at its deadline. Any other word is not ours to thaw."""


class Note(NamedTuple):
    """Why the volume may be frozen, and until when (seconds of CLOCK_BOOTTIME)."""

    kind: str
    deadline: float

    def overdue(self, seconds: float) -> bool:
        """Whether its deadline was that long ago."""
        return boot_time() > self.deadline + seconds


class Shared:
    """The directory at `path`; it must be there. OSError."""

    def __init__(self, path: str) -> None:
        self.socket = os.path.join(path, SOCKET_NAME)
        self._note = os.path.join(path, "frozen")
        self._lock = os.open(os.path.join(path, "guard.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def become_guard(self) -> None:
        """Wait until nobody else is. Not to be interrupted: for a thread of its own."""
        fcntl.flock(self._lock, fcntl.LOCK_EX)

    def try_to_become_guard(self) -> bool:
        """Without waiting."""
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def write_note(self, seconds: float) -> None:
        """That the volume is about to be frozen, for so long. OSError: then it must not be."""
        text = f"{POINT} {boot_time() + seconds:.3f}\n"
        fresh = self._note + ".new"
        fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, text.encode())
        finally:
            os.close(fd)
        os.rename(fresh, self._note)

    def remove_note(self) -> None:
        """That it is not frozen."""
        try:
            os.unlink(self._note)
        except FileNotFoundError:
            return

    def read_note(self) -> Note | None:
        """None where nobody left one. A note that makes no sense is of no kind."""
        try:
            with open(self._note, encoding="ascii", errors="replace") as file:
                words = file.read(100).split()
        except FileNotFoundError:
            return None
        try:
            return Note(words[0], float(words[1]))
        except (IndexError, ValueError):
            return Note("", 0.0)


def boot_time() -> float:
    """Seconds on a clock that never goes back, and goes on while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
