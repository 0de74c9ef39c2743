"""spec.replication: how and when changes reach the copy; and what the status tells of points and of runs."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from storagemirror.api.durations import Duration
from storagemirror.api.model import ApiModel, Count, Message, Quantity, Time, Word, rule, rules
from storagemirror.api.schedules import CRON, ZONE
from storagemirror.contract import Consistency, ReplicationMode

LONGEST_TRIGGER = 253


class QueueLimits(ApiModel):
    """How much may wait at the source for a target that is slow or away."""

    model_config = rules(
        rule(
            "quantity(string(self.memory)).compareTo(quantity('4Mi')) >= 0",
            "memory must be at least 4Mi",
            field=".memory",
        ),
        rule(
            "quantity(string(self.disk)).compareTo(quantity('0')) >= 0",
            "disk must not be negative; 0 for no queue on disk",
            field=".disk",
        ),
    )

    memory: Quantity = Field(
        default="64Mi",
        description="Memory of the source's agent that what waits may take: names of what changed, 1Ki each, and with "
        "Point the content that was read. Beyond it names are dropped and the volume is compared again as a whole; "
        "content goes to disk.",
    )
    disk: Quantity = Field(
        default="1Gi",
        description="With Point: disk of the source's node (the scratch space of the agent's pod) that content may "
        "take beyond memory. What is read while the source is frozen and fits in neither puts the point off. 0: none.",
    )
    alert_percent: int = Field(
        default=50,
        ge=1,
        le=100,
        description="The condition QueueAlert is True while so much of the limits is in use.",
    )


class Remirror(StrEnum):
    """How files are judged by the comparison that follows an overflow."""

    SIZE_AND_TIME = "SizeAndTime"
    CHECKSUM = "Checksum"


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
        rule(
            "timestamp('2026-01-01T00:00:00Z').getFullYear(self.timeZone) > 0",
            "timeZone must be one of the IANA database, such as Europe/Berlin",
            field=".timeZone",
        ),
        rule("self.mode != 'Scheduled' || has(self.schedule)", "mode Scheduled needs a schedule", field=".schedule"),
        rule(
            "!has(self.schedule) || self.mode == 'Scheduled'",
            "a schedule is only kept with mode Scheduled: set the mode, or leave out the schedule",
            field=".schedule",
        ),
        rule(
            "!has(self.trigger) || self.mode != 'Continuous'",
            "a trigger asks for a run, and mode Continuous has none: set mode to Manual or Scheduled",
            field=".trigger",
        ),
    )

    mode: ReplicationMode = Field(
        default=ReplicationMode.CONTINUOUS,
        description="When changes reach the copy. Continuous (default): as they happen, or as points come. Scheduled: "
        "in runs, at the times of schedule; the first one at once where there is no copy yet. Manual: in runs, one for "
        "each new trigger. A run makes the copy equal to the source, or with consistency Point makes one point; "
        "between two runs nothing is sent, and the lag is the age of the last one. A planned failover, a restore and a "
        "verification bring the copy up to date whatever the mode.",
    )
    schedule: str | None = Field(
        default=None,
        min_length=9,
        max_length=128,
        pattern=CRON,
        description="With Scheduled: when a run begins, as a cron expression of five fields, such as 0 * * * * (each "
        "full hour). Runs that were missed (paused, nothing was running, the one before took longer) are made up for "
        "by one.",
    )
    time_zone: str = Field(
        default="UTC",
        max_length=64,
        pattern=ZONE,
        description="Time zone of the schedule, by its IANA name, such as Europe/Berlin.",
    )
    trigger: str | None = Field(
        default=None,
        min_length=1,
        max_length=LONGEST_TRIGGER,
        description="With Manual or Scheduled: one run, now: any text that is not the one that was done last. That one "
        "is in status.trigger, once every volume has done it.",
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
    queue: QueueLimits = Field(
        default=QueueLimits(), description="How much may wait at the source for a target that is slow or away."
    )
    remirror: Remirror | None = Field(
        default=None,
        description="How files are judged when both sides are compared because more changes came than could be "
        "queued: SizeAndTime, or Checksum (also by content, which reads all of both). Left out: as mirror.compare "
        "says. Points need no such comparison.",
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
    group: Count | None = Field(
        default=None,
        description="Volumes of the pair whose copies bear the same are of one moment. Absent: the point is of this "
        "volume alone.",
    )
    group_at: Time | None = Field(
        default=None, description="That moment, on the clock of the first volume's source agent."
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
        "was promised cannot be read. TargetChanged: somebody else has changed the copy.",
    )
    message: Message = Field(default="", description="The same as a sentence.")


class PointStatus(ApiModel):
    """How the points of a volume go, since its source's agent began."""

    number: Count | None = Field(default=None, description="Of the latest point that is safe on the target.")
    at: Time | None = Field(
        default=None, description="The moment of the source that this point is the state of, on the source's clock."
    )
    group: Count | None = Field(
        default=None, description="That point's number in the group of all volumes. Absent: it is of this volume alone."
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
    interval_seconds: Count | None = Field(
        default=None,
        description="How far apart points are now, rounded up: more than spec.replication.pointInterval where the "
        "interval is stretched. While none can be made it grows. Absent: not known, or points come in runs.",
    )
    told_again: Count = Field(
        default=0, description="Points that were sent once more from the queue after the connection broke."
    )
    missed: Count = Field(
        default=0,
        description="Changes that a point lacked, found later by the file's ctime: more than 0 means that points were "
        "not whole.",
    )
    untraced: Message = Field(
        default="",
        description="Why the kernel's trace does not name which bytes of a file change, so that all of it is compared; "
        "empty where it does.",
    )


class QueueLevel(StrEnum):
    """How full the queue is."""

    NORMAL = "Normal"
    ALERT = "Alert"
    """At spec.replication.queue.alertPercent, or beyond."""
    OVERFLOWED = "Overflowed"
    """Names were dropped; the volume is to be compared."""


class QueueStatus(ApiModel):
    """What waits at the source for the target."""

    level: QueueLevel = Field(
        default=QueueLevel.NORMAL,
        description="Normal. Alert: at spec.replication.queue.alertPercent of the limits, or beyond. Overflowed: more "
        "changes came than may wait; their names were dropped, and both sides are compared as soon as the target "
        "takes it.",
    )
    percent: int = Field(default=0, ge=0, le=100, description="How much of the limits is in use.")
    memory_bytes: Count = Field(default=0, description="Content in memory, of points.")
    disk_bytes: Count = Field(default=0, description="Content on disk, of points.")
    names: Count = Field(default=0, description="Files and directories that changed and are to be looked at.")
    overflows: Count = Field(default=0, description="How often names were dropped, since the source's agent began.")


class RunResult(StrEnum):
    """What became of a run."""

    COMPLETE = "Complete"
    """All of the source is safe on the target."""
    INCOMPLETE = "Incomplete"
    """Something could not be written there."""


class RunStatus(ApiModel):
    """Of one volume with mode Scheduled or Manual: its last run, and the next."""

    next_time: Time | None = Field(default=None, description="When the schedule has the next one begin.")
    trigger: str | None = Field(
        default=None, max_length=LONGEST_TRIGGER, description="The last spec.replication.trigger that was done."
    )
    due: Message = Field(
        default="",
        description="The run that is due and not done yet: first, schedule:TIME or trigger:TEXT. It is tried until it "
        "is done; the conditions say what is in its way. Empty: none is.",
    )
    due_since: Time | None = Field(default=None, description="Since when that one is due.")
    last_began: Time | None = Field(default=None, description="When the last one began, on the source's clock.")
    last_time: Time | None = Field(default=None, description="When it ended, on the source's clock.")
    result: RunResult | None = Field(
        default=None,
        description="Complete: all of the source as of that run is safe on the target. Incomplete: message says what "
        "is not. Absent: none has ended.",
    )
    bytes_sent: Count = Field(default=0, description="What it sent over the network.")
    message: Message = Field(default="", description="What could not be written.")
