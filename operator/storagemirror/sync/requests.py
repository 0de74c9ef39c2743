"""What a session is asked to do, and what it answers."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from storagemirror.contract import CompareBy, Order, RestoreOrder, SettleOrder, TargetPolicy
from storagemirror.sync.left import LeftAlone
from storagemirror.sync.observer import NotKeptCount
from storagemirror.terms import Terms


@dataclass(frozen=True, slots=True)
class Changes:
    """What a watch saw on the source. Paths are relative to the volume; the root is `b""`.

    Nothing here is believed: each path is looked at again, and what it is *now* is what the target gets. So a change
    named twice, or one that is long gone, does no harm.
    """

    paths: AbstractSet[bytes] = frozenset()
    """Looked at one by one: sent when it is there, deleted on the target when it is gone. A directory named here has
    only its own attributes looked at, unless the target does not have it: then all that is in it is sent."""
    trees: AbstractSet[bytes] = frozenset()
    """Compared with the target, with all that is below. `b""` is the whole volume."""
    renames: tuple[tuple[bytes, bytes], ...] = ()
    """Old and new path, in the order in which it happened. Done on the target first, then both are looked at."""

    def __bool__(self) -> bool:
        return bool(self.paths or self.trees or self.renames)


@dataclass(frozen=True, slots=True)
class MirrorOptions:
    """How to mirror."""

    compare: CompareBy = CompareBy.SIZE_AND_TIME
    sync_source: bool = False
    """syncfs the source first, so that a page written through a memory map from now on moves its file's time.
    Agents do; a mirror by hand need not wait for the disk."""
    settled_ns: int | None = None
    """When the last full comparison began whose end is durable on the target: what differs although the source has not
    changed it since was changed there, and is told. None: nothing is told."""
    late_before_ns: int = 0
    """With `settled_ns`: files that differ and that the source changed between the two are told as late."""
    follows: bool = False
    """Changes follow as they come: the target shall tell what somebody else changes there (`SourceSession.disturbed`).
    """


@dataclass(frozen=True, slots=True)
class MirrorResult:
    """What a mirror found and did. Times are nanoseconds since the Unix epoch, on the source's clock."""

    started_ns: int
    """Everything the source did before this is on the target."""
    ended_ns: int
    entries: int
    """On the source, directories included, the root not."""
    bytes_total: int
    """Of content, on the source."""
    files_sent: int = 0
    bytes_sent: int = 0
    """Of content."""
    metadata_sent: int = 0
    """Entries whose attributes alone were sent."""
    links_sent: int = 0
    deleted: int = 0
    """Entries, with all that was in deleted directories."""
    wire_bytes: int = 0
    """Sent by the source during this mirror, headers included, before TLS."""
    spared_bytes: int = 0
    """So many more it would have been without compression."""
    failed: int = 0
    """Entries that the target could not write for a reason of their own; see the observer's events."""
    unread: int = 0
    """Entries that could not be read on the source; see the observer's events."""
    not_kept: tuple[NotKeptCount, ...] = ()
    differing: int = 0
    """Files of equal size and time whose content differed: sent as well. Of `CompareBy.CHECKSUM` alone."""
    left_alone: tuple[LeftAlone, ...] = ()
    drifted: int = 0
    """Entries that differed although the source has not changed them since `MirrorOptions.settled_ns`."""
    drifted_first: tuple[bytes, ...] = ()
    """Paths of these; see `storagemirror.sync.drift`."""
    late_first: tuple[bytes, ...] = ()
    """Files that differed and that the source had changed before `MirrorOptions.late_before_ns`."""
    moved_aside: int = 0
    """Entries that only the target had, moved to `.storagemirror/orphans/`."""


@dataclass(frozen=True, slots=True)
class TargetOptions:
    """What the owner of a target allows."""

    policy: TargetPolicy = TargetPolicy.EMPTY
    max_delete_percent: int = 50
    """Of the entries counted at the last full comparison; 100 never holds."""
    once: bool = False
    """A volume that was handed over before is refused."""


@dataclass(frozen=True, slots=True)
class Expectation:
    """Whom a target lets in, and what it lets them do."""

    pair_uid: str
    volume: str
    epoch: int
    options: TargetOptions = field(default_factory=TargetOptions)
    confirm: str | None = None
    """The token of the one hold that a person let through."""
    least_instance: int = 0
    """A source agent with a lower number was replaced, and does not know it yet."""
    restore: RestoreOrder | None = None
    """The volume was the live side before: what deviates from the copy is kept aside before anything is written."""
    terms: Terms | None = None
    """What must be agreed on; None: whatever the source says.

    A source that says otherwise is sent away: it, or we, will hear of the change soon."""
    proven: bool = False
    """A promotion: both sides were proven equal while nobody wrote."""
    settle: SettleOrder | None = None
    """A promotion: what becomes of a point that is held back; None: the point that was applied is promoted."""

    @staticmethod
    def from_order(order: Order, least_instance: int = 0) -> Expectation:
        """As an agent's order says it. A volume that is restored may hold anything: it is kept aside."""
        policy = order.mirror.target if order.restore is None else TargetPolicy.ADOPT
        options = TargetOptions(policy, order.mirror.max_delete_percent, once=order.mirror.once)
        confirm, epoch = order.mirror.confirm, order.epoch
        return Expectation(
            order.pair_uid,
            order.volume,
            epoch,
            options,
            confirm,
            least_instance,
            order.restore,
            order.mirror.terms(),
            proven=order.proven,
            settle=order.settle,
        )
