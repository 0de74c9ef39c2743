"""Deleting trees by descriptors: through no symbolic link, into no other file system, however deep they are."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable

from storagemirror.entry import join, split
from storagemirror.fs.descent import Descent
from storagemirror.fs.tree import Tree, names_in


def count_entries(tree: Tree, path: bytes, forget: Callable[[bytes], bool]) -> int:
    """`path` and all that is below it, without what `forget` says true to; 0 when nothing is there."""
    found = tree.lstat(path)
    if found is None or not path:
        return 0
    count = 0 if forget(path) else 1
    if not stat.S_ISDIR(found.st_mode):
        return count
    try:
        here = Descent(tree, path)
    except OSError:
        return count  # gone, or somebody else's file system
    with here:
        left: list[list[bytes]] = []  # of each directory from `path` on: the subdirectories not looked at yet
        while True:
            subdirectories: list[bytes] = []
            for name, _, is_directory in names_in(here.fd):
                count += not forget(join(here.path, name))
                if is_directory:
                    subdirectories.append(name)
            left.append(subdirectories)
            while not _down(here, left[-1]):
                left.pop()
                if not left:
                    return count
                here.up()


def _down(here: Descent, names: list[bytes]) -> bool:
    """Into one of these, which is taken out; False when none of them can be entered."""
    while names:
        with contextlib.suppress(OSError):  # as above
            here.down(names.pop())
            return True
    return False


def remove_entry(tree: Tree, path: bytes, let_us_in: Callable[[int], None]) -> int:
    """Delete `path` with all that is below; how many entries went. OSError when something could not be deleted."""
    directory, name = split(path)
    try:
        fd = tree.open_directory(directory)
    except (FileNotFoundError, NotADirectoryError):
        return 0
    try:
        try:
            found = os.stat(name, dir_fd=fd, follow_symlinks=False)
        except FileNotFoundError:
            return 0
        if not stat.S_ISDIR(found.st_mode):
            os.unlink(name, dir_fd=fd)
            return 1
        return _remove_tree(tree, path, let_us_in)
    finally:
        os.close(fd)


def _remove_tree(tree: Tree, path: bytes, let_us_in: Callable[[int], None]) -> int:
    """Depth first, without recursion, and with two descriptors however deep it is."""
    count = 0
    directory, name = split(path)
    with Descent(tree, directory) as here:
        left = [[name]]  # of the directory above `path`, and of each from there on: the subdirectories that must go yet
        entered: list[bytes] = []
        while True:
            if left[-1]:
                entered.append(left[-1].pop())
                here.down(entered[-1])
                let_us_in(here.fd)
                left.append([])
                for name, _, is_directory in names_in(here.fd):
                    if is_directory:
                        left[-1].append(name)
                    else:
                        with contextlib.suppress(FileNotFoundError):
                            os.unlink(name, dir_fd=here.fd)
                            count += 1
                continue
            left.pop()
            if not entered:
                return count
            here.up()
            os.rmdir(entered.pop(), dir_fd=here.fd)
            count += 1


def in_the_way(error: OSError) -> bool:
    """Whether an entry could not be put because a directory has its name, or no directory is where one must be."""
    return error.errno in (errno.EISDIR, errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR)
