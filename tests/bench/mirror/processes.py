"""One mirror, timed: servers up, the clients one after the other, everything ended and accounted for.

Processor time is what the kernel says at the end of each process (wait4: with the children it waited for). Memory is
the high-water mark of the resident set of each process, read twenty times a second, children included.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO

from storagemirror.fs.syscalls import syncfs
from tests.bench.mirror import wire

READY_SECONDS = 20.0
END_SECONDS = 1800.0
"""A process that runs longer is killed, and its run has failed."""
_LOOK_SECONDS = 0.05


class Failed(Exception):
    """A process that should have done its work did not."""


@dataclass(frozen=True)
class Command:
    """A process: who it is in the table, its words, and where it listens when it is a server."""

    name: str
    words: tuple[str, ...]
    port: int = 0
    ends: bool = False
    """A server that ends by itself after one client."""

    def __str__(self) -> str:
        return " ".join(self.words)


@dataclass(frozen=True)
class Plan:
    """Servers, which are up before the clock runs, and clients, which it runs for."""

    servers: tuple[Command, ...]
    clients: tuple[Command, ...]


@dataclass(frozen=True)
class Measured:
    """What one run cost. Seconds and bytes; `resident` is the peak of each process by its name."""

    wall: float
    synced: float
    """The same with a final syncfs of the target."""
    cpu: float
    """User and system, of all processes of both ends."""
    resident: dict[str, int]
    there: int
    back: int
    """Bytes that crossed from source to target, and back."""
    others: float
    """How many cores whatever else ran on this machine used meanwhile: the noise."""


@dataclass
class _Peaks:
    """Reads the high-water marks of processes and their children."""

    roots: dict[int, str] = field(default_factory=dict)
    seen: dict[str, int] = field(default_factory=dict)
    _end: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def watching(self) -> Iterator[None]:
        thread = threading.Thread(target=self._watch, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._end.set()
            thread.join()

    def look(self) -> None:
        for root, name in list(self.roots.items()):
            for pid in (root, *offspring(root)):
                self.seen[name] = max(self.seen.get(name, 0), high_water(pid))

    def _watch(self) -> None:
        while not self._end.wait(_LOOK_SECONDS):
            self.look()


def offspring(pid: int) -> list[int]:
    """Processes below it, of all generations."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError):
                for child in (task / "children").read_text().split():
                    found += [int(child), *offspring(int(child))]
    return found


def high_water(pid: int) -> int:
    """The most memory that was ever resident, in bytes; 0 when there is no such process any more."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0


def measure(plan: Plan, target: Path, log: Path) -> Measured:
    """Run it. What the processes say goes to `log`; `Failed` names the first that went wrong."""
    peaks = _Peaks()
    started: list[tuple[Command, subprocess.Popen[bytes]]] = []
    cpu = 0.0
    with log.open("ab") as out, peaks.watching():
        try:
            for server in plan.servers:
                started.append((server, _start(server, out, peaks)))
                _until(partial(wire.listens, server.port), f"{server} to listen", log)
            before, busy = wire.crossed(), busy_seconds()
            start = time.monotonic()
            for client in plan.clients:
                cpu += _wait(client, _start(client, out, peaks), peaks, log)
            stopped = time.monotonic()
            sync_of(target)
            synced = time.monotonic()
            for server, process in reversed(started):
                cpu += _end(server, process, peaks, log)
            started.clear()
            took = time.monotonic() - start
            others = max(0.0, busy_seconds() - busy - cpu) / took
            bytes_ = wire.crossed().since(before)
        finally:
            for _, process in started:
                process.kill()
                process.wait()
    return Measured(stopped - start, synced - start, cpu, dict(peaks.seen), bytes_.there, bytes_.back, others)


def sync_of(directory: Path) -> None:
    """syncfs of the file system that it is on."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        syncfs(fd)
    finally:
        os.close(fd)


def busy_seconds() -> float:
    """Processor time that this machine has spent since it started, idle and waiting left out."""
    words = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
    return (sum(map(int, words)) - int(words[3]) - int(words[4])) / os.sysconf("SC_CLK_TCK")


def _start(command: Command, out: IO[bytes], peaks: _Peaks) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(command.words, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
    peaks.roots[process.pid] = command.name
    return process


def _end(server: Command, process: subprocess.Popen[bytes], peaks: _Peaks, log: Path) -> float:
    """Let a server end in good order; its processor seconds."""
    peaks.look()
    if not server.ends:
        _until(lambda: not offspring(process.pid), f"the sessions of {server} to end", log)
        process.send_signal(signal.SIGTERM)
    return _wait(server, process, peaks, log, judged=server.ends)


def _wait(
    command: Command, process: subprocess.Popen[bytes], peaks: _Peaks, log: Path, *, judged: bool = True
) -> float:
    overdue = threading.Timer(END_SECONDS, process.kill)
    overdue.start()
    try:
        _, status, used = os.wait4(process.pid, 0)
    finally:
        overdue.cancel()
    del peaks.roots[process.pid]
    process.returncode = os.waitstatus_to_exitcode(status)
    if judged and process.returncode:
        raise Failed(f"{command}\nended with {process.returncode}; see the end of {log}:\n{log.read_text()[-2000:]}")
    return used.ru_utime + used.ru_stime


def _until(holds: Callable[[], bool], what: str, log: Path) -> None:
    end = time.monotonic() + READY_SECONDS
    while not holds():
        if time.monotonic() > end:
            raise Failed(f"waited {READY_SECONDS:.0f} s for {what}; see the end of {log}:\n{log.read_text()[-2000:]}")
        time.sleep(0.01)
