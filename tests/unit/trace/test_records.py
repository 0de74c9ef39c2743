"""What the kernel says of its records, and records in pages, as bytes."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storagemirror.errors import BadInput
from storagemirror.fs.trace.layout import PageHeader, parse_format, parse_page_header
from storagemirror.fs.trace.ring import MARGIN, read_page

HEADER = """\tfield: u64 timestamp;\toffset:0;\tsize:8;\tsigned:0;
\tfield: local_t commit;\toffset:8;\tsize:8;\tsigned:1;
\tfield: int overwrite;\toffset:8;\tsize:1;\tsigned:1;
\tfield: char data;\toffset:16;\tsize:4080;\tsigned:0;
"""
FORMAT = """name: writeback_dirty_folio
ID: 1009
format:
\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;
\tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;

\tfield:char name[32];\toffset:8;\tsize:32;\tsigned:0;
\tfield:ino_t ino;\toffset:40;\tsize:8;\tsigned:0;
\tfield:const void * at;\toffset:48;\tsize:8;\tsigned:0;
\tfield:unsigned int flags;\toffset:56;\tsize:4;\tsigned:0;

print fmt: "%s", __print_flags(REC->flags, "|", { (1 << 0), "WRITE" }, { (1 << 4), "DIRECT" }, { 1UL << 9, "ATOMIC" })
"""


def page(*records: bytes, missed: bool = False) -> bytearray:
    data = b"".join(records)
    word = len(data) | (1 << 31 if missed else 0)
    return bytearray(struct.pack("=QQ", 123, word) + data.ljust(4080, b"\0") + bytes(MARGIN))


def record(data: bytes) -> bytes:
    """As short data, whose length is in its first word."""
    return struct.pack("=I", len(data) // 4 | 7 << 5) + data


def long_record(data: bytes) -> bytes:
    return struct.pack("=II", 0, len(data) + 4) + data


EXTEND = struct.pack("=II", 30, 9)
PADDING = struct.pack("=II", 29 | 1 << 5, 12) + bytes(8)
LAST = struct.pack("=I", 29)


def read(buffer: bytearray) -> tuple[list[bytes], int, bool]:
    header: PageHeader = parse_page_header(HEADER)
    found: list[bytes] = []
    count, missed = read_page(buffer, 4096, header, lambda buffer, data, end: found.append(bytes(buffer[data:end])))
    return found, count, missed


def test_a_format_gives_number_fields_and_flags() -> None:
    form = parse_format(FORMAT)
    assert form.number == 1009
    assert form.fields["name"].size == 32
    assert form.fields["at"].offset == 48
    assert form.bits == {"WRITE": 1, "DIRECT": 16, "ATOMIC": 512}
    data = struct.pack("=HHi32sQQI", 1009, 0, 5, b"7:0", 77, 1, 3)
    assert form.unpacker("ino", "flags").unpack_from(data) == (77, 3)


@pytest.mark.parametrize("names", [("nothing",), ("name",), ("flags", "ino")])
def test_a_field_that_is_not_there_or_no_integer_or_out_of_order_is_an_error(names: tuple[str, ...]) -> None:
    with pytest.raises(BadInput):
        parse_format(FORMAT).unpacker(*names)


def test_what_is_no_format_is_an_error() -> None:
    with pytest.raises(BadInput):
        parse_format("")
    with pytest.raises(BadInput):
        parse_page_header("field: u64 timestamp; offset:0; size:8;")


def test_records_of_every_kind_are_walked() -> None:
    buffer = page(
        EXTEND, record(b"abcd"), PADDING, long_record(b"x" * 200), EXTEND, record(b"12345678"), LAST, record(b"no!!")
    )
    assert read(buffer) == ([b"abcd", b"x" * 200, b"12345678"], 3, False)
    assert read(page()) == ([], 0, False)
    assert read(page(record(b"abcd"), missed=True)) == ([b"abcd"], 1, True)


def test_a_page_that_contradicts_itself_is_an_error() -> None:
    for broken in (record(b"abcd")[:-2], struct.pack("=II", 0, 5000), struct.pack("=II", 0, 0)):
        with pytest.raises(BadInput):
            read(page(broken))
    with pytest.raises(BadInput):
        read_page(page(record(b"abcd")), 20, parse_page_header(HEADER), lambda buffer, data, end: None)


@given(st.binary(max_size=300))
def test_no_page_makes_it_hang_or_read_outside(data: bytes) -> None:
    try:
        records, _, _ = read(page(data))
    except BadInput:
        return
    assert sum(map(len, records)) <= len(data)
