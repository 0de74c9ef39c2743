"""status.operation of a pair: the one lock and the one truth about a failover or restore, and what its object shows."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from storagemirror.api.claims import RestoreTo
from storagemirror.api.model import ATOMIC, ApiModel, Count, Message, Time, Word, map_by
from storagemirror.api.sides import ProofGrade, Side, WorkloadKind
from storagemirror.contract import ProofStage


class Mode(StrEnum):
    """What is asked for."""

    PLANNED = "Planned"
    UNPLANNED = "Unplanned"


class OperationPhase(StrEnum):
    """How far it is. Each is written before anything is done in it."""

    PENDING = "Pending"
    """Waits for its turn, or for its pair."""
    VALIDATING = "Validating"
    """May it be done, and would the proofs reach? Nothing is touched."""
    AWAITING_APPROVAL = "AwaitingApproval"
    MIRRORING = "Mirroring"
    """Restore: what the old side wrote after the cut is kept aside, then the live side is copied back and followed."""
    AWAITING_CUT_OVER = "AwaitingCutOver"
    """Restore: the copy back is whole and follows; a person must say when the application moves."""
    PROVING = "Proving"
    """Planned: both sides are compared by checksum while the application runs."""
    FENCING = "Fencing"
    """Both sides are closed, the source's workloads are scaled to zero, and the end of every writer is proven."""
    DRAINING = "Draining"
    """The copy takes in what has come (planned: what was left, and that is proven too)."""
    PROMOTING = "Promoting"
    """The epoch is raised, the target is the live side; its volume gets the epoch and is let go of."""
    SWITCHING = "Switching"
    """From here on only forward: the standby starts, the Services turn."""
    VERIFYING = "Verifying"
    """The standby answers?"""
    ROLLING_BACK = "RollingBack"
    """The source is opened and started again."""
    COMPLETED = "Completed"
    ROLLED_BACK = "RolledBack"
    """The source is the live side as before."""
    FAILED = "Failed"
    """Refused; nothing was touched."""
    SUPERSEDED = "Superseded"
    """Meant for another epoch; nothing was touched."""


ENDED = frozenset(
    {OperationPhase.COMPLETED, OperationPhase.ROLLED_BACK, OperationPhase.FAILED, OperationPhase.SUPERSEDED}
)
"""These are for ever."""
HARMLESS = frozenset(
    {
        OperationPhase.PENDING,
        OperationPhase.VALIDATING,
        OperationPhase.AWAITING_APPROVAL,
        OperationPhase.MIRRORING,
        OperationPhase.AWAITING_CUT_OVER,
        OperationPhase.PROVING,
    }
)
"""In these nothing is closed or stopped."""
FENCED = frozenset(
    {OperationPhase.FENCING, OperationPhase.DRAINING, OperationPhase.PROMOTING, OperationPhase.ROLLING_BACK}
)
"""In these both sides are closed."""


class Step(ApiModel):
    """One line of the timeline."""

    phase: OperationPhase = Field(description="What began.")
    at: Time = Field(description="When.")
    message: Message = Field(default="", description="What there is to say about it.")


class Grade(StrEnum):
    """Why a writer counts as ended."""

    PROVEN = ProofGrade.PROVEN.value
    ATTESTED = ProofGrade.ATTESTED.value
    ACCEPTED = "Accepted"


class WriterProof(ApiModel):
    """Why one pod of the old side counts as ended."""

    uid: str = Field(max_length=64, description="UID of the pod.")
    name: str = Field(max_length=253, description="Name of the pod.")
    node: str = Field(default="", max_length=253, description="Its node.")
    grade: Grade = Field(
        description="Proven: all its containers were read as ended. Attested: its node was called dead. Accepted: a "
        "person took the risk (acceptSplitBrain)."
    )
    evidence: Message = Field(description="What was seen.")
    at: Time = Field(description="When.")


class Equality(ApiModel):
    """A proof that both sides of a volume are equal."""

    volume: str = Field(max_length=63, description="Name of the volume.")
    stage: ProofStage = Field(description="Live: all, while it was written. Final: the rest, when nobody wrote.")
    files: Count = Field(description="Files compared by checksum.")
    bytes: Count = Field(description="Bytes compared by checksum.")
    differing: Count = Field(default=0, description="Of these, files that had to be sent again first.")
    digest: str = Field(default="", max_length=64, description="xxh3_128 over all that was compared, by both sides.")
    at: Time = Field(description="When it ended.")


class Answer(ApiModel):
    """How it was seen that a Service answers from the live side."""

    service: str = Field(max_length=63, description="Name of the Service; empty: the pair has none.")
    how: Message = Field(description="What was seen.")
    at: Time = Field(description="When.")


class Diverged(ApiModel):
    """What the old side wrote after it was cut off, and where that is kept."""

    volume: str = Field(max_length=63, description="Name of the volume.")
    epoch: int = Field(
        ge=1, description="The epoch that began when it was cut off.", json_schema_extra={"format": "int64"}
    )
    path: str = Field(max_length=253, description="Directory on the old volume where it is kept.")
    entries: Count = Field(description="Files, directories and others that are kept there.")
    bytes: Count = Field(description="Bytes of their content.")
    deleted: Count = Field(
        default=0, description="Entries that the old side had deleted: the live side has them, so they come back."
    )
    first: tuple[Word, ...] = Field(
        default=(),
        max_length=16,
        description="The first names, relative to the volume, each cut at 256 characters.",
        json_schema_extra=ATOMIC,
    )
    complete: bool = Field(
        default=True,
        description="true: found by comparing with what the copy held when it was promoted. false: that is not known "
        "any more; everything that differed from the live side was kept.",
    )
    at: Time = Field(description="When it was kept.")


class CutOver(StrEnum):
    """Who says when the application moves back."""

    AUTOMATIC = "Automatic"
    MANUAL = "Manual"


class StoredReplicas(ApiModel):
    """How many pods a workload had before it was scaled to zero."""

    kind: WorkloadKind = Field(description="Deployment or StatefulSet.")
    name: str = Field(max_length=253, description="Its name.")
    replicas: Count = Field(description="How many pods it had.")


class Account(ApiModel):
    """What is told of an operation: in the pair's status while it goes on, in the Failover for ever."""

    attempt: Count = Field(default=0, description="Number of the attempt; it only grows.")
    phase: OperationPhase = Field(
        default=OperationPhase.PENDING,
        description="How far it is. Pending, Validating, AwaitingApproval, Proving: nothing is touched. Mirroring, "
        "AwaitingCutOver (restore): the live side serves, and is copied. Fencing, Draining, Promoting: both sides are "
        "closed; it can still go back. Switching, Verifying: only forward. Completed, RolledBack, Failed, Superseded: "
        "the end.",
    )
    reason: Word = Field(default="", description="One word: why it is where it is.")
    message: Message = Field(default="", description="Why it is where it is, and what to do about it.")
    started_at: Time | None = Field(default=None, description="When it began.")
    phase_since: Time | None = Field(default=None, description="When this phase began.")
    deadline: Time | None = Field(default=None, description="When it goes back (or ends) by itself.")
    ended_at: Time | None = Field(default=None, description="When it ended.")
    approved_by: Word | None = Field(default=None, description="Who said yes.")
    last_contact: Time | None = Field(
        default=None,
        description="When the agent of the side that is left was last heard, on the other agent's clock.",
    )
    synced_through: Time | None = Field(
        default=None, description="Everything the source did up to this time, on its clock, is on the promoted copy."
    )
    lag_seconds: Count | None = Field(
        default=None,
        description="How far the copy was behind when the source was last heard, rounded up: what is not on it. "
        "Absent: not known.",
    )
    rpo_seconds: Count | None = Field(
        default=None,
        description="Measured recovery point: at most so many seconds of the source's last writes, up to its last "
        "word, are not on the copy. 0 where both sides were proven equal. Absent: not known.",
    )
    rto_seconds: Count | None = Field(
        default=None,
        description="Measured recovery time: from the source's last word (planned: from the stop of its workloads) "
        "until the live side answered.",
    )
    proofs: tuple[WriterProof, ...] = Field(
        default=(),
        max_length=256,
        description="Why each pod of the old side counts as ended.",
        json_schema_extra=map_by("uid"),
    )
    equality: tuple[Equality, ...] = Field(
        default=(),
        max_length=32,
        description="Proofs that both sides are equal (planned).",
        json_schema_extra=map_by("volume", "stage"),
    )
    answers: tuple[Answer, ...] = Field(
        default=(),
        max_length=16,
        description="How it was seen that the live side answers.",
        json_schema_extra=map_by("service"),
    )
    diverged: tuple[Diverged, ...] = Field(
        default=(),
        max_length=16,
        description="Restore: what the old side wrote after it was cut off, by volume; kept before anything was "
        "overwritten.",
        json_schema_extra=map_by("volume"),
    )
    sent_bytes: Count | None = Field(
        default=None, description="Restore: bytes that the copy back took on the wire, before TLS, up to the cut-over."
    )
    whole_on: tuple[Side, ...] = Field(
        default=(),
        max_length=2,
        description="Restore: the sides whose volumes hold everything that is known to have been written.",
        json_schema_extra={"x-kubernetes-list-type": "set"},
    )
    timeline: tuple[Step, ...] = Field(
        default=(), max_length=64, description="What began when.", json_schema_extra=ATOMIC
    )


class OperationKind(StrEnum):
    FAILOVER = "Failover"
    RESTORE = "Restore"


class Operation(Account):
    """The operation that goes on, or the last one that did."""

    kind: OperationKind = Field(default=OperationKind.FAILOVER, description="Failover or Restore.")
    name: str = Field(max_length=253, description="Name of the Failover or Restore.")
    uid: str = Field(default="", max_length=64, description="Its UID; empty until it is made.")
    mode: Mode = Field(description="Planned or Unplanned.")
    automatic: bool = Field(default=False, description="Made by the operator, because the source failed.")
    from_epoch: int = Field(ge=1, description="The epoch that it changes.", json_schema_extra={"format": "int64"})
    accept_split_brain: bool = Field(default=False, description="A person took the risk of a second writer.")
    failures: Count = Field(
        default=0, description="Automatic attempts in a row that did not complete; the next one waits for longer."
    )
    gate_confirmed: Time | None = Field(
        default=None, description="When the admission gate was last seen to refuse pods on both sides."
    )
    cut_over: CutOver = Field(default=CutOver.AUTOMATIC, description="Restore: who says when the application moves.")
    to: tuple[RestoreTo, ...] = Field(
        default=(),
        max_length=16,
        description="Restore: other claims that the live side is copied to; nothing live is touched.",
        json_schema_extra=map_by("name"),
    )
    stopped_at: Time | None = Field(
        default=None, description="When the workloads of the side that is left were first scaled to zero."
    )
    group: Count | None = Field(
        default=None,
        description="Of several volumes with consistency Point: the point of their group that all copies are brought "
        "to before they are promoted. Absent: there is no such, or need not be.",
    )
    replicas: tuple[StoredReplicas, ...] = Field(
        default=(),
        max_length=16,
        description="How many pods the workloads of the side that is left had; they get them back when it is rolled "
        "back.",
        json_schema_extra=map_by("kind", "name"),
    )

    @property
    def open(self) -> bool:
        """Whether it goes on."""
        return self.phase not in ENDED

    @property
    def homeward(self) -> bool:
        """Whether it brings the application back to the source."""
        return self.kind is OperationKind.RESTORE and not self.to

    @property
    def elsewhere(self) -> bool:
        """Whether it copies the live side to other claims, and touches nothing live."""
        return bool(self.to)
