"""The queue of points on real file systems, really frozen: what does not fit into memory goes to disk, what fits
nowhere puts the point off, and a point that was read is told from the queue, whatever became of the connection."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from storagemirror.errors import Disconnected
from storagemirror.fs.blocks import PIECE
from storagemirror.point import RecordKind
from storagemirror.sync.pointmaker.queue import Queue, QueueFull, QueueLost, Room, Tape
from storagemirror.sync.pointmaker.standstill import PutOff
from tests.support.disks import disk
from tests.support.pointmodel import differences
from tests.support.pointrun import Run

MIB = 1 << 20


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    with disk(tmp_path, "ext4", 400) as made:
        (made.path / "here").mkdir()
        run = Run(made.path)
        yield run
        run.close()


def burst(run: Run, mebibytes: int) -> None:
    """So much is written after the last pass, just before the freeze: all of it has to be read while frozen."""
    time.sleep(1.2)  # what was there has settled
    see = run.freezer.before_freeze

    def write() -> None:
        run.freezer.before_freeze = see
        for number in range(mebibytes // 8):
            (run.root / "here" / f"late{number}").write_bytes(os.urandom(8 * MIB))

    run.freezer.before_freeze = write
    (run.root / "here/early").write_bytes(os.urandom(1000))


def queue(run: Run, directory: Path | None, memory: int, disk_bytes: int) -> Queue:
    """The maker's, with these limits."""
    run.maker.queue.directory = str(directory) if directory is not None else None
    run.maker.queue.room = Room(memory, disk_bytes)
    return run.maker.queue


def test_what_does_not_fit_into_memory_while_frozen_goes_to_disk(run: Run, tmp_path: Path) -> None:
    run.mirror()
    assert run.point() == []
    made = queue(run, tmp_path, 4 * MIB, 64 * MIB)
    most: list[tuple[int, int, list[str]]] = []
    see = run.see

    def look() -> None:
        most.append((made.memory_bytes, made.disk_bytes, [p.name for p in tmp_path.iterdir() if p.is_file()]))
        see()

    run.freezer.before_thaw = look
    before = {path.name for path in tmp_path.iterdir()}
    burst(run, 32)
    assert run.point() == []
    (memory, on_disk, names) = most[-1]
    assert memory <= 4 * MIB
    assert 27 * MIB < on_disk <= 64 * MIB
    assert set(names) <= before, "a queue that is killed leaves no file"
    run.maker.hear(run.model, 0.0)
    assert (made.memory_bytes, made.disk_bytes) == (0, 0)


@pytest.mark.parametrize("full", ["limit", "no disk queue", "disk"])
def test_what_fits_nowhere_puts_the_point_off_and_the_next_passes_take_it(run: Run, tmp_path: Path, full: str) -> None:
    run.mirror()
    assert run.point() == []
    with disk(tmp_path, "ext4", 16, "small") as small:
        where = None if full == "no disk queue" else small.path if full == "disk" else tmp_path
        made = queue(run, where, 4 * MIB, (1 << 30) if full == "disk" else 8 * MIB)
        burst(run, 32)
        with pytest.raises(PutOff) as why:
            run.maker.make(run.model)
        assert why.value.reason == "QueueFull"
        assert ("No space left" in why.value.message) == (full == "disk")
        assert made.disk_bytes == 0
        assert run.point() == []


def cut_off_while_sending(run: Run, directory: Path) -> None:
    """After a first point: another one, of which a part waits on disk, breaks off while it is sent."""
    run.mirror()
    assert run.point() == []
    queue(run, directory, 4 * MIB, 64 * MIB)
    burst(run, 16)
    run.model.cut = True
    with pytest.raises(Disconnected):
        run.maker.make(run.model)


def test_a_point_that_was_cut_off_while_it_was_sent_is_told_from_the_queue_without_another_freeze(
    run: Run, tmp_path: Path
) -> None:
    cut_off_while_sending(run, tmp_path)
    truth, run.truth = run.truth, None
    assert truth is not None
    assert run.maker.waiting_bytes > 12 * MIB
    for path in (run.root / "here").iterdir():
        path.write_bytes(b"of a later moment")
    assert run.maker.go_on(run.model)
    assert run.truth is None, "nothing was frozen"
    assert differences(truth, run.model.root) == []
    run.maker.hear(run.model, 0.0)
    assert run.maker.waiting_bytes == 0
    assert run.point() == []


def test_what_the_disk_gives_back_wrong_is_read_anew(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cut_off_while_sending(run, tmp_path)
    sent = run.maker._sent
    assert sent is not None
    assert sent.kept is not None
    fd = sent.kept.tapes[1]._fd
    assert fd is not None
    os.pwrite(fd, b"damage", 5 * PIECE)
    with pytest.raises(QueueLost):
        run.maker.go_on(run.model)
    assert run.maker.go_on(run.model)
    assert run.point() == []
    assert run.maker.queue.disk_bytes == 0


def test_a_tape_gives_back_what_was_added_wherever_it_lies(tmp_path: Path) -> None:
    made = Queue(str(tmp_path), Room(memory=1000, disk=3000))
    tape = made.tape()
    for number in range(3):
        tape.add(RecordKind.OBJECT, b"x" * 300, bytes([number]))
    mark = tape.mark()
    tape.add(RecordKind.CONTENT, b"y" * 2000)
    with pytest.raises(QueueFull):
        tape.add(RecordKind.CONTENT, b"y" * 2000)
    tape.cut(mark)
    tape.add(RecordKind.NAMES, b"z" * 2000)
    found = [(kind, bytes(payload)) for kind, payload in tape]
    objects = [(RecordKind.OBJECT, b"x" * 300 + bytes([number])) for number in range(3)]
    assert found == [*objects, (RecordKind.NAMES, b"z" * 2000)]
    assert made.disk_bytes > 2000
    _forget(tape)
    assert (made.memory_bytes, made.disk_bytes) == (0, 0)


def _forget(tape: Tape) -> None:
    tape.clear()
    assert list(tape) == []
    assert tape.size == 0
