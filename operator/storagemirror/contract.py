"""What operator and agent agree on.

The operator writes an `Order` for each agent (a ConfigMap that the agent can only read); the agent answers with a
`Report` (an annotation of its Lease, beside the heartbeat). Both are JSON, with camelCase keys. Unknown keys are
ignored, so that an operator and an agent one release apart understand each other; a missing key that has no default
is an error (`BadInput`).
"""

from __future__ import annotations

from enum import StrEnum
from typing import TypeVar

import msgspec

from storagemirror.errors import BadInput
from storagemirror.terms import OrphanPolicy, Rule, Terms

AGENT_PORT = 7460
"""TCP port of a target agent."""

ORDER_KEY = "order.json"
"""Key of the order in its ConfigMap."""

REPORT_ANNOTATION = "storagemirror.io/report"
"""Annotation of the agent's Lease that holds its report."""

HEARTBEAT_SECONDS = 5
"""An agent renews its Lease this often, and at once when what it sees changes for the worse."""

FIRST_EPOCH = 1


class Role(StrEnum):
    """Which end of a volume's copy an agent is."""

    SOURCE = "Source"
    TARGET = "Target"

    @property
    def peer(self) -> Role:
        """The other end."""
        return Role.TARGET if self is Role.SOURCE else Role.SOURCE


class Action(StrEnum):
    """What an agent is to do now."""

    RUN = "Run"
    """Connect, mirror, replicate."""
    PAUSE = "Pause"
    """Keep the volume and the state, let go of the connection, change nothing."""
    STOP = "Stop"
    """End the process in good order; the pod is about to be removed."""
    DRAIN = "Drain"
    """Target: let nobody in any more, apply and make durable what has come, report `Phase.DRAINED`; stay."""
    PROMOTE = "Promote"
    """Target: as Drain; then write the order's epoch durably on the volume, let go of it, report `Phase.PROMOTED`."""


class TargetPolicy(StrEnum):
    """What the first mirror may find on the target."""

    EMPTY = "Empty"
    """Nothing but `lost+found`, or a copy that this pair made itself."""
    ADOPT = "Adopt"
    """Anything: what is there is made equal to the source."""


class Capture(StrEnum):
    """How the source sees what changes."""

    WATCH = "Watch"
    """inotify names what changed; a slow rescan finds what inotify cannot see."""
    TRACE = "Trace"
    """The kernel's trace names the bytes that change, inotify the names."""
    SCAN = "Scan"
    """No watches to be had: the whole tree is compared again and again."""


class Phase(StrEnum):
    """What an agent is doing."""

    STARTING = "Starting"
    CONNECTING = "Connecting"
    """Source: dialling. Target: listening, nobody there."""
    MIRRORING = "Mirroring"
    REPLICATING = "Replicating"
    IDLE = "Idle"
    """Source: connected, and between two runs (`ReplicationMode`): nothing is sent."""
    HELD = "Held"
    PAUSED = "Paused"
    DRAINED = "Drained"
    """Target: everything that has come is applied and on the disk; nothing more is let in."""
    PROMOTED = "Promoted"
    """Target: the volume bears the order's epoch, and is let go of."""
    FAILED = "Failed"
    """See `problem`; tried again by itself."""
    STOPPED = "Stopped"


class _Wire(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """Base of what travels: immutable, camelCase."""


class Peer(_Wire, frozen=True, kw_only=True):
    """Where the target agent listens."""

    address: str
    port: int = AGENT_PORT


class CompareBy(StrEnum):
    """How a file that both sides have is judged."""

    SIZE_AND_TIME = "SizeAndTime"
    CHECKSUM = "Checksum"
    """Also by content: each full comparison is followed by one by checksum."""
    NEWER = "Newer"
    """A file that is newer on the target is left as it is."""


class RuleOrder(_Wire, frozen=True, kw_only=True):
    """One rule, as `.gitignore` writes them: one of the two fields."""

    include: str | None = None
    exclude: str | None = None

    def __post_init__(self) -> None:
        if (self.include is None) == (self.exclude is None):
            raise ValueError("expected a rule to say either include or exclude")


class OrphansOrder(_Wire, frozen=True, kw_only=True):
    """What becomes of entries that the source does not have."""

    policy: OrphanPolicy = OrphanPolicy.DELETE
    older_than_seconds: int = 0
    ignore_deletes: bool = False


class KeepOrder(_Wire, frozen=True, kw_only=True):
    """What is kept only where it is asked for."""

    access_times: bool = False
    """Of regular files."""
    selinux: bool = False
    """Their labels, `security.selinux`."""


class MirrorOrder(_Wire, frozen=True, kw_only=True):
    """How to mirror."""

    target: TargetPolicy = TargetPolicy.EMPTY
    max_delete_percent: int = 50
    confirm: str | None = None
    """The token of the one hold that a person let through."""
    once: bool = False
    """A volume that was handed over before is refused, whoever made it: somebody uses it."""
    compare: CompareBy = CompareBy.SIZE_AND_TIME
    rules: tuple[RuleOrder, ...] = ()
    orphans: OrphansOrder = OrphansOrder()
    keep: KeepOrder = KeepOrder()
    """Source: beyond what is always kept."""

    def terms(self) -> Terms:
        """As the engine takes them; what a pattern means is looked at there."""
        rules = tuple(
            Rule(rule.include is not None, (rule.include or rule.exclude or "").encode("utf-8", "surrogateescape"))
            for rule in self.rules
        )
        orphans = self.orphans
        return Terms(rules, orphans.policy, orphans.older_than_seconds, orphans.ignore_deletes)


class BeatOrder(_Wire, frozen=True, kw_only=True):
    """When a peer that is not heard counts as lost: after `interval_seconds` × `missed` without a word."""

    interval_seconds: float = 1.0
    missed: int = 5


class Compression(StrEnum):
    """Whether what is sent is compressed."""

    AUTO = "Auto"
    """Where that makes it faster: measured, and measured again."""
    OFF = "Off"
    LZ4 = "Lz4"
    ZSTD = "Zstd"


class Weekday(StrEnum):
    """In the order of `datetime.weekday`."""

    MON = "Mon"
    TUE = "Tue"
    WED = "Wed"
    THU = "Thu"
    FRI = "Fri"
    SAT = "Sat"
    SUN = "Sun"


class BandwidthWindow(_Wire, frozen=True, kw_only=True):
    """How much may be sent at some time of the week. Of several that match the first counts."""

    limit: int
    """Bytes a second, as they are before TLS."""
    days: tuple[Weekday, ...] = ()
    """On which it begins; none: on all."""
    begin: str | None = None
    """"08:00", by the clock on the wall; None: the whole day."""
    end: str | None = None
    """Not included; before `begin` it is on the next day."""


class TransferOrder(_Wire, frozen=True, kw_only=True):
    """How what is sent is sent. Taken up at once, without a new connection."""

    bandwidth: tuple[BandwidthWindow, ...] = ()
    """Where none matches nothing is held back."""
    time_zone: str = "UTC"
    """Of the IANA database."""
    compression: Compression = Compression.AUTO
    level: int = 3
    """Of Zstd, 1 to 19."""
    read_limit: int | None = None
    """Source: bytes of content a second that are read; None: as fast as it goes."""


class ProofStage(StrEnum):
    """Which part of the proof that both sides are equal."""

    LIVE = "Live"
    """Every file, by checksum, while the source is written; what is written meanwhile is remembered."""
    FINAL = "Final"
    """The source is not written any more: the rest is sent, everything is compared, and what changed since the live
    part began by checksum."""


class ProveOrder(_Wire, frozen=True, kw_only=True):
    """Source: prove that both sides are equal, and report it as `Proof` of the same attempt and stage."""

    attempt: int
    stage: ProofStage


class RestoreOrder(_Wire, frozen=True, kw_only=True):
    """Target: this volume was the live side before. What its application wrote after it was cut off is kept aside
    before anything is overwritten, once for each attempt, and reported as `KeptAside`."""

    epoch: int
    """The epoch that began when it was cut off: what is kept lies in `.storagemirror/diverged/<epoch>/`."""
    attempt: int


class VerifyOrder(_Wire, frozen=True, kw_only=True):
    """Source: compare every file by checksum while replication goes on, once, and report it as `Verification`."""

    run: str
    """Names this run: it is done when a report bears the same."""
    repair: bool = False
    """Files that differ are sent again."""


class Consistency(StrEnum):
    """What the copy is while the application writes."""

    LIVE = "Live"
    """Each change is applied as it comes: files of different moments."""
    POINT = "Point"
    """One moment of the source, as a power cut would leave it; a later one each `interval`."""


class ReplicationMode(StrEnum):
    """When changes reach the copy."""

    CONTINUOUS = "Continuous"
    """As they happen, or as points come."""
    SCHEDULED = "Scheduled"
    """In runs, at the times of a schedule."""
    MANUAL = "Manual"
    """In runs, each of which somebody asks for."""


class QueueOrder(_Wire, frozen=True, kw_only=True):
    """Source: how much may wait for the target. Bytes."""

    memory: int = 64 << 20
    """Of content and names together with what they take."""
    disk: int = 1 << 30
    """Of content, beyond that."""


class ReplicationOrder(_Wire, frozen=True, kw_only=True):
    """Source: how changes reach the copy."""

    consistency: Consistency = Consistency.LIVE
    interval_seconds: float = 5.0
    """From point to point."""
    max_stall_seconds: float = 0.2
    """A point for which writes would have to wait longer is put off."""
    mode: ReplicationMode = ReplicationMode.CONTINUOUS
    run: str | None = None
    """Scheduled and Manual: names the run that is due; it is done when a report's `RunDone` bears the same."""
    queue: QueueOrder = QueueOrder()
    remirror: CompareBy | None = None
    """How files are judged by the comparison after the queue of names overflowed: by size and time, or by checksum;
    None: as by every other."""


class GroupOrder(_Wire, frozen=True, kw_only=True):
    """Source: its points are of one moment with those of other volumes."""

    members: tuple[str, ...]
    """Names of the volumes; the agent of the first one leads, and listens."""
    peer: Peer | None = None
    """Where the lead listens; None: for the lead itself, and while it has no address."""

    @property
    def lead(self) -> str:
        """The volume whose agent leads."""
        return self.members[0]


class SettleOrder(_Wire, frozen=True, kw_only=True):
    """Target, with Promote: what becomes of a point that it holds back."""

    group: int | None = None
    """The copy is to be at the point of the group with this number: the one that is held, or the one it is at. None:
    there is no such that all copies can be at, or need be; what is held is applied."""


class Order(_Wire, frozen=True, kw_only=True):
    """What one agent must do now. Written by the operator alone; `revision` grows by one with each change."""

    pair_uid: str
    pair_name: str
    namespace: str
    volume: str
    role: Role
    revision: int
    instance: int
    """Number of the pod that is meant. An agent with a lower number stops; one with a higher waits."""
    epoch: int
    action: Action = Action.RUN
    peer: Peer | None = None
    """Source only; None while the target agent has no address."""
    mirror: MirrorOrder = MirrorOrder()
    beat: BeatOrder = BeatOrder()
    prove: ProveOrder | None = None
    """Source only; None: nothing to prove."""
    restore: RestoreOrder | None = None
    """Target only; None: the volume is a copy, and was never anything else."""
    transfer: TransferOrder = TransferOrder()
    verify: VerifyOrder | None = None
    """Source only; None: nothing to verify."""
    replication: ReplicationOrder = ReplicationOrder()
    """Source only."""
    group: GroupOrder | None = None
    """Source only; None: its points are its own."""
    proven: bool = False
    """Target, with Promote: both sides were proven equal while nobody wrote, so the copy is what the source was,
    whatever its journal of points says."""
    settle: SettleOrder | None = None
    """Target, with Promote. None: of an operator that knows of no held points, and judged the one that was applied."""


class Problem(_Wire, frozen=True, kw_only=True):
    """Why an agent is not doing what it was told."""

    reason: str
    """CamelCase, becomes the reason of a condition."""
    message: str
    hint: str = ""
    token: str | None = None
    """Of a hold: written to `spec.mirror.confirm` it lets exactly this hold through."""
    retrying: bool = True


class Progress(_Wire, frozen=True, kw_only=True):
    """Of the mirror that is running. Totals are None until the scan has ended. Rate is bytes per second."""

    files_done: int = 0
    files_total: int | None = None
    bytes_done: int = 0
    bytes_total: int | None = None
    bytes_per_second: int = 0
    started_at: str | None = None


class NotKept(_Wire, frozen=True, kw_only=True):
    """What could not be kept, by kind: how many, and the first names (escaped as in a Python bytes literal)."""

    kind: str
    count: int
    first: tuple[str, ...] = ()


class LeftAlone(_Wire, frozen=True, kw_only=True):
    """What the target holds otherwise on purpose, by kind (Newer, Orphan): how many, and the first names."""

    kind: str
    count: int
    first: tuple[str, ...] = ()


class VolumeFacts(_Wire, frozen=True, kw_only=True):
    """What an agent sees of its volume. Bytes."""

    fs_type: str
    identity: str
    size: int
    free: int


class CopyPoint(_Wire, frozen=True, kw_only=True):
    """Whether a copy that is kept by points is exactly one of them: only then may it be promoted by itself."""

    promotable: bool
    number: int = 0
    """Of the point that it is; 0 where it is none."""
    at: str | None = None
    """Whose state that is: on the source's clock, RFC 3339."""
    group: int | None = None
    """Points of several volumes that bear the same are of one moment; None: it is of this volume alone."""
    group_at: str | None = None
    """That moment, on the clock of the agent that led."""
    reason: str = ""
    """Why it is none: BetweenPoints (while a point is applied, too), Mirroring, SyncFailed, JournalDamaged."""
    message: str = ""
    held_number: int = 0
    """Of the point that is held back beside it: durable, and applied once all volumes of the group have theirs, or by a
    promotion. Also where the copy is none without it (the first one after a mirror). 0: there is none."""
    held_at: str | None = None
    held_group: int | None = None
    held_group_at: str | None = None
    """These as `at`, `group` and `group_at`."""


class PeerState(StrEnum):
    """What a target agent knows of its source agent."""

    NEVER = "Never"
    """It has not come since this process began to listen under its order."""
    CONNECTED = "Connected"
    LEFT = "Left"
    """It said goodbye, or this agent itself was told to let go of it: that is no sign of death."""
    LOST = "Lost"
    """No word for interval × missed while both are meant to run, and no goodbye."""


class PeerSeen(_Wire, frozen=True, kw_only=True):
    """Target: its source agent. `since` and `last_heard` are on this agent's clock, `source_time` on the source's."""

    state: PeerState
    since: str
    """When it came to be in this state."""
    last_heard: str | None = None
    """When the last word of it came."""
    source_time: str | None = None
    """What the source's clock said when its last byte came: what was lost is counted from here, on one clock. Its last
    word that told the clock may be older (it waited in a narrow link): then it is as much later as the byte came."""


class Proof(_Wire, frozen=True, kw_only=True):
    """Source: what a proof of equality came to."""

    attempt: int
    stage: ProofStage
    equal: bool
    """Everything that was compared is equal now. False: see the report's `problem`; it is tried again by itself."""
    files: int
    """Compared by checksum."""
    bytes: int
    differing: int = 0
    """Files that differed although size and time said otherwise, and were sent again."""
    digest: str = ""
    """xxh3_128, hexadecimal, over path, attributes and content of all that was compared by checksum; both sides have
    computed it on their own."""
    at: str = ""
    """When it ended, on the source's clock."""


class Verification(_Wire, frozen=True, kw_only=True):
    """Source: what a verification came to."""

    run: str
    """Of the `VerifyOrder` that it answers."""
    files: int = 0
    """Equal by checksum, after repairs."""
    bytes: int = 0
    """Of their content."""
    differing: int = 0
    """Files that differed although size and time said otherwise, and that were not changing."""
    repaired: int = 0
    """Of these sent again, and equal now."""
    changing: int = 0
    """Files that were changed meanwhile: not judged."""
    first: tuple[str, ...] = ()
    """The first names of those that differed, printable; at most 16."""
    at: str = ""
    """When it ended, on the source's clock."""
    error: str = ""
    """Why nothing could be compared; empty: it could."""


class RunDone(_Wire, frozen=True, kw_only=True):
    """Source: a run of `ReplicationMode.SCHEDULED` or `MANUAL` that has ended: everything was compared, sent, and made
    durable on the target."""

    run: str
    """Of the `ReplicationOrder` that it answers."""
    began: str = ""
    at: str = ""
    """When it ended; both on the source's clock."""
    bytes_sent: int = 0
    """Over the connection, meanwhile."""
    error: str = ""
    """What is not on the target all the same; empty: everything is."""


class Drifted(_Wire, frozen=True, kw_only=True):
    """What was changed on the target by somebody else. Source: what its latest full comparison found; it was made equal
    again. Target: what its watch saw; it is made equal by the mirror that follows."""

    at: str = ""
    """When that comparison ended, or the first of it was seen, on the agent's clock; empty where nothing was found."""
    count: int = 0
    first: tuple[str, ...] = ()
    """The first names, printable; at most 16."""
    unwatched: str = ""
    """Target: why not all of that is seen at once: a CamelCase word, `: `, a text. Empty: it is."""


class Missed(_Wire, frozen=True, kw_only=True):
    """Source: files that its latest full comparison found changed, although neither an event nor a look at the ctimes
    had named them since the one before. They were sent then."""

    at: str = ""
    """When that comparison ended, on the agent's clock; empty where nothing was found."""
    count: int = 0
    first: tuple[str, ...] = ()
    """The first names, printable; at most 16."""


class KeptAside(_Wire, frozen=True, kw_only=True):
    """Target of a restore: what was found on the volume that the live side does not know of, and kept."""

    epoch: int
    attempt: int
    """Of the `RestoreOrder` that it answers."""
    known: bool
    """Compared with what the copy held when it was promoted. False: that is not known any more, and everything that
    differs from the live side was kept."""
    entries: int
    """Files, directories and others that were moved to `.storagemirror/diverged/<epoch>/`, all attempts together."""
    bytes: int
    """Of their content."""
    deleted: int
    """Entries that the old side had deleted; nothing is left of them to keep."""
    first: tuple[str, ...] = ()
    """The first names, printable; at most 16."""
    at: str = ""
    """When it was done, on the target's clock."""


class Freezing(_Wire, frozen=True, kw_only=True):
    """Source: whether its volume can be frozen."""

    able: bool
    reason: str = ""
    """Why not: CamelCase, as of a problem."""
    message: str = ""


class Queued(_Wire, frozen=True, kw_only=True):
    """Source: what waits for the target."""

    memory_bytes: int = 0
    disk_bytes: int = 0
    """Of points: content that was read. Both hold also what is still being told, and can be read again."""
    names: int = 0
    """Files and directories of which it is known that they changed, and nothing else."""
    percent: int = 0
    """Of the limits: of names or of what a point that was read takes until the target has it, whichever is more."""
    overflowed: bool = False
    """More names came than may wait: they were dropped, and everything is compared as soon as the target takes it."""
    overflows: int = 0
    """How often, since the agent began."""


class PointsMade(_Wire, frozen=True, kw_only=True):
    """Source: how its points go, since its agent began. Times are on the source's clock."""

    number: int | None = None
    """Of the latest point that is durable on the target; None: there is none of this agent's yet."""
    at: str | None = None
    """The moment that it is the state of."""
    group: int | None = None
    """As of `CopyPoint`."""
    made: int = 0
    put_off: int = 0
    """How often none was made when its time had come."""
    in_a_row: int = 0
    """Of these, since the last point."""
    interval_seconds: float | None = None
    """How far apart points are: from the last one back to the one before, or to when nothing had changed since that;
    or for how long there has been none, where that is longer already. None: nothing is known, or points come in runs.
    """
    told_again: int = 0
    """Points that were sent once more from the queue, after the connection broke."""
    why: str = ""
    """Why the last one was put off: a word, `: `, and what was found. Empty: it was not."""
    stall_p50: float | None = None
    """Seconds for which writes waited, of the last 1,000 points; None: no point was made yet."""
    stall_p99: float | None = None
    beyond_p50: float | None = None
    """Of these, what was added to the kernel's own FIFREEZE."""
    beyond_p99: float | None = None
    missed: int = 0
    """Objects that a point lacked a change of, found later by their ctime."""
    untraced: str = ""
    """Why the kernel's trace does not name what changes in files: a word, `: `, a text. Empty: it does."""


class Report(_Wire, frozen=True, kw_only=True):
    """What one agent sees. Times are RFC 3339 UTC. None means: not known, never zero."""

    instance: int
    epoch: int
    revision: int
    """The revision of the order that the agent has taken up."""
    phase: Phase
    pod_uid: str = ""
    peer_connected: bool = False
    peer: PeerSeen | None = None
    """Target only."""
    proof: Proof | None = None
    """Source only: the latest proof of equality that ended."""
    kept: KeptAside | None = None
    """Target only: what was kept aside under its present order's `restore`; None until that is done."""
    verification: Verification | None = None
    """Source only: the latest verification that ended."""
    run: RunDone | None = None
    """Source only: the latest run that ended."""
    drifted: Drifted | None = None
    """Source: None: no comparison could tell yet. Target: None: its copy is not kept by points, or not for long enough
    to say that nobody else writes it."""
    missed: Missed | None = None
    """Source only; None: no comparison could tell yet."""
    problem: Problem | None = None
    progress: Progress | None = None
    mirrored_at: str | None = None
    """When the last full mirror ended; None before the first."""
    synced_through: str | None = None
    """Up to this time on the source's clock, everything it did and that we can see is fsynced on the target."""
    lag_seconds: float | None = None
    lag_bytes: int | None = None
    capture: Capture | None = None
    capture_why: str = ""
    """Why it is no better one, and what to do about it. Empty: there is nothing to say."""
    not_kept: tuple[NotKept, ...] = ()
    left_alone: tuple[LeftAlone, ...] = ()
    """Source only: since its last full comparison began."""
    freezing: Freezing | None = None
    """Source with guards; None: there are none, or they were not heard yet."""
    points: PointsMade | None = None
    """Source that makes points; None: it makes none."""
    queue: Queued | None = None
    """Source only; None: it has not opened its volume."""
    volume: VolumeFacts | None = None
    bytes_sent: int = 0
    version: str = ""
    copy_point: CopyPoint | None = None
    """Target only; None: no point was ever applied to it."""


_T = TypeVar("_T", Order, Report)


def encode(value: Order | Report) -> str:
    """As JSON text."""
    return msgspec.json.encode(value).decode()


def decode(kind: type[_T], text: str | bytes) -> _T:
    """From JSON text; `BadInput` says what did not fit."""
    try:
        return msgspec.json.decode(text, type=kind)
    except msgspec.MsgspecError as e:
        raise BadInput(f"not a valid {kind.__name__}: {e}") from e


def peer_name(role: Role, volume: str, pair_uid: str) -> str:
    """The one DNS name in the certificate of the agent of `role`: how each end knows the other.

    `.invalid` (RFC 2606) never resolves, so the name cannot be mistaken for a host's.
    """
    return f"{role.value.lower()}.{volume}.{pair_uid}.storagemirror.invalid"
