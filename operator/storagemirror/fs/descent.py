"""Going down a tree and up again by descriptors, one name at a time: a step costs the same however deep it is."""

from __future__ import annotations

import os

from storagemirror.entry import join, split
from storagemirror.fs.tree import Tree

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Descent:
    """Where we stand: `path`, and `fd`, its descriptor. All of its methods raise OSError as `Tree.open_directory`."""

    def __init__(self, tree: Tree, path: bytes) -> None:
        self._tree = tree
        self.path = path
        self.fd = tree.open_directory(path)
        self._above: list[tuple[int, int]] = []

    def down(self, name: bytes) -> None:
        """Into the directory `name`."""
        found = os.fstat(self.fd)
        self._stand(self._tree.open_child(self.fd, name), join(self.path, name))
        self._above.append((found.st_dev, found.st_ino))

    def up(self) -> None:
        """Back to where we came down from. `..` is believed only where it is that directory; else (it was moved
        meanwhile) the path is opened anew from the root."""
        path, expected = split(self.path)[0], self._above.pop()
        try:
            above = os.open(b"..", _DIRECTORY, dir_fd=self.fd)
        except PermissionError:  # what may be read need not be searched
            above = self._tree.open_directory(path)
        found = os.fstat(above)
        if (found.st_dev, found.st_ino) != expected:
            os.close(above)
            above = self._tree.open_directory(path)
        self._stand(above, path)

    def _stand(self, fd: int, path: bytes) -> None:
        os.close(self.fd)
        self.fd, self.path = fd, path

    def close(self) -> None:
        """Let go."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def __enter__(self) -> Descent:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
