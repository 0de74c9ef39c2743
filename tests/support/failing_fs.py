"""A file system in user space that shows a directory and fails on demand, for tests.

The process reads, at each call, a directory of orders: a file there named for a call (`read`, `readdir`, `open`,
`write`, `fsync`, `create`, `getattr`) holds `ERRNO NAME`: that call fails with that error for entries of that name
(`*`: of all). With `ERRNO NAME OFFSET` a read or write fails from that offset on.
"""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_STAT = ("st_atime", "st_ctime", "st_mtime", "st_gid", "st_uid", "st_mode", "st_nlink", "st_size", "st_rdev", "st_ino")
_STATFS = ("f_bavail", "f_bfree", "f_blocks", "f_bsize", "f_favail", "f_ffree", "f_files", "f_flag", "f_frsize")


@dataclass(frozen=True)
class FailingDisk:
    """A mounted one."""

    path: Path
    beneath: Path
    orders: Path

    def fail(self, call: str, name: str = "*", error: int = errno.EIO, offset: int = 0) -> None:
        """From now on."""
        (self.orders / f".{call}").write_text(f"{error} {offset} {name}")
        (self.orders / f".{call}").rename(self.orders / call)

    def heal(self) -> None:
        """Nothing fails any more."""
        for order in self.orders.iterdir():
            order.unlink()


@contextmanager
def failing_disk(directory: Path, name: str) -> Iterator[FailingDisk]:
    """Mounted at `directory/name`; gone afterwards."""
    made = FailingDisk(directory / name, directory / f"{name}.beneath", directory / f"{name}.orders")
    for path in (made.path, made.beneath, made.orders):
        path.mkdir()
    places = [str(place) for place in (made.beneath, made.path, made.orders)]
    command = [sys.executable, "-m", "tests.support.failing_fs", *places]
    process = subprocess.Popen(command, cwd=Path(__file__).parents[2], stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 20
        while not os.path.ismount(made.path):
            if process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError("the file system in user space was not mounted")
            time.sleep(0.02)
        yield made
    finally:
        subprocess.run(["umount", "-l", made.path], check=False, capture_output=True)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(5)
        if process.poll() is None:
            process.kill()
            process.wait()


def _serve(beneath: str, mounted: str, orders: str) -> None:
    import mfusepy

    class Shown(mfusepy.Operations):  # type: ignore[misc]
        use_ns = True

        def _at(self, path: str) -> str:
            return beneath + path

        def _ask(self, call: str, path: str, end: int = 1) -> None:
            try:
                with open(f"{orders}/{call}", encoding="utf-8") as file:
                    error, offset, name = file.read().split(" ", 2)
            except FileNotFoundError:
                return
            if name in ("*", os.path.basename(path)) and end > int(offset):
                raise mfusepy.FuseOSError(int(error))

        def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:
            self._ask("getattr", path)
            found = os.lstat(self._at(path))
            values = {key: getattr(found, key) for key in _STAT}
            return values | {key: getattr(found, f"{key}_ns") for key in _STAT[:3]}

        def readdir(self, path: str, fh: int) -> list[tuple[str, dict[str, int], int]]:
            self._ask("readdir", path)
            with os.scandir(self._at(path)) as found:
                entries = [(entry.name, entry.stat(follow_symlinks=False)) for entry in found]
            return [(name, {"st_mode": found.st_mode, "st_ino": found.st_ino}, 0) for name, found in entries]

        def open(self, path: str, flags: int) -> int:
            self._ask("open", path)
            return os.open(self._at(path), flags & ~(os.O_NOFOLLOW | os.O_EXCL))

        def create(self, path: str, mode: int, fi: Any = None) -> int:
            self._ask("create", path)
            return os.open(self._at(path), os.O_RDWR | os.O_CREAT, mode)

        def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
            self._ask("read", path, offset + size)
            return os.pread(fh, size, offset)

        def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
            self._ask("write", path, offset + len(data))
            return os.pwrite(fh, data, offset)

        def fsync(self, path: str, datasync: int, fh: int) -> int:
            self._ask("fsync", path)
            return 0

        def truncate(self, path: str, length: int, fh: int | None = None) -> int:
            os.truncate(self._at(path), length)
            return 0

        def release(self, path: str, fh: int) -> int:
            os.close(fh)
            return 0

        def readlink(self, path: str) -> str:
            return os.readlink(self._at(path))

        def mkdir(self, path: str, mode: int) -> int:
            os.mkdir(self._at(path), mode)
            return 0

        def mknod(self, path: str, mode: int, dev: int) -> int:
            os.mknod(self._at(path), mode, dev)
            return 0

        def unlink(self, path: str) -> int:
            os.unlink(self._at(path))
            return 0

        def rmdir(self, path: str) -> int:
            os.rmdir(self._at(path))
            return 0

        def rename(self, old: str, new: str) -> int:
            os.rename(self._at(old), self._at(new))
            return 0

        def link(self, target: str, source: str) -> int:
            os.link(self._at(source), self._at(target))
            return 0

        def symlink(self, target: str, source: str) -> int:
            os.symlink(source, self._at(target))
            return 0

        def chmod(self, path: str, mode: int) -> int:
            os.chmod(self._at(path), mode)
            return 0

        def chown(self, path: str, uid: int, gid: int) -> int:
            os.chown(self._at(path), uid, gid, follow_symlinks=False)
            return 0

        def utimens(self, path: str, times: tuple[int, int] | None = None) -> int:
            os.utime(self._at(path), ns=times or (time.time_ns(),) * 2, follow_symlinks=False)
            return 0

        def statfs(self, path: str) -> dict[str, int]:
            found = os.statvfs(self._at(path))
            return {key: getattr(found, key) for key in _STATFS}

    options = {"attr_timeout": 0, "entry_timeout": 0, "negative_timeout": 0}
    mfusepy.FUSE(Shown(), mounted, foreground=True, nothreads=True, use_ino=True, direct_io=True, **options)


if __name__ == "__main__":
    _serve(*sys.argv[1:])
