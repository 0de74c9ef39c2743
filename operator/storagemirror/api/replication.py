"""spec.replication: how changes reach the copy; and what the status tells of points."""

from __future__ import annotations

from pydantic import Field

from storagemirror.api.durations import Duration
from storagemirror.api.model import ApiModel, Count, Message, Time, Word, rule, rules
from storagemirror.contract import Consistency


class Replication(ApiModel):
    """How changes reach the copy."""

    model_config = rules(
        rule(
            "duration(self.pointInterval) >= duration('500ms')",
            "pointInterval must be at least 500ms: each point freezes the source for a moment",
            field=".pointInterval",
        ),
        rule(
            "duration(self.maxStall) >= duration('50ms') && duration(self.maxStall) <= duration('10s')",
            "maxStall must be from 50ms to 10s",
            field=".maxStall",
        ),
    )

    consistency: Consistency = Field(
        default=Consistency.LIVE,
        description="What the copy is while the application writes. Live (default): each change is applied as it "
        "comes, so some files are of one moment and some of the next. Point: the copy is one moment of the source, as "
        "a power cut would leave it, and then a later one; a database recovers from it. Takes spec.agents.privilege "
        "Freeze; without it the copy is as with Live, and the condition CrashConsistent says why.",
    )
    point_interval: Duration = Field(
        default="5s",
        description="With Point: from one point to the next, such as 1s, if the volumes and the network allow; "
        "status.volumes[].points says what was reached. Where nothing has changed there is no point, and no freeze.",
    )
    max_stall: Duration = Field(
        default="200ms",
        description="With Point: for how long a write of the application may have to wait. A point that would take "
        "longer is put off, and status.volumes[].points says why.",
    )


class CopyPointStatus(ApiModel):
    """Whether the copy is exactly one point, as the target's agent says it."""

    promotable: bool = Field(
        description="true: it is one point; while the next one is applied, it will be that one. false: it is none, and "
        "no failover promotes it unless its spec.acceptLoss.noPoint says so."
    )
    number: Count | None = Field(default=None, description="Of that point. Absent: there is none.")
    at: Time | None = Field(
        default=None, description="The moment of the source that it is the state of, on the source's clock."
    )
    synced_through: Time | None = Field(
        default=None,
        description="Everything the source did up to this time is in that point: later than at where nothing changed "
        "since. What a failover would lose counts from here.",
    )
    reason: Word = Field(
        default="",
        description="Why it is none. NoPoint: none was applied yet. Mirroring: it was changed otherwise since the last "
        "one. BetweenPoints: one cannot be applied to its end. SyncFailed: the disk failed. JournalDamaged: one that "
        "was promised cannot be read.",
    )
    message: Message = Field(default="", description="The same as a sentence.")


class PointStatus(ApiModel):
    """How the points of a volume go, since its source's agent began."""

    number: Count | None = Field(default=None, description="Of the latest point that is safe on the target.")
    at: Time | None = Field(
        default=None, description="The moment of the source that this point is the state of, on the source's clock."
    )
    made: Count = Field(default=0, description="Points that were made.")
    put_off: Count = Field(default=0, description="How often none was made when its time had come.")
    why: Message = Field(default="", description="Why the last one was put off; empty when it was not.")
    stall_p50_milliseconds: Count | None = Field(
        default=None, description="For how long writes waited in half of the points, of the last 1,000."
    )
    stall_p99_milliseconds: Count | None = Field(
        default=None, description="For how long they waited at most in 99 of 100 points."
    )
    missed: Count = Field(
        default=0,
        description="Changes that a point lacked, found later by the file's ctime: more than 0 means that points were "
        "not whole.",
    )
