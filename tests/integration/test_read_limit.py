"""spec.transfer.readLimit: no more than so many bytes a second are read from the source, small and large alike."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from storagemirror.contract import TransferOrder
from tests.support.engine import joined

MIB = 1 << 20
LIMIT = 4 * MIB


@pytest.mark.parametrize(("count", "size"), [(640, 16 << 10), (1, 10 * MIB)])
def test_a_mirror_reads_no_faster_than_its_limit(tmp_path: Path, count: int, size: int) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    for path in (source, target):
        path.mkdir()
    for number in range(count):
        (source / f"f{number:03}").write_bytes(os.urandom(size))
    with joined(source, target) as pair:
        pair.source.govern(TransferOrder(read_limit=LIMIT))
        began = time.monotonic()
        result = pair.mirror()
        took = time.monotonic() - began
    assert result.bytes_sent == count * size
    assert count * size / took == pytest.approx(LIMIT, rel=0.1)
