"""Comparing files by checksum, in slices, beside the changes that go on.

Both sides read at the same time: the target is asked for the next lists while the source reads its own. A file whose
sums differ is looked at once more, after what changed meanwhile has been sent: nearly always that was it. One that
still differs, and that nobody changed, is sent again whole, and compared again.

A run is a generator: it yields a `Want` after each slice of work, and is resumed by whoever follows the changes. So
everything happens in one thread, and may be given up between any two slices.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from storagemirror.entry import LOST_AND_FOUND, STATE_DIRECTORY, join
from storagemirror.fs.selection import Selection
from storagemirror.fs.tree import Tree
from storagemirror.sync.asking import Asking
from storagemirror.sync.paths import frames_of
from storagemirror.sync.sums import PIECE, Sum, Summer, Total

BATCH_FILES = 500
BATCH_BYTES = 64 << 20
"""A list of sums is no longer than this, so that an answer comes soon; one file may be larger."""
_AHEAD = 4
"""Lists that are asked for before the first is compared."""
_SUSPECTS = 1_000
"""Files that differ are dealt with when there are so many."""
_TRIES = 4


class Want(Enum):
    """What a run needs before it is resumed."""

    GO_ON = "go-on"
    """Nothing: a slice of work was done."""
    WAIT = "wait"
    """The target's answer: a moment, in which changes are sent."""
    STEP = "step"
    """Everything that has changed up to now has been sent."""
    COMPARE = "compare"
    """A full comparison by size and time, the source synced before."""
    MARK = "mark"
    """Everything that was sent is durable on the target."""


Run = Generator[Want, None, None]
Files = Iterable[tuple[bytes, int] | None]
"""Path and size of each; None now and then, where it took a while to find the next."""


class Session(Protocol):
    """What is needed of a `SourceSession`."""

    @property
    def asking(self) -> Asking: ...
    def summer(self) -> Summer: ...
    def resend(self, paths: list[bytes]) -> None: ...
    def owed(self, paths: list[bytes]) -> list[bytes]: ...
    def is_file(self, path: bytes) -> bool: ...


@dataclass(slots=True)
class _Batch:
    number: int
    paths: list[bytes]
    mine: list[Sum | None] = field(default_factory=list)


@dataclass(slots=True)
class Proving:
    """One stage of a proof. What it came to stands in the fields.

    `moved(path, found)` says whether a file that differs was changed since the stage began (`found` is None when it
    changed while it was read): then that is no difference, but a change that is on its way.
    """

    session: Session
    moved: Callable[[bytes, os.stat_result | None], bool]
    total: Total = field(default_factory=Total)
    content_bytes: int = 0
    differing: int = 0
    read_bytes: int = 0
    """Of our own files, so far: for showing progress."""
    left: list[bytes] = field(default_factory=list)
    """Paths that still differ after all tries."""
    to_the_end: bool = False
    """Go on when something is left."""

    def run(self, candidates: Files) -> Run:
        """Compare these files; what differs is mended."""
        rest = lists_of(candidates)
        more = True
        while more and (self.to_the_end or not self.left):
            suspects: list[bytes] = []
            more = yield from self.compare(rest, suspects)
            yield from self._mend(suspects)

    def agreed(self) -> Generator[Want, None, bool]:
        """Whether the target's total is ours."""
        asking = self.session.asking
        number = asking.ask([])
        while asking.answer(number) is None:
            yield Want.WAIT
        asking.tally(number, [], last=True)
        while (theirs := asking.tallied()) is None:
            yield Want.WAIT
        return (theirs.files, theirs.digest) == (self.total.files, self.total.digest())

    def _mend(self, suspects: list[bytes]) -> Run:
        suspects = self.session.owed(suspects)
        for attempt in range(_TRIES):
            if not suspects:
                return
            # What changed up to now is named after this.
            yield Want.STEP
            if attempt:
                self.session.resend(suspects)
                self.differing += len(suspects) if attempt == 1 else 0
            still: list[bytes] = []
            yield from self.compare(lists_of((path, 0) for path in suspects), still, most=len(suspects) + 1)
            suspects = still
        self.left.extend(suspects)

    def compare(
        self, rest: Iterator[list[bytes]], suspects: list[bytes], most: int = _SUSPECTS
    ) -> Generator[Want, None, bool]:
        """Until `rest` (lists of paths) is at its end (False), or `suspects` has `most` of them (True)."""
        asking, summer = self.session.asking, self.session.summer()
        waiting: deque[_Batch] = deque()
        more = True
        while more or waiting:
            if len(suspects) >= most and not waiting:
                break
            if more and asking.room and len(waiting) < _AHEAD and len(suspects) < most:
                paths = next(rest, None)
                more = paths is not None
                if paths:
                    waiting.append(_Batch(asking.ask(paths), paths))
                yield Want.GO_ON
                continue
            if not waiting:
                yield Want.WAIT
                continue
            batch = next((b for b in waiting if len(b.mine) < len(b.paths)), None)
            if batch is not None:
                yield from self._read(summer, batch)
                continue
            answer = asking.answer(waiting[0].number)
            if answer is None:
                yield Want.WAIT
                continue
            self._judge(waiting.popleft(), answer, suspects)
        return more

    def _read(self, summer: Summer, batch: _Batch) -> Run:
        """Sum one more of our own files."""
        mine: Sum | None = None
        before = self.read_bytes
        for found in summer.sum(batch.paths[len(batch.mine)]):
            mine = found
            self.read_bytes += PIECE if found is None else 0
            yield Want.GO_ON
        self.read_bytes = before + (mine.size if mine is not None else 0)
        batch.mine.append(mine)

    def _judge(self, batch: _Batch, answer: list[bytes | None], suspects: list[bytes]) -> None:
        skipped: list[int] = []
        for index, (path, mine, theirs) in enumerate(zip(batch.paths, batch.mine, answer, strict=True)):
            if mine is not None and mine.steady and mine.digest == theirs:
                self.total.add(mine.digest)
                self.content_bytes += mine.size
                continue
            skipped.append(index)
            if mine is None:  # gone, which is a change of its own; or not to be read, which proves nothing
                if self.session.is_file(path):
                    suspects.append(path)
            elif not self.moved(path, mine.found if mine.steady else None):
                suspects.append(path)
        self.session.asking.tally(batch.number, skipped)


def lists_of(files: Files) -> Iterator[list[bytes]]:
    """Lists of paths that fit a frame, and whose answers come soon; an empty one for each None."""
    paths: list[bytes] = []
    size = 0
    for file in files:
        if file is None:
            yield []
            continue
        paths.append(file[0])
        size += file[1]
        if len(paths) >= BATCH_FILES or size >= BATCH_BYTES:
            yield from frames_of(paths)
            paths, size = [], 0
    yield from frames_of(paths)


def files_of(tree: Tree, wanted: Callable[[bytes, os.stat_result], bool], selection: Selection | None = None) -> Files:
    """The regular files of a volume that are `wanted` and not left out, in the order of the walk; None after each
    directory."""
    pending = [b""]
    while pending:
        path = pending.pop()
        try:
            fd = tree.open_directory(path)
        except OSError:
            continue  # gone, or not readable: the comparison by size and time tells
        try:
            deeper, files = _look(tree, fd, path, wanted, selection)
        finally:
            os.close(fd)
        yield from files
        yield None
        pending.extend(reversed(deeper))


def _look(
    tree: Tree,
    fd: int,
    path: bytes,
    wanted: Callable[[bytes, os.stat_result], bool],
    selection: Selection | None,
) -> tuple[list[bytes], list[tuple[bytes, int]]]:
    """Subdirectories, and files, of one directory."""
    deeper: list[bytes] = []
    files: list[tuple[bytes, int]] = []
    with os.scandir(b"/proc/self/fd/%d" % fd) as found:
        for entry in sorted(found, key=lambda entry: entry.name):
            if not path and entry.name in (STATE_DIRECTORY, LOST_AND_FOUND):
                continue
            at = join(path, entry.name)
            is_directory = entry.is_dir(follow_symlinks=False)
            if selection is not None and selection.excludes(path, entry.name, is_directory=is_directory):
                continue
            if is_directory:
                deeper.append(at)
            elif entry.is_file(follow_symlinks=False):
                try:
                    facts = os.stat(entry.name, dir_fd=fd, follow_symlinks=False)
                except FileNotFoundError:
                    continue
                if facts.st_dev == tree.device and wanted(at, facts):
                    files.append((at, facts.st_size))
    return deeper, files
