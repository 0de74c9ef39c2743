"""Which events are chosen on which kernel, and how their records become hints within bounds."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable

import pytest

from storagemirror.fs.trace import TraceUnavailable
from storagemirror.fs.trace.collect import Bounds, Collector
from storagemirror.fs.trace.device import Device
from storagemirror.fs.trace.events import Chosen, Meaning, choose
from storagemirror.fs.trace.hints import PAGE
from storagemirror.fs.trace.layout import Field, Format

HUGE = 512 * PAGE
EXT4, XFS, BTRFS = Device("ext4", "8:0", 8 << 20 | 1), Device("xfs", "8:0", 8 << 20 | 1), Device("btrfs", "btrfs-1", 39)
_NAMES = ("ino", "dest_ino", "ip1_ino", "ip2_ino", "index", "pos", "offset", "new_size", "count", "len")


def kernel(*lacking: str) -> Callable[[str], Format | None]:
    """One that has every event, but for those whose name contains one of these."""
    fields = {name: Field(8 + 8 * at, 8, signed=False) for at, name in enumerate(_NAMES)}

    def lookup(name: str) -> Format | None:
        if any(word in name for word in lacking):
            return None
        return Format(sum(name.encode()), fields, {"WRITE": 1, "DIRECT": 16})

    return lookup


def names(events: Iterable[Chosen]) -> list[str]:
    return [event.name.split("/")[1] for event in events]


def test_on_each_file_system_the_events_that_it_takes() -> None:
    assert names(choose(BTRFS, kernel())) == ["writeback_dirty_folio", "iomap_dio_rw_begin", "iomap_iter"]
    assert "ext4_punch_hole" in names(choose(EXT4, kernel()))
    assert "xfs_file_direct_write" in names(choose(XFS, kernel()))
    assert not any("iomap" in name for name in names(choose(XFS, kernel())))


def test_every_event_is_filtered_by_the_device_in_the_kernel() -> None:
    for device in (EXT4, XFS, BTRFS):
        dirty, *others = choose(device, kernel())
        assert dirty.filter.startswith(f'name == "{device.bdi}"')
        assert all(event.filter.startswith(f"dev == {device.number}") for event in others)


def test_before_linux_5_18_dirty_pages_have_their_old_name() -> None:
    assert choose(XFS, kernel("writeback_dirty_folio"))[0].name == "writeback/writeback_dirty_page"


def test_before_linux_6_5_a_file_that_is_written_directly_is_compared_whole() -> None:
    event = choose(EXT4, kernel("iomap_dio_rw_begin"))[1]
    assert (event.name, event.meaning) == ("iomap/iomap_iter", Meaning.WHOLE)
    assert event.filter.endswith("flags & 1 && flags & 16")


def test_where_nothing_tells_direct_reads_apart_they_are_taken_for_writes() -> None:
    event = choose(EXT4, kernel("iomap_iter"))[1]
    assert (event.name, event.meaning) == ("iomap/iomap_dio_rw_begin", Meaning.DIRECT)


@pytest.mark.parametrize(
    ("device", "lacking"),
    [
        (EXT4, ("writeback_dirty",)),
        (EXT4, ("iomap",)),
        (EXT4, ("ext4_truncate_enter",)),
        (XFS, ("xfs_file_direct_write",)),
        (XFS, ("xfs_free_file_space",)),
        (BTRFS, ("iomap",)),
    ],
)
def test_a_kernel_that_cannot_name_everything_is_refused(device: Device, lacking: tuple[str, ...]) -> None:
    with pytest.raises(TraceUnavailable) as caught:
        choose(device, kernel(*lacking))
    assert caught.value.reason == "EventsMissing"
    assert lacking[0] in caught.value.message


# -- records


class Kernel:
    """Records into a collector, as ext4 events have them."""

    def __init__(self, bounds: Bounds | None = None) -> None:
        self.events = {event.name.split("/")[1]: event for event in choose(EXT4, kernel())}
        self.collector = Collector(self.events.values(), HUGE, bounds)

    def say(self, name: str, **values: int) -> None:
        words = [values.get(field, 0) for field in _NAMES]
        data = bytearray(struct.pack(f"=H6x{len(words)}Q", self.events[name].number, *words))
        self.collector.take(data, 0, len(data))

    def begin(self, ino: int, pos: int, count: int) -> None:
        self.say("iomap_dio_rw_begin", ino=ino, pos=pos, count=count)

    def write(self, ino: int, pos: int) -> None:
        self.say("iomap_iter", ino=ino, pos=pos)


def test_direct_io_counts_when_it_is_known_to_be_a_write_whichever_is_read_first() -> None:
    kernel = Kernel()
    kernel.begin(1, 0, 100)
    kernel.write(1, 0)
    kernel.write(2, 50)
    kernel.collector.swept()
    kernel.begin(2, 50, 10)
    kernel.begin(3, 0, 100)
    found = kernel.collector.hints(frozen=False)
    assert found.direct == found.pages == {1: ((0, 100),), 2: ((50, 60),)}
    kernel.collector.swept()
    kernel.write(3, 0)
    assert kernel.collector.hints(frozen=False).direct == {3: ((0, 100),)}, "it waited long before it wrote"


def test_direct_io_that_did_not_turn_out_a_write_by_the_freeze_was_a_read() -> None:
    kernel = Kernel()
    kernel.begin(1, 0, 100)
    assert kernel.collector.hints(frozen=True).pages == {}
    kernel.collector.swept()
    kernel.write(1, 0)
    assert kernel.collector.hints(frozen=True).pages == {}


def test_so_many_reads_that_they_cannot_be_kept_are_taken_for_writes() -> None:
    kernel = Kernel(Bounds(exact=10, total=100))
    for at in range(11):
        kernel.begin(1, at * 1000, 10)
    assert len(kernel.collector.hints(frozen=False).pages[1]) == 11


def test_too_many_folios_of_a_file_become_pieces_then_the_whole_file_then_everything() -> None:
    kernel = Kernel(Bounds(exact=10, total=100))
    for index in range(1, 23, 2):
        kernel.say("writeback_dirty_folio", ino=5, index=index)
    kernel.say("writeback_dirty_folio", ino=6, index=1)
    assert kernel.collector.hints(frozen=False).pages == {5: ((0, HUGE),), 6: ((PAGE, 2 * PAGE),)}
    for index in range(1, 12 * 1024, 513):
        kernel.say("writeback_dirty_folio", ino=5, index=index)
    whole = kernel.collector.hints(frozen=False)
    assert whole.structural == {5}
    assert not whole.lost
    for ino in range(101):
        kernel.say("writeback_dirty_folio", ino=ino, index=1)
    flood = kernel.collector.hints(frozen=False)
    assert flood.lost
    assert flood.why
    assert not kernel.collector.hints(frozen=False).lost


def test_many_files_of_which_much_is_named_are_kept_by_pieces_before_everything_is_given_up() -> None:
    kernel = Kernel(Bounds(exact=100, total=300))
    for index in range(80):
        for ino in range(10):
            kernel.say("writeback_dirty_folio", ino=ino, index=512 + index)
            kernel.collector.settle()
    found = kernel.collector.hints(frozen=False)
    assert not found.lost
    assert found.structural == frozenset()
    assert {found.pages[ino] for ino in range(10)} == {((HUGE, 2 * HUGE),)}


def test_what_is_kept_stays_bounded_however_much_is_named() -> None:
    kernel, most = Kernel(Bounds(exact=50, total=400)), 0
    for number in range(20_000):
        kernel.say("writeback_dirty_folio", ino=number % 3, index=number * 7)
        kernel.collector.settle()
        most = max(most, sum(map(len, kernel.collector._folios.values())))
    assert most < 3 * 100
    assert kernel.collector.hints(frozen=False).structural == {0, 1, 2}
