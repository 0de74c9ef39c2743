"""Changes as they come: each path is looked at as it is now, and that is what the target gets.

Small files are sent whole, without asking: that costs less than an answer takes, and is right where a file took the
place of another of the same size and time. What is large, a directory, or one of several names of a file is asked
about first: the answer may be that nothing is to be sent.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field

from storagemirror.entry import LOST_AND_FOUND, STATE_DIRECTORY, Entry, View, is_path, split, walk_key
from storagemirror.errors import ProtocolError
from storagemirror.fs.scan import Scanner
from storagemirror.fs.source import SourceVolume
from storagemirror.sync.decide import Verdict, judge
from storagemirror.sync.deltas import Deltas
from storagemirror.sync.groups import LinkGroups
from storagemirror.sync.inbox import Inbox
from storagemirror.sync.paths import frames_of
from storagemirror.sync.requests import Changes
from storagemirror.sync.sender import Sender
from storagemirror.wire import messages as m
from storagemirror.wire.frame import SMALL_FILE

_LOOK = 500
"""Paths in one question."""
_RENAMES = 15
"""In one frame: a path may have 64 KiB."""
_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ESTALE)


@dataclass(slots=True)
class LiveChanges:
    """Applies one set of changes."""

    inbox: Inbox
    sender: Sender
    scanner: Scanner
    groups: LinkGroups
    deltas: Deltas
    strangers: set[int] = field(default_factory=set)
    """Inodes that have more names than we know of: only a walk of everything finds the others."""
    strangers_known: set[int] = field(default_factory=set)
    """Of which a walk of everything did not find the others: they are outside of the volume's tree."""
    wait_for_links: bool = True
    """Do not send those: everything is compared right after this."""
    on_newer: Callable[[bytes], None] | None = None
    """Told of each file that is newer on the target, and is left there: so all files are asked about. None: none is."""
    _touched: set[bytes] = field(default_factory=set)
    _trees: set[bytes] = field(default_factory=set)
    _gone: list[bytes] = field(default_factory=list)
    _ask: list[bytes] = field(default_factory=list)

    def apply(self, changes: Changes) -> tuple[bytes, ...]:
        """Send what changed; returns the trees that must be compared: those asked for, and those that turned out to
        be new to the target."""
        renamed = {path for pair in changes.renames for path in pair}
        self._rename(changes.renames)
        for path in sorted(changes.paths | renamed | changes.trees, key=walk_key):
            if path and not _ours(path) and not self._left_out(path):
                self._path(path, tree=path in changes.trees, renamed=path in renamed)
            elif not path:
                self._touched.add(b"")
        self.sender.flush()
        self._delete()
        self._other_names({old for old, _ in changes.renames} | set(self._gone))
        self._look_all(self._ask)
        self._finish()
        return tuple(sorted(_outermost(self._trees), key=walk_key))

    def linked(self, inodes: set[int]) -> None:
        """Trees were compared, and files with several names were in them. What was done to these by a name in the tree
        shows at their other names, which the comparison did not look at."""
        self._look_all([names[0] for names in map(self.groups.paths, sorted(inodes)) if names])
        self._finish()

    def _other_names(self, gone: set[bytes]) -> None:
        """Only the name is told by which something was done: when it has gone since, the others are looked at."""
        lost = self.groups.within(gone)
        others = {other for name in lost for other in self.groups.lose(name)}
        self._ask.extend(sorted(others.difference(lost, self._ask)))

    def parents_of(self, trees: tuple[bytes, ...]) -> None:
        """Trees were compared: the directories they are in get their times back."""
        self._touched = {split(tree)[0] for tree in trees if tree}
        self._finish()

    def _rename(self, renames: tuple[tuple[bytes, bytes], ...]) -> None:
        if self.on_newer is not None:
            return  # what has the new name there may be newer
        pairs = [(old, new) for old, new in renames if self._may_rename(old) and self._may_rename(new)]
        if not pairs:
            return
        self.sender.flush()
        for at in range(0, len(pairs), _RENAMES):
            self.sender.channel.send(m.Rename(pairs[at : at + _RENAMES]))
        self._touched.update(split(path)[0] for pair in pairs for path in pair)

    def _may_rename(self, path: bytes) -> bool:
        return bool(path) and not _ours(path) and not self._left_out(path)

    def _left_out(self, path: bytes) -> bool:
        """Whether the rules leave it out. What was at a path that is gone may have been a file or a directory: the
        target, which knows, leaves it alone where that is left out. The time of the directory that it is in has changed
        all the same."""
        selection = self.sender.volume.selection
        if selection is None:
            return False
        parent = split(path)[0]
        if selection.leaves_out(parent, is_directory=True):
            return True
        try:
            found = self.sender.volume.lstat(path)
        except OSError:
            found = None
        kinds = (True, False) if found is None else (stat.S_ISDIR(found.st_mode),)
        if not all(selection.leaves_out(path, is_directory=is_directory) for is_directory in kinds):
            return False
        self._touched.add(parent)
        return True

    def _path(self, path: bytes, *, tree: bool, renamed: bool) -> None:
        parent, name = split(path)
        sender = self.sender
        try:
            found = sender.volume.lstat(path)
            if found is None:
                self._gone.append(self._topmost_gone(path))
                return
            if self.groups.inodes.get(path, found.st_ino) != found.st_ino:
                self._ask.extend(self.groups.lose(path))
            if stat.S_ISDIR(found.st_mode):
                if tree or renamed:
                    self._trees.add(path)
                else:
                    self._ask.append(path)
            elif found.st_nlink > 1 or (
                stat.S_ISREG(found.st_mode) and (found.st_size > SMALL_FILE or self.on_newer is not None)
            ):
                self._ask.append(path)
            else:
                with sender.volume.directory(parent, sender.view, sender.report) as directory:
                    sender.enter(parent, fresh=False)
                    sender.entry(directory, name)
            self._touched.add(parent)
        except OSError as e:
            if e.errno in _GONE:
                self._gone.append(self._topmost_gone(path))
            else:
                self._unreadable(path, e)

    def _topmost_gone(self, path: bytes) -> bytes:
        """Of a path that is gone: the directory with which it went, if it did."""
        parent = split(path)[0]
        while parent:
            if not self._is_gone(parent):
                break
            path, parent = parent, split(parent)[0]
        return path

    def _unreadable(self, path: bytes, error: OSError) -> None:
        self.sender.unreadable(path, error)

    def _delete(self) -> None:
        gone = sorted(_outermost(set(self._gone)), key=walk_key)
        # What is there after all (an ancestor that is another thing by now) is not deleted, but looked at.
        really = [path for path in gone if self._is_gone(path)]
        for paths in frames_of(really):
            self.sender.channel.send(m.Delete(paths))
        for path in gone:
            self.sender.unsettled.pop(path, None)
            self._touched.add(split(path)[0])
            if path not in really:
                self._path(path, tree=True, renamed=False)

    def _is_gone(self, path: bytes) -> bool:
        """Not there; where that cannot be found out it counts as there: nothing is deleted on a guess."""
        try:
            return self.sender.volume.lstat(path) is None
        except OSError as e:
            self._unreadable(path, e)
            return False

    # -- asked first

    def _look_all(self, paths: list[bytes]) -> None:
        for at in range(0, len(paths), _LOOK):
            self._look(paths[at : at + _LOOK])

    def _look(self, paths: list[bytes]) -> None:
        wanted = sorted({name for path in paths for name in self._names_of(path)}, key=walk_key)
        self.sender.flush()
        theirs: dict[bytes, Entry | None] = {}
        for part in frames_of(wanted):
            answer = self.inbox.look(part)
            if len(answer.entries) != len(part):
                raise ProtocolError(f"expected {len(part)} answers to a Look, got {len(answer.entries)}")
            theirs.update(zip(part, answer.entries, strict=True))
        for path in paths:
            try:
                self._compare(path, theirs)
            except OSError as e:
                if e.errno not in _GONE:
                    self._unreadable(path, e)

    def _names_of(self, path: bytes) -> list[bytes]:
        """`path`, and the other names of the file it is a name of."""
        lstat = self.sender.volume.tree.lstat
        found = lstat(path)
        if found is None or stat.S_ISDIR(found.st_mode) or found.st_nlink < 2:
            return [path]
        self.groups.leader(found.st_ino, path)
        for name in self.groups.paths(found.st_ino):
            other = lstat(name)
            if other is None or other.st_ino != found.st_ino:
                self.groups.forget(found.st_ino, name)
        names = self.groups.paths(found.st_ino)
        if len(names) < found.st_nlink and found.st_ino not in self.strangers_known:
            self.strangers.add(found.st_ino)
        return names

    def _compare(self, path: bytes, all_theirs: dict[bytes, Entry | None]) -> None:
        found = self.sender.volume.lstat(path)
        if found is None:
            return  # gone since: that is a change of its own
        if stat.S_ISDIR(found.st_mode):
            theirs = all_theirs.get(path)
            if theirs is None or not stat.S_ISDIR(theirs.mode):
                self._trees.add(path)
            else:
                self._touched.add(path)
            return
        if found.st_nlink > 1 and found.st_ino in self.strangers and self.wait_for_links:
            return
        names = self.groups.paths(found.st_ino) if found.st_nlink > 1 else [path]
        leader = names[0] if names else path
        self._one(leader, all_theirs.get(leader))
        if names[1:]:
            self._touched |= self.deltas.send()  # its other names follow it
        for name in names[1:]:
            if self._is_newer(name, found, all_theirs.get(name)):
                continue
            self.sender.link(name, leader)
            self._touched.add(split(name)[0])

    def _is_newer(self, path: bytes, found: os.stat_result, theirs: Entry | None) -> bool:
        """Whether a further name of a file is that of a newer one on the target."""
        if self.on_newer is None or theirs is None or not stat.S_ISREG(theirs.mode) or not stat.S_ISREG(found.st_mode):
            return False
        if theirs.mtime_ns <= found.st_mtime_ns:
            return False
        self.on_newer(path)
        return True

    def _one(self, path: bytes, theirs: Entry | None) -> None:
        parent, name = split(path)
        sender = self.sender
        with sender.volume.directory(parent, sender.view, sender.report) as directory:
            mine = self.scanner.look(directory.fd, parent, name)
            if mine is None:
                return
            verdict = judge(
                _alone(mine), _alone(theirs) if theirs is not None else None, spare_newer=self.on_newer is not None
            )
            if verdict is Verdict.NEWER and self.on_newer is not None:
                self.on_newer(path)
                return
            sender.enter(parent, fresh=False)
            if sender.flagging is not None and stat.S_ISREG(mine.mode):
                sender.flagging.look(directory.fd, parent, name)
            if verdict is Verdict.TOUCH:
                sender.touch(directory, name, directory.lstat(name))
            elif verdict is not Verdict.SAME and self.deltas.takes(mine, theirs):
                self.deltas.add(path, mine.size)
            elif verdict is not Verdict.SAME:
                sender.entry(directory, name)
            self._touched.add(parent)

    def _finish(self) -> None:
        self._touched |= self.deltas.send()
        for path in sorted(self._touched, key=walk_key):
            try:
                self.sender.directory_attributes(path)
            except OSError as e:
                if e.errno not in _GONE:
                    self._unreadable(path, e)
        self._touched = set()
        self.sender.flush()


def _alone(entry: Entry) -> Entry:
    """As if it were its file's only name."""
    return Entry(
        entry.name, entry.mode, entry.uid, entry.gid, entry.size, entry.mtime_ns, entry.content, b"", entry.xattrs
    )


def _ours(path: bytes) -> bool:
    """Whether a path is never mirrored."""
    return path.split(b"/", 1)[0] in (STATE_DIRECTORY, LOST_AND_FOUND) or not is_path(path)


def _outermost(paths: set[bytes]) -> set[bytes]:
    """Without those that are below others."""
    kept = set()
    for path in paths:
        parent = split(path)[0]
        while parent and parent not in paths:
            parent = split(parent)[0]
        if not parent:
            kept.add(path)
    return kept


def without_newer(
    inbox: Inbox, volume: SourceVolume, view: View, paths: list[bytes], on_newer: Callable[[bytes], None]
) -> list[bytes]:
    """Of these files those that are not newer on the target; `on_newer` is told of the others."""
    owed: list[bytes] = []
    for part in frames_of(paths):
        for path, theirs in zip(part, inbox.look(part).entries, strict=True):
            mine = volume.lstat(path)
            newer = (
                mine is not None
                and theirs is not None
                and stat.S_ISREG(theirs.mode)
                and theirs.mtime_ns > mine.st_mtime_ns - mine.st_mtime_ns % view.time_grain_ns
            )
            if newer:
                on_newer(path)
            else:
                owed.append(path)
    return owed
