"""Durations as Kubernetes writes them: `500ms`, `30s`, `1m30s`."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import Field, WithJsonSchema

from storagemirror.errors import BadInput

PATTERN = r"^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$"
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}

Duration = Annotated[
    str,
    Field(max_length=32, pattern=PATTERN),
    WithJsonSchema({"type": "string", "maxLength": 32, "pattern": PATTERN}),
]
"""A duration in a spec."""

AGE_PATTERN = r"^[1-9][0-9]{0,5}(s|m|h|d|w)$"
_AGE_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}

Age = Annotated[
    str,
    Field(max_length=8, pattern=AGE_PATTERN),
    WithJsonSchema({"type": "string", "maxLength": 8, "pattern": AGE_PATTERN}),
]
"""How old something is: `12h`, `30d`, `8w`."""


def age_seconds(text: str) -> int:
    """`text` in seconds; `BadInput` when it is no age."""
    if re.fullmatch(AGE_PATTERN, text) is None:
        raise BadInput(f"expected an age such as 12h or 30d, got {text!r}")
    return int(text[:-1]) * _AGE_UNITS[text[-1]]


def seconds(text: str) -> float:
    """`text` in seconds; `BadInput` when it is no duration."""
    if re.fullmatch(PATTERN, text) is None:
        raise BadInput(f"expected a duration such as 30s or 1m30s, got {text!r}")
    return sum(float(n) * _UNITS[unit] for n, _, unit in re.findall(r"([0-9]+(\.[0-9]+)?)(ms|s|m|h)", text))
