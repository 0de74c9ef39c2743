"""Every way to change what a file holds that we could think of. Each writer takes a directory in which `f` and `g`
have `PAGES` pages, those of `f` all different, and `tiny` has 50 bytes; it changes them, or puts others in their place.

OSError EOPNOTSUPP, ENOTTY, EINVAL: this file system cannot do that.
"""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.async_io import Ring, aio_write

P = 4096
PAGES = 64
SIZE = PAGES * P

KEEP, PUNCH, COLLAPSE, ZERO, INSERT = 1, 2 | 1, 8, 16, 32
_FICLONE, _FICLONERANGE = 0x40049409, 0x4020940D

_libc = ctypes.CDLL(None, use_errno=True)
_libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]

Writer = Callable[[Path], None]
WRITERS: dict[str, Writer] = {}


def _writer(function: Writer) -> Writer:
    WRITERS[function.__name__] = function
    return function


def prepare(directory: Path) -> None:
    """`f`, `g` and `tiny` as every writer wants them, and nothing else."""
    for path in directory.iterdir():
        path.unlink()
    with opened(directory / "f", os.O_WRONLY | os.O_CREAT) as fd:
        for page in range(PAGES):  # one by one: a large folio, named by its first page, would hide much
            os.write(fd, struct.pack("=I", page) * 1024)
    (directory / "g").write_bytes(b"G" * SIZE)
    (directory / "tiny").write_bytes(b"s" * 50)


@contextmanager
def opened(path: Path, flags: int = os.O_RDWR) -> Iterator[int]:
    """A descriptor."""
    fd = os.open(path, flags | os.O_CLOEXEC, 0o644)
    try:
        yield fd
    finally:
        os.close(fd)


def fallocate(fd: int, mode: int, offset: int, length: int) -> None:
    """fallocate(2)."""
    if _libc.fallocate(fd, mode, offset, length):
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


def aligned(pages: int, content: bytes) -> mmap.mmap:
    """Memory that direct I/O takes."""
    memory = mmap.mmap(-1, pages * P)
    memory.write(content * (pages * P))
    return memory


# -- through the page cache


@_writer
def write_in_a_page(d: Path) -> None:
    with opened(d / "f") as fd:
        os.pwrite(fd, b"x" * 100, 5 * P + 10)


@_writer
def write_many_pages_at_once(d: Path) -> None:
    with opened(d / "f") as fd:
        os.pwrite(fd, b"x" * (32 * P), 8 * P)


@_writer
def write_a_large_file_and_a_page_in_it(d: Path) -> None:
    with opened(d / "f", os.O_RDWR | os.O_CREAT | os.O_TRUNC) as fd:
        os.write(fd, b"L" * (3 << 20))
        os.pwrite(fd, b"M", 2 << 20)


@_writer
def append(d: Path) -> None:
    with opened(d / "f", os.O_WRONLY | os.O_APPEND) as fd:
        os.write(fd, b"y" * 10000)


@_writer
def write_beyond_the_end(d: Path) -> None:
    with opened(d / "f") as fd:
        os.pwrite(fd, b"y", SIZE + 20 * P + 7)


@_writer
def map_and_store(d: Path) -> None:
    with opened(d / "f") as fd, mmap.mmap(fd, SIZE) as memory:
        memory[7 * P + 3 : 7 * P + 8] = b"hello"
        memory[40 * P] = 1


@_writer
def store_through_a_map_whose_file_is_closed(d: Path) -> None:
    with opened(d / "f") as fd:
        memory = mmap.mmap(fd, SIZE)
    memory[11 * P] = 200
    memory.close()


@_writer
def splice(d: Path) -> None:
    with opened(d / "f") as fd, opened(d / "g") as other:
        out, into = os.pipe()
        os.splice(other, into, 4 * P)
        os.splice(out, fd, 4 * P, offset_dst=8 * P)
        os.close(out)
        os.close(into)


@_writer
def sendfile(d: Path) -> None:
    with opened(d / "f") as fd, opened(d / "g") as other:
        os.lseek(fd, 8 * P, os.SEEK_SET)
        os.sendfile(fd, other, 0, 4 * P)


@_writer
def native_aio(d: Path) -> None:
    with opened(d / "f") as fd:
        aio_write(fd, aligned(2, b"a"), 8 * P)


@_writer
def io_uring(d: Path) -> None:
    ring = Ring()
    with opened(d / "f") as fd:
        ring.write(fd, aligned(2, b"u"), 8 * P)
    ring.close()


# -- past it


@_writer
def direct(d: Path) -> None:
    with opened(d / "f", os.O_RDWR | os.O_DIRECT) as fd:
        os.pwrite(fd, aligned(4, b"d"), 8 * P)


@_writer
def direct_after_a_direct_read_there(d: Path) -> None:
    with opened(d / "f", os.O_RDWR | os.O_DIRECT) as fd:
        os.preadv(fd, [aligned(1, b"d")], 8 * P)
        os.pwrite(fd, aligned(4, b"d"), 8 * P)


@_writer
def direct_from_the_start(d: Path) -> None:
    with opened(d / "f", os.O_RDWR | os.O_DIRECT) as fd:
        os.pwrite(fd, aligned(48, b"d"), 0)


@_writer
def direct_append(d: Path) -> None:
    with opened(d / "f", os.O_RDWR | os.O_DIRECT) as fd:
        os.pwrite(fd, aligned(4, b"d"), SIZE)


@_writer
def direct_into_a_hole(d: Path) -> None:
    with opened(d / "f", os.O_RDWR | os.O_DIRECT) as fd:
        os.ftruncate(fd, 3 * SIZE)
        os.pwrite(fd, aligned(4, b"d"), 2 * SIZE)


@_writer
def direct_beside_a_store_through_a_map(d: Path) -> None:
    with opened(d / "f", os.O_RDWR | os.O_DIRECT) as fd, mmap.mmap(fd, SIZE) as memory:
        memory[8 * P + 1] = 77
        os.pwrite(fd, aligned(1, b"d"), 20 * P)


@_writer
def direct_native_aio(d: Path) -> None:
    with opened(d / "f", os.O_RDWR | os.O_DIRECT) as fd:
        aio_write(fd, aligned(3, b"A"), 16 * P)


@_writer
def direct_io_uring(d: Path) -> None:
    ring = Ring()
    with opened(d / "f", os.O_RDWR | os.O_DIRECT) as fd:
        ring.write(fd, aligned(3, b"U"), 16 * P)
    ring.close()


# -- blocks that come, go, move


@_writer
def punch(d: Path) -> None:
    with opened(d / "f") as fd:
        fallocate(fd, PUNCH, 8 * P, 16 * P)


@_writer
def punch_within_pages(d: Path) -> None:
    with opened(d / "f") as fd:
        fallocate(fd, PUNCH, 8 * P + 100, 16 * P)


@_writer
def punch_by_io_uring(d: Path) -> None:
    ring = Ring()
    with opened(d / "f") as fd:
        ring.fallocate(fd, PUNCH, 8 * P, 16 * P)
    ring.close()


@_writer
def punch_and_write_elsewhere(d: Path) -> None:
    with opened(d / "f") as fd:
        fallocate(fd, PUNCH, 9 * P, 16 * P)
        os.pwrite(fd, b"q", 50 * P)


@_writer
def zero_range(d: Path) -> None:
    with opened(d / "f") as fd:
        fallocate(fd, ZERO, 8 * P, 16 * P)


@_writer
def zero_range_and_write_elsewhere(d: Path) -> None:
    with opened(d / "f") as fd:
        fallocate(fd, ZERO | KEEP, 9 * P, 16 * P)
        os.pwrite(fd, b"q", 50 * P)


@_writer
def collapse_and_write(d: Path) -> None:
    with opened(d / "f") as fd:
        fallocate(fd, COLLAPSE, 8 * P, 16 * P)
        os.pwrite(fd, b"q" * (16 * P), 48 * P)


@_writer
def insert_and_cut(d: Path) -> None:
    with opened(d / "f") as fd:
        fallocate(fd, INSERT, 8 * P, 16 * P)
        os.ftruncate(fd, SIZE)
        os.pwrite(fd, b"q", 1)


@_writer
def truncate_and_extend(d: Path) -> None:
    os.truncate(d / "f", 10 * P)
    os.truncate(d / "f", SIZE)


@_writer
def truncate_within_a_page_extend_and_write(d: Path) -> None:
    with opened(d / "f") as fd:
        os.ftruncate(fd, 10 * P + 77)
        os.ftruncate(fd, SIZE)
        os.pwrite(fd, b"k", 60 * P)


@_writer
def truncate_allocate_and_write(d: Path) -> None:
    with opened(d / "f") as fd:
        os.ftruncate(fd, 10 * P)
        fallocate(fd, 0, 10 * P, 54 * P)
        os.pwrite(fd, b"k" * 100, 60 * P)


@_writer
def open_truncating_and_write(d: Path) -> None:
    with opened(d / "f", os.O_RDWR | os.O_TRUNC) as fd:
        os.ftruncate(fd, SIZE)
        os.pwrite(fd, b"w" * P, 0)


@_writer
def shrink(d: Path) -> None:
    os.truncate(d / "f", 10 * P + 5)


@_writer
def allocate_more(d: Path) -> None:
    with opened(d / "f") as fd:
        fallocate(fd, 0, 0, 2 * SIZE)
        os.pwrite(fd, b"m", SIZE + 9 * P)


# -- blocks that are shared


@_writer
def copy_range(d: Path) -> None:
    with opened(d / "g") as other, opened(d / "f") as fd:
        os.copy_file_range(other, fd, 8 * P, 4 * P, 16 * P)


@_writer
def clone(d: Path) -> None:
    with opened(d / "g") as other, opened(d / "f") as fd:
        fcntl.ioctl(fd, _FICLONE, other)


@_writer
def clone_range_and_write_elsewhere(d: Path) -> None:
    with opened(d / "g") as other, opened(d / "f") as fd:
        fcntl.ioctl(fd, _FICLONERANGE, struct.pack("=qQQQ", other, 0, 8 * P, 16 * P))
        os.pwrite(fd, b"q", 50 * P)


@_writer
def write_what_is_shared(d: Path) -> None:
    with opened(d / "f") as fd, opened(d / "h", os.O_RDWR | os.O_CREAT) as other:
        fcntl.ioctl(other, _FICLONE, fd)
        os.pwrite(fd, b"s", 12 * P)
        os.pwrite(other, b"t", 13 * P)


# -- names


@_writer
def write_through_another_name(d: Path) -> None:
    os.link(d / "f", d / "other")
    with opened(d / "other") as fd:
        os.pwrite(fd, b"H" * 10, 20 * P)


@_writer
def rename_write_and_rename_back(d: Path) -> None:
    with opened(d / "f") as fd:
        os.rename(d / "f", d / "away")
        os.pwrite(fd, b"R" * 10, 20 * P)
        os.rename(d / "away", d / "f")


@_writer
def rename_another_over_it(d: Path) -> None:
    (d / "new").write_bytes(b"O" * SIZE)
    os.rename(d / "new", d / "f")


@_writer
def delete_and_make_sparse(d: Path) -> None:
    (d / "f").unlink()
    with opened(d / "f", os.O_RDWR | os.O_CREAT) as fd:
        os.ftruncate(fd, SIZE)
        os.pwrite(fd, b"n" * P, 3 * P)


@_writer
def link_what_had_no_name_over_it(d: Path) -> None:
    with opened(d, os.O_TMPFILE | os.O_RDWR) as fd:
        os.write(fd, b"t" * SIZE)
        (d / "f").unlink()
        # With a directory descriptor (that an absolute path leaves unused) it is linkat(2), which can follow links.
        os.link(f"/proc/self/fd/{fd}", d / "f", src_dir_fd=fd, follow_symlinks=True)


# -- files small enough to be kept in the inode itself


@_writer
def make_a_tiny_file(d: Path) -> None:
    (d / "new").write_bytes(b"s" * 50)


@_writer
def write_in_a_tiny_file(d: Path) -> None:
    with opened(d / "tiny") as fd:
        os.pwrite(fd, b"ZZ", 3)


@_writer
def append_to_a_tiny_file(d: Path) -> None:
    with opened(d / "tiny", os.O_WRONLY | os.O_APPEND) as fd:
        os.write(fd, b"TT")


@_writer
def map_a_tiny_file_and_store(d: Path) -> None:
    with opened(d / "tiny") as fd, mmap.mmap(fd, 50) as memory:
        memory[3] = 7


@_writer
def grow_a_tiny_file_out_of_its_inode(d: Path) -> None:
    with opened(d / "tiny", os.O_WRONLY | os.O_APPEND) as fd:
        os.write(fd, b"T" * (3 * P))
