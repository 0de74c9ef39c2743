"""Finding what was renamed while nobody watched: new here, orphaned there, and the same.

Candidates are found by what both sides have told: an orphaned file of the same size, time, mode, owner and extended
attributes; an orphaned directory in which, with all that is below, the digests are the same. That is no proof. So the
source reads what it has and tells the digest of the content; the target reads what it has, and renames only where that
is the same. What is not renamed is sent, like anything that is new.

A directory is renamed in one step where nothing in it has changed. Otherwise its directories and files are looked at
one by one. What takes the place of something that is there (a swap of two names) is not looked for: it is sent. Nor is
a file with several names.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field

from xxhash import xxh3_128_digest

from storagemirror.entry import Entry, join, split, walk_key
from storagemirror.errors import BadInput, ProtocolError
from storagemirror.fs.contents import Seen, file_digest, nothing, tree_digest
from storagemirror.fs.scan import Leaders, Scanner
from storagemirror.sync.inbox import Inbox
from storagemirror.sync.paths import frames_of
from storagemirror.wire import messages as m

FILES_LIMIT = 100_000
"""New files that are kept back until all is compared, at most; beyond, they are sent at once."""
_DIRECTORIES_LIMIT = 100_000
"""New directories that are looked at, at most."""
_IN_FRAME = 500
_IN_FRAME_BYTES = 512 * 1024

_Likeness = tuple[int, int, int, int, int, bytes]


@dataclass(slots=True)
class _Directory:
    """A new one, and what was found in it."""

    digest: bytes
    subdirectories: list[bytes]
    files: list[Entry]
    entries: int
    """In it and below."""
    content_bytes: int
    key: bytes = b""
    """Of all that is below."""


@dataclass(slots=True)
class Renamed:
    """Of one comparison of everything. `scanner` is one of our own volume that reports nothing."""

    inbox: Inbox
    scanner: Scanner
    seen: Seen = nothing
    """Called with each file that was read, open."""
    done: dict[bytes, bytes] = field(default_factory=dict)
    """By its new path what was renamed, and from where."""
    entries: int = 0
    """In renamed directories."""
    content_bytes: int = 0
    """Of content, in these."""
    files: dict[bytes, Entry] = field(default_factory=dict)
    """New ones in directories that both sides have, kept back."""
    directories: list[bytes] = field(default_factory=list)
    """New ones in directories that both sides have, kept back."""
    _orphans: dict[bytes, Entry] = field(default_factory=dict)
    _known: dict[bytes, _Directory] = field(default_factory=dict)
    _told: dict[bytes, bytes] = field(default_factory=dict)
    """Digests of the target's orphaned directories."""
    _gone: set[bytes] = field(default_factory=set)
    """What was asked to be renamed, by its old path."""
    _used: set[bytes] = field(default_factory=set)
    """That, and all that it is in."""
    _arrived: set[bytes] = field(default_factory=set)
    """Directories that were asked to be renamed, by their new path."""

    # -- during the walk

    def keep_back(self, path: bytes, entry: Entry) -> bool:
        """Whether this new entry is not to be sent yet."""
        if not stat.S_ISREG(entry.mode) or not entry.size or entry.leader or len(self.files) >= FILES_LIMIT:
            return False
        self.files[path] = entry
        return True

    def orphan(self, path: bytes, entry: Entry | None) -> None:
        """The target alone has this."""
        if entry is not None and stat.S_ISREG(entry.mode) and entry.size and len(self._orphans) < FILES_LIMIT:
            self._orphans[path] = entry

    # -- after it

    def find(self, doomed: list[bytes]) -> None:
        """Have the target rename what it can of `doomed`, and of what is in it; `done` tells what that was. Raises what
        the target raises."""
        tops = set(doomed)
        # What is hidden by a mount here, or cannot be read, was not asked about either: it is no orphan.
        self._told = {path: told.digest for path, told in self.inbox.orphans.items() if _is_in(path, tops)}
        moves = [m.Move(old, new, b"", True) for new, old in self._directories()]
        self._list_orphans()
        moves += [m.Move(old, new, b"") for new, old in self._files()]
        self._ask(moves)

    def _ask(self, moves: list[m.Move]) -> None:
        asked: list[list[m.Move]] = []
        batch: list[m.Move] = []
        size = 0
        for move in moves:
            proven = self._proven(move)
            if proven is None:
                continue
            batch.append(proven)
            size += len(proven.old) + len(proven.new) + 32
            if len(batch) >= _IN_FRAME or size >= _IN_FRAME_BYTES:
                self.inbox.move(m.Moves(len(asked), batch))
                asked.append(batch)
                batch, size = [], 0
        if batch:
            self.inbox.move(m.Moves(len(asked), batch))
            asked.append(batch)
        for batch in asked:
            answer = self.inbox.moved()
            if len(answer.done) != len(batch):
                raise ProtocolError(f"expected {len(batch)} answers to Moves, got {len(answer.done)}")
            for move, done in zip(batch, answer.done, strict=True):
                if done:
                    self._note(move)

    def _note(self, move: m.Move) -> None:
        self.done[move.new] = move.old
        if move.directory:
            found = self._known[move.new]
            self.entries += found.entries
            self.content_bytes += found.content_bytes

    def _proven(self, move: m.Move) -> m.Move | None:
        """With the digest of what we have; None where it cannot be read, or changes."""
        try:
            if move.directory:
                digest = tree_digest(self.scanner, move.new, self.seen)
            else:
                parent, name = split(move.new)
                directory = self.scanner.tree.open_directory(parent)
                try:
                    digest = file_digest(directory, move.new, name, self.seen)
                finally:
                    os.close(directory)
        except (OSError, BadInput):
            return None
        return m.Move(move.old, move.new, digest, move.directory)

    # -- directories

    def _directories(self) -> Iterator[tuple[bytes, bytes]]:
        """New ones whose like the target has: new and old path. Those in which nothing is alike are left out."""
        if not self._told and not self._orphans:
            return
        by_key: dict[bytes, list[bytes]] = {}
        for path, key in _keys(self._told).items():
            by_key.setdefault(key, []).append(path)
        self._scan_new()
        pending = sorted(self.directories, key=walk_key, reverse=True)
        while pending:
            path = pending.pop()
            found = self._known.get(path)
            if found is None:
                continue
            old = self._free(by_key.get(found.key, []), split(path)[1])
            if old is not None:
                self._use(old)
                self._arrived.add(path)
                yield path, old
            else:
                pending.extend(join(path, name) for name in reversed(found.subdirectories))

    def _scan_new(self) -> None:
        pending = list(self.directories)
        order: list[bytes] = []
        while pending and len(order) < _DIRECTORIES_LIMIT:
            path = pending.pop()
            self.scanner.leaders = Leaders()
            try:
                found = self.scanner.scan(path)
            except (OSError, BadInput):
                continue
            files = [entry for entry in found.entries if stat.S_ISREG(entry.mode)]
            self._known[path] = _Directory(
                found.digest, found.subdirectories, files, len(found.entries), found.content_bytes
            )
            order.append(path)
            pending.extend(join(path, name) for name in found.subdirectories)
        keys = _keys({path: self._known[path].digest for path in order})
        for path in sorted(order, key=walk_key, reverse=True):
            found_here = self._known[path]
            found_here.key = keys[path]
            for name in found_here.subdirectories:
                below = self._known.get(join(path, name))
                if below is None:
                    found_here.key = b""  # not all of it was looked at
                    continue
                found_here.entries += below.entries
                found_here.content_bytes += below.content_bytes
                if not below.key:
                    found_here.key = b""

    def _free(self, paths: list[bytes], name: bytes) -> bytes | None:
        """One that was not asked for yet, of the same name if there is one."""
        free = [path for path in paths if path not in self._used and not self._within_used(path)]
        return next((path for path in free if split(path)[1] == name), free[0] if free else None)

    def _within_used(self, path: bytes) -> bool:
        while path:
            path = split(path)[0]
            if path in self._gone:
                return True
        return False

    def _use(self, path: bytes) -> None:
        self._gone.add(path)
        while path:
            self._used.add(path)
            path = split(path)[0]

    # -- files

    def _list_orphans(self) -> None:
        """What is in orphaned directories that are not renamed as a whole: only names and digests were told."""
        if not self.files and not self._known:
            return
        wanted = [path for path in self._told if path not in self._gone and not self._within_used(path)]
        for paths in frames_of(wanted):
            self.inbox.want(paths)
            while (listing := self.inbox.listing(wait=True)) is not None:
                path, _, entries = listing
                for entry in entries:
                    self.orphan(join(path, entry.name), entry)

    def _files(self) -> Iterator[tuple[bytes, bytes]]:
        """New ones of which the target has an orphan that looks the same: new and old path."""
        if not self._orphans:
            return
        by_likeness: dict[_Likeness, list[bytes]] = {}
        for path, entry in self._orphans.items():
            by_likeness.setdefault(_likeness(entry), []).append(path)
        for path, entry in self._new_files():
            old = self._free(by_likeness.get(_likeness(entry), []), entry.name)
            if old is not None:
                self._use(old)
                yield path, old

    def _new_files(self) -> Iterator[tuple[bytes, Entry]]:
        yield from self.files.items()
        for path, found in self._known.items():
            if not _is_in(path, self._arrived):
                yield from ((join(path, entry.name), entry) for entry in found.files if entry.size and not entry.leader)


def _is_in(path: bytes, directories: set[bytes]) -> bool:
    while path:
        if path in directories:
            return True
        path = split(path)[0]
    return False


def _likeness(entry: Entry) -> _Likeness:
    return entry.size, entry.mtime_ns, entry.mode, entry.uid, entry.gid, entry.xattrs


def _keys(digests: dict[bytes, bytes]) -> dict[bytes, bytes]:
    """Of each directory one number for all that is in it and below, where all of that is among `digests`."""
    below: dict[bytes, list[tuple[bytes, bytes]]] = {}
    keys: dict[bytes, bytes] = {}
    for path in sorted(digests, key=walk_key, reverse=True):
        parent, name = split(path)
        inner = sorted(below.pop(path, []))
        keys[path] = key = xxh3_128_digest(b"".join((digests[path], *(name + b"/" + under for name, under in inner))))
        below.setdefault(parent, []).append((name, key))
    return keys
