"""Memory that a virtual machine's host took back, fetched before somebody is timed.

A host that is told which pages of its guest are free takes them, and gives them back when they are touched: on the
machines that this was written on, within 2 s, and at the first touch a page then costs three times as much. A copier
that fills the page cache pays for that in system time, which has nothing to do with the copier, and more or less of it
by what ran before. So as many pages as a run will take are touched right before it, for each tool alike.
"""

from __future__ import annotations

import mmap

_PAGE = mmap.PAGESIZE


def fetch(octets: int) -> None:
    """Touch so many bytes of memory, and free them."""
    if octets < _PAGE:
        return
    with mmap.mmap(-1, octets // _PAGE * _PAGE) as memory:
        memory.madvise(mmap.MADV_HUGEPAGE)
        for place in range(0, len(memory), _PAGE):
            memory[place] = 1
