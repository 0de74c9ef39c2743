"""Nothing that changed lies outside of what the trace names and the rule of ctime adds; and simpler rules miss some.

Every kind of writer, on each file system: frozen before and after, all files compared byte by byte.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import pytest

from storagemirror.fs.trace import WHOLE, Hints, Ranges, candidates, open_trace
from storagemirror.fs.trace.hints import PAGE
from tests.support.disks import Disk, disk
from tests.support.freezing import frozen
from tests.support.truth import Change, changes, look
from tests.support.writers import WRITERS, prepare

KINDS = {
    "ext4": ("ext4", 64, ()),
    "ext4 with data in inodes": ("ext4", 64, ("-O", "inline_data")),
    "ext4 of 1 KiB blocks": ("ext4", 64, ("-b", "1024")),
    "xfs": ("xfs", 320, ()),
    "btrfs": ("btrfs", 128, ()),
    "btrfs compressed": ("btrfs", 128, ()),
    "btrfs written in place": ("btrfs", 128, ()),
}
MOUNTED = {"btrfs compressed": "compress-force=zstd", "btrfs written in place": "nodatacow"}
_CANNOT = (errno.EOPNOTSUPP, errno.ENOTTY, errno.EINVAL, errno.ENOSYS, errno.EPERM)


@dataclass(frozen=True)
class Story:
    """What one writer did: the hints, and every file."""

    writer: str
    hints: Hints
    changes: list[Change]


@dataclass(frozen=True)
class Told:
    """All writers on one file system."""

    kind: str
    names_structure: bool
    stories: list[Story]
    cannot: list[str]


def tell(made: Disk, kind: str) -> Told:
    place = made.path / "volume"
    place.mkdir()
    root = os.open(made.path, os.O_RDONLY)
    stories, cannot = [], []
    with open_trace(root, f"test-{os.getpid()}-truth") as trace:
        for name, write in WRITERS.items():
            prepare(place)
            with frozen(root):
                assert not trace.drain(frozen=True).lost
                before = look(place)
            try:
                write(place)
            except OSError as e:
                if e.errno not in _CANNOT:
                    raise
                cannot.append(name)
                continue
            with frozen(root):
                hints = trace.drain(frozen=True)
                found = changes(before, look(place))
            assert any(
                change.pages or change.before is None or change.before.size != change.now.size for change in found
            )
            stories.append(Story(name, hints, found))
        structure = trace.names_structure
    os.close(root)
    return Told(kind, structure, stories, cannot)


@pytest.fixture(scope="module", params=KINDS)
def told(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Told]:
    kind, mebibytes, options = KINDS[request.param]
    with disk(tmp_path_factory.mktemp("truth"), kind, mebibytes, "disk", *options) as made:
        if request.param in MOUNTED:
            made.remount(MOUNTED[request.param])
        yield tell(made, request.param)


Rule = Callable[[Told, Hints, Change], Ranges | None]


def missed(told: Told, rule: Rule) -> list[str]:
    """The writers of which `rule` misses something."""
    return [
        story.writer
        for story in told.stories
        if any(change.outside(rule(told, story.hints, change)) for change in story.changes)
    ]


def ours(told: Told, hints: Hints, change: Change) -> Ranges | None:
    return candidates(hints, change.before, change.now, names_structure=told.names_structure)


def by_blocks(told: Told, hints: Hints, change: Change) -> Ranges | None:
    """As `ours`; on btrfs by where blocks lie."""
    elsewhere = None if told.names_structure else change.elsewhere
    return candidates(hints, change.before, change.now, names_structure=told.names_structure, elsewhere=elsewhere)


def test_nothing_that_changed_is_outside(told: Told) -> None:
    assert missed(told, ours) == []
    assert missed(told, by_blocks) == []
    assert len(told.stories) >= 40, told.cannot
    assert not any(story.hints.lost for story in told.stories)


def test_what_is_written_in_a_page_is_not_the_whole_file(told: Told) -> None:
    in_place = told.kind == "btrfs written in place"
    for story in told.stories:
        if story.writer in ("write_in_a_page", "map_and_store", "direct", "punch_and_write_elsewhere"):
            f = next(change for change in story.changes if change.name == "f")
            found = by_blocks(told, story.hints, f)
            if in_place or (told.kind == "xfs" and "punch" in story.writer):
                assert found is WHOLE
            else:
                assert found is not WHOLE
                compressed = told.kind == "btrfs compressed"
                assert compressed or sum(end - start for start, end in found) <= 34 * PAGE


# -- simpler rules


def dirty(hints: Hints) -> Hints:
    """What the events of dirty pages alone would have told."""
    pages = {ino: without(ranges, hints.direct.get(ino, ())) for ino, ranges in hints.pages.items()}
    return Hints(pages={ino: ranges for ino, ranges in pages.items() if ranges})


def without(ranges: Ranges, others: Ranges) -> Ranges:
    left = list(ranges)
    for start, end in others:
        left = [
            piece
            for low, high in left
            for piece in ((low, min(high, start)), (max(low, end), high))
            if piece[0] < piece[1]
        ]
    return tuple(left)


def test_dirty_pages_alone_are_not_enough(told: Told) -> None:
    def pages(told: Told, hints: Hints, change: Change) -> Ranges | None:
        return dirty(hints).pages.get(change.now.object[0], ())

    found = missed(told, pages)
    assert {"punch", "truncate_and_extend", "punch_and_write_elsewhere"} <= set(found)
    if not told.kind.startswith("btrfs"):
        assert {"direct", "direct_io_uring", "direct_native_aio"} <= set(found)


def test_ctime_where_no_page_is_named_is_not_enough(told: Told) -> None:
    """A hole and a page in one interval: without the events of structure (btrfs has none) nothing names the hole."""

    def net(told: Told, hints: Hints, change: Change) -> Ranges | None:
        return candidates(dirty(hints), change.before, change.now, names_structure=True)

    found = missed(told, net)
    assert "punch_and_write_elsewhere" in found
    assert "punch" not in found


def test_the_page_that_is_named_is_not_enough_of_a_folio(told: Told) -> None:
    """XFS makes large ones; others do by their version."""

    def first(told: Told, hints: Hints, change: Change) -> Ranges | None:
        found = ours(told, hints, change)
        return found if found is WHOLE else tuple((start, min(end, start + PAGE)) for start, end in found)

    if told.kind == "xfs":
        assert "write_many_pages_at_once" in missed(told, first)


def test_a_number_that_was_given_out_again_is_another_file(told: Told) -> None:
    def by_number(told: Told, hints: Hints, change: Change) -> Ranges | None:
        before = change.before and replace(change.before, object=change.now.object)
        return candidates(dirty(hints), before, change.now, names_structure=True)

    again = {
        story.writer
        for story in told.stories
        if any(change.before is not None and change.before.object != change.now.object for change in story.changes)
    }
    if told.kind.startswith("ext4"):
        assert "delete_and_make_sparse" in again
    if "delete_and_make_sparse" in again:
        assert "delete_and_make_sparse" in missed(told, by_number)
