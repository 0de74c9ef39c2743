"""Points by the kernel's trace: what is read while the volume stands still is what was named, and what is not named, or
lost, or taken away, is in the point all the same."""

from __future__ import annotations

import mmap
import os
import random
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from functools import partial
from pathlib import Path

import pytest

from storagemirror.contract import Capture
from storagemirror.fs.trace import Trace, TraceUnavailable, open_trace
from storagemirror.fs.trace.keeping import OwnKeeper
from storagemirror.sync.freezing import NotFrozen
from storagemirror.sync.pointmaker.standstill import Limits, PutOff
from tests.support.disks import disk
from tests.support.pointrun import PATIENT, Run, traced
from tests.support.writers import P, aligned, opened

MIB = 1 << 20


@pytest.fixture
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Run]:
    """On the kind of file system that is asked for, and with room for so much; with the smallest ring buffers if so."""
    kind, mebibytes, *memory = getattr(request, "param", ("ext4", 64))
    with disk(tmp_path, kind, max(400, mebibytes + mebibytes // 4)) as made:
        (made.path / "here").mkdir()
        with closing(traced(made.path, *memory)) as run:
            yield run


def kernel_trace(run: Run) -> Trace:
    assert run.traced is not None
    assert run.traced._trace is not None
    return run.traced._trace


def keeper(run: Run) -> OwnKeeper:
    found = kernel_trace(run)._keeper
    assert isinstance(found, OwnKeeper)
    return found


def nothing() -> None:
    pass


def mode(run: Run) -> Capture:
    assert run.traced is not None
    return run.traced.mode


def fill(path: Path, mebibytes: int) -> None:
    """Every page another."""
    with path.open("wb") as file:
        for _ in range(mebibytes):
            file.write(os.urandom(MIB))


def overwrite(path: Path, pages: list[int]) -> None:
    """Of each three pages one with write, one through a map, one with direct I/O."""
    with opened(path) as fd, mmap.mmap(fd, 0) as mapping:
        for page in pages[0::3]:
            os.pwrite(fd, os.urandom(P), page * P)
        for page in pages[1::3]:
            mapping[page * P : page * P + 100] = os.urandom(100)
    with opened(path, os.O_RDWR | os.O_DIRECT) as fd:
        for page in pages[2::3]:
            os.pwritev(fd, [aligned(1, os.urandom(1))], page * P)


LARGE = {"ext4": 1024, "xfs": 256, "btrfs": 256}
"""MiB."""


def forget(path: Path) -> None:
    """Have the page cache forget it, as of a file that memory has no room for."""
    with opened(path) as fd:
        os.fsync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)


@pytest.mark.parametrize("run", LARGE.items(), indirect=True, ids=str)
def test_of_a_large_file_only_what_was_named_is_read(run: Run) -> None:
    large, size = run.root / "here/large", LARGE[run.kind]
    run.mirror()
    run.prove()
    fill(large, size)
    assert run.point() == []
    time.sleep(1.2)
    chance = random.Random(1)
    figures = run.maker.figures
    # Where the page cache keeps it in large folios, a page's name is that of up to 2 MiB.
    for cached, most in ((False, 24 * MIB), (True, 80 * MIB)):
        live, late = (chance.sample(range(size * 256), 60) for _ in range(2))

        def write(pages: list[int], cached: bool = cached) -> None:
            if not cached:
                forget(large)
            overwrite(large, pages)

        write(live)
        before, told = figures.frozen_bytes, run.model.content_bytes
        run.freezer.before_freeze = partial(write, late)
        assert run.point() == []
        run.freezer.before_freeze = nothing
        read, told = figures.frozen_bytes - before, run.model.content_bytes - told
        print(f"{run.kind}, {size} MiB, cached {cached}: read while frozen {read:,}, told {told:,}")
        assert 60 * P <= read < most
        assert told < 24 * MIB


def test_what_is_named_after_the_drain_is_not_taken_for_told(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    path, sync = run.root / "here/two-pages", run.volume.sync
    path.write_bytes(os.urandom(40 * P))
    run.mirror()
    run.prove()
    overwrite(path, [30])
    assert run.point() == []
    overwrite(path, [0])

    def late() -> None:
        overwrite(path, [1])  # in the block that is read next, and not named yet
        sync()

    monkeypatch.setattr(run.volume, "sync", late)
    assert run.point() == []


def test_a_store_that_inotify_does_not_tell_of_is_in_the_point_where_ctimes_are_not_looked_at(run: Run) -> None:
    path = run.root / "here/mapped"
    path.write_bytes(os.urandom(40 * P))
    run.mirror()
    run.prove()
    run.maker.limits = Limits(max_stall=30.0, look_seconds=-1.0)
    with opened(path) as fd, mmap.mmap(fd, 0) as mapping:
        for number in range(3):
            (run.root / "here/other").write_bytes(os.urandom(9))
            where = slice(number * P, number * P + 3)
            run.freezer.before_freeze = partial(mapping.__setitem__, where, b"now")
            assert run.point() == []
        run.freezer.before_freeze = nothing
    assert run.maker.figures.missed == 0


def lost(trace: Trace) -> list[bytes]:
    """Of each processor's ring, the line that counts what was overwritten before it was read."""
    stats = (os.pread(pipe.stats, 4096, 0).splitlines() for pipe in trace._pipes._pipes)
    return [next(line for line in lines if line.startswith(b"overrun:")) for lines in stats]


@pytest.mark.parametrize("run", [("ext4", 64, 1), ("xfs", 64, 1), ("btrfs", 64, 1)], indirect=True, ids=str)
@pytest.mark.parametrize("when", ["live", "frozen"])
def test_what_overran_is_compared_as_a_whole(run: Run, when: str, caplog: pytest.LogCaptureFixture) -> None:
    large = run.root / "here/large"
    fill(large, 64)
    run.mirror()
    run.prove()

    def flood() -> None:
        trace = kernel_trace(run)
        with trace._lock, opened(large) as fd:  # as when the process gets no time
            number, before = 0, lost(trace)
            while lost(trace) == before:  # the busy machine may have lost some already
                if number % 16_000 == 0:
                    forget(large)
                os.pwrite(fd, b"%d" % number, number * 7919 % (16 * 1024) * P)
                number += 1

    if when == "live":
        flood()
    else:
        (run.root / "here/other").write_bytes(b"so that there is a point")
        run.freezer.before_freeze = flood
    assert run.point() == []
    run.freezer.before_freeze = nothing
    assert "overran" in caplog.text
    overwrite(large, [5, 700, 9000])
    assert run.point() == []
    assert run.traced is not None
    assert run.traced.names_pages


def test_who_turns_the_trace_off_changes_no_point(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    large = run.root / "here/large"
    fill(large, 8)
    run.mirror()
    run.prove()
    keeper(run).files.write("tracing_on", "0")
    overwrite(large, [1, 100, 1000])
    assert run.point() == []
    assert "settings" in caplog.text
    overwrite(large, [2, 200, 1200])
    assert run.point() == []
    assert run.traced is not None
    assert run.traced.names_pages


@pytest.mark.parametrize("run", [("btrfs", 64)], indirect=True, ids=str)
def test_a_trace_that_is_taken_away_is_given_up_with_a_reason_and_comes_back(run: Run) -> None:
    large, capture = run.root / "here/large", run.traced
    assert capture is not None
    fill(large, 8)
    run.mirror()
    run.prove()
    assert (capture.mode, capture.reason) == (Capture.TRACE, "")
    subprocess.run(["btrfs", "subvolume", "create", run.root / "sub"], check=True, capture_output=True)
    for number in range(3):
        overwrite(large, [number, 100 + number, 1000 + number])
        assert run.point() == ["/b'sub': only there"]  # another file system, and so no part of the volume
    assert mode(run) is Capture.WATCH
    assert capture.reason.startswith("TraceLost: btrfs with subvolumes")
    subprocess.run(["btrfs", "subvolume", "delete", run.root / "sub"], check=True, capture_output=True)
    subprocess.run(["btrfs", "subvolume", "sync", run.root], check=True, capture_output=True)
    capture._again = 0.0  # as after a minute
    run.prove()
    assert mode(run) is Capture.TRACE
    overwrite(large, [7, 170, 1070])
    assert run.point() == []


def test_a_trace_that_ends_under_us_is_given_up_with_a_reason(run: Run) -> None:
    large, capture = run.root / "here/large", run.traced
    assert capture is not None
    fill(large, 8)
    run.mirror()
    run.prove()
    kernel_trace(run).close()
    for number in range(3):
        overwrite(large, [number, 100 + number, 1000 + number])
        assert run.point() == []
    assert mode(run) is Capture.WATCH
    assert capture.reason == "TraceLost: the trace is closed"


def test_without_privilege_there_are_points_and_the_reason_is_told(tmp_path: Path) -> None:
    def refused(fd: int) -> Trace:
        raise TraceUnavailable("not allowed", reason="NoTracePrivilege")

    with disk(tmp_path, "ext4", 64) as made, closing(Run(made.path, PATIENT, refused)) as run:
        (made.path / "a").write_bytes(b"a")
        run.mirror()
        assert run.point() == []
        assert run.traced is not None
        assert run.traced.mode is Capture.WATCH
        assert run.traced.reason == "NoTracePrivilege: not allowed"


def test_a_trace_of_another_device_is_never_relied_on(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    with (
        disk(tmp_path / "other", "ext4", 64) as other,
        disk(tmp_path, "ext4", 400) as made,
        opened(other.path, 0) as fd,
    ):
        (made.path / "here").mkdir()
        with closing(Run(made.path, PATIENT, lambda _: open_trace(fd, f"test-{os.getpid()}-wrong"))) as run:
            fill(made.path / "here/large", 8)
            run.mirror()
            for number in range(4):
                overwrite(made.path / "here/large", [number, 100 + number, 1000 + number])
                assert run.point() == []
            assert run.traced is not None
            assert run.traced.mode is Capture.WATCH
            assert run.traced.reason.startswith("TraceUnproven")


def test_a_trace_that_leaves_a_file_out_is_found_out_and_what_it_missed_is_mended(run: Run) -> None:
    path, capture = run.root / "here/left-out", run.traced
    assert capture is not None
    fill(path, 1)
    run.mirror()
    run.prove()
    overwrite(path, [1, 2, 3])
    assert run.point() == []
    kept, event = keeper(run), "events/writeback/writeback_dirty_folio/filter"
    wrong = kept.files.read(event).strip() + f" && ino != {path.stat().st_ino}"
    kept.files.write(event, wrong)
    kept.settings.expected[event] = kept.files.read(event).strip()
    wrong_points = 0
    for number in range(40):
        overwrite(path, [16 * (number % 5), 16 * (number % 4) + 5, 16 * (number % 3) + 9])
        with suppress(PutOff):
            wrong_points += run.point() != []
        if capture.broken:
            break
    assert wrong_points, "a trace that is wrong makes wrong points until it is found out"
    assert capture.reason.startswith("TraceBroken")
    assert set(run.maker.figures.put_off) <= {"TraceBroken"}
    overwrite(path, [1, 2, 3])
    assert run.point() == []
    assert run.maker.figures.missed == 1
    assert mode(run) is Capture.WATCH


@pytest.mark.parametrize("run", [("ext4", 64), ("xfs", 300)], indirect=True, ids=["ext4", "xfs"])
def test_what_is_overwritten_all_the_time_proves_the_trace_without_a_freeze(run: Run) -> None:
    hot = run.root / "here" / "hot"
    fill(hot, 16)
    run.mirror()
    run.maker.limits = Limits(max_stall=30.0)
    assert run.point() == []
    assert mode(run) is not Capture.TRACE
    stop = threading.Event()

    def overwrite() -> None:
        chance = random.Random(7)
        with hot.open("r+b", buffering=0) as file:
            while not stop.wait(0.002):
                file.seek(chance.randrange(256) * 64 * 1024)
                file.write(os.urandom(64 * 1024))

    writer = threading.Thread(target=overwrite)
    writer.start()
    put_off = 0
    try:
        run.maker.limits = Limits(max_stall=0.045, look_seconds=0.02)  # 16 MiB are too much to be read in that time
        run.maker._standstill._freeze_seconds, run.maker._standstill._read_rate = 0.03, 1e9
        end = time.monotonic() + 20.0
        while put_off < 15 and time.monotonic() < end:
            stalls = len(run.maker.figures.stalls)
            try:
                run.maker.make(run.model)
            except (PutOff, NotFrozen):
                put_off += 1
            if mode(run) is Capture.TRACE:
                break
            assert len(run.maker.figures.stalls) == stalls, "it was frozen: the test proves nothing"
    finally:
        stop.set()
        writer.join()
    # Frozen it can only have been once the trace was proven: before that too much was to be read.
    assert mode(run) is Capture.TRACE
    run.maker.limits = PATIENT
    assert run.point() == []
    assert run.maker.figures.missed == 0
