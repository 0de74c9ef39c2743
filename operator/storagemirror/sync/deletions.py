"""Deletions on a target, as far as its guard lets them through."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from storagemirror.errors import Held
from storagemirror.fs.target import TargetVolume
from storagemirror.sync import guard
from storagemirror.sync.orphans import Orphans
from storagemirror.terms import EXACT, Terms
from storagemirror.wire.messages import HoldReason

_REMEMBERED = 500_000
"""Fresh entries that are known by name; beyond, a deletion counts in any case."""

FRESH_SECONDS = 30
"""An entry that appeared live and goes again within this time is no loss. One that stays longer has settled: it is
counted among what there is to lose, as if a full comparison had found it."""

HINT = (
    "Look at the source first. If it is right that these are gone, write the token to spec.mirror.confirm "
    "(by hand: --confirm TOKEN)."
)


@dataclass(slots=True)
class _OfPoint:
    """What a point that was judged deletes and brings."""

    entries: int = 0
    """That count."""
    fresh: list[int] = field(default_factory=list)
    late: list[int] = field(default_factory=list)
    appeared: list[bytes] = field(default_factory=list)


@dataclass(slots=True)
class Deletions:
    """What was deleted, may be, and was confirmed."""

    volume: TargetVolume
    percent: int
    confirm: str | None
    base: int | None
    now_ns: Callable[[], int]
    terms: Terms = EXACT
    orphans: Orphans = field(init=False)
    """What the terms say of each."""
    deleted: int = 0
    """Counted by the guard, since the last full comparison."""
    total: int = 0
    """In this mirror, counted or not."""
    _budget: int = 0
    """Cleared by the guard in this mirror, and not used yet."""
    _new: dict[int, int] = field(default_factory=dict)
    """Fresh entries, oldest first: the hash of the path, and when it appeared."""
    _late: set[int] = field(default_factory=set)
    """Those that have settled since the last full comparison."""
    _late_lost: int = 0
    """Of which so many are among `deleted`, and nothing has come for them yet."""
    _doomed: set[int] = field(default_factory=set)
    _doomed_entries: int = 0
    _point: _OfPoint = field(default_factory=_OfPoint)

    def __post_init__(self) -> None:
        self.orphans = Orphans(self.volume, self.terms, self.now_ns)

    def begin_mirror(self) -> None:
        """A comparison starts: what was announced before is void."""
        self._doomed, self._doomed_entries, self._budget, self.total = set(), 0, 0, 0

    @property
    def there_to_lose(self) -> int:
        """What another session counts against: it will not know which of the entries were fresh."""
        return (self.base or 0) + len(self._new)

    def go_on(self, deleted: int, base: int) -> None:
        """From where an earlier session came to. What it had let settle is there to be lost in this one too."""
        self.deleted = deleted
        self.base = max(self.base or 0, base)

    def created(self, path: bytes) -> None:
        """An entry appeared, live: deleting it again at once is no loss. A volume that had next to nothing when it was
        compared is guarded from its first entries on."""
        self._settle()
        key = guard.path_hash(path)
        if key in self._new:
            return
        if self.base is not None and self.base < guard.SMALLEST:
            self.base += 1
        elif len(self._new) < _REMEMBERED:
            self._new[key] = self.now_ns()

    def rename(self, old: bytes, new: bytes) -> bool:
        """Rename; False when the guard does not let go what `new` is the name of. OSError.

        A fresh entry stays fresh under its new name. In place of an entry that was there it is not another one: that
        one goes on, and nothing is lost. Where neither is fresh one entry less is there.
        """
        if not self.orphans.may_rename(old, new):
            return True  # both names are looked at afterwards
        self._settle()
        lstat = self.volume.tree.lstat
        before, there = lstat(old), lstat(new)
        replaces = before is not None and there is not None and before.st_ino != there.st_ino
        old_key, new_key = guard.path_hash(old), guard.path_hash(new)
        loses = replaces and old_key not in self._new and new_key not in self._new
        if loses and not guard.Allowance(self.base, self.percent, self.deleted).allows(1):
            return False
        self.volume.rename(old, new)
        appeared = self._new.pop(old_key, None)
        if old_key in self._late:
            self._late.discard(old_key)
            if not replaces:
                self._late.add(new_key)
        if loses:
            self._lost(1, 0)
        elif not replaces and appeared is not None:
            self._new[new_key] = appeared
        elif replaces and appeared is None:
            self._new.pop(new_key, None)  # what had settled is there, and goes on to count
        return True

    def _settle(self) -> None:
        """Let entries that have lived long enough count.

        One that came for another that had come late and gone again makes up for it: a queue whose files live for
        minutes holds no more than before, however many went through it. For what a full comparison had found nothing
        makes up."""
        if self.base is None or not self._new:
            return
        before = self.now_ns() - FRESH_SECONDS * 1_000_000_000
        while self._new:
            key = next(iter(self._new))
            if self._new[key] > before:
                return
            del self._new[key]
            if self._late_lost:
                self._late_lost -= 1
                self.deleted -= 1
            else:
                self.base += 1
            if len(self._late) < _REMEMBERED:
                self._late.add(key)

    def _is_new(self, path: bytes) -> bool:
        return bool(self._new) and guard.path_hash(path) in self._new

    def announce(self, paths: list[bytes], *, in_the_way: bool = False) -> None:
        """These are to go, if they may."""
        self._settle()
        for path in paths:
            if not in_the_way and self.orphans.stays(path):
                continue
            entries = self.volume.count(path, self._is_new)
            # What is not there is not remembered: a source may name more of that than there is memory.
            if entries or self.volume.tree.lstat(path) is not None:
                self._doomed.add(guard.path_hash(path))
            self._doomed_entries += entries

    def clear(self, base: int | None) -> int:
        """All was announced: how many entries may go; `Held` when that is too many of `base`."""
        entries = self._doomed_entries
        allowance = guard.Allowance(base, self.percent, self.deleted)
        if not allowance.allows(entries):
            held = self.volume.hold()
            if not guard.same_hold(held, HoldReason.MASS_DELETE, self._doomed, entries) or held is None:
                held = guard.mass_delete(self._doomed, entries, self.now_ns())
                self.volume.write_hold(held)
            if held.token != self.confirm:
                raise Held(
                    allowance.sentence(entries), reason=HoldReason.MASS_DELETE.value, token=held.token, hint=HINT
                )
        self._budget = entries
        return entries

    def delete(self, path: bytes, *, in_the_way: bool = True) -> bool:
        """Delete one, with all that is below, or do with it what the terms say. `in_the_way`: something of the source's
        comes in its place. False when the guard does not let it go: it was not cleared before, and
        is more than what is left. Counts it. OSError."""
        if not in_the_way and self.orphans.stays(path):
            self.orphans.leave(path)
            return True
        self._settle()
        fresh: list[int] = []
        late: list[int] = []

        def is_fresh(entry: bytes) -> bool:
            key = guard.path_hash(entry)
            if key not in self._new:
                if key in self._late:
                    late.append(key)
                return False
            fresh.append(key)
            return True

        entries = self.volume.count(path, is_fresh)
        if entries <= self._budget:
            self._budget -= entries
        elif not guard.Allowance(self.base, self.percent, self.deleted).allows(entries):
            return False
        self._lost(entries, len(late))
        self._late.difference_update(late)
        for key in fresh:
            del self._new[key]  # what has gone does not settle
        self.total += self.orphans.take(path, in_the_way=in_the_way)
        return True

    def _lost(self, entries: int, late: int) -> None:
        """Count them, of which `late` came since the last full comparison.

        In a volume that is too small to be guarded what goes is no longer there to be lost: a file that is made and
        removed all day would else be many entries, all of them deleted, once the tenth has been made."""
        if self.base is not None and self.base < guard.SMALLEST:
            self.base = max(0, self.base - entries)
        else:
            self.deleted += entries
            self._late_lost += late

    def judge_point(self, gone: Iterator[bytes], appeared: Iterator[bytes]) -> None:
        """What a point would delete, and the names that it brings. `Held` when that is too much."""
        self._settle()
        self.begin_mirror()
        self._point = _OfPoint()
        for path in gone:
            key = guard.path_hash(path)
            if key in self._new:
                self._point.fresh.append(key)
                continue
            if key in self._late:
                self._point.late.append(key)
            self._doomed_entries += 1
            if len(self._doomed) < _REMEMBERED:
                self._doomed.add(key)
        self._point.entries = self.clear(self.base)
        self._point.appeared = list(itertools.islice(appeared, _REMEMBERED))

    def point_committed(self) -> None:
        """It will be applied: count."""
        point, self._point, self._budget = self._point, _OfPoint(), 0
        self._lost(point.entries, len(point.late))
        self._late.difference_update(point.late)
        for key in point.fresh:
            self._new.pop(key, None)
        for path in point.appeared:
            self.created(path)
        self.total += point.entries

    def compared(self, entries: int) -> None:
        """A full comparison has ended: count anew, against so many entries."""
        self.base = entries
        self.deleted = 0
        self._new.clear()
        self._late.clear()
        self._late_lost = 0
        self._budget = 0
        if self.volume.hold() is not None:
            self.volume.write_hold(None)
