"""Linux native AIO (what libaio is a wrapper of) and io_uring, by their system calls."""

from __future__ import annotations

import ctypes
import mmap
import os
import platform
import struct

_libc = ctypes.CDLL(None, use_errno=True)
_AIO = {"x86_64": (206, 207, 208, 209), "aarch64": (0, 1, 4, 2)}.get(platform.machine())
"""io_setup, io_destroy, io_getevents, io_submit."""
_IOCB = struct.Struct("=QIiHhIQQqQII")
_PWRITE = 1

_SETUP, _ENTER = 425, 426
_PARAMS = 120
_SQES = 0x10000000
_GET_EVENTS = 1
_SQE = struct.Struct("=BBHiQQIIQ24x")
WRITE, FALLOCATE = 23, 17


def _call(number: int, *arguments: object) -> int:
    result: int = _libc.syscall(number, *arguments)
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result


def has_aio() -> bool:
    """Whether we know the numbers of its calls here."""
    return _AIO is not None


def aio_write(fd: int, memory: mmap.mmap, offset: int) -> None:
    """Write all of `memory` there, and wait for it."""
    assert _AIO is not None
    setup, destroy, get, submit = _AIO
    context = ctypes.c_ulong()
    _call(setup, 1, ctypes.byref(context))
    try:
        at = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        block = ctypes.create_string_buffer(_IOCB.pack(0, 0, 0, _PWRITE, 0, fd, at, len(memory), offset, 0, 0, 0))
        pointers = (ctypes.c_void_p * 1)(ctypes.addressof(block))
        assert _call(submit, context, ctypes.c_long(1), pointers) == 1
        event = ctypes.create_string_buffer(32)
        assert _call(get, context, ctypes.c_long(1), ctypes.c_long(1), event, None) == 1
        assert struct.unpack_from("=q", event, 16)[0] == len(memory)
    finally:
        _call(destroy, context)


class Ring:
    """One io_uring, one request at a time."""

    def __init__(self) -> None:
        """OSError: ENOSYS or EPERM where it is switched off."""
        params = ctypes.create_string_buffer(_PARAMS)
        self._fd = _call(_SETUP, 4, params)
        entries = struct.unpack_from("=I", params, 0)[0]
        sq, cq = struct.unpack_from("=7I", params, 40), struct.unpack_from("=7I", params, 80)
        self._tail, self._mask, self._array = sq[1], sq[2], sq[6]
        self._head, cq_mask, self._results = cq[0], cq[2], cq[5]
        size = max(self._array + 4 * entries, self._results + 16 * 2 * entries)
        self._ring = mmap.mmap(self._fd, size, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE, offset=0)
        self._sqes = mmap.mmap(self._fd, 64 * entries, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE, offset=_SQES)
        self._cq_mask = struct.unpack_from("=I", self._ring, cq_mask)[0]

    def submit(self, operation: int, fd: int, offset: int, address: int, length: int) -> int:
        """Do it, wait, and return what the system call of the same name would; OSError."""
        (tail,) = struct.unpack_from("=I", self._ring, self._tail)
        slot = tail & struct.unpack_from("=I", self._ring, self._mask)[0]
        _SQE.pack_into(self._sqes, 64 * slot, operation, 0, 0, fd, offset, address, length, 0, 1)
        struct.pack_into("=I", self._ring, self._array + 4 * slot, slot)
        struct.pack_into("=I", self._ring, self._tail, (tail + 1) & 0xFFFFFFFF)
        assert _call(_ENTER, self._fd, 1, 1, _GET_EVENTS, None, 0) == 1
        (head,) = struct.unpack_from("=I", self._ring, self._head)
        (result,) = struct.unpack_from("=i", self._ring, self._results + 16 * (head & self._cq_mask) + 8)
        struct.pack_into("=I", self._ring, self._head, (head + 1) & 0xFFFFFFFF)
        if result < 0:
            raise OSError(-result, os.strerror(-result))
        return int(result)

    def write(self, fd: int, memory: mmap.mmap, offset: int) -> None:
        """All of `memory`."""
        address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        assert self.submit(WRITE, fd, offset, address, len(memory)) == len(memory)

    def fallocate(self, fd: int, mode: int, offset: int, length: int) -> None:
        """fallocate(2): the length goes where an address would, the mode where a length would."""
        self.submit(FALLOCATE, fd, offset, length, mode)

    def close(self) -> None:
        """Give it back."""
        self._ring.close()
        self._sqes.close()
        os.close(self._fd)
