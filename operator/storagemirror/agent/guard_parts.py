"""What both guards of a volume are made of: the volume, a thread that waits in the kernel, and what wakes the other."""

from __future__ import annotations

import ctypes
import os
import queue
import select
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from storagemirror.fs import mounts
from storagemirror.fs.freeze import Answer, freeze, thaw

_STACK_BYTES = 256 * 1024
"""Of the worker: all that is mapped may be locked in memory."""
_LOCK_ALL = 1 | 2 | 4
"""MCL_CURRENT, MCL_FUTURE, MCL_ONFAULT (include/uapi/asm-generic/mman.h): what is in memory stays there, and what comes
into it from now on. Not everything that is mapped: the most of it is never used."""


class Volume:
    """The volume that is guarded. Its calls may wait in the kernel for as long as its disk is hung. OSError."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def check_own(self) -> None:
        """`VolumeError` when it is not a file system of its own, or of a kind that cannot be frozen."""
        mounts.own_filesystem(self._fd, self.path)

    def sync(self) -> None:
        """Have written what there is to write, so that the freeze after it is short. Errors are somebody else's."""
        ctypes.CDLL(None).syncfs(self._fd)

    def freeze(self) -> Answer:
        """See `fs.freeze`."""
        return freeze(self._fd)

    def thaw(self) -> Answer:
        """See `fs.freeze`."""
        return thaw(self._fd)


class Done(NamedTuple):
    """A call that came back: what it said, when it began and when it ended (time.monotonic)."""

    answer: Answer
    begun: float
    ended: float


class Wake:
    """A pipe that a signal or the worker writes to, so that the main thread need wait for one thing only."""

    def __init__(self) -> None:
        self.fd, self._write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.ending = False
        """SIGTERM or SIGINT has come."""

    def on_signals(self) -> None:
        """For the main thread."""
        signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._end)

    def wake(self) -> None:
        """From any thread."""
        try:
            os.write(self._write, b"\0")
        except BlockingIOError:
            return  # full: it wakes as it is

    def drain(self) -> None:
        """It was seen."""
        try:
            while os.read(self.fd, 4096):
                pass
        except BlockingIOError:
            return

    def wait(self, seconds: float) -> None:
        """Until something happens, so long at most."""
        poll = select.poll()
        poll.register(self.fd, select.POLLIN)
        poll.poll(seconds * 1000)
        self.drain()

    def _end(self, number: int, frame: object) -> None:
        self.ending = True


class Worker:
    """A thread for calls that may hang. One at a time."""

    def __init__(self, wake: Wake) -> None:
        self._wake = wake
        self._jobs: queue.SimpleQueue[Callable[[], Answer]] = queue.SimpleQueue()
        self._done: deque[Done | BaseException] = deque()
        self.busy = False
        threading.stack_size(_STACK_BYTES)
        threading.Thread(target=self._run, daemon=True).start()

    def do(self, job: Callable[[], Answer]) -> None:
        """Begin it. For the main thread, which is woken when it is done."""
        self.busy = True
        self._jobs.put(job)

    def done(self) -> Done | None:
        """What came back since, if something did; raises what the job raised."""
        if not self._done:
            return None
        self.busy = False
        found = self._done.popleft()
        if isinstance(found, BaseException):
            raise found
        return found

    def _run(self) -> None:
        while True:
            job = self._jobs.get()
            begun = time.monotonic()
            try:
                self._done.append(Done(job(), begun, time.monotonic()))
            except BaseException as e:  # the main thread's to raise
                self._done.append(e)
            self._wake.wake()


LONGEST_SECONDS = 10.0
"""A deadline beyond this is cut to it: no engine needs a volume frozen for longer."""


def longest_freeze(sysctls: str = "/proc/sys/kernel") -> float:
    """Seconds. Where the kernel panics over a task that waits for too long (hung_task_panic), a writer that waits in a
    freeze is such a task: there half of what it allows, at most."""
    try:
        with open(f"{sysctls}/hung_task_panic", encoding="ascii") as panic:
            panics = int(panic.read())
        with open(f"{sysctls}/hung_task_timeout_secs", encoding="ascii") as timeout:
            allowed = int(timeout.read())
    except (OSError, ValueError):  # a kernel without this check
        return LONGEST_SECONDS
    return min(LONGEST_SECONDS, allowed / 2) if panics and allowed else LONGEST_SECONDS


def stay_in_memory() -> bool:
    """Lock this process in memory, so that it can thaw on a machine that has none left. False where it may not
    (CAP_IPC_LOCK, or a limit of locked memory that is high enough)."""
    libc = ctypes.CDLL(None, use_errno=True)
    return bool(libc.mlockall(_LOCK_ALL) == 0)


def say(text: str, who: str = "guard") -> None:
    """A line of the log, to stderr: time (UTC), who and what. `logging` would cost 2 MB."""
    now = time.time()
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now))
    print(f"{stamp}.{int(now * 1000) % 1000:03d}Z {who}: {text}", file=sys.stderr, flush=True)
