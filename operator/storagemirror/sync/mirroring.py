"""One comparison of a source with its target, and sending what differs.

Both sides walk at the same time, in the same order. The target tells one digest for each directory; where it is the
source's too, nothing more is said. Where the target has no such directory everything in it is sent at once. Where
digests differ, the directory is listed, and each entry decided (`storagemirror.sync.decide`). Nobody waits for an
answer: listings that were asked for are dealt with when they have come.

Then, in this order: hard links; what is to be deleted (told first and counted by the target's guard, only then done);
what had to wait for a directory to make way; files that were not at rest; the attributes of the directories that were
touched by all that.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from storagemirror.clock import Clock
from storagemirror.entry import LOST_AND_FOUND, STATE_DIRECTORY, Entry, NotKeptKind, join, split, walk_key
from storagemirror.errors import BadInput, VolumeError
from storagemirror.fs.marker import marker_beneath
from storagemirror.fs.scan import Scanned, Scanner
from storagemirror.fs.source import SourceDirectory
from storagemirror.sync.decide import Decision, Verdict, decide
from storagemirror.sync.deltas import Deltas
from storagemirror.sync.drift import Drift
from storagemirror.sync.groups import LinkGroups
from storagemirror.sync.inbox import Inbox
from storagemirror.sync.paths import frames_of
from storagemirror.sync.renamed import Renamed
from storagemirror.sync.sender import Sender
from storagemirror.sync.settler import Settler
from storagemirror.wire import messages as m
from storagemirror.wire.frame import SMALL_FILE

_PENDING_DIRECTORIES = 256
_PENDING_ENTRIES = 100_000
_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ESTALE)


@dataclass(slots=True)
class Found:
    """What the walk saw on the source."""

    entries: int = 0
    bytes: int = 0


@dataclass(slots=True)
class Comparison:
    """One run. `found` and the sender's counts tell what came of it."""

    inbox: Inbox
    sender: Sender
    scanner: Scanner
    groups: LinkGroups
    clock: Clock
    has_entries: bool
    """False: the target has nothing; it is not asked."""
    deltas: Deltas
    on_failed: Callable[[m.Failed], None]
    """Told of each entry that the target could not write."""
    on_newer: Callable[[bytes], None] | None = None
    """Told of each file that is newer on the target, and is left there; None: none is."""
    renamed: Renamed | None = None
    """Finds what was renamed; None: everything new is sent."""
    drift: Drift | None = None
    """Told of each entry that differs; None: nobody asks which side changed it."""
    found: Found = field(default_factory=Found)
    full: bool = False
    """The target has no room left: no more content is sent, the rest goes on."""
    doomed: list[bytes] = field(default_factory=list)
    _pending: dict[bytes, tuple[Scanned, int]] = field(default_factory=dict)
    _pending_entries: int = 0
    _wants: list[bytes] = field(default_factory=list)
    _links: dict[bytes, bytes] = field(default_factory=dict)
    _resent: set[int] = field(default_factory=set)
    _waiting: list[bytes] = field(default_factory=list)
    _resumed: bytes = b""
    """Path of a file that was sent before the walk."""
    _touched: set[bytes] = field(default_factory=set)
    _stack: list[tuple[bytes, bool]] = field(default_factory=list)

    def run(self, scopes: tuple[bytes, ...]) -> None:
        """Compare and send everything below `scopes`, deletions included. Raises what the target raises."""
        if scopes == (b"",):
            self._resume()
        for scope in sorted(scopes, key=walk_key, reverse=True):
            self._stack.append((scope, not self.has_entries))
        self._walk()
        self.inbox.finish_digests()
        if self.renamed is not None:
            self._move(self.renamed)
        self._touched |= self.deltas.send()
        self._send_links()
        self._delete()
        self._send_waiting()
        if not self.full:
            Settler(self.sender, self.clock, self.deltas).settle()
        self._finish_touched()
        if self.sender.flagging is not None:
            self.sender.flagging.tell()
        self.sender.flush()

    # -- the walk

    def _walk(self) -> None:
        while True:
            while self._stack:
                path, absent = self._stack.pop()
                self._directory(path, absent=absent)
                many = len(self._pending) >= _PENDING_DIRECTORIES or self._pending_entries > _PENDING_ENTRIES
                self._listings(wait=many)
                if self.deltas.many:
                    self._touched |= self.deltas.send()
            self._ask()
            while self._pending:
                self._listings(wait=True)
            if not self._stack:
                return

    def _directory(self, path: bytes, *, absent: bool) -> None:
        theirs = None if absent else self.inbox.digest(path)
        try:
            if theirs is None:
                if self.renamed is not None and not absent and path:
                    self.renamed.directories.append(path)
                elif not self.full:
                    self._send_new(path)
                return
            mine = self.scanner.scan(path)
        except OSError as e:
            self._unreadable(path, e)
            return
        except BadInput:
            self.sender.report(NotKeptKind.NAME, path)  # a path longer than we carry
            return
        self._push(path, mine.subdirectories, absent=False)
        self.found.entries += len(mine.entries)
        self.found.bytes += mine.content_bytes
        if mine.changed:
            try:
                self._look_at_flags(mine)
            except OSError as e:
                self._unreadable(path, e)  # it went since it was scanned; what is in it is found out below
        if mine.digest == theirs.digest:
            self.sender.sent(len(mine.entries), mine.content_bytes)
            return
        weight = len(mine.entries) + theirs.entries
        self._pending[path] = mine, weight
        self._pending_entries += weight
        self._wants.append(path)
        if len(self._wants) >= 64 or len(self._pending) == 1:
            self._ask()

    def _look_at_flags(self, mine: Scanned) -> None:
        flagging = self.sender.flagging
        if flagging is None:
            return
        with self.sender.volume.directory(mine.path, self.sender.view, self.sender.report) as directory:
            for name in mine.changed:
                if name:
                    flagging.look(directory.fd, mine.path, name)
                else:
                    flagging.seen(mine.path, directory.fd)

    def _push(self, path: bytes, names: list[bytes], *, absent: bool) -> None:
        self._stack.extend((join(path, name), absent) for name in reversed(names))

    def _unreadable(self, path: bytes, error: OSError) -> None:
        if not path:
            raise VolumeError(f"the source cannot be read: {error.strerror}", reason="SourceNotReadable") from error
        if error.errno in _GONE:
            return  # gone since its parent was read: that moved the parent's time, which the next look sees
        self.sender.unreadable(path, error)

    def _ask(self) -> None:
        for paths in frames_of(self._wants):
            self.inbox.want(paths)
        self._wants = []

    # -- a directory that the target does not have

    def _send_new(self, path: bytes) -> None:
        sender = self.sender
        with sender.volume.directory(path, sender.view, sender.report) as directory:
            sender.enter(path, fresh=True)
            subdirectories: list[bytes] = []
            simply = self.renamed is None or not self.renamed.done
            plain = sender.plain_files(directory) if simply and not (self.full or self._resumed) else None
            for name, is_file, is_directory in directory.names():
                if plain is not None and is_file and path and (found := sender.plain(plain, path, name)) is not None:
                    self.found.entries += 1
                    self.found.bytes += found.st_size
                    continue
                if not path and name in (STATE_DIRECTORY, LOST_AND_FOUND):
                    if name == STATE_DIRECTORY and marker_beneath(directory.fd) is None:
                        sender.report(NotKeptKind.RESERVED_NAME, name)
                    continue
                try:
                    if self.renamed is not None and join(path, name) in self.renamed.done:
                        self.found.entries += 1
                        self.found.bytes += 0 if is_directory else directory.lstat(name).st_size
                        continue
                    self._new_entry(directory, name, is_file, is_directory, subdirectories)
                except OSError as e:
                    self._unreadable(join(path, name), e)
            sender.leave(directory.attributes())
            if sender.flagging is not None:
                sender.flagging.seen(path, directory.fd)
        self._push(path, subdirectories, absent=True)
        self._reports()

    def _new_entry(
        self, directory: SourceDirectory, name: bytes, is_file: bool, is_directory: bool, subdirectories: list[bytes]
    ) -> None:
        if is_file:
            if self.full:
                return
            found, leader = self._new_file(directory, name)
            if leader:
                self._links[join(directory.path, name)] = leader
                self.sender.sent(1, 0)
        else:
            path = join(directory.path, name)
            found = directory.lstat(name)
            if directory.is_foreign(found):
                self.sender.report(NotKeptKind.OTHER_FILE_SYSTEM, path)
                return
            if is_directory:
                subdirectories.append(name)
                self.sender.child(name)
            elif found.st_nlink > 1 and (leader := self.groups.leader(found.st_ino, path)):
                self._links[path] = leader
            else:
                self.sender.special(directory, name, found)
        self.found.entries += 1
        self.found.bytes += found.st_size if stat.S_ISREG(found.st_mode) else 0

    def _new_file(self, directory: SourceDirectory, name: bytes) -> tuple[os.stat_result, bytes]:
        if self._resumed and self._resumed == join(directory.path, name):
            return directory.lstat(name), b""
        return self.sender.file(directory, name, self.groups.leader)

    def _resume(self) -> None:
        """Before all else: the file of which something has come before. What is sent later may break off, too, and the
        target keeps one such file."""
        path, self.deltas.partial = self.deltas.partial, b""
        volume = self.sender.volume
        if not path or not self.deltas.able or volume.selection is not None:
            return
        try:
            found = volume.lstat(path)
        except OSError:
            return
        if found is None or not stat.S_ISREG(found.st_mode) or found.st_nlink != 1 or found.st_size <= SMALL_FILE:
            return
        self.deltas.add(path, min(found.st_size, self.deltas.partial_size))
        self.deltas.finds_moved = False
        self._touched |= self.deltas.send()
        self.deltas.finds_moved = True
        self._resumed = path

    # -- a directory that differs

    def _listings(self, *, wait: bool) -> None:
        if wait:
            self._ask()
        while (listing := self.inbox.listing(wait=wait)) is not None:
            wait = False
            path, attributes, entries = listing
            mine, weight = self._pending.pop(path)
            self._pending_entries -= weight
            if attributes is None:
                self._stack.append((path, True))  # the target lost it meanwhile
                continue
            try:
                self._send_differences(mine, attributes, entries)
            except OSError as e:
                self._unreadable(path, e)
        self._reports()

    def _send_differences(self, mine: Scanned, attributes: bytes, entries: list[Entry]) -> None:
        sender = self.sender
        changed = attributes != mine.attributes
        with sender.volume.directory(mine.path, sender.view, sender.report) as directory:
            sender.enter(mine.path, fresh=False)
            for decision in decide(mine.entries, entries, spare_newer=self.on_newer is not None):
                if decision.verdict is Verdict.SAME:
                    if decision.source is not None:
                        sender.sent(1, decision.source.size)
                    continue
                if decision.verdict is Verdict.DELETE and decision.name in mine.hidden:
                    continue
                path = join(mine.path, decision.name)
                if decision.verdict is Verdict.NEWER and self.on_newer is not None:
                    self.on_newer(path)
                    sender.sent(1, 0)
                    continue
                changed = True
                if self.drift is not None:
                    self.drift.consider(directory, decision, path)
                try:
                    self._carry_out(directory, decision, path)
                except OSError as e:
                    self._unreadable(path, e)
            if changed:
                sender.leave(directory.attributes())

    def _carry_out(self, directory: SourceDirectory, decision: Decision, path: bytes) -> None:
        sender = self.sender
        name, entry = decision.name, decision.source
        match decision.verdict:
            case Verdict.DELETE:
                self.doomed.append(path)
                if self.renamed is not None:
                    self.renamed.orphan(path, decision.target)
            case Verdict.MAKE_WAY:
                self.doomed.append(path)
                self._waiting.append(path)
            case Verdict.DIRECTORY:
                if self.renamed is None:
                    sender.child(name)
            case Verdict.LINK if entry is not None:
                self._links[path] = entry.leader
            case Verdict.TOUCH:
                sender.touch(directory, name, directory.lstat(name))
            case _:
                if self.full or self._keeps_back(path, decision):
                    return
                if self.deltas.takes(entry, decision.target):
                    found = directory.lstat(name)
                    self.deltas.add(path, found.st_size)
                else:
                    found = sender.entry(directory, name)
                if found.st_nlink > 1:
                    self._resent.add(found.st_ino)

    def _keeps_back(self, path: bytes, decision: Decision) -> bool:
        """Whether a new file is not to be sent before all is compared: the target may have it under another name."""
        entry = decision.source
        if self.renamed is None or entry is None or decision.target is not None:
            return False
        return self.renamed.keep_back(path, entry)

    # -- after the walk

    def _move(self, renamed: Renamed) -> None:
        """Have renamed what was; send the rest of what was kept back."""
        self.sender.flush()
        renamed.find(self.doomed)
        self.found.entries += renamed.entries
        self.found.bytes += renamed.content_bytes
        self.sender.sent(len(renamed.done) + renamed.entries, renamed.content_bytes)
        gone = set(renamed.done.values())
        self.doomed = [path for path in self.doomed if path not in gone]
        self._touched.update(split(path)[0] for pair in renamed.done.items() for path in pair)
        for parent, names in _by_directory([*renamed.files, *renamed.directories]):
            try:
                self._send_kept_back(parent, [name for name in names if join(parent, name) not in renamed.done])
            except OSError as e:
                self._unreadable(parent, e)
        self._walk()

    def _send_kept_back(self, parent: bytes, names: list[bytes]) -> None:
        sender = self.sender
        if not names:
            return
        self._touched.add(parent)
        with sender.volume.directory(parent, sender.view, sender.report) as directory:
            sender.enter(parent, fresh=False)
            for name in names:
                try:
                    found = directory.lstat(name)
                    if stat.S_ISDIR(found.st_mode):
                        sender.child(name)
                        self._stack.append((join(parent, name), True))
                    elif not self.full and sender.entry(directory, name).st_nlink > 1:
                        self._resent.add(found.st_ino)
                except OSError as e:
                    self._unreadable(join(parent, name), e)
        self._reports()

    def _send_links(self) -> None:
        """A leader that was sent anew is another inode on the target: its other names follow it."""
        for inode in self._resent:
            leader, *others = self.groups.paths(inode) or [b""]
            for path in others:
                self._links[path] = leader
        if self.full:
            return
        for path in sorted(self._links, key=walk_key):
            self.sender.link(path, self._links[path])
            self._touched.add(split(path)[0])

    def _delete(self) -> None:
        """Tell all, wait for the guard's word, then delete."""
        if not self.doomed:
            return
        self.sender.flush()
        channel = self.sender.channel
        self.sender.volume.check_identity()
        waiting = set(self._waiting)
        orphans = [path for path in self.doomed if path not in waiting]
        frames = [(paths, False) for paths in frames_of(orphans)]
        frames += [(paths, True) for paths in frames_of(self._waiting)]
        for number, (paths, in_the_way) in enumerate(frames, 1):
            channel.send(m.Doomed(paths, number == len(frames), self.found.entries, in_the_way))
        self.inbox.cleared()
        for paths, in_the_way in frames:
            channel.send(m.Delete(paths, in_the_way))
        self._touched.update(split(path)[0] for path in self.doomed)

    def _send_waiting(self) -> None:
        for path in self._waiting:
            parent, name = split(path)
            sender = self.sender
            try:
                with sender.volume.directory(parent, sender.view, sender.report) as directory:
                    sender.enter(parent, fresh=False)
                    found = directory.lstat(name)
                    leader = self.groups.leader(found.st_ino, path) if found.st_nlink > 1 else b""
                    if leader:
                        sender.link(path, leader)
                    elif not stat.S_ISDIR(found.st_mode):
                        sender.entry(directory, name)
            except OSError as e:
                self._unreadable(path, e)

    def _finish_touched(self) -> None:
        for path in sorted(self._touched, key=walk_key):
            try:
                self.sender.directory_attributes(path)
            except OSError as e:
                self._unreadable(path, e)

    def _reports(self) -> None:
        self.inbox.check()
        for report in self.inbox.reports():
            if isinstance(report, m.NotKept):
                self.sender.report(report.kind, report.path)
                continue
            self.on_failed(report)
            if report.reason is m.FailureReason.FULL:
                self.full = True


def _by_directory(paths: list[bytes]) -> Iterator[tuple[bytes, list[bytes]]]:
    """The names in each directory, in the order of the walk."""
    found: dict[bytes, list[bytes]] = {}
    for path in sorted(paths, key=walk_key):
        parent, name = split(path)
        found.setdefault(parent, []).append(name)
    yield from found.items()
