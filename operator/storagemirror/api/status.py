"""status of a MirrorPair: what is. Written by the operator alone."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from storagemirror.api.conditions import Condition
from storagemirror.api.model import ATOMIC, ApiModel, Count, Message, Time, Word, map_by, rule, rules
from storagemirror.api.operation import Operation, StoredReplicas
from storagemirror.api.replication import LONGEST_TRIGGER, CopyPointStatus, PointStatus, QueueStatus, RunStatus
from storagemirror.api.sides import Side
from storagemirror.api.verify import VerifyStatus
from storagemirror.contract import Capture
from storagemirror.contract import Phase as AgentPhase

EPOCH_NEVER_FALLS = "the epoch never falls"
_CONDITIONS = "What holds and what does not, each with a reason and what to do about it. "


class Phase(StrEnum):
    """Of a volume, and of the pair (then it is that of the volume that needs a look most)."""

    PENDING = "Pending"
    """Waiting for claims, agents or the first connection."""
    MIRRORING = "Mirroring"
    """A full comparison and copy is running; the copy is not yet whole."""
    REPLICATING = "Replicating"
    """The copy is whole and follows."""
    DISCONNECTED = "Disconnected"
    """The copy is whole and falls behind: the two agents do not reach each other."""
    WAITING = "Waiting"
    """The copy is whole, of its last run; nothing is sent until the next (mode Scheduled or Manual)."""
    PAUSED = "Paused"
    HELD = "Held"
    """Stopped on purpose before harm was done; a person must confirm."""
    ERROR = "Error"
    """Does not go on unless somebody changes something."""
    FAILING_OVER = "FailingOver"
    """A failover goes on: see status.operation."""
    FAILED_OVER = "FailedOver"
    """The target is the live side, and has no copy."""
    RESTORING = "Restoring"
    """The live side is copied back to the source, or the application moves there: see status.operation."""


class Progress(ApiModel):
    """How far a full mirror is. Totals are absent until they are known."""

    files_done: Count = Field(default=0, description="Files and directories compared, and copied where they differed.")
    files_total: Count | None = Field(default=None, description="Files and directories on the source.")
    bytes_done: Count = Field(default=0, description="Bytes of the files that are done.")
    bytes_total: Count | None = Field(default=None, description="Bytes of all files on the source.")
    percent: int | None = Field(default=None, ge=0, le=100, description="How much of the bytes is done, in percent.")
    bytes_per_second: Count = Field(default=0, description="How fast it goes, in bytes per second.")


class Hold(ApiModel):
    """Why a volume stopped on purpose, and how to let it go on."""

    reason: Word = Field(description="One word: MassDelete, SourceReplaced.")
    message: Message = Field(description="What would have happened.")
    token: str = Field(
        max_length=128, description="Copy this into spec.mirror.confirm to let exactly this hold through."
    )
    since: Time | None = Field(default=None, description="When it stopped.")


class Problem(ApiModel):
    """Why an agent is not doing what it was told."""

    reason: Word = Field(description="One word.")
    message: Message = Field(description="What was expected and what was found.")
    hint: Message = Field(default="", description="What to do about it.")


class AgentStatus(ApiModel):
    """One agent pod."""

    pod_name: str | None = Field(default=None, max_length=253, description="Name of the agent's pod.")
    node: str | None = Field(default=None, max_length=253, description="Node that it runs on.")
    instance: Count | None = Field(
        default=None, description="Which of the pods in turn this is; an older one may not act any more."
    )
    phase: AgentPhase | None = Field(default=None, description="What the agent says that it is doing.")
    last_heartbeat: Time | None = Field(
        default=None,
        description="When it was last heard. Not refreshed at each beat while all is well; exact once it is silent.",
    )
    problem: Problem | None = Field(default=None, description="Why it is not doing what it was told.")


class NotKept(ApiModel):
    """What could not be copied, by kind."""

    kind: str = Field(max_length=64, description="What was not kept, such as Owner, Xattr, Device or Unreadable.")
    count: Count = Field(description="How many.")
    first: tuple[Word, ...] = Field(
        default=(),
        max_length=16,
        description="The first names, relative to the volume, each cut at 256 characters.",
        json_schema_extra=ATOMIC,
    )


class LeftAlone(ApiModel):
    """What is on the target as it is on purpose, by kind."""

    kind: str = Field(
        max_length=64,
        description="Newer: files that are newer on the target (spec.mirror.compare). Orphan: entries that the source "
        "does not have (spec.mirror.orphans).",
    )
    count: Count = Field(description="How many, since the last full comparison began.")
    first: tuple[Word, ...] = Field(
        default=(),
        max_length=16,
        description="The first names, relative to the volume, each cut at 256 characters; of orphans with the policy "
        "Report alone.",
        json_schema_extra=ATOMIC,
    )


class DriftStatus(ApiModel):
    """What was changed on the target by somebody else."""

    last_time: Time | None = Field(
        default=None, description="When some was found last: by a full comparison, or as it happened."
    )
    count: Count = Field(
        default=0,
        description="How many entries: that the latest full comparison found, or that were changed since the copy was "
        "last at a point, or last mended.",
    )
    first: tuple[Word, ...] = Field(
        default=(),
        max_length=16,
        description="The first names, relative to the volume, each cut at 256 characters.",
        json_schema_extra=ATOMIC,
    )
    unwatched: Message | None = Field(
        default=None,
        description="Why somebody else's changes of the copy are not all seen as they happen: a word, and a sentence. "
        "Absent: they are, or full comparisons look for them.",
    )


class MissedStatus(ApiModel):
    """What was changed on the source without a word."""

    last_time: Time | None = Field(default=None, description="When a full comparison found some last.")
    count: Count = Field(default=0, description="How many files the latest full comparison found; they were sent.")
    first: tuple[Word, ...] = Field(
        default=(),
        max_length=16,
        description="The first names, relative to the volume, each cut at 256 characters.",
        json_schema_extra=ATOMIC,
    )


class Writer(ApiModel):
    """A pod that may write a side's volumes: it was seen mounting a claim of it, and its end is not proven."""

    uid: str = Field(max_length=64, description="UID of the pod.")
    name: str = Field(max_length=253, description="Name of the pod.")
    side: Side = Field(description="The side whose claim it mounts.")
    node: str = Field(default="", max_length=253, description="Its node; empty while it has none.")
    since: Time = Field(description="When it was first seen.")
    gone_since: Time | None = Field(
        default=None,
        description="When its object was first found gone without its end having been seen: it may still write.",
    )


class VolumeStatus(ApiModel):
    """One volume."""

    name: str = Field(max_length=63, description="The volume's name in spec.volumes.")
    phase: Phase = Field(
        default=Phase.PENDING,
        description="Pending: waiting for claims, agents or the first connection. Mirroring: a full comparison and "
        "copy is running. Replicating: the copy is whole and follows. Waiting: it is whole, of its last run "
        "(spec.replication.mode). Disconnected: whole, but falling behind. "
        "Paused, Held: stopped on purpose. Error: needs somebody to change something.",
    )
    synced_through: Time | None = Field(
        default=None,
        description="Everything the source did up to this time is safe (fsynced) on the target (while a restore goes "
        "on: what the target did, on the source). Absent: the copy is not whole yet.",
    )
    lag_seconds: Count | None = Field(
        default=None, description="How far the copy is behind, in seconds, rounded up. Absent: not known."
    )
    lag_bytes: Count | None = Field(
        default=None, description="Bytes of changes that are known and not yet on the target. Absent: not known."
    )
    progress: Progress | None = Field(default=None, description="How far the running full mirror is.")
    last_full_mirror: Time | None = Field(
        default=None, description="When both sides were last compared and made equal completely."
    )
    capture: Capture | None = Field(
        default=None,
        description="How changes are seen. Trace: the kernel names the bytes that change. Watch: it names the files "
        "(inotify). Scan: no watches to be had, the whole volume is compared again and again.",
    )
    capture_why: Message | None = Field(
        default=None, description="Why they are seen so, and not by the trace. Absent: they are, or nothing is known."
    )
    points: PointStatus | None = Field(
        default=None, description="How points in time go; absent where none are made (spec.replication.consistency)."
    )
    queue: QueueStatus | None = Field(
        default=None, description="What waits at the source for the target. Absent: its agent has not said."
    )
    run: RunStatus | None = Field(
        default=None, description="The last run and the next, where spec.replication.mode is Scheduled or Manual."
    )
    drift: DriftStatus | None = Field(
        default=None,
        description="What was changed on the target by somebody else; it is made equal again. Absent: nothing that is "
        "known.",
    )
    missed: MissedStatus | None = Field(
        default=None,
        description="Live: files that were changed on the source and that nothing had named until a full comparison "
        "found them: they were late on the copy. Absent: none was ever found.",
    )
    copy_point: CopyPointStatus | None = Field(
        default=None,
        description="Whether the copy is exactly one point, and which; absent where none is asked for, and while the "
        "target is the live side.",
    )
    hold: Hold | None = Field(
        default=None, description="Why the volume stopped on purpose, and the token that lets it go on."
    )
    not_kept: tuple[NotKept, ...] = Field(
        default=(),
        max_length=32,
        description="What could not be copied or kept, by kind. Empty: everything was.",
        json_schema_extra=map_by("kind"),
    )
    verify: VerifyStatus | None = Field(
        default=None, description="The last verification and the next, where spec.verify asks for some."
    )
    left_alone: tuple[LeftAlone, ...] = Field(
        default=(),
        max_length=8,
        description="What the target holds otherwise than the source because spec.mirror says so, by kind.",
        json_schema_extra=map_by("kind"),
    )
    last_contact: Time | None = Field(
        default=None, description="When the target agent last heard the source agent; known once it is lost."
    )
    source_time: Time | None = Field(
        default=None, description="What the source's clock said then: the lag at that moment counts from it."
    )
    source: AgentStatus | None = Field(
        default=None, description="The agent that reads: beside the source; beside the target while a restore goes on."
    )
    target: AgentStatus | None = Field(
        default=None, description="The agent that writes: beside the target; beside the source while a restore goes on."
    )


class GateStatus(ApiModel):
    """Whether the admission gate works."""

    checked_at: Time = Field(description="When it was last tried, by an account that is not exempt.")
    in_force: bool = Field(description="Whether it refused a pod that mounts a closed side.")
    message: Message = Field(default="", description="What was seen where it did not.")


class MirrorPairStatus(ApiModel):
    """What is."""

    model_config = rules(
        rule(
            "!has(oldSelf.epoch) || (has(self.epoch) && self.epoch >= oldSelf.epoch)",
            EPOCH_NEVER_FALLS,
        ),
        rule(
            "!has(oldSelf.activeSide) || (has(self.activeSide) && (self.activeSide == oldSelf.activeSide || "
            "(has(self.epoch) && (!has(oldSelf.epoch) || self.epoch > oldSelf.epoch))))",
            "the live side changes only with a higher epoch",
        ),
        rule(
            "!has(oldSelf.attempt) || (has(self.attempt) && self.attempt >= oldSelf.attempt)",
            "the number of attempts never falls",
        ),
    )

    observed_generation: Count | None = Field(
        default=None, description="The metadata.generation of the spec that this status speaks of."
    )
    phase: Phase = Field(
        default=Phase.PENDING,
        description="That of the volume that needs a look most; see volumes[].phase.",
    )
    active_side: Side | None = Field(default=None, description="The side that the application lives on.")
    epoch: int | None = Field(
        default=None,
        ge=1,
        description="Grows by one at each change of the live side; an agent or a volume of an older epoch is refused.",
        json_schema_extra={"format": "int64"},
    )
    attempt: Count = Field(
        default=0, description="Number of the last failover or restore that was begun; it only grows."
    )
    cut_epoch: int | None = Field(
        default=None,
        ge=1,
        description="The epoch that began when the source was last cut off: what it wrote after that is told apart by "
        "it.",
        json_schema_extra={"format": "int64"},
    )
    replicas: tuple[StoredReplicas, ...] = Field(
        default=(),
        max_length=32,
        description="How many pods each workload had when its side was last left; it gets as many when it is live "
        "again.",
        json_schema_extra=map_by("kind", "name"),
    )
    operation: Operation | None = Field(
        default=None,
        description="The failover or restore that goes on, or the last one that did: the one lock, and the truth.",
    )
    closed_sides: tuple[Side, ...] = Field(
        default=(),
        max_length=2,
        description="Sides whose claims no new pod may mount: the admission gate reads this. Target while the source "
        "is live, both while a failover or a restore decides, Source after a failover.",
        json_schema_extra={"x-kubernetes-list-type": "set"},
    )
    gate: GateStatus | None = Field(default=None, description="Whether the admission gate was seen to be in force.")
    writers: tuple[Writer, ...] = Field(
        default=(),
        max_length=256,
        description="Every pod that was seen mounting a claim of the pair and whose end is not proven.",
        json_schema_extra=map_by("uid"),
    )
    writers_known_since: Time | None = Field(
        default=None,
        description="Since when every writer is known: all nodes that could hold the volumes were Ready at once then, "
        "so that no pod of before this pair runs on unseen.",
    )
    synced_through: Time | None = Field(
        default=None,
        description="The earliest of the volumes': everything the sources did up to this time is safe on the targets.",
    )
    lag_seconds: Count | None = Field(
        default=None, description="The largest of the volumes', in seconds, rounded up. Absent: not known."
    )
    point_at: Time | None = Field(
        default=None,
        description="The earliest of the volumes': the moment of the source that the latest point on the target is the "
        "state of. Absent: some volume has no point.",
    )
    next_run: Time | None = Field(
        default=None, description="The earliest of the volumes': when the schedule has a run begin."
    )
    last_run: Time | None = Field(
        default=None, description="The earliest of the volumes': when the last run ended. Absent: some volume had none."
    )
    trigger: str | None = Field(
        default=None,
        max_length=LONGEST_TRIGGER,
        description="The last spec.replication.trigger that every volume has done.",
    )
    lag: str | None = Field(default=None, max_length=32, description="lagSeconds for people, such as 0s, 45s or 2m10s.")
    conditions: tuple[Condition, ...] = Field(
        default=(),
        max_length=32,
        description=_CONDITIONS + "Ready: the copy is whole and follows. Reconciling: the operator is working "
        "towards it. Stalled: it cannot go on unless somebody changes something. Replicating: the first mirror is "
        "whole and live changes flow.",
        json_schema_extra=map_by("type"),
    )
    volumes: tuple[VolumeStatus, ...] = Field(
        default=(), max_length=16, description="Each volume, by its name.", json_schema_extra=map_by("name")
    )


def lag_text(seconds: int | None) -> str | None:
    """`seconds` for people: `0s`, `45s`, `2m10s`, `3h05m`, `2d4h`; None when it is not known."""
    if seconds is None:
        return None
    minutes, s = divmod(seconds, 60)
    hours, m = divmod(minutes, 60)
    days, h = divmod(hours, 24)
    if days:
        return f"{days}d{h}h"
    if hours:
        return f"{h}h{m:02d}m"
    return f"{m}m{s:02d}s" if minutes else f"{s}s"
