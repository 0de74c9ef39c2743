"""What of a file must be read, where its pages were named; and whether they were named rightly.

What is named adds to the file's own record and never replaces it (`fs.trace.candidates`): a file that is smaller, new,
or whose ctime moved without a word is read as a whole. On btrfs, where holes and clones are not named, where the blocks
lie tells of them.

As long as the trace is not proven, all is read, and compared with what would have been: a block that differs from what
was told, and was not named, may have been written after the last drain. It is kept until it is named, or the volume
stands still, when everything has been. From then on this is done with a part of what is read, for good.

A file that changes all the time is never told for good as long as the trace is not proven, and all of it is to be
read, whatever was named of it. What was named is held against it all the same: it can prove the trace there, and not
break it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from storagemirror.clock import Clock
from storagemirror.fs import trace as kernel
from storagemirror.fs.blocks import BLOCK, PIECE
from storagemirror.sync.pointmaker.capturing import Capture, Hints, Ranges, joined, merged, outside
from storagemirror.sync.pointmaker.catalogue import NEVER, Known
from storagemirror.sync.pointmaker.reading import Part

AUDIT_EVERY = 16
"""Of so many files of which only a part would be read, one that is not larger than this is read whole, while the volume
is not frozen."""
AUDIT_BYTES = 4 << 20


@dataclass(slots=True)
class Narrowed:
    """Of one file that is about to be read. It is only `ranges` that is read (None: all)."""

    ranges: Ranges | None
    placed: kernel.Placed | None
    """Where its blocks lie, as of now; None where that was not looked at."""
    claimed: Ranges | None = None
    """All is read, and these are the blocks that may differ by what was named. None: nothing can be learned."""
    named: Ranges | None = None
    """Of these, what pages were named of."""
    lenient: bool = False
    """What differs and was not named is no miss."""


@dataclass(slots=True)
class _Unexplained:
    """Of one file: blocks that differed and that nobody has named yet."""

    blocks: Ranges
    differed: int
    """Stretches that differed, named or not."""
    lenient: bool
    """See `Narrowed`."""


class Narrowing:
    """Of one source. For one thread."""

    def __init__(self, capture: Capture, clock: Clock, grain_ns: int) -> None:
        """`grain_ns`: see `SourceVolume`."""
        self._capture = capture
        self._clock = clock
        self._grain_ns = grain_ns
        self.standing: dict[int, Ranges | None] = {}
        """Of what had only begun when it was named, by inode number, since the last point: see `Hints`."""
        self._unexplained: dict[int, _Unexplained] = {}
        """By inode number."""
        self._reads = 0

    def drain(self, *, frozen: bool = False) -> Hints:
        """The capture's hints. Those of a `frozen` volume have all that stands over in them."""
        hints = self._capture.drain(frozen=frozen)
        for inode, ranges in hints.standing.items():
            self.standing[inode] = joined(self.standing.get(inode, []), ranges)
        self._hear(hints)
        if frozen:
            self._conclude()
            for inode, ranges in self.standing.items():
                if ranges is None:
                    hints.whole.add(inode)
                else:
                    hints.pages[inode] = merged([*hints.pages.get(inode, ()), *ranges])
        return hints

    def narrow(
        self, known: Known, named: Ranges | None, fd: int, found: os.stat_result, evidence: Ranges | None = None
    ) -> Narrowed:
        """Before the file that is open as `fd` is read; `named` is what was named of it since it was told (None: it is
        not by its pages that we know), `evidence` the same where all is to be read for other reasons (None: not
        known). OSError."""
        capture = self._capture
        lenient = named is None and bool(evidence) and not capture.names_pages
        if lenient:
            named = evidence
        where = None
        if found.st_size > PIECE and not capture.names_structure:
            where = kernel.placed(fd)
        if named is None or found.st_size <= BLOCK:
            return Narrowed(None, where)
        elsewhere = None
        if where is not None and known.placed is not None:
            elsewhere = kernel.moved(known.placed, where)
        hints = kernel.Hints(pages={known.inode: tuple(named)})
        identity = known.inode, known.generation
        before = kernel.Seen(identity, known.size, known.ctime_ns)
        now = kernel.Seen(identity, found.st_size, found.st_ctime_ns)
        ranges = kernel.candidates(hints, before, now, names_structure=capture.names_structure, elsewhere=elsewhere)
        if ranges is None:
            return Narrowed(None, where)
        self._reads += 1
        audits = self._reads % AUDIT_EVERY == 0 and found.st_size <= AUDIT_BYTES
        if capture.names_pages and not audits:
            return Narrowed(list(ranges), where)
        if known.sums is None or self.standing.get(known.inode, []) is None:
            return Narrowed(None, where)
        claimed = joined(list(ranges), self.standing.get(known.inode, []))
        return Narrowed(None, where, _blocks(claimed or []), _blocks(named), lenient)

    def told(self, found: os.stat_result, ctime_ns: int) -> int:
        """With which ctime a file was told that was `found` so after the `syncfs` and before it was read; `ctime_ns` is
        what it is where pages are not named.

        Where they are, it may have changed since it was looked at: what is named after the drain is read again, and
        what was dirty before it was written out, and is what was read."""
        if not self._capture.names_pages:
            return ctime_ns
        late = self._grain_ns and found.st_ctime_ns > self._clock.now_ns() - self._grain_ns
        return NEVER if late else found.st_ctime_ns

    @contextmanager
    def compare(self, known: Known, narrowed: Narrowed, fd: int, *, frozen: bool) -> Iterator[Comparison]:
        """Around the reading of a file: each part that differs is to be `add`ed."""
        comparison = Comparison(narrowed)
        yield comparison
        if narrowed.claimed is None or comparison.void:
            return
        unexplained = comparison.unexplained
        if unexplained and not self._capture.names_structure:
            # What was moved since we looked where its blocks lie, no event will tell.
            after = kernel.placed(fd)
            if narrowed.placed is None or after is None:
                return
            late = _blocks(list(kernel.moved(narrowed.placed, after)))
            unexplained = [rest for begin, end in unexplained for rest in outside(begin, end, late)]
        if not unexplained or (frozen and not narrowed.lenient):
            self._capture.compared(comparison.named, len(unexplained))
        elif not frozen:
            waiting = self._unexplained.setdefault(known.inode, _Unexplained([], 0, lenient=False))
            waiting.blocks = merged([*waiting.blocks, *unexplained])
            waiting.differed += comparison.named + len(unexplained)
            waiting.lenient |= narrowed.lenient

    def _hear(self, hints: Hints) -> None:
        if hints.lost:
            self._unexplained.clear()
        for inode in self._unexplained.keys() & (hints.pages.keys() | hints.whole):
            named = _blocks(hints.pages.get(inode, []))
            waiting = self._unexplained[inode]
            waiting.blocks = [left for begin, end in waiting.blocks for left in outside(begin, end, named)]
            if not waiting.blocks:
                # All that differed has been named by now: no need to wait for a freeze that may never come.
                self._capture.compared(waiting.differed, 0)
            if not waiting.blocks or inode in hints.whole:
                del self._unexplained[inode]

    def _conclude(self) -> None:
        """The volume stands still: what is not named by now never will be."""
        missed = sum(len(waiting.blocks) for waiting in self._unexplained.values() if not waiting.lenient)
        if missed:
            self._capture.compared(0, missed)
        self._unexplained.clear()


class Comparison:
    """Of one file."""

    def __init__(self, narrowed: Narrowed) -> None:
        self._narrowed = narrowed
        self.unexplained: Ranges = []
        self.named = 0
        """Stretches that differed and were named."""
        self.void = False
        """The file was cut meanwhile."""

    def add(self, part: Part) -> None:
        """This differed from what was told."""
        claimed, named = self._narrowed.claimed, self._narrowed.named
        if claimed is None or named is None:
            return
        begin, end = part.offset, part.offset + part.length
        self.unexplained += outside(begin, end, claimed)
        self.named += outside(begin, end, named) != [(begin, end)]


def _blocks(ranges: Ranges) -> Ranges:
    """The whole blocks that these touch."""
    return merged([(begin - begin % BLOCK, end + -end % BLOCK) for begin, end in ranges])
