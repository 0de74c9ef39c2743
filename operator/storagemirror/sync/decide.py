"""What is to be done about one entry. Pure: two entries in, a verdict out."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from storagemirror.entry import Entry


class Verdict(Enum):
    """What the target needs."""

    SAME = "same"
    TOUCH = "touch"
    """The content is right, the attributes are not."""
    WHOLE = "whole"
    """All of it."""
    LINK = "link"
    """To become a further name of its leader."""
    DIRECTORY = "directory"
    """A directory where the target has none."""
    MAKE_WAY = "make-way"
    """All of it, once the directory that is in its place may be deleted."""
    DELETE = "delete"
    """The source does not have it."""
    NEWER = "newer"
    """A file that is newer on the target: it is left as it is."""


@dataclass(frozen=True, slots=True)
class Decision:
    """One name and its verdict. `source` is None for `DELETE` alone."""

    name: bytes
    verdict: Verdict
    source: Entry | None
    target: Entry | None = None


def judge(source: Entry | None, target: Entry | None, *, spare_newer: bool = False) -> Verdict:
    """One of the two may be None: it is not there. `spare_newer`: a file that is newer on the target stays, where the
    source has a file as well; of equal times the source's counts."""
    if source is None:
        return Verdict.DELETE
    wanted = stat.S_IFMT(source.mode)
    if target is None:
        return Verdict.DIRECTORY if wanted == stat.S_IFDIR else _new(source)
    found = stat.S_IFMT(target.mode)
    if wanted == stat.S_IFDIR:
        return Verdict.SAME if found == stat.S_IFDIR else Verdict.DIRECTORY
    if found == stat.S_IFDIR:
        return Verdict.MAKE_WAY
    if spare_newer and wanted == found == stat.S_IFREG and target.mtime_ns > source.mtime_ns:
        return Verdict.NEWER
    if wanted != found or source.leader != target.leader:
        return _new(source)
    if (source.size, source.content) != (target.size, target.content):
        return _new(source)
    if wanted == stat.S_IFREG and source.mtime_ns != target.mtime_ns:
        return _new(source)
    if source == target:
        return Verdict.SAME
    # A further name shares its leader's attributes: they are set there.
    return Verdict.SAME if source.leader else Verdict.TOUCH


def _new(source: Entry) -> Verdict:
    return Verdict.LINK if source.leader else Verdict.WHOLE


def decide(source: list[Entry], target: list[Entry], *, spare_newer: bool = False) -> Iterator[Decision]:
    """For each name that either side has, in the source's order, then those that only the target has."""
    there = {entry.name: entry for entry in target}
    for entry in source:
        theirs = there.pop(entry.name, None)
        yield Decision(entry.name, judge(entry, theirs, spare_newer=spare_newer), entry, theirs)
    for name, theirs in there.items():
        yield Decision(name, Verdict.DELETE, None, theirs)
