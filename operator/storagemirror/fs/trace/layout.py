"""How the kernel says its trace records look: `events/*/*/format` and `events/header_page`.

Neither offsets nor numbers of events are fixed: they differ between kernels, and are read at the start.
(Linux, Documentation/trace/events.rst, "Event formats".)
"""

from __future__ import annotations

import re
import struct
import sys
from dataclasses import dataclass

from storagemirror.errors import BadInput

_FIELD = re.compile(
    r"field:(?P<text>[^;]+);\s*offset:(?P<offset>\d+);\s*size:(?P<size>\d+);(?:\s*signed:(?P<signed>\d);)?"
)
_ID = re.compile(r"^ID: (\d+)$", re.MULTILINE)
_BIT = re.compile(r"\{\s*\(?\s*1(?:U|UL)? << (\d+)\s*\)?,\s*\"(\w+)\"\s*\}")
_CODES = {1: "b", 2: "h", 4: "i", 8: "q"}


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a record. Bytes from the record's start."""

    offset: int
    size: int
    signed: bool


@dataclass(frozen=True, slots=True)
class Format:
    """How one event's records look; `bits` are the flags that it prints by name."""

    number: int
    fields: dict[str, Field]
    bits: dict[str, int]

    def unpacker(self, *names: str) -> struct.Struct:
        """Unpacks just these integer fields, which must lie in this order. `BadInput` when they do not."""
        missing = [name for name in names if name not in self.fields]
        if missing:
            raise BadInput(f"trace event {self.number}: no field {missing[0]}, there are {sorted(self.fields)}")
        return _unpacker([self.fields[name] for name in names])


def parse_format(text: str) -> Format:
    """Of a `format` file. `BadInput` where it has no number."""
    number = _ID.search(text)
    if number is None:
        raise BadInput(f"expected a trace event's format, got {text[:80]!r}")
    _, _, printed = text.partition("print fmt:")
    return Format(int(number[1]), _fields(text), {name: 1 << int(bit) for bit, name in _BIT.findall(printed)})


def _fields(text: str) -> dict[str, Field]:
    found: dict[str, Field] = {}
    for match in _FIELD.finditer(text):
        name = match["text"].split("[")[0].split()[-1].lstrip("*")
        found.setdefault(name, Field(int(match["offset"]), int(match["size"]), match["signed"] == "1"))
    return found


def _unpacker(fields: list[Field]) -> struct.Struct:
    code, at = "=", 0
    for field in fields:
        letter = _CODES.get(field.size)
        if letter is None or field.offset < at:
            raise BadInput(f"a trace field of {field.size} bytes at {field.offset} is not an integer after byte {at}")
        code += f"{field.offset - at}x" + (letter if field.signed else letter.upper())
        at = field.offset + field.size
    return struct.Struct(code)


@dataclass(frozen=True, slots=True)
class PageHeader:
    """Of a sub-buffer as it is read from `trace_pipe_raw`. Bytes; `commit` unpacks its length and flags."""

    commit: struct.Struct
    data: int
    size: int


def parse_page_header(text: str) -> PageHeader:
    """Of the file `events/header_page`. `BadInput`."""
    fields = _fields(text)
    try:
        commit, data = fields["commit"], fields["data"]
    except KeyError:
        raise BadInput(f"expected the header of a trace page, got {text[:80]!r}") from None
    unsigned = Field(commit.offset, commit.size, signed=False)
    return PageHeader(_unpacker([unsigned]), data.offset, data.offset + data.size)


BIG_ENDIAN = sys.byteorder == "big"
"""The five bits of a record's kind are the first of its word: the lowest ones, or here the highest."""
