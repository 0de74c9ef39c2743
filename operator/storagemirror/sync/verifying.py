"""Comparing two sides, content and all, and saying what differs.

First both sides walk (`differing`): names, sizes, times, attributes. Then every file that both have is read on both
sides at once, and its sum compared (`proving`). Whatever differed in either is looked at once more at the end, both
sides again (`examining`): what is equal then was on its way; what differs, and was changed on the source since this
began, is *changing*, and no difference that anybody need worry about. All else is one.

A difference is told once: of a directory that only one side has, not of what is in it.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from storagemirror.clock import Clock
from storagemirror.entry import split, walk_key
from storagemirror.fs.source import SourceVolume
from storagemirror.sync.asking import Asking
from storagemirror.sync.differing import Difference, How, how
from storagemirror.sync.examining import look
from storagemirror.sync.mirroring import Found
from storagemirror.sync.observer import Progress
from storagemirror.sync.proving import Proving, Want, files_of, lists_of
from storagemirror.sync.sums import Summer
from storagemirror.wire.messages import EXAMINE_PATHS, Seen

REMEMBERED = 100_000
"""Paths that are looked at again, and can be mended; what differs beyond them is only counted."""
FIRST = 1_000
"""Differences that are told by name."""
MARGIN_NS = 50_000_000
"""A time that the kernel gave may be so much older than the clock's: a tick, and some."""
ANSWER_SECONDS = 0.5
_TELL_SECONDS = 0.5
_ALONE = frozenset({How.ONLY_HERE, How.ONLY_THERE})


class Session(Protocol):
    """What is needed of a `SourceSession`."""

    @property
    def asking(self) -> Asking: ...
    def summer(self) -> Summer: ...
    def differences(self, found: Callable[[Difference], None]) -> Found: ...
    def wait(self, seconds: float) -> None: ...
    def resend(self, paths: list[bytes]) -> None: ...
    def owed(self, paths: list[bytes]) -> list[bytes]: ...
    def is_file(self, path: bytes) -> bool: ...


@dataclass(frozen=True, slots=True)
class Verified:
    """What a verification found. Times are nanoseconds since the Unix epoch."""

    started_ns: int
    ended_ns: int
    entries: int
    """On the source, in directories that both sides have."""
    files: int
    """Whose content was read on both sides and is equal."""
    content_bytes: int
    """Of these."""
    differing: int
    """Entries that differ."""
    counts: dict[How, int]
    """In what; one entry may differ in several things."""
    first: tuple[Difference, ...]
    """The first of them, in the order of the walk; at most `FIRST`."""
    changing: int
    """Entries that differ, and were changed on the source meanwhile."""
    settled: int
    """Entries that differed at first, and no more at the second look."""
    orphans: int
    """Entries that only the target has, where these are kept."""
    unseen: int
    """Differences beyond `REMEMBERED`: not looked at again, and counted in `differing`."""
    paths: tuple[bytes, ...]
    """All that differ, and were looked at again."""
    damaged: tuple[bytes, ...]
    """Of these the files whose content differs although size and time are equal: no mirror would send them."""


@dataclass(slots=True)
class Verifying:
    """One run, over one session."""

    session: Session
    volume: SourceVolume
    clock: Clock
    progress: Callable[[Progress], None] = lambda progress: None
    keeps_orphans: bool = False
    """What only the target has is no difference, but counted apart."""
    _suspects: dict[bytes, frozenset[How]] = field(default_factory=dict)
    _here: set[bytes] = field(default_factory=set)
    _beyond: int = 0
    _orphans: int = 0
    _told: float = 0.0
    _before: int = 0

    def run(self) -> Verified:
        """Blocks. Raises as `SourceSession.mirror`."""
        started = self.clock.now_ns()
        found = self.session.differences(self._suspect)
        proving = self._contents(found)
        differences, changing, settled = self._again(started)
        self._tell(proving, found, last=True)
        counts = Counter(kind for difference in differences for kind in difference.how)
        return Verified(
            started_ns=started,
            ended_ns=self.clock.now_ns(),
            entries=found.entries,
            files=proving.total.files,
            content_bytes=proving.content_bytes,
            differing=len(differences) + self._beyond,
            counts={kind: counts[kind] for kind in How if kind in counts},
            first=tuple(differences[:FIRST]),
            changing=changing,
            settled=settled,
            orphans=self._orphans,
            unseen=self._beyond,
            paths=tuple(d.path for d in differences),
            damaged=tuple(d.path for d in differences if How.CONTENT in d.how and not d.how & {How.SIZE, How.TIME}),
        )

    def recheck(self, paths: list[bytes]) -> list[Difference]:
        """Those of `paths` that differ now. Raises as `run`."""
        self._suspects = dict.fromkeys(paths, frozenset())
        return self._again(self.clock.now_ns())[0]

    def _suspect(self, difference: Difference) -> None:
        path = difference.path
        if path not in self._suspects and len(self._suspects) >= REMEMBERED:
            self._beyond += 1
            return
        self._suspects[path] = self._suspects.get(path, frozenset()) | difference.how
        if How.ONLY_HERE in difference.how:
            self._here.add(path)

    # -- content

    def _contents(self, found: Found) -> Proving:
        asking = self.session.asking
        asking.begin()
        proving = Proving(self.session, lambda path, seen: False)
        files = files_of(self.volume.tree, self._on_both, self.volume.selection)
        suspects: list[bytes] = []
        for want in proving.compare(lists_of(files), suspects, most=1 << 62):
            if want is Want.WAIT:
                self.session.wait(ANSWER_SECONDS)
            self._tell(proving, found)
            while suspects:
                self._suspect(Difference(suspects.pop(), frozenset()))
        while suspects:
            self._suspect(Difference(suspects.pop(), frozenset()))
        return proving

    def _on_both(self, path: bytes, found: os.stat_result) -> bool:
        return not (self._here and self._is_only_here(path))

    def _is_only_here(self, path: bytes) -> bool:
        while path:
            if path in self._here:
                return True
            path = split(path)[0]
        return False

    # -- the second look

    def _again(self, started_ns: int) -> tuple[list[Difference], int, int]:
        """What still differs, how much of it is changing, how much has settled."""
        differences: list[Difference] = []
        changing = settled = 0
        paths = sorted(self._suspects, key=walk_key)
        for at in range(0, len(paths), EXAMINE_PATHS):
            some = paths[at : at + EXAMINE_PATHS]
            for path, (mine, theirs) in zip(some, self._both(some), strict=True):
                kinds = compare(mine, theirs) | (self._suspects[path] & {How.LINKS})
                if not kinds or (kinds == {How.LINKS} and (mine is None or theirs is None)):
                    settled += 1
                elif self.keeps_orphans and How.ONLY_THERE in kinds:
                    self._orphans += 1
                elif self._is_changing(path, mine, theirs, started_ns):
                    changing += 1
                else:
                    differences.append(Difference(path, kinds - {How.LINKS} if kinds & _ALONE else kinds))
        return differences, changing, settled

    def _both(self, paths: list[bytes]) -> list[tuple[Seen | None, Seen | None]]:
        asking, summer = self.session.asking, self.session.summer()
        asking.examine(paths)
        mine = []
        for path in paths:
            mine.append(look(summer, path))
            self.session.wait(0)
        while (theirs := asking.examined()) is None:
            self.session.wait(ANSWER_SECONDS)
        return list(zip(mine, theirs, strict=True))

    def _is_changing(self, path: bytes, mine: Seen | None, theirs: Seen | None, started_ns: int) -> bool:
        if (mine is not None and not mine.steady) or (theirs is not None and not theirs.steady):
            return True
        # What is gone has changed the directory that it was in.
        facts = self._facts(path if mine is not None else split(path)[0])
        return facts is not None and max(facts.st_mtime_ns, facts.st_ctime_ns) >= started_ns - MARGIN_NS

    def _facts(self, path: bytes) -> os.stat_result | None:
        try:
            return self.volume.tree.lstat(path)
        except OSError:
            return None

    # -- progress

    def _tell(self, proving: Proving, found: Found, *, last: bool = False) -> None:
        now = self.clock.monotonic()
        if not last and now - self._told < _TELL_SECONDS:
            return
        began = self._told or now
        self._told = now
        seconds = now - began
        rate = int((proving.read_bytes - self._before) / seconds) if seconds > 0 else 0
        self._before = proving.read_bytes
        self.progress(
            Progress(
                files_done=found.entries if last else min(proving.total.files, found.entries),
                files_total=found.entries,
                bytes_done=found.bytes if last else min(proving.read_bytes, found.bytes),
                bytes_total=found.bytes,
                bytes_per_second=rate,
            )
        )


def compare(mine: Seen | None, theirs: Seen | None) -> frozenset[How]:
    """In what two sides of one path differ; empty: in nothing. Pure."""
    kinds = how(mine.entry if mine is not None else None, theirs.entry if theirs is not None else None)
    if mine is None or theirs is None or How.TYPE in kinds:
        return kinds
    kind = stat.S_IFMT(mine.entry.mode)
    if kind not in (stat.S_IFREG, stat.S_IFDIR):
        return kinds
    if not (mine.content and theirs.content):
        return frozenset({How.UNREADABLE})
    return kinds | {How.CONTENT} if mine.content != theirs.content else kinds
