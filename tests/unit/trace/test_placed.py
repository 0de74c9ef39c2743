"""What lies elsewhere than before."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from storagemirror.fs.fiemap import ENCODED, INLINE, UNWRITTEN
from storagemirror.fs.trace import Placed, moved


def test_what_lies_where_it_lay_has_not_moved_however_it_is_cut() -> None:
    assert moved(((0, 100, 5, 0),), ((0, 100, 5, 0),)) == ()
    assert moved(((0, 100, 5, 0),), ((0, 40, 5, 0), (40, 60, 7, 0), (60, 100, 5, 0))) == ((40, 60),)
    assert moved(((0, 100, 5, 0),), ((0, 40, 5, 0), (60, 100, 5, 0))) == ((40, 60),), "a hole"
    assert moved(((0, 40, 5, 0),), ((0, 100, 5, 0),)) == ((40, 100),)
    assert moved((), ((3, 9, 0, 0),)) == moved(((3, 9, 0, 0),), ()) == ((3, 9),)


def test_what_became_unwritten_has_moved() -> None:
    assert moved(((0, 10, 5, 0),), ((0, 10, 5, UNWRITTEN),)) == ((0, 10),)


def test_where_the_place_does_not_tell_it_is_taken_for_moved() -> None:
    for flag in (ENCODED, INLINE):
        assert moved(((0, 10, 5, flag), (10, 20, 5, 0)), ((0, 10, 5, flag), (10, 20, 5, 0))) == ((0, 10),)


def runs(places: list[int]) -> Placed:
    """Byte by byte; 0 is a hole."""
    return tuple((at, at + 1, place - at, 0) for at, place in enumerate(places) if place)


_PLACES = st.lists(st.integers(0, 3), max_size=30)


@given(_PLACES, _PLACES)
def test_byte_by_byte(one: list[int], other: list[int]) -> None:
    found = {at for start, end in moved(runs(one), runs(other)) for at in range(start, end)}
    length = max(len(one), len(other))
    then, now = one + [0] * (length - len(one)), other + [0] * (length - len(other))
    assert found == {at for at in range(length) if then[at] != now[at]}
