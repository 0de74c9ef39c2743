"""How much of a point was told more than once, as it is counted on its way to the target."""

from __future__ import annotations

import os
import stat

import pytest

from storagemirror.entry import Attributes
from storagemirror.fs.blocks import BLOCK
from storagemirror.point import Name, Names, Object, ObjectId
from storagemirror.sync.pointmaker.repeating import ALWAYS_BYTES, Repeats
from storagemirror.sync.pointmaker.turn import Moment

MIB = 1 << 20
SMALL = 2_000
"""What a few records without content take, at most."""


class Wire:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def object(self, told: Object) -> None:
        self.told.append("object")

    def names(self, told: Names) -> None:
        self.told.append("names")

    def content(self, offset: int, content: memoryview) -> None:
        self.told.append("content")

    def zeros(self, offset: int, length: int) -> None:
        self.told.append("zeros")

    def end(self, at_ns: int, *, changed_ns: int = 0, entries: int = 0, moment: Moment | None = None) -> bytes:
        return b"digest of %d %d %d" % (at_ns, changed_ns, entries)

    def drop(self) -> None:
        self.told.append("drop")


@pytest.fixture
def told() -> Repeats:
    return Repeats(Wire())


def file(inode: int, size: int) -> Object:
    return Object(ObjectId(inode, 1), None, Attributes(stat.S_IFREG | 0o600, 0, 0, 0), size=size)


def write(told: Repeats, inode: int, size: int, *parts: tuple[int, int]) -> None:
    """Tell a file of this size, and these parts (offset, length) of its content."""
    told.object(file(inode, size))
    for offset, length in parts:
        told.content(offset, memoryview(bytes(length)))


def test_everything_reaches_the_wire() -> None:
    wire = Wire()
    told = Repeats(wire)
    write(told, 1, 10, (0, 10))
    told.names(Names([Name(b"a", ObjectId(1, 1))]))
    told.zeros(0, 1)
    assert told.end(1, changed_ns=2, entries=3) == b"digest of 1 2 3"
    told.drop()
    assert wire.told == ["object", "content", "names", "zeros", "drop"]


def test_what_is_told_for_the_first_time_is_no_repetition(told: Repeats) -> None:
    for inode in range(3):
        write(told, inode, 4 * MIB, (0, MIB), (MIB, 3 * MIB))
    assert (abs(told.once - 12 * MIB) < SMALL, told.again) == (True, 0)


def test_parts_of_a_block_are_none_either(told: Repeats) -> None:
    write(told, 1, BLOCK, *[(offset, 4096) for offset in range(0, BLOCK, 4096)])
    assert told.again == 0


def test_the_same_place_again_is_one(told: Repeats) -> None:
    write(told, 1, 8 * MIB, (0, 8 * MIB))
    write(told, 2, 8 * MIB, (0, 8 * MIB))
    write(told, 1, 8 * MIB, (3 * MIB, 2 * MIB))
    assert 2 * MIB <= told.again < 2 * MIB + SMALL
    assert abs(told.once - 16 * MIB) < SMALL


@pytest.mark.parametrize("offset", [0, 10 * BLOCK + 77])
def test_of_a_small_file_only_its_own_size_is_needed(told: Repeats, offset: int) -> None:
    size = offset % BLOCK + 1000
    for _ in range(50):
        write(told, 1, size, (0, size))
    assert 49 * size <= told.again < 49 * (size + SMALL)


def test_a_file_that_grew_needs_more(told: Repeats) -> None:
    write(told, 1, 1000, (0, 1000))
    write(told, 1, BLOCK, (1000, BLOCK - 1000))
    assert told.again < SMALL


def test_another_object_with_the_same_inode_number_is_another(told: Repeats) -> None:
    write(told, 1, MIB, (0, MIB))
    told.object(Object(ObjectId(1, 2), None, Attributes(stat.S_IFREG | 0o600, 0, 0, 0), size=MIB))
    told.content(0, memoryview(bytes(MIB)))
    assert told.again == 0


def test_names_that_are_told_again_count_and_a_long_list_in_parts_does_not(told: Repeats) -> None:
    directory = Object(ObjectId(9, 1), None, Attributes(stat.S_IFDIR | 0o700, 0, 0, 0))
    names = Names([Name(os.urandom(100), ObjectId(n, 1)) for n in range(1000)])
    told.object(directory)
    for _ in range(3):
        told.names(names)
    assert told.again == 0
    once = told.once
    told.object(directory)
    for _ in range(3):
        told.names(names)
    assert abs(told.again - once) < SMALL


def test_some_is_always_allowed_and_then_as_much_as_the_point_needs(told: Repeats) -> None:
    needed = 2 * ALWAYS_BYTES
    chunk = (0, 32 * MIB)
    write(told, 1, 32 * MIB, chunk)
    write(told, 2, needed - 32 * MIB, (0, needed - 32 * MIB))
    allowed = (needed + ALWAYS_BYTES) // (32 * MIB)
    for _ in range(allowed):
        assert not told.too_many
        write(told, 1, 32 * MIB, chunk)
    write(told, 1, 32 * MIB, chunk)
    assert told.too_many
