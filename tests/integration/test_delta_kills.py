"""A target that is killed, or loses its power, while it takes a delta: the file is the old or the new one, whole."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from storagemirror.entry import Attributes
from storagemirror.fs import patch, redo
from storagemirror.fs.blocks import BLOCK
from storagemirror.fs.patch import IncomingDelta, open_base
from storagemirror.fs.target import TargetVolume
from tests.support.disks import after_power_cut, disk
from tests.support.mortal import killed_at

MIB = 1 << 20
SIZE = 11 * MIB
OLD_TIME, TORN_TIME, NEW_TIME = 10**18, 2 * 10**18 - 1, 2 * 10**18
OLD = os.urandom(SIZE)
CHANGES = {0: os.urandom(BLOCK), 5 * MIB: os.urandom(2 * BLOCK), SIZE - BLOCK: os.urandom(BLOCK + 99)}


def _new() -> bytes:
    content = bytearray(OLD)
    for offset, piece in CHANGES.items():
        content[offset : offset + len(piece)] = piece
    content[7 * MIB : 8 * MIB] = bytes(MIB)
    return bytes(content)


NEW = _new()
ATTRIBUTES = Attributes(0o100640, 11, 12, TORN_TIME, {b"user.new": b"1"})


def _begin(volume: Path) -> None:
    """The old file, and nothing of ours."""
    (volume / "file").unlink(missing_ok=True)
    shutil.rmtree(volume / ".storagemirror", ignore_errors=True)
    (volume / "file").write_bytes(OLD)
    os.utime(volume / "file", ns=(OLD_TIME, OLD_TIME))
    with TargetVolume.open(str(volume)) as target:
        target.claim()
        target.sync(0, 0)


def _take(volume: Path) -> None:
    """The delta, as an applier takes it."""
    with TargetVolume.open(str(volume)) as target:
        target.claim()
        directory = target.directory(b"")
        incoming = target.begin_delta(b"file", ATTRIBUTES, open_base(directory, b"file"))
        assert isinstance(incoming, IncomingDelta)
        for offset in sorted([*CHANGES, 7 * MIB]):
            if offset in CHANGES:
                incoming.write(offset, memoryview(CHANGES[offset]))
            else:
                incoming.hole(offset, MIB)
        incoming.set_time(NEW_TIME)
        incoming.complete(len(NEW), in_place=True)
        target.finish(incoming, len(NEW))


def _state(volume: Path) -> tuple[str, int]:
    content = (volume / "file").read_bytes()
    kind = "old" if content == OLD else "new" if content == NEW else "torn"
    return kind, os.stat(volume / "file").st_mtime_ns


def _claim(volume: Path) -> None:
    with TargetVolume.open(str(volume)) as target:
        target.claim()


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs", "tmpfs"])
def test_a_kill_at_any_step_leaves_the_old_file_or_the_new_one(tmp_path: Path, kind: str) -> None:
    seen = set()
    with disk(tmp_path, kind, 400) as made:
        number = 1
        killed = True
        while killed:
            _begin(made.path)
            killed = killed_at(number, (patch, redo), lambda: _take(made.path))
            found, mtime = _state(made.path)
            # What is torn never bears a time for which it could be taken for the new one, or the old.
            assert found != "torn" or mtime not in (OLD_TIME, NEW_TIME)
            assert mtime != NEW_TIME or found == "new"
            _claim(made.path)
            after, mtime = _state(made.path)
            assert after in ("old", "new")
            assert (mtime == NEW_TIME) == (after == "new")
            assert os.listdir(made.path / ".storagemirror/tmp") == []
            seen.add((found, after))
            number += 1
        assert ("old", "old") in seen
        assert ("new", "new") in seen
        if kind in ("ext4", "tmpfs"):
            assert ("torn", "new") in seen
            assert os.listdir(made.path / ".storagemirror/redo") == []


def test_a_power_cut_at_any_step_leaves_the_old_file_or_the_new_one(tmp_path: Path) -> None:
    seen = set()
    with disk(tmp_path, "ext4", 80) as made:
        number = 1
        killed = True
        while killed:
            _begin(made.path)
            killed = killed_at(number, (patch, redo), lambda: _take(made.path))
            with after_power_cut(made, tmp_path) as cut:
                found, _ = _state(cut)
                _claim(cut)
                after, mtime = _state(cut)
            assert after in ("old", "new")
            assert (mtime == NEW_TIME) == (after == "new")
            seen.add((found, after))
            number += 2
    assert ("old", "old") in seen
    assert {after for _, after in seen} == {"old", "new"}


def test_a_plan_is_not_carried_out_on_another_file(tmp_path: Path) -> None:
    for number in range(15, 200):
        _begin(tmp_path)
        assert killed_at(number, (patch, redo), lambda: _take(tmp_path))
        if _state(tmp_path)[0] == "torn":
            break
    else:
        raise AssertionError("no kill left a torn file")
    os.rename(tmp_path / "file", tmp_path / "elsewhere")
    (tmp_path / "file").write_bytes(b"another file by now")
    _claim(tmp_path)
    assert (tmp_path / "file").read_bytes() == b"another file by now"
    assert os.listdir(tmp_path / ".storagemirror/redo") == []


def test_a_delta_of_very_many_pieces_is_whole(tmp_path: Path) -> None:
    _begin(tmp_path)
    new = bytearray(OLD)
    with TargetVolume.open(str(tmp_path)) as target:
        target.claim()
        incoming = target.begin_delta(b"file", ATTRIBUTES, open_base(target.directory(b""), b"file"))
        assert isinstance(incoming, IncomingDelta)
        incoming.runs_limit = 5
        for number in range(2, 150, 3):
            piece = os.urandom(BLOCK)
            new[number * BLOCK : (number + 1) * BLOCK] = piece
            incoming.write(number * BLOCK, memoryview(piece))
        incoming.complete(SIZE, in_place=True)
        target.finish(incoming, SIZE)
    assert (tmp_path / "file").read_bytes() == bytes(new)
