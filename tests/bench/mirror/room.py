"""Where the bench works: a fresh ext4 on a loop device, in namespaces of its own.

A file system that others work on, or that trees were deleted from, makes files slowly (2 ms instead of 0.05 were seen):
ext4 looks for inodes that were not freed a moment ago. That says nothing about a copier, but drowns what does. The
image is removed as soon as it is mounted, the device is let go of with the last mount, and the mount and all processes
live in namespaces that end with this program: killed, it leaves an empty directory.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

_INSIDE = "STORAGEMIRROR_BENCH_INSIDE"
_BYTES_AN_INODE = 8192
"""Small files: ext4's own choice would give half as many inodes."""


class NoRoom(Exception):
    """This machine does not give us what the bench needs."""


def enter() -> None:
    """Start this program again in namespaces of its own (network, mounts, processes); returns when it runs there."""
    if os.environ.get(_INSIDE):
        return
    if os.geteuid() != 0:
        raise NoRoom("expected to be root: the bench makes a network and a file system of its own")
    os.environ[_INSIDE] = "1"
    words = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--"]
    os.execvp(words[0], [*words, sys.executable, *sys.orig_argv[1:]])


@contextmanager
def workplace(directory: str, octets: float, *, fresh: bool = True) -> Iterator[Path]:
    """An empty directory with room for so many bytes, gone afterwards: on a fresh ext4 whose image lies in `directory`,
    or, with `fresh` False, in that directory itself. Raises `NoRoom`."""
    free = shutil.disk_usage(directory).free
    if free < octets:
        raise NoRoom(f"expected {octets / 1e9:.1f} GB of room in {directory}, there are {free / 1e9:.1f}")
    base = Path(tempfile.mkdtemp(prefix="storagemirror-bench.", dir=directory))
    try:
        if not fresh:
            yield base
            return
        mount(base, octets)
        try:
            work = base / "work"  # beside lost+found
            work.mkdir()
            yield work
        finally:
            run(["umount", "--lazy", str(base)])
    finally:
        shutil.rmtree(base, ignore_errors=True)


def mount(base: Path, octets: float) -> None:
    """A fresh ext4 on `base`. Nothing of it is still being made while somebody measures (noinit_itable)."""
    image = base.parent / f"{base.name}.img"
    try:
        with image.open("xb") as file:
            file.truncate(int(octets * 1.2))  # inodes, journal, what ext4 reserves
        run(["mkfs.ext4", "-q", "-i", str(_BYTES_AN_INODE), "-m", "0", str(image)])
        device = run(["losetup", "--find", "--show", "--direct-io=on", str(image)])
        try:
            run(["mount", "-o", "noinit_itable", device, str(base)])
        finally:
            run(["losetup", "--detach", device])  # at its last use
    finally:
        image.unlink(missing_ok=True)


def run(command: Sequence[str], said: str = "") -> str:
    """What a program of the system prints; `NoRoom` when it does not work."""
    try:
        done = subprocess.run(command, check=True, capture_output=True, text=True, input=said)
    except FileNotFoundError as e:
        raise NoRoom(f"expected the program {command[0]}: `make setup` installs it") from e
    except subprocess.CalledProcessError as e:
        raise NoRoom(f"{' '.join(command)} failed: {e.stderr.strip()}") from e
    return done.stdout.strip()
