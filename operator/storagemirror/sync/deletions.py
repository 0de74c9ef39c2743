"""Deletions on a target, as far as its guard lets them through."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from storagemirror.errors import Held
from storagemirror.fs.target import TargetVolume
from storagemirror.sync import guard
from storagemirror.wire.messages import HoldReason

_REMEMBERED = 500_000
"""New entries since the last full comparison that are known by name; beyond, a deletion counts in any case."""

HINT = (
    "Look at the source first. If it is right that these are gone, write the token to spec.mirror.confirm "
    "(by hand: --confirm TOKEN)."
)


@dataclass(slots=True)
class Deletions:
    """What was deleted, may be, and was confirmed."""

    volume: TargetVolume
    percent: int
    confirm: str | None
    base: int | None
    now_ns: Callable[[], int]
    deleted: int = 0
    """Counted by the guard, since the last full comparison."""
    total: int = 0
    """In this mirror, counted or not."""
    _budget: int = 0
    """Cleared by the guard in this mirror, and not used yet."""
    _new: set[int] = field(default_factory=set)
    _doomed: set[int] = field(default_factory=set)
    _doomed_entries: int = 0

    def begin_mirror(self) -> None:
        """A comparison starts: what was announced before is void."""
        self._doomed, self._doomed_entries, self._budget, self.total = set(), 0, 0, 0

    def created(self, path: bytes) -> None:
        """An entry appeared, live: deleting it again is no loss."""
        if len(self._new) < _REMEMBERED:
            self._new.add(guard.path_hash(path))

    def renamed(self, old: bytes, new: bytes) -> None:
        """An entry that is new stays new under its new name."""
        if self._is_new(old):
            self._new.discard(guard.path_hash(old))
            self.created(new)

    def _is_new(self, path: bytes) -> bool:
        return bool(self._new) and guard.path_hash(path) in self._new

    def announce(self, paths: list[bytes]) -> None:
        """These are to go."""
        for path in paths:
            self._doomed.add(guard.path_hash(path))
            self._doomed_entries += self.volume.count(path, self._is_new)

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

    def may_delete(self, path: bytes) -> bool:
        """Whether this one may go now: cleared before, or within what is left. Counts it."""
        entries = self.volume.count(path, self._is_new)
        if entries <= self._budget:
            self._budget -= entries
        elif not guard.Allowance(self.base, self.percent, self.deleted).allows(entries):
            return False
        self.deleted += entries
        return True

    def delete(self, path: bytes) -> bool:
        """Delete one, with all that is below; False when the guard does not let it go. OSError."""
        if not self.may_delete(path):
            return False
        self.total += self.volume.delete(path)
        self._new.discard(guard.path_hash(path))
        return True

    def compared(self, entries: int) -> None:
        """A full comparison has ended: count anew, against so many entries."""
        self.base = entries
        self.deleted = 0
        self._new.clear()
        self._budget = 0
        if self.volume.hold() is not None:
            self.volume.write_hold(None)
