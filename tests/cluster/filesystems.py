"""File systems in files: loop devices, making, growing, thawing, and losing what was not synced."""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import tempfile
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path

from tests.cluster.command import run, wait_for
from tests.cluster.errors import ClusterError, Unsupported

_FITHAW = 0xC0045878
_FS_IOC_SHUTDOWN = 0x8004587D
_NO_LOG_FLUSH = 2  # FSOP_GOING_FLAGS_NOLOGFLUSH: neither data nor journal reach the disk any more


class FileSystem(StrEnum):
    """What a volume can be formatted with. All but btrfs know FS_IOC_SHUTDOWN."""

    EXT4 = "ext4"
    XFS = "xfs"
    BTRFS = "btrfs"


MINIMUM_SIZE = {FileSystem.EXT4: 8 << 20, FileSystem.XFS: 32 << 20, FileSystem.BTRFS: 32 << 20}
_XFS_SUPPORTED = 300 << 20
_BTRFS_APART = 256 << 20
"""A smaller btrfs keeps data and metadata in the same groups of blocks: else each has too little."""


def make_image(path: Path, size: int, fs: FileSystem) -> None:
    """A sparse file of `size` bytes with an empty file system; whole or not at all."""
    if size < MINIMUM_SIZE[fs]:
        raise ClusterError(f"{fs} needs at least {MINIMUM_SIZE[fs] >> 20}Mi, not {size} bytes")
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(path.name + ".new")
    with fresh.open("wb") as file:
        file.truncate(size)
    if fs is FileSystem.EXT4:
        run("mkfs.ext4", "-q", "-F", "-m", "0", "-E", "lazy_itable_init=1,lazy_journal_init=1", fresh)
    elif fs is FileSystem.BTRFS:
        run("mkfs.btrfs", *(["--mixed"] if size < _BTRFS_APART else []), "-q", "-f", fresh)
    else:
        small = ["--unsupported"] if size < _XFS_SUPPORTED else []  # its makers support none so small; tests may
        run("mkfs.xfs", *small, "-q", "-f", "-m", "reflink=1", fresh)
    fresh.rename(path)


def loop_devices(below: Path) -> dict[str, Path]:
    """Loop devices whose file lies (or lay) below a directory: device to file."""
    found: dict[str, Path] = {}
    for backing in Path("/sys/block").glob("loop*/loop/backing_file"):
        with contextlib.suppress(OSError):
            file = Path(backing.read_text().strip().removesuffix(" (deleted)"))
            if file.is_relative_to(below):
                found[f"/dev/{backing.parent.parent.name}"] = file
    return found


def attach(image: Path) -> str:
    """The loop device of this file, made if there is none."""
    for device, file in loop_devices(image.parent).items():
        if file == image:
            return device
    return run("losetup", "--find", "--show", image).stdout.strip()


def detach(device: str) -> None:
    """Let go of the loop device and wait until it is free.

    A file system that was frozen when its last mount went keeps its device busy forever; it is mounted once more and
    thawed then.
    """
    number = Path(f"/sys/block/{Path(device).name}/loop/backing_file")
    run("losetup", "-d", device, check=False)
    for attempt in range(2):
        with contextlib.suppress(ClusterError):
            wait_for(f"{device} to be free", lambda: not number.exists(), 3, every=0.02)
            return
        if attempt == 0:
            _thaw_forgotten(device)
            run("losetup", "-d", device, check=False)
    raise ClusterError(
        f"{device} stays busy: something still has its file system mounted",
        hint=f"grep {Path(device).name} /proc/*/mountinfo tells who",
    )


def _thaw_forgotten(device: str) -> None:
    with tempfile.TemporaryDirectory(prefix="storagemirror-thaw.") as place:
        if run("mount", device, place, check=False).returncode == 0:
            thaw(Path(place))
            run("umount", place, check=False)


def thaw(mount: Path) -> None:
    """Let writes go on where the file system was frozen; nothing happens where it was not."""
    with contextlib.suppress(OSError), _opened(mount) as descriptor:
        fcntl.ioctl(descriptor, _FITHAW, 0)


def shut_down(mount: Path) -> None:
    """Stop the file system as a power cut does: nothing that is not on the disk yet will ever be. A frozen one is
    thawed after it, so that those who wait for it can end; by the same descriptor, as nothing can be opened on it any
    more. Raises Unsupported for a file system that cannot."""
    try:
        with _opened(mount) as descriptor:
            fcntl.ioctl(descriptor, _FS_IOC_SHUTDOWN, struct.pack("I", _NO_LOG_FLUSH))
            with contextlib.suppress(OSError):
                fcntl.ioctl(descriptor, _FITHAW, 0)
    except OSError as e:
        raise Unsupported(f"the file system at {mount} cannot be shut down: {e}") from e


def keep_state(image: Path) -> None:
    """Put by what is on the disk now, for `put_back`: a file system that knows no shutdown writes on when it is
    unmounted. Whoever writes it must stand still; its own threads may be at it, which a copy from the first byte on
    survives: the superblock comes first, and btrfs overwrites nothing that it leads to before the next but one."""
    run("cp", "--sparse=always", image, _kept(image))


def put_back(image: Path) -> None:
    """After `keep_state`, once nothing has the device: that is what the disk holds. Nothing where none was put by."""
    if _kept(image).exists():
        _kept(image).rename(image)


def _kept(image: Path) -> Path:
    return image.with_name(image.name + ".at-power-off")


@contextlib.contextmanager
def _opened(mount: Path) -> Iterator[int]:
    descriptor = os.open(mount, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
