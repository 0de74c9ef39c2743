"""What of a file is read by its pages, and what a comparison says of those who named them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from storagemirror import contract
from storagemirror.clock import SystemClock
from storagemirror.fs.blocks import BLOCK, sums_of
from storagemirror.sync.pointmaker.capturing import Hints, Ranges, joined, outside
from storagemirror.sync.pointmaker.catalogue import Known
from storagemirror.sync.pointmaker.narrowing import AUDIT_EVERY, Narrowing
from storagemirror.sync.pointmaker.reading import Part

P = 4096


class Told:
    """A `Capture` that says what it is given."""

    mode = contract.Capture.TRACE
    reason = ""
    names_structure = True

    def __init__(self, *, names_pages: bool = True) -> None:
        self.names_pages = names_pages
        self.named = self.missed = 0
        self.next = Hints()

    @property
    def broken(self) -> bool:
        return self.missed > 0

    def compared(self, named: int, missed: int) -> None:
        self.named += named
        self.missed += missed

    def drain(self, *, frozen: bool = False) -> Hints:
        hints, self.next = self.next, Hints()
        return hints


def narrowing(capture: Told) -> Narrowing:
    return Narrowing(capture, SystemClock(), 0)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(bytes(4 * BLOCK))
    return path


def known_of(path: Path) -> Known:
    """As it was told."""
    found = path.stat()
    known = Known(found.st_ino, 1, found.st_mode)
    known.size, known.ctime_ns, known.sums = found.st_size, found.st_ctime_ns, sums_of(memoryview(path.read_bytes()))
    return known


def hints(inode: int, ranges: Ranges) -> Hints:
    return Hints(pages={inode: ranges})


def test_what_had_only_begun_is_read_again_while_frozen_whatever_was_read_since() -> None:
    capture = Told()
    one = narrowing(capture)
    for begin in (0, 8 * P):
        capture.next = Hints(pages={7: [(begin, begin + P)]}, standing={7: [(begin, begin + P)]})
        assert one.drain().pages == {7: [(begin, begin + P)]}
    capture.next = Hints(whole={9}, standing={9: None})
    one.drain()
    frozen = one.drain(frozen=True)
    assert frozen.pages == {7: [(0, P), (8 * P, 9 * P)]}
    assert frozen.whole == {9}


def narrow(one: Narrowing, known: Known, path: Path, named: Ranges | None) -> Ranges | None:
    fd = os.open(path, os.O_RDONLY)
    try:
        return one.narrow(known, named, fd, os.fstat(fd)).ranges
    finally:
        os.close(fd)


def smaller(path: Path) -> None:
    os.truncate(path, 3 * BLOCK)


def larger(path: Path) -> None:
    os.truncate(path, 5 * BLOCK)


@pytest.mark.parametrize(
    ("change", "named", "read"),
    [
        (lambda path: None, [(P, 2 * P)], [(P, 2 * P)]),
        (lambda path: None, None, None),
        (smaller, [(P, 2 * P)], None),
        (larger, [(P, 2 * P)], [(P, 2 * P), (4 * BLOCK, 5 * BLOCK)]),
    ],
)
def test_what_is_named_adds_to_the_files_own_record(
    file: Path, change: Callable[[Path], None], named: Ranges | None, read: Ranges | None
) -> None:
    known = known_of(file)
    change(file)
    assert narrow(narrowing(Told()), known, file, named) == read


def test_all_is_read_until_it_is_proven_and_of_one_in_so_many_afterwards(file: Path) -> None:
    known, capture = known_of(file), Told(names_pages=False)
    one = narrowing(capture)
    assert narrow(one, known, file, [(0, P)]) is None
    capture.names_pages = True
    read = [narrow(one, known, file, [(0, P)]) for _ in range(2 * AUDIT_EVERY)]
    assert read.count(None) == 2


def compare(one: Narrowing, path: Path, named: Ranges, changed: int, *, frozen: bool) -> int:
    """A block of the file differs, and these were named; the inode."""
    known = known_of(path)
    fd = os.open(path, os.O_RDONLY)
    try:
        narrowed = one.narrow(known, named, fd, os.fstat(fd))
        with one.compare(known, narrowed, fd, frozen=frozen) as comparison:
            comparison.add(Part(changed * BLOCK, BLOCK, None))
    finally:
        os.close(fd)
    return known.inode


def test_a_change_that_was_named_proves(file: Path) -> None:
    capture = Told(names_pages=False)
    compare(narrowing(capture), file, [(BLOCK + P, BLOCK + 2 * P)], 1, frozen=False)
    assert (capture.named, capture.missed) == (1, 0)


def test_one_that_was_not_is_missed_while_frozen(file: Path) -> None:
    capture = Told(names_pages=False)
    compare(narrowing(capture), file, [(0, P)], 2, frozen=True)
    assert (capture.named, capture.missed) == (0, 1)


@pytest.mark.parametrize("named_later", [True, False])
def test_one_that_was_not_named_yet_has_time_until_the_freeze(file: Path, named_later: bool) -> None:
    capture = Told(names_pages=False)
    one = narrowing(capture)
    inode = compare(one, file, [(0, P)], 2, frozen=False)
    assert (capture.named, capture.missed) == (0, 0)
    if named_later:
        capture.next = hints(inode, [(2 * BLOCK + P, 2 * BLOCK + 2 * P)])
        one.drain()
    one.drain(frozen=True)
    assert capture.missed == (0 if named_later else 1)


def test_what_had_begun_before_it_was_told_is_no_miss(file: Path) -> None:
    capture = Told(names_pages=False)
    one = narrowing(capture)
    inode = file.stat().st_ino
    capture.next = Hints(pages={inode: [(2 * BLOCK, 3 * BLOCK)]}, standing={inode: [(2 * BLOCK, 3 * BLOCK)]})
    one.drain()
    compare(one, file, [(0, P)], 2, frozen=True)
    assert capture.missed == 0


def test_nothing_is_missed_where_hints_were_lost(file: Path) -> None:
    capture = Told(names_pages=False)
    one = narrowing(capture)
    compare(one, file, [(0, P)], 2, frozen=False)
    capture.next = Hints(lost=True)
    one.drain(frozen=True)
    assert capture.missed == 0


def test_ranges() -> None:
    assert outside(0, 10, [(2, 3), (5, 20)]) == [(0, 2), (3, 5)]
    assert outside(0, 10, []) == [(0, 10)]
    assert outside(4, 6, [(0, 10)]) == []
    assert joined([(0, 1)], [(1, 2), (5, 6)]) == [(0, 2), (5, 6)]
    assert joined(None, [(0, 1)]) is None


def evidence(one: Narrowing, path: Path, named: Ranges, *changed: int, frozen: bool = False) -> int:
    """All of the file is to be read, these were named of it all the same, and these blocks differ; the inode."""
    known = known_of(path)
    fd = os.open(path, os.O_RDONLY)
    try:
        narrowed = one.narrow(known, None, fd, os.fstat(fd), named)
        assert narrowed.ranges is None
        with one.compare(known, narrowed, fd, frozen=frozen) as comparison:
            for block in changed:
                comparison.add(Part(block * BLOCK, BLOCK, None))
    finally:
        os.close(fd)
    return known.inode


class TestAFileThatIsReadAsAWholeForOtherReasons:
    """It changes all the time, so that it is never told for good before the trace is proven."""

    def test_what_was_named_of_it_proves(self, file: Path) -> None:
        capture = Told(names_pages=False)
        evidence(narrowing(capture), file, [(0, P)], 0)
        assert (capture.named, capture.missed) == (1, 0)

    def test_what_is_named_after_it_was_read_proves_without_a_freeze(self, file: Path) -> None:
        capture = Told(names_pages=False)
        one = narrowing(capture)
        inode = evidence(one, file, [(0, P)], 0, 2, 3)
        for begin in (2 * BLOCK, 3 * BLOCK):
            assert capture.named == 0
            capture.next = hints(inode, [(begin, begin + P)])
            one.drain()
        assert (capture.named, capture.missed) == (3, 0)

    @pytest.mark.parametrize("frozen", [False, True])
    def test_what_was_not_named_proves_nothing_and_breaks_nothing(self, file: Path, frozen: bool) -> None:
        capture = Told(names_pages=False)
        one = narrowing(capture)
        evidence(one, file, [(0, P)], 0, 2, frozen=frozen)
        one.drain(frozen=True)
        assert (capture.named, capture.missed) == (0, 0)

    def test_nothing_is_learned_where_nothing_was_named_or_hints_were_lost(self, file: Path) -> None:
        capture = Told(names_pages=False)
        one = narrowing(capture)
        evidence(one, file, [], 2)
        inode = evidence(one, file, [(0, P)], 2)
        capture.next = Hints(lost=True, pages={inode: [(2 * BLOCK, 3 * BLOCK)]})
        one.drain()
        one.drain(frozen=True)
        assert (capture.named, capture.missed) == (0, 0)

    def test_a_change_of_unknown_pages_ends_it(self, file: Path) -> None:
        capture = Told(names_pages=False)
        one = narrowing(capture)
        inode = evidence(one, file, [(0, P)], 2, 3)
        capture.next = Hints(whole={inode}, pages={inode: [(2 * BLOCK, 3 * BLOCK)]})
        one.drain()
        capture.next = hints(inode, [(3 * BLOCK, 4 * BLOCK)])
        one.drain(frozen=True)
        assert (capture.named, capture.missed) == (0, 0)


def test_the_trace_is_proven_by_what_is_named_later_too(file: Path) -> None:
    capture = Told(names_pages=False)
    one = narrowing(capture)
    inode = compare(one, file, [(0, P)], 2, frozen=False)
    capture.next = hints(inode, [(2 * BLOCK + P, 2 * BLOCK + 2 * P)])
    one.drain()
    assert (capture.named, capture.missed) == (1, 0)
