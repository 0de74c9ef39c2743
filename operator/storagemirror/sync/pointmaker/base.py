"""The first catalogue: what a mirror has left on the target.

A mirror leaves no moment of the source. What it left is known where nothing has changed since it began: an object whose
ctime is older is on the target as it is here, and so are the names in a directory whose ctime is older. Of the names in
all other directories the target is asked. Files that may have changed are told in the first point whole.
"""

from __future__ import annotations

import os
import stat
from collections import deque
from collections.abc import Iterator

from storagemirror.entry import Entry, join
from storagemirror.fs.objectid import object_id
from storagemirror.fs.source import SourceVolume
from storagemirror.sync.pointmaker.catalogue import Catalogue, Known, Since
from storagemirror.sync.pointmaker.line import Line
from storagemirror.sync.pointmaker.surveying import Survey

_SLOWEST_CLOCK_NS = 20_000_000
"""Files get their times from a clock that may be two ticks behind (10 ms each, at most)."""
_ASKED = 500
_ASKED_BYTES = 256 << 10
_LARGE = 64 << 20


def empty(volume: SourceVolume) -> Catalogue:
    """A catalogue that knows nothing but the root. OSError."""
    inode, generation = object_id(volume.tree.root)
    return Catalogue(inode, generation, os.fstat(volume.tree.root).st_mode)


def establish(catalogue: Catalogue, survey: Survey, volume: SourceVolume, line: Line, mirrored_ns: int) -> None:
    """Look at all of the volume; what the target has of it is the base afterwards, and what differs is due.

    `mirrored_ns`: when the mirror began that has just ended, before its `syncfs`. Nothing may have been sent since but
    what came later. `Disconnected`; OSError when the disk fails; `VolumeError`.
    """
    survey.look_everywhere()
    before_ns = mirrored_ns - _SLOWEST_CLOCK_NS
    catalogue.since = Since()
    changed: list[Known] = []
    for known, due in list(survey.due.items()):
        if due.changed_ns < before_ns:
            known.size = due.size
            survey.told(known, due.ctime_ns)
        elif known.children is not None:
            changed.append(known)
    there: dict[Known, tuple[Known, bytes]] = {}
    for directory in changed:
        catalogue.since.listed[directory] = {}
    for place, entry in _theirs(catalogue, line, changed):
        directory, name, known = place
        if entry is None or not _same(volume, catalogue, place, entry, known in survey.due):
            continue
        catalogue.since.listed[directory][name] = known
        there.setdefault(known, (directory, name))
    _find_new(catalogue, survey, changed, there)


def _theirs(
    catalogue: Catalogue, line: Line, directories: list[Known]
) -> Iterator[tuple[tuple[Known, bytes, Known], Entry | None]]:
    """Of every name in these: what the target has there."""
    asked: list[tuple[Known, bytes, Known]] = []
    paths: list[bytes] = []
    size = 0
    for directory in directories:
        path = catalogue.path(directory)
        if path is None:
            continue
        for name, known in catalogue.names_of(directory).items():
            asked.append((directory, name, known))
            paths.append(join(path, name))
            size += len(paths[-1])
            if len(paths) >= _ASKED or size >= _ASKED_BYTES:
                yield from zip(asked, line.look(paths), strict=True)
                asked, paths, size = [], [], 0
    if paths:
        yield from zip(asked, line.look(paths), strict=True)


def _same(
    volume: SourceVolume, catalogue: Catalogue, place: tuple[Known, bytes, Known], entry: Entry, due: bool
) -> bool:
    """Whether the target's entry can be the object, to which only what is told has to be done."""
    directory, name, known = place
    if stat.S_IFMT(entry.mode) != stat.S_IFMT(known.mode):
        return False
    if known.children is not None:
        return True
    path = join(catalogue.path(directory) or b"", name)
    found = volume.lstat(path)
    if found is None or found.st_ino != known.inode:
        return False
    if stat.S_ISREG(known.mode):
        if due:
            # All of it is told. Where the target has one file under two names that are two here, both would be written
            # into one; so it is told as new, unless that takes much room: then the target says so.
            return found.st_size > _LARGE
        seconds = entry.mtime_ns // 1_000_000_000, found.st_mtime_ns // 1_000_000_000
        return entry.size == found.st_size and seconds[0] == seconds[1]
    return False  # told anew: nothing in it could be changed


def _find_new(
    catalogue: Catalogue, survey: Survey, changed: list[Known], there: dict[Known, tuple[Known, bytes]]
) -> None:
    """What the target does not have under any name; where it has what is under another name here."""
    since = catalogue.since
    order = deque(sorted(changed, key=lambda directory: (catalogue.path(directory) or b"").count(b"/")))
    seen: set[Known] = set(changed)
    while order:
        directory = order.popleft()
        fresh = directory in since.new
        if fresh:
            since.listed.pop(directory, None)
        for name, known in catalogue.names_of(directory).items():
            if not fresh and since.listed[directory].get(name) is known:
                continue
            survey.make_due(known)
            if known in there:
                since.moved[known] = there[known]
            elif not _has_place_elsewhere(catalogue, known):
                since.new.add(known)
                if known.children is not None and known not in seen:
                    seen.add(known)
                    order.append(known)


def _has_place_elsewhere(catalogue: Catalogue, known: Known) -> bool:
    """Whether it has a name in a directory that is as the mirror found it."""
    places = [*known.more, *([(known.parent, known.name)] if known.parent is not None else [])]
    for directory, name in places:
        if directory not in catalogue.since.listed and directory not in catalogue.since.new:
            catalogue.since.moved.setdefault(known, (directory, name))
            return True
    return False
