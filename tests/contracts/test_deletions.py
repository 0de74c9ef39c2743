"""What the guard counts: on a real volume, with a clock that is held."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from storagemirror.fs.target import TargetVolume
from storagemirror.sync.deletions import FRESH_SECONDS, Deletions

SECOND = 1_000_000_000


class Held:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.at = 1_000_000 * SECOND

    def now_ns(self) -> int:
        return self.at


@pytest.fixture
def clock() -> Held:
    return Held()


@pytest.fixture
def volume(tmp_path: Path) -> Iterator[TargetVolume]:
    with TargetVolume.open(str(tmp_path)) as opened:
        opened.claim()
        yield opened


def live(volume: TargetVolume, clock: Held, base: int) -> Deletions:
    """As after a full comparison of `base` entries."""
    made = Deletions(volume, 50, None, None, clock.now_ns)
    made.compared(base)
    return made


def make(root: Path, deletions: Deletions, count: int, name: str = "f") -> list[bytes]:
    paths = [f"{name}{i}".encode() for i in range(count)]
    for path in paths:
        (root / path.decode()).touch()
        deletions.created(path)
    return paths


def gone(deletions: Deletions, paths: list[bytes]) -> int:
    return sum(deletions.delete(path) for path in paths)


def test_what_goes_as_soon_as_it_came_does_not_count(tmp_path: Path, volume: TargetVolume, clock: Held) -> None:
    deletions = live(volume, clock, base=20)
    for _ in range(5):
        assert gone(deletions, make(tmp_path, deletions, 100)) == 100
        clock.at += SECOND
    assert deletions.deleted == 0
    clock.at += FRESH_SECONDS * SECOND
    assert gone(deletions, make(tmp_path, deletions, 1)) == 1
    assert deletions.base == 20, "what has gone must not settle: it would make the guard more lenient"


def test_what_has_stayed_half_a_minute_is_there_to_be_lost(tmp_path: Path, volume: TargetVolume, clock: Held) -> None:
    deletions = live(volume, clock, base=20)
    paths = make(tmp_path, deletions, 100)
    clock.at += (FRESH_SECONDS + 1) * SECOND
    assert gone(deletions, paths) == 60
    assert deletions.base == 120


def test_a_volume_that_was_empty_when_it_was_compared_is_guarded_from_its_tenth_entry(
    tmp_path: Path, volume: TargetVolume, clock: Held
) -> None:
    deletions = live(volume, clock, base=0)
    paths = make(tmp_path, deletions, 10)
    assert gone(deletions, paths) == 5


def test_fresh_entries_of_a_deleted_directory_do_not_settle(tmp_path: Path, volume: TargetVolume, clock: Held) -> None:
    deletions = live(volume, clock, base=20)
    (tmp_path / "d").mkdir()
    deletions.created(b"d")
    make(tmp_path, deletions, 50, "d/f")
    assert deletions.delete(b"d")
    clock.at += (FRESH_SECONDS + 1) * SECOND
    make(tmp_path, deletions, 1)
    assert (deletions.base, deletions.deleted) == (20, 0)


def test_a_fresh_entry_stays_fresh_under_its_new_name(tmp_path: Path, volume: TargetVolume, clock: Held) -> None:
    deletions = live(volume, clock, base=20)
    make(tmp_path, deletions, 1)
    assert deletions.rename(b"f0", b"g")
    assert deletions.delete(b"g")
    assert deletions.deleted == 0


def test_another_session_goes_on_counting(tmp_path: Path, volume: TargetVolume, clock: Held) -> None:
    deletions = Deletions(volume, 50, None, 0, clock.now_ns)
    deletions.go_on(deleted=8, base=20)
    for i in range(10):
        (tmp_path / f"old{i}").touch()
    assert gone(deletions, [f"old{i}".encode() for i in range(10)]) == 2


def test_what_was_fresh_when_a_session_ended_is_there_to_lose_in_the_next(
    tmp_path: Path, volume: TargetVolume, clock: Held
) -> None:
    """Else the next one would find more deleted than there ever was."""
    deletions = live(volume, clock, base=20)
    make(tmp_path, deletions, 30)
    assert deletions.there_to_lose == 50


def test_a_file_that_is_replaced_all_day_does_not_make_the_guard_more_lenient(
    tmp_path: Path, volume: TargetVolume, clock: Held
) -> None:
    """Else 500 replacements of one file would let a volume of 100 be emptied."""
    deletions = live(volume, clock, base=20)
    (tmp_path / "settings").touch()
    for _ in range(50):
        make(tmp_path, deletions, 1, "settings.new")
        assert deletions.rename(b"settings.new0", b"settings")
        clock.at += (FRESH_SECONDS + 1) * SECOND
    assert (deletions.there_to_lose, deletions.deleted) == (20, 0)
    assert deletions.delete(b"settings")
    assert deletions.deleted == 1, "what was replaced had been there all the time"


def test_files_renamed_onto_one_name_are_lost_as_deleted_ones_are(
    tmp_path: Path, volume: TargetVolume, clock: Held
) -> None:
    deletions = live(volume, clock, base=20)
    names = [f"old{i}" for i in range(20)]
    for name in names:
        (tmp_path / name).touch()
    assert sum(deletions.rename(name.encode(), b"one") for name in names) == 11
    assert (deletions.deleted, len(list(tmp_path.glob("old*")))) == (10, 9)


def test_a_file_that_comes_and_goes_in_a_small_volume_is_no_wipe(
    tmp_path: Path, volume: TargetVolume, clock: Held
) -> None:
    deletions = live(volume, clock, base=3)
    for _ in range(50):
        assert gone(deletions, make(tmp_path, deletions, 1, "journal")) == 1
        clock.at += SECOND
    assert (deletions.base, deletions.deleted) == (3, 0)


def test_a_queue_whose_files_live_for_minutes_is_no_wipe(tmp_path: Path, volume: TargetVolume, clock: Held) -> None:
    deletions = live(volume, clock, base=40)
    waiting: list[list[bytes]] = []
    for second in range(0, 600, 3):
        clock.at += 3 * SECOND
        waiting.append(make(tmp_path, deletions, 1, f"job{second}-"))
        if len(waiting) > 20:
            assert gone(deletions, waiting.pop(0)) == 1
    assert deletions.deleted <= 20


def test_what_went_through_a_queue_does_not_let_more_go(tmp_path: Path, volume: TargetVolume, clock: Held) -> None:
    """20 that were compared, 20 that are waiting: half of these, no more."""
    deletions = live(volume, clock, base=20)
    old = [f"old{i}".encode() for i in range(20)]
    for path in old:
        (tmp_path / path.decode()).touch()
    waiting: list[bytes] = []
    for round_ in range(10):
        gone(deletions, waiting)
        waiting = make(tmp_path, deletions, 20, f"job{round_}-")
        clock.at += (FRESH_SECONDS + 1) * SECOND
    assert 10 <= gone(deletions, old + waiting) <= 20
