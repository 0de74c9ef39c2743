"""The guard of the last resort: a source that was wiped, or is suddenly another one, must not wipe the target.

Pure: what is known goes in, a verdict comes out. `TargetSession` keeps what must be kept.

    The *base* is the number of entries when the last full comparison ended, and those that appeared since and have
    stayed for half a minute. From ten entries up, no more than `max_delete_percent` of them are deleted, by mirrors and
    by live changes together, until the next full comparison ends. What goes again as soon as it came does not count,
    and what came since makes up for what came since and went (`Deletions`): an application that makes and removes files
    all day is no wipe.
"""

from __future__ import annotations

from dataclasses import dataclass

from xxhash import xxh3_64_hexdigest, xxh3_64_intdigest

from storagemirror.entry import Identity
from storagemirror.fs.marker import HoldRecord
from storagemirror.wire.messages import HoldReason

SMALLEST = 10
"""Volumes with fewer entries are not guarded: there deleting a few files is most of them."""

_SLACK_PATHS = 10
_SLACK_PERCENT = 1
_STORED_PATHS = 200_000


@dataclass(frozen=True, slots=True)
class Allowance:
    """How much may be deleted. `base` is None where nothing was ever compared: then there is nothing to lose."""

    base: int | None
    percent: int
    deleted: int
    """Since the last full comparison."""

    def allows(self, more: int) -> bool:
        """Whether `more` entries may go."""
        if more == 0 or self.base is None or self.base < SMALLEST or self.percent >= 100:
            return True
        return (self.deleted + more) * 100 <= self.base * self.percent

    def sentence(self, more: int) -> str:
        """Why not."""
        before = f" ({self.deleted} were deleted since)" if self.deleted else ""
        return (
            f"the source lacks {more} of the {self.base} entries of the last full comparison{before}; "
            f"at most {self.percent} % may be deleted without being asked"
        )


def path_hash(path: bytes) -> int:
    """How a hold remembers a path."""
    return xxh3_64_intdigest(path)


def same_hold(held: HoldRecord | None, reason: HoldReason, paths: set[int], entries: int) -> bool:
    """Whether what is to be deleted now is what was held before: the same, less, or hardly more."""
    if held is None or held.reason != reason.value:
        return False
    slack = max(_SLACK_PATHS, len(held.paths) * _SLACK_PERCENT // 100)
    if entries > held.entries + max(_SLACK_PATHS, held.entries * _SLACK_PERCENT // 100):
        return False
    known = set(held.paths)
    if len(known) >= _STORED_PATHS:
        last = max(known)  # hashes: those up to the last that is kept are as good as drawn by lot
        paths = {path for path in paths if path <= last}
    return len(paths - known) <= slack


def mass_delete(paths: set[int], entries: int, now_ns: int) -> HoldRecord:
    """A new hold. The time is part of the token: the same deletion, held again another day, has another one."""
    kept = sorted(paths)[:_STORED_PATHS]
    token = _token(f"{HoldReason.MASS_DELETE}:{entries}:{now_ns}:{kept[:1000]}")
    return HoldRecord(token, HoldReason.MASS_DELETE.value, entries, kept)


def source_replaced(identity: Identity, now_ns: int) -> HoldRecord:
    """A new hold for a source of this identity."""
    token = _token(f"{HoldReason.SOURCE_REPLACED}:{identity}:{now_ns}")
    return HoldRecord(token, HoldReason.SOURCE_REPLACED.value, 0, [], identity)


def _token(text: str) -> str:
    return xxh3_64_hexdigest(text.encode())[:10]
