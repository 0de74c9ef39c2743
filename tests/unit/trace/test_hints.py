"""What hints mean: folios, ranges, what stands over, what must be read."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storagemirror.fs.trace import WHOLE, Hints, Proof, Ranges, Seen, Trust, candidates, merged, settled
from storagemirror.fs.trace.hints import PAGE, folio, largest_folio

HUGE = 512 * PAGE
SEEN = Seen((7, 1), 100 * PAGE, 1000)


@pytest.mark.parametrize(
    ("index", "pages"), [(0, 512), (1, 1), (2, 2), (3, 1), (96, 32), (256, 256), (512, 512), (1536, 512)]
)
def test_a_folio_reaches_as_far_as_its_first_page_allows(index: int, pages: int) -> None:
    assert folio(index, HUGE) == (index * PAGE, (index + pages) * PAGE)


def test_the_largest_folio_of_this_machine_is_a_power_of_two_of_pages() -> None:
    pages = largest_folio() // PAGE
    assert pages & (pages - 1) == 0
    assert 1 <= pages <= 2048


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60))))
def test_merged_ranges_are_sorted_apart_and_hold_the_same(pairs: list[tuple[int, int]]) -> None:
    ranges = [(min(pair), max(pair)) for pair in pairs]
    found = merged(ranges)
    assert {at for start, end in found for at in range(start, end)} == {
        at for start, end in ranges for at in range(start, end)
    }
    assert all(one[1] < other[0] for one, other in itertools.pairwise(found))


def test_what_had_only_begun_stands_over_and_what_was_written_does_not() -> None:
    hints = Hints(pages={1: ((0, 9),), 2: ((5, 6),)}, direct={2: ((5, 6),)}, structural=frozenset({3}))
    later = Hints(pages={2: ((6, 8),)}, lost=True, why="lost")
    assert hints.standing() == Hints(pages={2: ((5, 6),)}, direct={2: ((5, 6),)}, structural=frozenset({3}))
    joined = hints.standing().joined(later)
    assert joined.pages == {2: ((5, 8),)}
    assert (joined.lost, joined.why) == (True, "lost")


def read(hints: Hints, now: Seen, before: Seen | None = SEEN, names_structure: bool = True) -> object:
    return candidates(hints, before, now, names_structure=names_structure)


def test_the_rule_of_what_must_be_read() -> None:
    named = Hints(pages={7: ((PAGE, 3 * PAGE), (99 * PAGE, 200 * PAGE))})
    later = replace(SEEN, ctime_ns=2000)
    assert read(Hints(), SEEN) == ()
    assert read(named, later) == ((PAGE, 3 * PAGE), (99 * PAGE, 100 * PAGE))
    assert read(Hints(), later) is WHOLE, "ctime moved and nothing was named"
    assert read(named, later, names_structure=False) is WHOLE, "a hole may be there that nothing names"
    assert read(named, SEEN, names_structure=False) == ((PAGE, 3 * PAGE), (99 * PAGE, 100 * PAGE))
    assert read(Hints(structural=frozenset({7})), SEEN) is WHOLE
    assert read(Hints(lost=True), SEEN) is WHOLE
    assert read(named, later, before=None) is WHOLE
    assert read(named, replace(later, object=(7, 2))) is WHOLE, "the number was given out again"
    assert read(named, replace(later, size=PAGE)) is WHOLE
    assert read(Hints(), SEEN, before=replace(SEEN, settled=False)) is WHOLE


def test_where_blocks_lie_stands_in_for_what_is_not_named() -> None:
    named = Hints(pages={7: ((PAGE, 3 * PAGE),)})
    later = replace(SEEN, ctime_ns=2000)

    def found(hints: Hints, elsewhere: Ranges | None) -> object:
        return candidates(hints, SEEN, later, names_structure=False, elsewhere=elsewhere)

    assert found(named, ((5 * PAGE, 6 * PAGE),)) == ((PAGE, 3 * PAGE), (5 * PAGE, 6 * PAGE))
    assert found(named, ()) == ((PAGE, 3 * PAGE),)
    assert found(Hints(), ((5 * PAGE, 6 * PAGE),)) == ((5 * PAGE, 6 * PAGE),)
    assert found(Hints(), ()) is WHOLE
    assert found(named, None) is WHOLE


def test_a_file_that_grew_is_read_from_the_page_of_its_old_end() -> None:
    grown = replace(SEEN, size=100 * PAGE + 10, ctime_ns=2000)
    before = replace(SEEN, size=90 * PAGE + 7)
    assert read(Hints(pages={7: ((0, 1),)}), grown, before) == ((0, 1), (90 * PAGE, 100 * PAGE + 10))


def test_before_linux_6_13_a_ctime_is_settled_when_a_tick_has_passed() -> None:
    assert settled(1_000_000_000, 1_000_000_001, "6.13.0-1")
    assert settled(1_000_000_000, 1_000_000_001, "7.0")
    assert not settled(1_000_000_000, 1_010_000_000, "6.12.9")
    assert not settled(1_000_000_000, 900_000_000, "5.15.0")
    assert settled(1_000_000_000, 1_030_000_000, "5.15.0")


def test_trust_comes_from_changes_that_were_named_and_one_that_was_not_ends_it() -> None:
    trust = Trust()
    trust.compared(named=0, missed=0)
    assert trust.proof is Proof.UNPROVEN
    trust.compared(named=3, missed=0)
    trust.compared(named=0, missed=0)
    assert replace(trust) == Trust(Proof.PROVEN)
    trust.compared(named=9, missed=2)
    trust.compared(named=9, missed=0)
    assert replace(trust) == Trust(Proof.BROKEN, missed=2)
