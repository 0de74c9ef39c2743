"""The tracer as a process, and what an engine without CAP_SYS_ADMIN has of it: all that it needs, and nothing more."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from storagemirror.fs.syscalls import syncfs
from storagemirror.fs.trace import Hints, Trace, TraceUnavailable, receive_trace
from storagemirror.fs.trace import handover as words
from storagemirror.fs.trace.tracefs import open_tracefs
from tests.support.disks import Disk, disk
from tests.support.guards import SIZES, opened, until
from tests.support.tracers import ENGINE, Tracers, tracers

P = 4096


@pytest.fixture(params=["ext4"])
def volume(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Disk]:
    with disk(tmp_path, request.param, SIZES[request.param]) as made:
        yield made


@pytest.fixture
def tracer(volume: Disk, tmp_path: Path) -> Iterator[Tracers]:
    with tracers(tmp_path, volume.path) as made:
        yield made


@pytest.fixture
def root(volume: Disk) -> Iterator[int]:
    with opened(volume.path) as fd:
        syncfs(fd)
        yield fd


@pytest.fixture(autouse=True)
def of_another_user(volume: Disk) -> None:
    """The root of the volume, as a database has it."""
    os.chown(volume.path, 999, 999)
    volume.path.chmod(0o700)


def received(root: int, tracer: Tracers) -> Trace:
    return receive_trace(root, str(tracer.shared))


def refused(root: int, tracer: Tracers) -> str:
    with pytest.raises(TraceUnavailable) as caught:
        received(root, tracer).close()
    return caught.value.reason


def change(volume: Disk, name: str) -> int:
    path = volume.path / name
    path.write_bytes(b"x" * P)
    return path.stat().st_ino


def engine(code: str, *arguments: object, descriptors: tuple[int, ...] = ()) -> subprocess.Popen[str]:
    """A process with the engine's rights that runs `code`."""
    return subprocess.Popen(
        [*ENGINE, sys.executable, "-c", code, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        pass_fds=descriptors,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


def plain(tracer: Tracers) -> int:
    """A file of the instance, opened for reading in a mount that can be written."""
    tracefs = open_tracefs()
    try:
        return os.open(f"instances/storagemirror-{tracer.uid}/tracing_on", os.O_RDONLY, dir_fd=tracefs)
    finally:
        os.close(tracefs)


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


READS = """
import os, sys
from storagemirror.fs.trace import receive_trace
root = os.open(sys.argv[1], os.O_RDONLY | os.O_DIRECTORY)
trace = receive_trace(root, sys.argv[2])
print("ready", flush=True)
for said in sys.stdin:
    hints = trace.drain()
    print(*sorted(hints.pages), hints.why, flush=True)
"""


@pytest.mark.parametrize("volume", SIZES, indirect=True)
def test_an_engine_without_the_capability_has_the_trace_and_leaves_nothing_when_it_is_killed(
    volume: Disk, tracer: Tracers
) -> None:
    tracer.start()
    assert not tracer.instance  # nobody has asked
    for number in range(2):
        process = engine(READS, volume.path, tracer.shared)
        assert line(process) == "ready"
        assert tracer.instance
        ino = change(volume, f"file-{number}")
        assert process.stdin is not None
        process.stdin.write("drain\n")
        process.stdin.flush()
        assert str(ino) in line(process).split()
        process.kill()
        process.wait()
        until(lambda: not tracer.instance, 5)


TRIES = """
import os, sys
from storagemirror.fs.trace import handed
if len(sys.argv) > 2:
    root, found = None, [int(sys.argv[1])]
else:
    found = list(handed.HandedKeeper(sys.argv[1] + "/tracer.sock").files._descriptors.values())
done = 0
for fd in found:
    for flags in (os.O_WRONLY, os.O_RDWR):
        try:
            os.open(f"/proc/self/fd/{fd}", flags)
            done += 1
        except OSError:
            pass
    for change in (lambda: os.fchmod(fd, 0o666), lambda: os.open("..", os.O_RDONLY, dir_fd=fd),
                   lambda: os.open(f"/proc/self/fd/{fd}/..", os.O_RDONLY), lambda: os.write(fd, b"0")):
        try:
            change()
            done += 1
        except OSError:
            pass
print(len(found), done)
"""


def test_what_an_engine_is_given_can_only_be_read(volume: Disk, tracer: Tracers, root: int) -> None:
    tracer.start()
    files, done = line(engine(TRIES, tracer.shared)).split()
    assert int(files) > 30
    assert done == "0"
    until(lambda: not tracer.instance, 5)
    # One that was merely opened for reading is more than that: root opens its file again, and needs no capability.
    with received(root, tracer):
        merely = plain(tracer)
        _, done = line(engine(TRIES, merely, "plain", descriptors=(merely,))).split()
        os.close(merely)
    assert int(done) >= 2


# -- what others do to the trace


def test_a_setting_that_somebody_changed_is_told_and_put_right_by_the_tracer(
    volume: Disk, tracer: Tracers, root: int
) -> None:
    tracer.start()
    with received(root, tracer) as trace:
        for path, text in (
            ("events/enable", "0"),
            ("tracing_on", "0"),
            ("events/writeback/writeback_dirty_folio/filter", "0"),
        ):
            tracer.write(path, text)
            told = trace.drain()
            assert told.lost, path
            assert "settings" in told.why
            ino = change(volume, path.replace("/", "-"))
            found = trace.drain()
            assert not found.lost, found.why
            assert ino in found.pages, path


@pytest.mark.parametrize("volume", ["btrfs"], indirect=True)
def test_a_subvolume_that_comes_later_is_told_by_the_tracer(volume: Disk, tracer: Tracers, root: int) -> None:
    tracer.start()
    with received(root, tracer) as trace:
        assert trace.drain() == Hints()
        subprocess.run(["btrfs", "-q", "subvolume", "create", volume.path / "sub"], check=True)
        told = trace.drain()
        assert told.lost
        assert "subvolume" in told.why


# -- kills


def test_a_tracer_that_is_killed_takes_nothing_with_it_and_the_next_one_removes_its_instance(
    volume: Disk, tracer: Tracers, root: int
) -> None:
    first = tracer.start()
    with received(root, tracer) as trace:
        assert not trace.gone
        ino = change(volume, "before")
        first.kill()
        first.wait()
        later = change(volume, "after")
        hints = trace.drain()
        assert {ino, later} <= hints.pages.keys()
        assert not hints.lost
        assert trace.gone
        tracer.write("tracing_on", "0")  # and now nobody can put that right
        told = trace.drain()
        assert told.lost
        assert "gone" in told.why
        tracer.start()
        assert tracer.instance  # the engine holds it
    with received(root, tracer) as trace:
        ino = change(volume, "again")
        assert ino in trace.drain().pages
    until(lambda: not tracer.instance, 5)


def test_what_engine_and_tracer_have_left_is_removed_by_the_next_tracer_of_the_node(
    volume: Disk, tracer: Tracers
) -> None:
    first = tracer.start()
    process = engine(READS, volume.path, tracer.shared)
    assert line(process) == "ready"
    held = plain(tracer)  # or another test's agent removes it, in the same kernel
    for each in (first, process):
        each.kill()
        each.wait()
    assert tracer.instance
    stale, tracer.uid = tracer.uid, f"{tracer.uid}-other"
    os.close(held)
    tracer.start()
    tracer.uid = stale
    until(lambda: not tracer.instance, 5)


def test_a_tracer_that_hangs_delays_no_freeze(volume: Disk, tracer: Tracers, root: int) -> None:
    hung = tracer.start()
    with received(root, tracer) as trace:
        hung.send_signal(signal.SIGSTOP)
        ino = change(volume, "while it hangs")
        found = trace.drain(frozen=True)
        assert ino in found.pages
        assert not found.lost
        tracer.write("tracing_on", "0")
        begun = time.monotonic()
        told = trace.drain(frozen=True)
        took = time.monotonic() - begun
        assert told.lost
        assert "does not answer" in told.why
        assert took < 2, took
        assert trace.gone
        hung.send_signal(signal.SIGCONT)


def test_told_to_end_it_lets_the_engine_finish_and_leaves_nothing(volume: Disk, tracer: Tracers, root: int) -> None:
    process = tracer.start()
    trace = received(root, tracer)
    process.terminate()
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.5)
    assert change(volume, "last") in trace.drain().pages
    trace.close()
    assert process.wait(5) == 0
    assert not tracer.instance
    alone = tracer.start()
    alone.terminate()
    assert alone.wait(5) == 0


# -- engines that mean no good


def test_an_engine_that_keeps_what_it_was_given_gets_no_second_instance(tracer: Tracers, root: int) -> None:
    tracer.start()
    trace = received(root, tracer)
    kept = trace._keeper.files.open("tracing_on")
    trace.close()
    assert refused(root, tracer) == "NoTracefs"
    os.close(kept)
    received(root, tracer).close()


def test_an_engine_that_talks_nonsense_is_let_go(tracer: Tracers, root: int) -> None:
    process = tracer.start()
    for packet, carried in ((b"rm -rf", []), (b"open now", []), (b"open", [root]), (b"x" * 9000, []), (b"check", [])):
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as hostile:
            hostile.settimeout(5)
            hostile.connect(str(tracer.shared / words.SOCKET_NAME))
            socket.send_fds(hostile, [packet], carried)
            assert hostile.recv(100) == b""
    assert process.poll() is None
    received(root, tracer).close()


# -- where it cannot be had


def test_without_a_tracer_or_its_privilege_it_says_so(tracer: Tracers, root: int) -> None:
    assert refused(root, tracer) == "TracerNotReady"
    tracer.start(*ENGINE)
    assert refused(root, tracer) == "NoTracePrivilege"


def test_a_file_system_that_is_not_traced_is_told(tmp_path: Path) -> None:
    with disk(tmp_path, "tmpfs", 1, "other") as made, tracers(tmp_path, made.path) as tracer, opened(made.path) as root:
        tracer.start()
        assert refused(root, tracer) == "FileSystemUntraced"


def test_a_tracer_of_another_device_is_not_taken_at_its_word(tracer: Tracers, tmp_path: Path) -> None:
    with disk(tmp_path, "ext4", 64, "other") as other, opened(other.path) as root:
        tracer.start()
        assert refused(root, tracer) == "DeviceNotFound"
