"""What is taken where a kernel lacks an event: this kernel's records, by the choice that an older one would get."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from storagemirror.fs.trace import Hints
from storagemirror.fs.trace.collect import Collector
from storagemirror.fs.trace.device import find_device
from storagemirror.fs.trace.events import choose
from storagemirror.fs.trace.hints import largest_folio
from storagemirror.fs.trace.layout import Format, parse_format, parse_page_header
from storagemirror.fs.trace.pipes import Pipes
from storagemirror.fs.trace.tracefs import Instance, open_tracefs
from tests.support.disks import disk
from tests.support.writers import P, aligned, opened


def direct_io(file: Path, lacking: str) -> Hints:
    """Read and written directly, on a kernel without this event."""
    root = os.open(file.parent, os.O_RDONLY)
    tracefs = open_tracefs()
    instance = Instance(tracefs, f"test-{os.getpid()}-older")
    os.close(tracefs)

    def lookup(name: str) -> Format | None:
        return None if lacking in name else parse_format(instance.read(f"events/{name}/format"))

    events = choose(find_device(root), lookup)
    collector = Collector(events, largest_folio())
    pipes = Pipes(instance, parse_page_header(instance.read("events/header_page")))
    try:
        for event in events:
            instance.write(f"events/{event.name}/filter", event.filter)
            instance.write(f"events/{event.name}/enable", "1")
        with opened(file, os.O_RDWR | os.O_DIRECT) as fd:
            os.preadv(fd, [aligned(1, b"r")], 4 * P)
            os.pwrite(fd, aligned(2, b"w"), 8 * P)
        for number in range(len(pipes)):
            assert not pipes.read(number, collector.take, 1000)
        assert pipes.losses() == []
        return collector.hints(frozen=True)
    finally:
        pipes.close()
        instance.close()
        os.close(root)


@pytest.mark.parametrize(("kind", "mebibytes"), [("ext4", 64), ("btrfs", 128)])
def test_direct_io_without_one_of_its_two_events(kind: str, mebibytes: int, tmp_path: Path) -> None:
    with disk(tmp_path, kind, mebibytes) as made:
        if kind == "btrfs":  # else its checksums have it written through the page cache
            made.remount("nodatacow")
        file = made.path / "f"
        file.write_bytes(bytes(16 * P))
        with opened(file) as fd:
            os.fsync(fd)
        ino = file.stat().st_ino
        assert direct_io(file, "nothing").direct == {ino: ((8 * P, 10 * P),)}
        assert direct_io(file, "iomap_dio_rw_begin").structural == {ino}, "before Linux 6.5"
        both = direct_io(file, "iomap_iter")
        assert both.direct == {ino: ((4 * P, 5 * P), (8 * P, 10 * P))}, "reads are not told apart"
