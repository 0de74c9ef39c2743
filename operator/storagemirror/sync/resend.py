"""Files that differ although nothing showed it: sent again whole, whatever the target has."""

from __future__ import annotations

import errno
import stat

from storagemirror.entry import split, walk_key
from storagemirror.sync.groups import LinkGroups
from storagemirror.sync.sender import Sender

_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ESTALE)


def resend(sender: Sender, groups: LinkGroups, paths: list[bytes]) -> None:
    """Send these, and link the other names of each again. What is gone is passed over: a change of its own."""
    touched: set[bytes] = set()
    done: set[int] = set()
    for path in sorted(paths, key=walk_key):
        try:
            found = sender.volume.lstat(path)
            if found is None or not stat.S_ISREG(found.st_mode) or found.st_ino in done:
                continue
            touched |= _one(sender, groups, path, found.st_ino if found.st_nlink > 1 else 0)
            if found.st_nlink > 1:
                done.add(found.st_ino)
        except OSError as e:
            if e.errno not in _GONE:
                sender.unreadable(path, e)  # it goes on to differ, and that is told
    for directory in sorted(touched, key=walk_key):
        try:
            sender.directory_attributes(directory)
        except OSError as e:
            if e.errno not in _GONE:
                raise
    sender.flush()


def _one(sender: Sender, groups: LinkGroups, path: bytes, inode: int) -> set[bytes]:
    """One file by all its names (`inode`: 0 where it has one); the directories that this touched."""
    names = groups.paths(inode) if inode else []
    leader, *others = names if path in names else [path]
    directory_path, name = split(leader)
    with sender.volume.directory(directory_path, sender.view, sender.report) as directory:
        sender.enter(directory_path, fresh=False)
        sender.entry(directory, name)
    sender.flush()
    touched = {directory_path}
    for other in others:
        found = sender.volume.lstat(other)
        if found is not None and found.st_ino == inode:
            sender.link(other, leader)
            touched.add(split(other)[0])
    return touched
