"""What is done to a source, and for how long nobody can read it on the target.

The clock runs from just before the first write. The target is looked at by its names each millisecond or so, as a
reader would do it: a file counts when it can be opened under its name and holds what was written.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from pathlib import Path

SMALL, BURST, LARGE = "one small file", "a burst of files", "4 KiB in a large file"
SMALL_BYTES = 4096
BLOCK = 4096
LOOK_SECONDS = 0.001


class Late(Exception):
    """What was written did not come."""


class Work:
    """One source and its target; every change is another, whoever carries it."""

    def __init__(
        self, source: Path, target: Path, *, burst: int, large: int, seed: int = 0, patience: float = 600.0
    ) -> None:
        """`burst`: files of one burst. `large`: bytes of the large file. `seed`: another one for each start on
        the same trees. `patience`: seconds until `Late`."""
        self.source, self.target = source, target
        self._burst, self._large, self._patience = burst, large, patience
        self._chance = random.Random(f"latency {seed}")
        self._prefix = f"{seed}-"
        self._count = 0

    def fill(self) -> None:
        """The files that are overwritten later, and some beside them."""
        (self.source / "small").mkdir()
        for number in range(100):
            (self.source / f"small/f{number:02}").write_bytes(self._chance.randbytes(SMALL_BYTES))
        with (self.source / "large").open("wb") as file:
            for _ in range(0, self._large, 1 << 20):
                file.write(self._chance.randbytes(min(1 << 20, self._large)))

    def probe(self) -> None:
        """Wait until a new file comes, and all that was there: the tool is up. `Late`."""
        name = f"probe{self._next()}"
        (self.source / name).write_text(name)
        self._until(lambda: _reads(self.target / name) == name.encode(), name)
        self._until(lambda: _size(self.target / "large") == self._large, "the large file")

    def small(self) -> float:
        """One small file written anew: seconds until it can be read."""
        path = f"small/f{self._chance.randrange(100):02}"
        content = self._chance.randbytes(SMALL_BYTES)
        began = time.monotonic()
        (self.source / path).write_bytes(content)
        return self._until(lambda: _reads(self.target / path) == content, path) - began

    def burst(self) -> float:
        """New files in a new directory: seconds until all can be read. The writes themselves are in it."""
        directory = f"burst{self._next()}"
        contents = {f"f{number:05}": self._chance.randbytes(1024) for number in range(self._burst)}
        began = time.monotonic()
        (self.source / directory).mkdir()
        for name, content in contents.items():
            (self.source / directory / name).write_bytes(content)
        there = self.target / directory
        names = list(contents)

        def all_there() -> bool:
            while names and _size(there / names[-1]) == 1024:
                names.pop()
            return not names

        end = self._until(all_there, directory)
        for name, content in contents.items():
            if _reads(there / name) != content:
                raise Late(f"{directory}/{name} had its size, but not its content")
        return end - began

    def large(self) -> float:
        """A block overwritten in place: seconds until it can be read."""
        offset = self._chance.randrange(self._large // BLOCK) * BLOCK
        content = self._chance.randbytes(BLOCK)
        began = time.monotonic()
        with (self.source / "large").open("r+b", buffering=0) as file:
            os.pwrite(file.fileno(), content, offset)
        return self._until(lambda: _reads(self.target / "large", offset, BLOCK) == content, "large") - began

    def _next(self) -> str:
        self._count += 1
        return f"{self._prefix}{self._count}"

    def _until(self, holds: Callable[[], bool], what: str) -> float:
        """The moment at which it did, on the monotonic clock."""
        end = time.monotonic() + self._patience
        while not holds():
            if time.monotonic() > end:
                raise Late(f"waited {self._patience:.0f} s for {what} to be on the target")
            time.sleep(LOOK_SECONDS)
        return time.monotonic()


def _reads(path: Path, offset: int = 0, length: int = 1 << 20) -> bytes | None:
    try:
        with path.open("rb", buffering=0) as file:
            return os.pread(file.fileno(), length, offset)
    except FileNotFoundError:
        return None


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return -1
