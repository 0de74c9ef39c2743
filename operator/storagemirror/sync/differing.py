"""One comparison of a source with its target that sends nothing: what differs, and how.

Both sides walk as in a mirror (`storagemirror.sync.mirroring`): a digest for each directory, listings where they
differ. Content is not read here: a file of equal size and time is not told, whatever is in it.
"""

from __future__ import annotations

import errno
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from storagemirror.entry import Entry, NotKeptKind, join
from storagemirror.errors import BadInput, VolumeError
from storagemirror.fs.scan import Scanned, Scanner
from storagemirror.sync.channel import Channel
from storagemirror.sync.inbox import Inbox
from storagemirror.sync.mirroring import Found
from storagemirror.sync.paths import frames_of
from storagemirror.wire import messages as m

_PENDING_DIRECTORIES = 256
_PENDING_ENTRIES = 100_000
_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ESTALE)


class How(StrEnum):
    """In what an entry differs."""

    ONLY_HERE = "onlyHere"
    """The target does not have it (nor anything that is in it)."""
    ONLY_THERE = "onlyThere"
    """The source does not have it."""
    TYPE = "type"
    SIZE = "size"
    CONTENT = "content"
    """Of a symbolic link where it leads, of a device its number."""
    TIME = "time"
    MODE = "mode"
    OWNER = "owner"
    XATTRS = "xattrs"
    """Extended attributes, ACLs and file capabilities."""
    LINKS = "links"
    """Names that are one file on one side are several on the other."""
    UNREADABLE = "unreadable"
    """One side cannot read it, so that nobody knows."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One path, and in what it differs."""

    path: bytes
    how: frozenset[How]


def how(mine: Entry | None, theirs: Entry | None) -> frozenset[How]:
    """In what two entries of one name differ, as far as entries tell; empty: in nothing. Pure."""
    if mine is None or theirs is None:
        if mine is theirs:
            return frozenset()
        return frozenset({How.ONLY_THERE if mine is None else How.ONLY_HERE})
    if stat.S_IFMT(mine.mode) != stat.S_IFMT(theirs.mode):
        return frozenset({How.TYPE})
    told = (
        (How.LINKS, mine.leader, theirs.leader),
        (How.SIZE, mine.size, theirs.size),
        (How.CONTENT, mine.content, theirs.content),
        (How.TIME, mine.mtime_ns, theirs.mtime_ns),
        (How.MODE, mine.mode, theirs.mode),
        (How.OWNER, (mine.uid, mine.gid), (theirs.uid, theirs.gid)),
        (How.XATTRS, mine.xattrs, theirs.xattrs),
    )
    return frozenset(kind for kind, one, other in told if one != other)


@dataclass(slots=True)
class Differing:
    """One run."""

    inbox: Inbox
    channel: Channel
    scanner: Scanner
    welcome: m.Welcome
    tell: Callable[[Difference], None]
    """Of a directory only one side has, what is in it is not told. One whose own attributes differ is told with no
    `how`: they are to be looked at."""
    found: Found = field(default_factory=Found)
    absent: Callable[[Scanned], None] | None = None
    """Told of each directory that the target does not have; what is in it is gone through then."""
    listed: Callable[[Scanned, bytes, list[Entry]], None] | None = None
    """Told of both sides of each directory that differs, in place of `tell`."""
    doomed: list[tuple[bytes, bool]] = field(default_factory=list)
    """What a mirror would delete, and whether it is in the way of something: the target counts it at the end."""
    cleared: int = 0
    """Entries that would go."""
    answer: m.Mirrored = field(default_factory=lambda: m.Mirrored(0, 0))
    _stack: list[bytes] = field(default_factory=list)
    _pending: dict[bytes, tuple[Scanned, int]] = field(default_factory=dict)
    _pending_entries: int = 0
    _wants: list[bytes] = field(default_factory=list)

    def run(self) -> Found:
        """Compare everything; what the source has."""
        self.inbox.expect_mirror(digests=True)
        self.channel.send(m.Mirror(self.welcome.view, (b"",), True))
        self._stack.append(b"")
        while self._stack:
            self._directory(self._stack.pop())
            self._listings(wait=len(self._pending) >= _PENDING_DIRECTORIES or self._pending_entries > _PENDING_ENTRIES)
        self._ask()
        while self._pending:
            self._listings(wait=True)
        self.inbox.finish_digests()
        self._count_doomed()
        # Not a full one: it is no comparison after which the copy is whole.
        self.channel.send(m.MirrorEnd(self.found.entries, False))
        self.answer = self.inbox.mirrored()
        return self.found

    def _count_doomed(self) -> None:
        frames = [
            (paths, in_the_way)
            for in_the_way in (False, True)
            for paths in frames_of([path for path, way in self.doomed if way is in_the_way])
        ]
        for number, (paths, in_the_way) in enumerate(frames, 1):
            self.channel.send(m.Doomed(paths, number == len(frames), self.found.entries, in_the_way))
        if frames:
            self.cleared = self.inbox.cleared().entries

    def _directory(self, path: bytes) -> None:
        theirs = self.inbox.digest(path)
        try:
            mine = self.scanner.scan(path)
        except OSError as e:
            if not path:
                raise VolumeError(f"the source cannot be read: {e.strerror}", reason="SourceNotReadable") from e
            if e.errno == errno.EXDEV:
                self.scanner.report(NotKeptKind.OTHER_FILE_SYSTEM, path)
            elif e.errno not in _GONE:
                self.tell(Difference(path, frozenset({How.UNREADABLE})))
            return
        except BadInput:
            self.scanner.report(NotKeptKind.NAME, path)
            return
        if theirs is None and self.absent is not None:
            self._stack.extend(join(path, name) for name in reversed(mine.subdirectories))
            self.found.entries += len(mine.entries)
            self.found.bytes += mine.content_bytes
            self.absent(mine)
            return
        if theirs is None:
            # It is no directory there, which is told with the directory above; or it cannot be read.
            self.tell(Difference(path, frozenset()))
            return
        self._stack.extend(join(path, name) for name in reversed(mine.subdirectories))
        self.found.entries += len(mine.entries)
        self.found.bytes += mine.content_bytes
        if mine.digest == theirs.digest:
            return
        weight = len(mine.entries) + theirs.entries
        self._pending[path] = mine, weight
        self._pending_entries += weight
        self._wants.append(path)
        if len(self._wants) >= 64 or len(self._pending) == 1:
            self._ask()

    def _ask(self) -> None:
        for paths in frames_of(self._wants):
            self.inbox.want(paths)
        self._wants = []

    def _listings(self, *, wait: bool) -> None:
        if wait:
            self._ask()
        while (listing := self.inbox.listing(wait=wait)) is not None:
            wait = False
            path, attributes, entries = listing
            mine, weight = self._pending.pop(path)
            self._pending_entries -= weight
            if self.listed is not None:
                self.listed(mine, attributes or b"", entries)
                continue
            if attributes is None:
                self.tell(Difference(path, frozenset()))  # gone, or unreadable, since
                continue
            if attributes != mine.attributes:
                self.tell(Difference(path, frozenset()))
            for difference in _differences(mine, entries):
                self.tell(difference)
        self.inbox.check()


def _differences(mine: Scanned, theirs: list[Entry]) -> Iterator[Difference]:
    there = {entry.name: entry for entry in theirs}
    for entry in mine.entries:
        other = there.pop(entry.name, None)
        kinds = how(entry, other)
        if entry.leader and other is not None and entry.leader == other.leader:
            kinds = frozenset()  # what a file's names share is told with the first of them
        if kinds:
            yield Difference(join(mine.path, entry.name), kinds)
    for name in there:
        if name not in mine.hidden:
            yield Difference(join(mine.path, name), frozenset({How.ONLY_THERE}))
