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


def seconds(text: str) -> float:
    """`text` in seconds; `BadInput` when it is no duration."""
    if re.fullmatch(PATTERN, text) is None:
        raise BadInput(f"expected a duration such as 30s or 1m30s, got {text!r}")
    return sum(float(n) * _UNITS[unit] for n, _, unit in re.findall(r"([0-9]+(\.[0-9]+)?)(ms|s|m|h)", text))
