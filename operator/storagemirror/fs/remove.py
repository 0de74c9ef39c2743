"""Deleting trees by descriptors: through no symbolic link, into no other file system, however deep they are."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field

from storagemirror.entry import join, split
from storagemirror.fs.descent import Descent
from storagemirror.fs.selection import Selection
from storagemirror.fs.tree import Tree, names_in


def count_entries(tree: Tree, path: bytes, forget: Callable[[bytes], bool], selection: Selection | None = None) -> int:
    """`path` and all that is below it, without what `forget` says true to, and without what `selection` leaves out and
    the directories that lead to that; 0 when nothing is there."""
    found = tree.lstat(path)
    if found is None or not path:
        return 0
    if selection is not None and selection.leaves_out(path, is_directory=stat.S_ISDIR(found.st_mode)):
        return 0
    count = 0 if forget(path) else 1
    if not stat.S_ISDIR(found.st_mode):
        return count
    try:
        here = Descent(tree, path)
    except OSError:
        return count  # gone, or somebody else's file system
    with here:
        # Of each directory from `path` on: the subdirectories not looked at yet, with what they count; what it counts
        # itself, and whether something that stays is in it.
        left: list[_Level] = []
        own = count
        while True:
            level = _Level(own)
            for name, _, is_directory in names_in(here.fd):
                if selection is not None and selection.excludes(here.path, name, is_directory=is_directory):
                    level.needed = True
                    continue
                counts = not forget(join(here.path, name))
                count += counts
                if is_directory:
                    level.names.append((name, int(counts)))
            left.append(level)
            while (entered := _down(here, left[-1].names)) is None:
                done = left.pop()
                count -= done.counted if done.needed else 0
                if not left:
                    return count
                left[-1].needed |= done.needed
                here.up()
            own = entered


@dataclass(slots=True)
class _Level:
    """A directory that is gone through."""

    counted: int = 0
    names: list[tuple[bytes, int]] = field(default_factory=list)
    """Subdirectories that are not gone through yet."""
    needed: bool = False
    """Something that stays is in it."""


def _down(here: Descent, names: list[tuple[bytes, int]]) -> int | None:
    """Into one of these, which is taken out: what it counts; None when none of them can be entered."""
    while names:
        name, counted = names.pop()
        with contextlib.suppress(OSError):  # as above
            here.down(name)
            return counted
    return None


def _nothing(path: bytes) -> None:
    """Nobody asks."""


def remove_entry(
    tree: Tree,
    path: bytes,
    let_us_in: Callable[[int], None],
    selection: Selection | None = None,
    touch: Callable[[bytes], None] = _nothing,
) -> int:
    """Delete `path` with all that is below; how many entries went. What `selection` leaves out stays, and the
    directories that lead to it. `touch` is told of each before it is changed. OSError when something could not be
    deleted."""
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
        is_directory = stat.S_ISDIR(found.st_mode)
        if selection is not None and selection.leaves_out(path, is_directory=is_directory):
            return 0
        if not is_directory:
            touch(path)
            os.unlink(name, dir_fd=fd)
            return 1
        return _remove_tree(tree, path, let_us_in, selection, touch)
    finally:
        os.close(fd)


def _remove_tree(
    tree: Tree,
    path: bytes,
    let_us_in: Callable[[int], None],
    selection: Selection | None,
    touch: Callable[[bytes], None],
) -> int:
    """Depth first, without recursion, and with two descriptors however deep it is."""
    count = 0
    directory, name = split(path)
    with Descent(tree, directory) as here:
        # Of the directory above `path`, and of each from there on: the subdirectories that must go yet.
        left = [_Level(names=[(name, 1)])]
        entered: list[bytes] = []
        while True:
            if left[-1].names:
                entered.append(left[-1].names.pop()[0])
                here.down(entered[-1])
                touch(here.path)
                let_us_in(here.fd)
                left.append(_Level())
                for name, _, is_directory in names_in(here.fd):
                    if selection is not None and selection.excludes(here.path, name, is_directory=is_directory):
                        left[-1].needed = True
                    elif is_directory:
                        left[-1].names.append((name, 1))
                    else:
                        touch(join(here.path, name))
                        with contextlib.suppress(FileNotFoundError):
                            os.unlink(name, dir_fd=here.fd)
                            count += 1
                continue
            needed = left.pop().needed
            if not entered:
                return count
            here.up()
            name = entered.pop()
            if needed:
                left[-1].needed = True
            else:
                touch(join(here.path, name))
                os.rmdir(name, dir_fd=here.fd)
                count += 1


def in_the_way(error: OSError) -> bool:
    """Whether an entry could not be put because a directory has its name, or no directory is where one must be."""
    return error.errno in (errno.EISDIR, errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR)
