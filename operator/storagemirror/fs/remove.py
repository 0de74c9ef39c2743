"""Deleting trees by descriptors: through no symbolic link, into no other file system, however deep they are."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable

from storagemirror.entry import join, split
from storagemirror.fs.tree import Tree, names_in


def count_entries(tree: Tree, path: bytes, forget: Callable[[bytes], bool]) -> int:
    """`path` and all that is below it, without what `forget` says true to; 0 when nothing is there."""
    found = tree.lstat(path)
    if found is None or not path:
        return 0
    count = 0 if forget(path) else 1
    if not stat.S_ISDIR(found.st_mode):
        return count
    pending = [path]
    while pending:
        directory = pending.pop()
        try:
            fd = tree.open_directory(directory)
        except OSError:
            continue  # gone, or somebody else's file system
        try:
            for name, _, is_directory in names_in(fd):
                inner = join(directory, name)
                count += not forget(inner)
                if is_directory:
                    pending.append(inner)
        finally:
            os.close(fd)
    return count


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
    """Depth first, without recursion. Each directory is opened anew from the root, so that depth costs no
    descriptors."""
    count = 0
    pending: list[tuple[bytes, bool]] = [(path, False)]
    while pending:
        directory, emptied = pending.pop()
        if emptied:
            parent, name = split(directory)
            fd = tree.open_directory(parent)
            try:
                os.rmdir(name, dir_fd=fd)
                count += 1
            finally:
                os.close(fd)
            continue
        fd = tree.open_directory(directory)
        try:
            let_us_in(fd)
            pending.append((directory, True))
            for name, _, is_directory in names_in(fd):
                if is_directory:
                    pending.append((join(directory, name), False))
                else:
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(name, dir_fd=fd)
                        count += 1
        finally:
            os.close(fd)
    return count


def in_the_way(error: OSError) -> bool:
    """Whether an entry could not be put because a directory has its name, or no directory is where one must be."""
    return error.errno in (errno.EISDIR, errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR)
