"""spec.transfer: how fast the copy may be sent, and whether it is compressed."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, WithJsonSchema

from storagemirror.api.model import ATOMIC, ApiModel, Quantity, rule, rules
from storagemirror.contract import Compression, Weekday

_TIME = r"^([01][0-9]|2[0-3]):[0-5][0-9]$"
TimeOfDay = Annotated[
    str,
    Field(pattern=_TIME),
    WithJsonSchema({"type": "string", "maxLength": 5, "pattern": _TIME}),
]
"""`08:00`."""


class Window(ApiModel):
    """A limit, and when it holds."""

    model_config = rules(
        rule(
            "quantity(string(self.limit)).compareTo(quantity('1Ki')) >= 0",
            "limit must be at least 1Ki a second: to stop a copy, set spec.paused",
            field=".limit",
        ),
        rule(
            "has(self.from) == has(self.to)",
            "from and to belong together: leave both out for the whole day",
            field=".from",
        ),
        rule(
            "!has(self.from) || !has(self.to) || self.from != self.to",
            "from and to must differ: leave both out for the whole day",
            field=".to",
        ),
    )

    limit: Quantity = Field(
        description="Bytes a second that may be sent, such as 20Mi. What counts is what the agents send to each other "
        "before TLS, after compression. A pair of several volumes shares it in equal parts."
    )
    days: tuple[Weekday, ...] = Field(
        default=(),
        max_length=7,
        description="Days on which the window begins: Mon, Tue, Wed, Thu, Fri, Sat, Sun. Left out: every day.",
        json_schema_extra={"x-kubernetes-list-type": "set"},
    )
    begin: TimeOfDay | None = Field(
        default=None, alias="from", description="When it begins, such as 08:00, by the clock of timeZone."
    )
    end: TimeOfDay | None = Field(
        default=None,
        alias="to",
        description="When it ends, not included. Before from: on the next day. 18:00 to 08:00 is the night.",
    )


class Transfer(ApiModel):
    """How the copy is sent."""

    model_config = rules(
        rule(
            "!has(self.level) || self.compression == 'Zstd'",
            "level is of compression Zstd",
            field=".level",
        ),
        rule(
            "timestamp('2026-01-01T00:00:00Z').getFullYear(self.timeZone) > 0",
            "timeZone must be one of the IANA database, such as Europe/Berlin",
            field=".timeZone",
        ),
        rule(
            "!has(self.readLimit) || quantity(string(self.readLimit)).compareTo(quantity('1Ki')) >= 0",
            "readLimit must be at least 1Ki a second",
            field=".readLimit",
        ),
    )

    bandwidth: tuple[Window, ...] = Field(
        default=(),
        max_length=16,
        description="How much may be sent, by day and time. The first window that matches counts; where none does, "
        "nothing is held back. A change holds at once.",
        json_schema_extra=ATOMIC,
    )
    time_zone: str = Field(
        default="UTC",
        min_length=1,
        max_length=64,
        pattern=r"^[A-Za-z][A-Za-z0-9_+/-]*$",
        description="Time zone of the windows, such as Europe/Berlin. They go by the clock on the wall there, summer "
        "time included.",
    )
    compression: Compression = Field(
        default=Compression.AUTO,
        description="Whether what is sent is compressed. Auto (default): where that makes it faster; the link and the "
        "data are measured, again and again. Off: never. Lz4: little work, little gain. Zstd: see level. What does "
        "not shrink goes as it is.",
    )
    level: int | None = Field(
        default=None,
        ge=1,
        le=19,
        description="Of Zstd: 1 (fast) to 19 (small and slow). Left out: 3.",
    )
    read_limit: Quantity | None = Field(
        default=None,
        description="Bytes of content a second that an agent may read from the source's disk, such as 100Mi, so that "
        "the application is not slowed down. Left out: no limit. It does not hold while a Failover waits for the "
        "last of the data.",
    )
