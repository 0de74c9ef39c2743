"""Writers of every kind, for points: run as a process of its own, so that nothing of them is ours.

python -m tests.support.pointstorm DIRECTORY SEED KINDS
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path

_libc = ctypes.CDLL(None, use_errno=True)
_libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
PUNCH, ZERO, COLLAPSE = 0x3, 0x10, 0x8


class Storm:
    """Random operations below one directory."""

    def __init__(self, root: Path, seed: int) -> None:
        self.root = root
        self.chance = random.Random(seed)

    def any_file(self) -> str | None:
        return self._any(lambda path: path.is_file() and not path.is_symlink())

    def any_directory(self) -> str:
        return self._any(lambda path: path.is_dir() and not path.is_symlink()) or str(self.root)

    def _any(self, fits: Callable[[Path], bool]) -> str | None:
        found = [
            path
            for above, directories, files in os.walk(self.root)
            for path in map(Path(above).joinpath, directories + files)
            if fits(path)
        ]
        return str(self.chance.choice(found)) if found else None

    def new_name(self, directory: str) -> str:
        return f"{directory}/{self.chance.choice('abcdefgh')}{self.chance.randrange(6)}"

    # -- what can happen

    def write(self, path: str) -> None:
        with open(path, "r+b") as file:
            size = os.fstat(file.fileno()).st_size
            file.seek(self.chance.randrange(size + 1))
            file.write(self.chance.randbytes(self.chance.choice((1, 100, 5_000, 70_000))))

    def append(self, path: str) -> None:
        with open(path, "ab") as file:
            file.write(self.chance.randbytes(self.chance.randrange(1, 9_000)))

    def truncate(self, path: str) -> None:
        size = os.stat(path).st_size
        os.truncate(path, self.chance.randrange(min(size + 10_000, 1 << 20)))

    def cut_and_grow(self, path: str) -> None:
        size = os.stat(path).st_size
        os.truncate(path, size // 2)
        os.truncate(path, size)

    def map(self, path: str) -> None:
        size = os.stat(path).st_size
        if size < 4096:
            os.truncate(path, 40_000)
            size = 40_000
        with open(path, "r+b") as file, mmap.mmap(file.fileno(), size) as mapped:
            for _ in range(3):
                at = self.chance.randrange(size - 8)
                mapped[at : at + 8] = self.chance.randbytes(8)
                time.sleep(0.002)

    def direct(self, path: str) -> None:
        fd = os.open(path, os.O_RDWR | os.O_DIRECT)
        try:
            with mmap.mmap(-1, 8192) as buffer:
                buffer.write(self.chance.randbytes(8192))
                os.pwritev(fd, [buffer], 4096 * self.chance.randrange(8))
        finally:
            os.close(fd)

    def punch(self, path: str) -> None:
        fd = os.open(path, os.O_RDWR)
        try:
            size = max(os.fstat(fd).st_size, 4096)
            how = self.chance.choice((PUNCH, ZERO))
            _libc.fallocate(fd, how, self.chance.randrange(size), self.chance.randrange(1, 50_000))
        finally:
            os.close(fd)

    def replace(self, path: str) -> None:
        with open(path + ".tmp", "wb") as file:
            file.write(self.chance.randbytes(self.chance.randrange(20_000)))
        os.rename(path + ".tmp", path)

    def create(self, directory: str) -> None:
        with open(self.new_name(directory), "wb") as file:
            file.write(self.chance.randbytes(self.chance.choice((0, 10, 3_000, 150_000))))

    def make_directory(self, directory: str) -> None:
        if directory.count("/") - str(self.root).count("/") < 5:
            os.mkdir(self.new_name(directory))

    def link(self, path: str) -> None:
        os.link(path, self.new_name(self.any_directory()))

    def symlink(self, directory: str) -> None:
        os.symlink(self.chance.choice(("x", "/etc", "../a")), self.new_name(directory))

    def rename(self, path: str) -> None:
        os.rename(path, self.new_name(self.any_directory()))

    def move_directory(self, path: str) -> None:
        if path != str(self.root):
            os.rename(path, self.new_name(self.any_directory()))

    def swap(self, path: str) -> None:
        other = self.any_file()
        if other:
            _libc.renameat2(-100, os.fsencode(path), -100, os.fsencode(other), 2)

    def unlink(self, path: str) -> None:
        os.unlink(path)

    def remove_directory(self, path: str) -> None:
        if path != str(self.root):
            for below in sorted(Path(path).rglob("*"), reverse=True):
                below.rmdir() if below.is_dir() and not below.is_symlink() else below.unlink()
            os.rmdir(path)

    def attributes(self, path: str) -> None:
        os.chmod(path, self.chance.choice((0o600, 0o644, 0o755)))
        os.setxattr(path, "user.storm", self.chance.randbytes(5))

    def time(self, path: str) -> None:
        os.utime(path, ns=(1, self.chance.randrange(1 << 60)))

    def owner(self, directory: str) -> None:
        os.chown(directory, self.chance.randrange(3), -1)


CONTENT = ("write", "append", "truncate", "cut_and_grow", "map", "direct", "punch", "attributes", "time")
NAMES = (
    *("replace", "create", "create", "create", "make_directory", "link", "symlink", "rename", "move_directory"),
    *("swap", "unlink", "remove_directory", "owner"),
)
_OF_DIRECTORIES = {"create", "make_directory", "symlink", "move_directory", "remove_directory", "owner"}


def main(directory: str, seed: int, kinds: tuple[str, ...], pause: float = 0.0005) -> None:
    """Until killed."""
    storm = Storm(Path(directory), seed)
    while True:
        kind = storm.chance.choice(kinds)
        with contextlib.suppress(OSError, ValueError):
            target = storm.any_directory() if kind in _OF_DIRECTORIES else storm.any_file()
            if target is None:
                kind, target = "create", str(storm.root)
            getattr(storm, kind)(target)
        time.sleep(pause)


if __name__ == "__main__":
    KINDS = {"content": CONTENT, "names": NAMES, "all": CONTENT + NAMES}
    main(sys.argv[1], int(sys.argv[2]), KINDS.get(sys.argv[3], tuple(sys.argv[3].split(","))))
