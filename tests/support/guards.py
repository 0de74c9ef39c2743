"""Guards as processes, and a writer whose progress shows whether a volume stands still."""

from __future__ import annotations

import contextlib
import mmap
import os
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from storagemirror.fs import freeze
from storagemirror.sync.freezing import CannotFreeze, GuardFreezer, NotFrozen
from tests.cluster.layout import checkout
from tests.support.disks import Disk, disk

SIZES = {"ext4": 64, "xfs": 320, "btrfs": 128}


@dataclass
class Guards:
    """The two guards of a volume, as two containers would run them."""

    volume: Path
    shared: Path
    log: Path
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def socket(self) -> str:
        return str(self.shared / "guard.sock")

    def start(
        self,
        *prefix: str,
        program: str = "storagemirror.cli.main",
        words: tuple[str, ...] = (),
        **environment: str,
    ) -> subprocess.Popen[bytes]:
        """One more guard: `prefix` goes before the command, `program` is the module that is run, `words` come last."""
        command = [*prefix, sys.executable, "-m", program, "guard"]
        env = {**os.environ, "PYTHONPATH": f"{checkout() / 'operator'}:{checkout()}", **environment}
        with self.log.open("ab") as log:
            made = subprocess.Popen(
                [*command, "--volume", str(self.volume), "--shared", str(self.shared), *words], env=env, stderr=log
            )
        self.processes.append(made)
        return made

    def both(self) -> tuple[subprocess.Popen[bytes], subprocess.Popen[bytes]]:
        """The guard, ready, and its second, waiting."""
        guard = self.start()
        self.freezer().close()
        before = self.said("waiting")
        second = self.start()
        until(lambda: self.said("waiting") > before, 60.0)
        return guard, second

    def freezer(self) -> GuardFreezer:
        """An engine's hand on the guard, as soon as it is able."""
        freezer = GuardFreezer(self.socket)
        until(lambda: _able(freezer), 60.0)
        return freezer

    def said(self, words: str) -> int:
        """How many lines of the log have them."""
        return sum(words in line for line in self.log.read_text().splitlines())

    def end(self) -> None:
        """Kill all, and leave nothing frozen."""
        for process in self.processes:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGCONT)
            process.kill()
        thaw(self.volume)
        for process in self.processes:
            process.wait()


@contextmanager
def guards(directory: Path, volume: Path) -> Iterator[Guards]:
    """Their log is in `directory`; what they share is not, for a socket's path has 107 bytes at most."""
    with tempfile.TemporaryDirectory(prefix="sm-guard-", dir="/tmp") as shared:
        made = Guards(volume, Path(shared), directory / "guard.log")
        made.log.touch()
        try:
            yield made
        finally:
            made.end()


@contextmanager
def guarded(directory: Path, kind: str) -> Iterator[tuple[Disk, Guards]]:
    """A new file system of `kind`, and guards for it that are still to be started."""
    with disk(directory, kind, SIZES[kind]) as made, guards(directory, made.path) as ours:
        yield made, ours


class Writer:
    """A process that rewrites a file all the time, and counts."""

    def __init__(self, directory: Path) -> None:
        self._count = mmap.mmap(-1, 8)
        self._path = directory / "written"
        self._process = os.fork()
        if self._process == 0:
            self._write()
        until(lambda: self.count > 0)

    @property
    def count(self) -> int:
        """Writes that came back."""
        found: int = struct.unpack("=Q", self._count)[0]
        return found

    def goes_on(self, within: float) -> float:
        """How long until the next write came back; AssertionError when none did."""
        before, begun = self.count, time.monotonic()
        until(lambda: self.count > before + 1, within)
        return time.monotonic() - begun

    def stands_still(self, seconds: float = 0.15) -> bool:
        """No write came back for so long. One that was on its way as the freeze came may land first."""
        time.sleep(0.02)
        before = self.count
        time.sleep(seconds)
        return self.count == before

    def end(self) -> None:
        """For a volume that is not frozen."""
        os.kill(self._process, signal.SIGKILL)
        os.waitpid(self._process, 0)

    def _write(self) -> None:
        try:
            fd = os.open(self._path, os.O_WRONLY | os.O_CREAT, 0o600)
            number = 0
            while True:
                number += 1
                os.pwrite(fd, struct.pack("=Q", number), 0)
                self._count[:8] = struct.pack("=Q", number)
                time.sleep(0.0005)
        finally:
            os._exit(1)


@contextmanager
def writer(volume: Path) -> Iterator[Writer]:
    """One on `volume`, which is thawed before it must end."""
    made = Writer(volume)
    try:
        yield made
    finally:
        thaw(volume)
        made.end()


def thaw(volume: Path) -> None:
    """Whoever froze it."""
    if volume.is_dir():
        with opened(volume) as fd:
            freeze.thaw(fd)


def frozen(volume: Path) -> bool:
    """Whether it is frozen; for a volume that nobody writes, for it is tried by freezing."""
    with opened(volume) as fd:
        answer = freeze.freeze(fd)
        if answer.outcome is freeze.Outcome.DONE:
            freeze.thaw(fd)
        return answer.outcome is freeze.Outcome.ALREADY_FROZEN


def until(reached: Callable[[], bool], within: float = 20.0) -> None:
    """Wait for it; AssertionError when it was not reached."""
    end = time.monotonic() + within
    while not reached():
        assert time.monotonic() < end, "not reached in time"
        time.sleep(0.005)


@contextmanager
def opened(path: Path) -> Iterator[int]:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield fd
    finally:
        os.close(fd)


def _able(freezer: GuardFreezer) -> bool:
    try:
        freezer.check()
    except NotFrozen:
        return False
    except CannotFreeze:
        return True  # to be asked again, and to be told
    return True
