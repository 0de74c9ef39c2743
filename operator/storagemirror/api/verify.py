"""Verification: what a person asks for, and what came of it."""

from __future__ import annotations

from pydantic import Field

from storagemirror.api.model import ATOMIC, ApiModel, Count, Message, Time, Word, rule, rules
from storagemirror.api.schedules import CRON, ZONE

REQUEST = r"^[A-Za-z0-9]([-A-Za-z0-9_.:]*[A-Za-z0-9])?$"


class Verify(ApiModel):
    """When both sides are compared by checksum, while replication goes on."""

    model_config = rules(
        rule("has(self.schedule) || has(self.request)", "give a schedule, a request, or both", field=".schedule"),
    )

    schedule: str | None = Field(
        default=None,
        min_length=9,
        max_length=128,
        pattern=CRON,
        description="When, as a cron expression of five fields, such as 0 3 * * 0 (Sundays at three). A run that was "
        "missed (nothing was running) is done once, late.",
    )
    time_zone: str = Field(
        default="UTC",
        max_length=64,
        pattern=ZONE,
        description="Time zone of the schedule, by its IANA name, such as Europe/Berlin.",
    )
    repair: bool = Field(
        default=False,
        description="true: files that differ are sent again. false: they are reported alone.",
    )
    request: str | None = Field(
        default=None,
        max_length=64,
        pattern=REQUEST,
        description="Verify once, now: any word that was not given before. The last one that was done is in "
        "status.volumes[].verify.request.",
    )


class VerifyStatus(ApiModel):
    """Of one volume: the last verification, and the next."""

    next_time: Time | None = Field(default=None, description="When the schedule has the next one begin.")
    request: str | None = Field(default=None, max_length=64, description="The last spec.verify.request that was done.")
    last_time: Time | None = Field(default=None, description="When the last one ended.")
    files: Count = Field(default=0, description="Files whose content is equal on both sides.")
    bytes: Count = Field(default=0, description="Bytes of their content.")
    differing: Count = Field(
        default=0,
        description="Files whose checksums differed although size and time are equal, and that nobody was writing.",
    )
    repaired: Count = Field(default=0, description="How many of them were sent again and are equal now.")
    changing: Count = Field(default=0, description="Files that were written meanwhile, and so were not judged.")
    first: tuple[Word, ...] = Field(
        default=(),
        max_length=16,
        description="The first names of those that differed, relative to the volume, each cut at 256 characters.",
        json_schema_extra=ATOMIC,
    )
    message: Message = Field(default="", description="Why there is no result, or no next time.")
