"""What of a volume is kept aside, entry by entry.

At the first attempt everything that deviates. A later attempt of the same epoch finds what an earlier one restored:
that deviates as well, and is ours. It is told by the change time of the inode, which nobody can set: what was not
changed since our own last sync of the volume (`Synced.at_ns`) is ours, what was changed since may be somebody's, and is
kept. Its limits: what we wrote after that sync, because the session was killed, or in the second before it (clocks of
file servers differ), is kept too; what somebody changed before it, while we were mirroring, is not; and a clock that
was set back since makes what is younger look older. A directory that the manifest does not have is looked through: of
it only what is younger is kept. Deletions are not counted again.
"""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass, field

from storagemirror.entry import Entry, View, is_path, join, printable, split
from storagemirror.errors import VolumeError
from storagemirror.fs.aside import Aside
from storagemirror.fs.manifest import scanner, without_time
from storagemirror.fs.scan import Scanner
from storagemirror.fs.target import TargetVolume

_NONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EXDEV)


@dataclass(slots=True)
class Here:
    """A directory as it is on this volume; `fd` is -1 where there is none."""

    path: bytes
    fd: int = -1
    foreign: bool = False
    """Another file system is mounted there, or above."""
    attributes: bytes = b""
    """Digest of its own, without its time."""
    entries: list[Entry] = field(default_factory=list)
    hidden: frozenset[bytes] = frozenset()
    """Names on which another file system is mounted."""
    at: int = 0
    """The first entry that has not been compared."""
    last: bytes = b""
    """The last name that was told."""

    def subdirectories(self) -> list[bytes]:
        """Paths of those that can be told, in order."""
        paths = (join(self.path, entry.name) for entry in self.entries if stat.S_ISDIR(entry.mode))
        return [path for path in paths if is_path(path)]

    def close(self) -> None:
        """Let go of it."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class Apart:
    """Of one pass. `look_with` comes first."""

    def __init__(self, volume: TargetVolume, epoch: int, ours_before_ns: int | None) -> None:
        """`ours_before_ns`: an earlier attempt restored; what was not changed since then is ours. None: none did."""
        self._volume = volume
        self._ours_before_ns = ours_before_ns
        self._scanner: Scanner | None = None
        self.aside = Aside(volume, epoch)

    def close(self) -> None:
        """Let go of everything."""
        self.aside.close()

    def look_with(self, view: View) -> None:
        """How the source looked."""
        self._scanner = scanner(self._volume.tree, view, selection=self._volume.selection)

    @property
    def view(self) -> View:
        """How the source looked."""
        return self._looks().view

    def _looks(self) -> Scanner:
        if self._scanner is None:
            raise AssertionError("look_with comes first")
        return self._scanner

    def look(self, path: bytes) -> Here:
        """As it is here. Where it cannot be opened because it is none, or somebody else's, nothing is. `VolumeError`
        NotKeptAside where we may not. OSError."""
        try:
            fd = self._volume.tree.open_directory(path)
        except PermissionError as e:
            raise VolumeError(
                f"cannot look into {printable(path)} for what only this side has: {e.strerror}",
                reason="NotKeptAside",
                hint="Let the agent's user read it, or set spec.agents.privilege to Baseline.",
            ) from e
        except OSError as e:
            if e.errno not in _NONE:
                raise
            return Here(path, foreign=e.errno == errno.EXDEV)
        try:
            found = self._looks().scan(path)
        except BaseException:
            os.close(fd)
            raise
        attributes = without_time(found.own, self.view)
        return Here(path, fd, attributes=attributes, entries=found.entries, hidden=frozenset(found.hidden))

    def is_somebodys(self, found: os.stat_result) -> bool:
        """Whether what deviates is not ours."""
        return self._ours_before_ns is None or found.st_ctime_ns >= self._ours_before_ns

    # -- keeping

    def keep_up_to(self, here: Here, name: bytes | None) -> None:
        """What is here before `name` the source does not know; None: all that is left."""
        while here.at < len(here.entries) and (name is None or here.entries[here.at].name < name):
            self.keep(here, here.entries[here.at])
            here.at += 1

    def keep(self, here: Here, entry: Entry) -> None:
        """This deviates."""
        if self._ours_before_ns is None:
            self.aside.keep(here.fd, here.path, entry.name)
        elif stat.S_ISDIR(entry.mode):
            self._keep_within(join(here.path, entry.name))
        else:
            self._keep_younger(here, entry.name)

    def _keep_younger(self, here: Here, name: bytes) -> None:
        try:
            found = os.stat(name, dir_fd=here.fd, follow_symlinks=False)
        except FileNotFoundError:
            return
        if self.is_somebodys(found):
            self.aside.keep(here.fd, here.path, name)

    def _keep_within(self, top: bytes) -> None:
        """Of a directory that the source does not know: what is younger, and itself when it is empty and younger."""
        stack = [top]
        while stack:
            here = self.look(stack.pop())
            try:
                stack.extend(reversed(here.subdirectories()))
                for entry in here.entries:
                    if not stat.S_ISDIR(entry.mode):
                        self._keep_younger(here, entry.name)
                if here.fd >= 0 and not here.entries and self.is_somebodys(os.fstat(here.fd)):
                    self._keep_empty(here.path)
            finally:
                here.close()

    def _keep_empty(self, path: bytes) -> None:
        directory, name = split(path)
        fd = self._volume.tree.open_directory(directory)
        try:
            self.aside.keep(fd, directory, name)
        finally:
            os.close(fd)
