"""A disk whose power can be cut at any moment: a file that remembers every write and every flush, in their order.

Served through FUSE by a process of its own (this file, run), with a loop device over it, it is a
disk with a volatile cache: what the kernel has written and not flushed may be there after a cut, or not, each write by
itself. `cut` makes the image that such a disk holds when the power goes at some place of the log. Nothing is unmounted
or frozen for it: the file system in the image must do what it does after a real cut, replay its journal.

The log, all little-endian: for each write u64 offset, u32 length, the bytes; for each flush u64 2^64-1, u32 0.
"""

from __future__ import annotations

import errno
import os
import random
import stat
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_RECORD = struct.Struct("<QI")
_FLUSH = (1 << 64) - 1
_NAME = "disk"


def serve(directory: str, image: str, log: str) -> None:
    """Until it is unmounted."""
    import mfusepy

    store = os.open(image, os.O_RDWR)
    size = os.fstat(store).st_size
    written = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    class Disk(mfusepy.Operations):  # type: ignore[misc]
        """One file."""

        use_ns = True

        def getattr(self, path: str, fh: Any = None) -> dict[str, int]:
            if path == "/":
                return {"st_mode": stat.S_IFDIR | 0o755, "st_nlink": 2}
            if path != f"/{_NAME}":
                raise mfusepy.FuseOSError(errno.ENOENT)
            return {"st_mode": stat.S_IFREG | 0o600, "st_nlink": 1, "st_size": size}

        def readdir(self, path: str, fh: int) -> list[str]:
            return [".", "..", _NAME]

        def open(self, path: str, flags: int) -> int:
            return store

        def read(self, path: str, length: int, offset: int, fh: int) -> bytes:
            return os.pread(store, length, offset)

        def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
            os.write(written, _RECORD.pack(offset, len(data)) + data)
            return os.pwrite(store, data, offset)

        def fsync(self, path: str, datasync: int, fh: int) -> int:
            os.write(written, _RECORD.pack(_FLUSH, 0))
            return 0

        def flush(self, path: str, fh: int) -> int:
            return 0

        def release(self, path: str, fh: int) -> int:
            return 0

    try:
        mfusepy.FUSE(Disk(), directory, foreground=True, nothreads=True, allow_other=True, max_write=1 << 17)
    except RuntimeError:  # libfuse 3.14 knows no such option, and writes as much by itself
        mfusepy.FUSE(Disk(), directory, foreground=True, nothreads=True, allow_other=True)


@dataclass
class PowerDisk:
    """A mounted file system on such a disk."""

    path: Path
    kind: str
    base: Path
    """The image as it was before it was mounted."""
    log: Path

    def now(self) -> int:
        """The place in the log that has been reached."""
        return self.log.stat().st_size


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def _loop(path: Path) -> str:
    """A loop device over `path`. Somebody else may take the one that was free a moment ago."""
    for _ in range(50):
        done = subprocess.run(["losetup", "--show", "-f", str(path)], check=False, capture_output=True, text=True)
        if done.returncode == 0:
            return done.stdout.strip()
        time.sleep(0.1)
    raise AssertionError(f"no loop device for {path}: {done.stderr}")


@contextmanager
def power_disk(
    directory: Path, kind: str, mebibytes: int, options: str = "defaults", *, image_of: Path | None = None
) -> Iterator[PowerDisk]:
    """A new file system of `kind`, or the one in the image `image_of`, mounted with `options`; unmounted in good order
    afterwards (its log stays)."""
    path, front = directory / "mounted", directory / "front"
    base, image, log = directory / "base.img", directory / "live.img", directory / "writes.log"
    path.mkdir(parents=True)
    front.mkdir()
    if image_of is None:
        _run("truncate", "-s", f"{mebibytes}M", str(base))
        _run(f"mkfs.{kind}", "-q", str(base))
    else:
        _run("cp", "--sparse=always", str(image_of), str(base))
    _run("cp", "--sparse=always", str(base), str(image))
    log.touch()
    command = [sys.executable, os.path.abspath(__file__), str(front), str(image), str(log)]
    server = subprocess.Popen(command)
    device = ""
    try:
        end = time.monotonic() + 30
        while not (front / _NAME).exists():
            assert server.poll() is None, f"the disk could not be served through FUSE ({server.returncode})"
            assert time.monotonic() < end, "the disk is not served"
            time.sleep(0.02)
        device = _loop(front / _NAME)
        _run("mount", "-t", kind, "-o", options, device, str(path))
        yield PowerDisk(path, kind, base, log)
    finally:
        subprocess.run(["umount", str(path)], check=False, capture_output=True)
        if device:
            subprocess.run(["losetup", "-d", device], check=False, capture_output=True)
        subprocess.run(["umount", str(front)], check=False, capture_output=True)
        server.terminate()
        server.wait(10)


@dataclass(frozen=True)
class Cut:
    """What a disk lost."""

    at: int
    """The place in the log."""
    written: int
    """Writes before it."""
    lost: int
    """Of which so many were in the cache, and are gone."""


def cut(disk: PowerDisk, at: int, image: Path, rnd: random.Random) -> Cut:
    """Write to `image` what the disk holds when the power goes at `at`: everything up to the last flush before, and of
    what was written after it none, all, the first of it, or any."""
    writes: list[tuple[int, int, int]] = []  # offset, length, where in the log
    flushed = 0
    with open(disk.log, "rb") as log:
        while log.tell() + _RECORD.size <= at:
            offset, length = _RECORD.unpack(log.read(_RECORD.size))
            if offset == _FLUSH:
                flushed = len(writes)
                continue
            if log.tell() + length > at:
                break  # in the middle of a write: it may be torn, or lost; here it is lost
            writes.append((offset, length, log.tell()))
            log.seek(length, os.SEEK_CUR)
        kept = _survivors(len(writes) - flushed, rnd)
        subprocess.run(["cp", "--sparse=always", str(disk.base), str(image)], check=True)
        with open(image, "r+b") as out:
            for number, (offset, length, where) in enumerate(writes):
                if number >= flushed and number - flushed not in kept:
                    continue
                log.seek(where)
                data = log.read(length)
                out.seek(offset)
                out.write(data)
    return Cut(at, len(writes), len(writes) - flushed - len(kept))


def _survivors(count: int, rnd: random.Random) -> set[int]:
    match rnd.choice(("none", "all", "first", "any")):
        case "none":
            return set()
        case "all":
            return set(range(count))
        case "first":
            return set(range(rnd.randint(0, count)))
        case _:
            return {number for number in range(count) if rnd.random() < 0.5}


@contextmanager
def mounted_after(image: Path, kind: str, path: Path) -> Iterator[Path]:
    """The file system in `image`, its journal replayed. XFS: the disk it is an image of must not be mounted."""
    path.mkdir(exist_ok=True)
    device = _loop(image)
    try:
        _run("mount", "-t", kind, device, str(path))
        try:
            yield path
        finally:
            _run("umount", str(path))
    finally:
        subprocess.run(["losetup", "-d", device], check=False, capture_output=True)


if __name__ == "__main__":
    serve(*sys.argv[1:4])
