"""Records in a page of the kernel's ring buffer.

A page is a time, a word with the length of what is in it and two flags, and records one after the other. A record
begins with a word: 5 bits of kind, 27 bits of time. Kinds 1 to 28 are data of so many 4-byte words; 0 is data whose
length is the next word; 29 is padding (to the end of the page where its time is 0), 30 and 31 carry a time.
(Linux, include/linux/ring_buffer.h, kernel/trace/ring_buffer.c; `events/header_event` says the same.)
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from storagemirror.errors import BadInput
from storagemirror.fs.trace.layout import BIG_ENDIAN, PageHeader

_MISSED = 1 << 31
"""RB_MISSED_EVENTS: records between the page before and this one were lost."""
_LENGTH = (1 << 20) - 1
"""RB_WRITE_MASK."""
_WORD = struct.Struct("=I")
_PADDING, _TIME_EXTEND, _TIME_STAMP = 29, 30, 31

MARGIN = 256
"""Bytes that a buffer must have behind the page, so that a record at its end can be unpacked without a look first."""

Take = Callable[[bytearray, int, int], None]
"""Takes a record: the buffer, where its data begins, where it ends."""


def read_page(buffer: bytearray, got: int, header: PageHeader, take: Take) -> tuple[int, bool]:
    """Hand each data record of the page that fills the first `got` bytes of `buffer` to `take`.

    Returns how many there were, and whether the kernel says that some before them were lost. `BadInput` where the page
    contradicts itself.
    """
    (word,) = header.commit.unpack_from(buffer)
    at = header.data
    end = at + (word & _LENGTH)
    if end > got:
        raise BadInput(f"a trace page says that it holds {end} bytes, {got} were read")
    count = 0
    while at < end:
        (head,) = _WORD.unpack_from(buffer, at)
        kind = head >> 27 if BIG_ENDIAN else head & 31
        if kind <= 28:
            if kind:
                data, after = at + 4, at + 4 + 4 * kind
            else:
                data, after = at + 8, at + 4 + _WORD.unpack_from(buffer, at + 4)[0]
            if not data < after <= end:
                raise BadInput(f"a trace record of {after - at} bytes at {at} in a page that ends at {end}")
            take(buffer, data, after)
            count += 1
            at = after
        elif kind == _PADDING:
            if not (head & 0x7FF_FFFF if BIG_ENDIAN else head >> 5):
                break
            at += 4 + _WORD.unpack_from(buffer, at + 4)[0]
        else:  # a time: of no interest here
            at += 8
    return count, bool(word & _MISSED)
