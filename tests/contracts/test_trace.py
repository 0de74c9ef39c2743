"""The trace on real file systems: when it can be trusted, when it says that it cannot, and what it leaves behind."""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from storagemirror.errors import BadInput
from storagemirror.fs.syscalls import syncfs
from storagemirror.fs.trace import Hints, Proof, TraceUnavailable, Trust, merged, open_trace
from storagemirror.fs.trace.device import find_device
from storagemirror.fs.trace.tracefs import PREFIX, open_tracefs
from tests.support.disks import Disk, disk
from tests.support.freezing import frozen
from tests.support.writers import P, aligned, opened

SIZES = {"ext4": 64, "xfs": 320, "btrfs": 128}


@pytest.fixture(scope="module", params=SIZES)
def mounted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Disk]:
    with disk(tmp_path_factory.mktemp("trace"), request.param, SIZES[request.param]) as made:
        yield made


@pytest.fixture
def root(mounted: Disk) -> Iterator[int]:
    for path in mounted.path.iterdir():
        if path.is_file():
            path.unlink()
    fd = os.open(mounted.path, os.O_RDONLY)
    syncfs(fd)
    yield fd
    os.close(fd)


@pytest.fixture
def ext4(tmp_path: Path) -> Iterator[Disk]:
    with disk(tmp_path, "ext4", 64) as made:
        yield made


def me(name: str) -> str:
    """An instance's name that no other run of these tests has: tracefs is the whole machine's."""
    return f"test-{os.getpid()}-{name}"


def instances() -> list[str]:
    tracefs = open_tracefs()
    try:
        directory = os.open("instances", os.O_RDONLY, dir_fd=tracefs)
        found = [name for name in os.listdir(directory) if name.startswith(PREFIX + me(""))]
        os.close(directory)
    finally:
        os.close(tracefs)
    return sorted(found)


def setting(uid: str, path: str, text: str) -> None:
    """As somebody else on the node sets it."""
    tracefs = open_tracefs()
    fd = os.open(f"instances/{PREFIX}{uid}/{path}", os.O_WRONLY, dir_fd=tracefs)
    os.write(fd, text.encode())
    os.close(fd)
    os.close(tracefs)


def add_partition(device: str, start: int, length: int) -> None:
    """Number 1, without a table on the disk (BLKPG of linux/blkpg.h)."""
    partition = ctypes.create_string_buffer(struct.pack("=qqi64s64s4x", start, length, 1, b"", b""))
    request = struct.pack("=iii4xQ", 1, 0, len(partition), ctypes.addressof(partition))
    fd = os.open(device, os.O_RDWR)
    try:
        fcntl.ioctl(fd, 0x1269, request)
    finally:
        os.close(fd)


def number(path: Path) -> int:
    return path.stat().st_ino


def covers(hints: Hints, ino: int, start: int, end: int) -> bool:
    return any(low <= start and end <= high for low, high in hints.pages.get(ino, ()))


# -- the order of a pass


def test_a_page_is_named_again_when_it_was_written_back_and_not_before(mounted: Disk, root: int) -> None:
    """Drain, syncfs, read. Who reads before the sync has a page that is old at the point, and nobody names it."""
    file = mounted.path / "page"
    file.write_bytes(b"0" * P)
    with opened(file) as fd, open_trace(root, me("order")) as trace:
        for synced in (False, True):
            syncfs(root)
            trace.drain()
            os.pwrite(fd, b"1" * P, 0)
            assert covers(trace.drain(), number(file), 0, P)
            if synced:
                syncfs(root)
            os.pwrite(fd, b"2" * P, 0)
            with frozen(root):
                named = number(file) in trace.drain(frozen=True).pages
            assert named is synced


def test_a_store_after_the_sync_is_named_again(mounted: Disk, root: int) -> None:
    file = mounted.path / "map"
    file.write_bytes(b"0" * P)
    with opened(file) as fd, mmap.mmap(fd, P) as memory, open_trace(root, me("store")) as trace:
        syncfs(root)
        memory[0] = 1
        assert covers(trace.drain(), number(file), 0, P)
        syncfs(root)
        memory[0] = 2
        with frozen(root):
            assert covers(trace.drain(frozen=True), number(file), 0, P)


def test_direct_io_is_named_when_it_begins_so_it_stands_until_the_freeze(tmp_path: Path) -> None:
    """The file system lies on a file of another, which is frozen: the write begins, and does not land. A live pass
    reads what was there before, and the event does not come twice."""
    with disk(tmp_path, "xfs", 400, "below") as below, disk(below.path, "ext4", 64, "above") as above:
        file = above.path / "f"
        file.write_bytes(b"o" * (16 * P))
        ino = number(file)
        fd, under = os.open(above.path, os.O_RDONLY), os.open(below.path, os.O_RDONLY)
        syncfs(fd)
        with open_trace(fd, me("begun")) as trace:
            with frozen(under):
                code = f"import mmap, os; m = mmap.mmap(-1, {P}); m.write(b'N' * {P}); "
                code += f"os.pwrite(os.open({str(file)!r}, os.O_RDWR | os.O_DIRECT), m, {2 * P})"
                writer = subprocess.Popen([sys.executable, "-c", code])
                live = Hints()
                deadline = time.monotonic() + 20
                while ino not in live.direct and time.monotonic() < deadline:
                    live = live.joined(trace.drain())
                    time.sleep(0.02)
                assert covers(live, ino, 2 * P, 3 * P)
                assert writer.poll() is None
            assert writer.wait(20) == 0
            with frozen(fd):
                at_the_point = trace.drain(frozen=True)
                assert file.read_bytes()[2 * P] == ord("N")
        for each in (fd, under):
            os.close(each)
    assert not covers(at_the_point, ino, 2 * P, 3 * P)
    assert covers(live.standing().joined(at_the_point), ino, 2 * P, 3 * P)


def test_direct_reads_are_not_named(mounted: Disk, root: int) -> None:
    file = mounted.path / "read"
    file.write_bytes(b"r" * (64 * P))
    syncfs(root)
    with opened(file, os.O_RDONLY | os.O_DIRECT) as fd, open_trace(root, me("reads")) as trace:
        for page in range(64):
            os.preadv(fd, [aligned(1, b"x")], page * P)
        assert number(file) not in trace.drain().pages
        with frozen(root):
            assert number(file) not in trace.drain(frozen=True).pages


# -- the device


def test_what_happens_on_other_file_systems_does_not_even_reach_the_buffer(ext4: Disk, tmp_path: Path) -> None:
    fd = os.open(ext4.path, os.O_RDONLY)
    with disk(tmp_path, "ext4", 64, "other") as other, open_trace(fd, me("filter"), interval=3600) as trace:
        (other.path / "f").write_bytes(b"x" * (1 << 20))
        with opened(other.path / "f", os.O_RDWR | os.O_DIRECT) as direct:
            os.pwrite(direct, aligned(4, b"d"), 0)
        os.truncate(other.path / "f", 0)
        tracefs = open_tracefs()
        read = 0
        for cpu in range(os.cpu_count() or 1):
            stats = os.open(f"instances/{PREFIX}{me('filter')}/per_cpu/cpu{cpu}/stats", os.O_RDONLY, dir_fd=tracefs)
            read += int(os.read(stats, 4096).split(b"entries: ")[1].split()[0])
            os.close(stats)
        os.close(tracefs)
        assert read == 0
        assert trace.drain() == Hints()
    os.close(fd)


def test_on_a_partition_the_events_name_the_disk(tmp_path: Path) -> None:
    """With the number of the partition, as stat(2) tells it, nothing would ever be seen."""
    image, path = tmp_path / "image", tmp_path / "mounted"
    path.mkdir()
    subprocess.run(["truncate", "-s", "64M", image], check=True)
    loop = subprocess.run(["losetup", "--show", "-P", "-f", image], check=True, capture_output=True, text=True).stdout
    device = loop.strip()
    try:
        add_partition(device, 1 << 20, 62 << 20)
        subprocess.run(["mkfs.ext4", "-q", f"{device}p1"], check=True)
        subprocess.run(["mount", f"{device}p1", path], check=True)
        fd = os.open(path, os.O_RDONLY)
        try:
            found = find_device(fd)
            partition = os.fstat(fd).st_dev
            disk_number = os.stat(device).st_rdev
            assert found.bdi == f"{os.major(disk_number)}:{os.minor(disk_number)}"
            assert found.bdi != f"{os.major(partition)}:{os.minor(partition)}"
            with open_trace(fd, me("partition")) as trace:
                assert trace.prove(fd)
                assert trace.trust.proof is Proof.PROVEN
                with opened(path / "f", os.O_RDWR | os.O_CREAT | os.O_DIRECT) as direct:
                    os.pwrite(direct, aligned(4, b"d"), 0)
                    assert trace.drain().direct == {os.fstat(direct).st_ino: ((0, 4 * P),)}
        finally:
            os.close(fd)
            subprocess.run(["umount", path], check=False)
    finally:
        subprocess.run(["losetup", "-d", device], check=False)


def test_it_is_proven_by_a_write_where_we_may_write(mounted: Disk, root: int, tmp_path: Path) -> None:
    with open_trace(root, me("prove")) as trace:
        assert trace.trust == Trust()
        subprocess.run(["mount", "--bind", mounted.path, tmp_path], check=True)
        subprocess.run(["mount", "-o", "remount,bind,ro", tmp_path], check=True)
        try:
            only_read = os.open(tmp_path, os.O_RDONLY)
            assert not trace.prove(only_read)
            os.close(only_read)
        finally:
            subprocess.run(["umount", tmp_path], check=True)
        assert trace.trust == Trust()
        assert trace.prove(root)
        assert trace.trust.proof is Proof.PROVEN


def test_a_trace_that_sees_nothing_is_found_out(ext4: Disk) -> None:
    fd = os.open(ext4.path, os.O_RDONLY)
    with open_trace(fd, me("blind")) as trace:
        setting(me("blind"), "events/writeback/writeback_dirty_folio/filter", 'name == "0:0"')
        assert trace.prove(fd)
        assert trace.trust.proof is Proof.BROKEN
        assert trace.trust.missed == 1
        trace.trust.compared(named=5, missed=0)
        assert trace.trust.proof is Proof.BROKEN
    os.close(fd)


# -- where it cannot be had


def refused(path: Path) -> str:
    fd = os.open(path, os.O_RDONLY)
    try:
        with pytest.raises(TraceUnavailable) as caught:
            open_trace(fd, me("refused")).close()
    finally:
        os.close(fd)
    assert me("refused") not in "".join(instances())
    assert len(caught.value.message) > 20
    return caught.value.reason


def test_other_file_systems_are_refused(tmp_path: Path) -> None:
    with disk(tmp_path, "tmpfs", 1) as made:
        assert refused(made.path) == "FileSystemUntraced"
    with disk(tmp_path, "ext4", 64, "journal") as made:
        subprocess.run(["umount", made.path], check=True)
        subprocess.run(["mount", "-o", "data=journal", made.device, made.path], check=True)
        assert refused(made.path) == "FileSystemUntraced"


def test_btrfs_with_subvolumes_is_refused_and_one_that_comes_later_is_told(tmp_path: Path) -> None:
    with disk(tmp_path, "btrfs", 128) as made:
        fd = os.open(made.path, os.O_RDONLY)
        with open_trace(fd, me("subvolume")) as trace:
            assert not trace.drain().lost
            subprocess.run(["btrfs", "-q", "subvolume", "create", made.path / "sub"], check=True)
            late = trace.drain()
            assert late.lost
            assert "subvolume" in late.why
            os.close(fd)
            assert refused(made.path) == "SeveralSubvolumes"
            subprocess.run(["btrfs", "-q", "subvolume", "delete", "-c", made.path / "sub"], check=True)
            subprocess.run(["btrfs", "subvolume", "sync", made.path], check=True, capture_output=True)
            assert not trace.drain().lost


def test_without_privilege_it_says_so(ext4: Disk) -> None:
    fd = os.open(ext4.path, os.O_RDONLY)
    into, out = os.pipe()
    child = os.fork()
    if child == 0:
        os.setgroups([])
        os.setresgid(65534, 65534, 65534)
        os.setresuid(65534, 65534, 65534)
        ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)  # PR_SET_DUMPABLE: /proc/self is ours, as it is after exec
        try:
            open_trace(fd, me("nobody"))
        except TraceUnavailable as e:
            os.write(out, e.reason.encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(into, 100) == b"NoTracePrivilege"
    for each in (fd, into, out):
        os.close(each)


def test_a_name_that_is_no_name_is_refused(ext4: Disk) -> None:
    fd = os.open(ext4.path, os.O_RDONLY)
    for uid in ("", "../x", "a/b", "a" * 200):
        with pytest.raises(BadInput):
            open_trace(fd, uid)
    os.close(fd)


# -- what is lost is told


def overwrite(path: Path, pages: int) -> None:
    """Each page made dirty by itself."""
    with opened(path, os.O_RDWR | os.O_CREAT) as fd:
        for page in range(pages):
            os.pwrite(fd, b"o" * P, page * P)


_DRAINS = """
import sys
from storagemirror.fs.trace import open_trace
with open_trace(int(sys.argv[1]), sys.argv[2], memory=1) as trace:
    print("ready", flush=True)
    for line in sys.stdin:
        hints = trace.drain()
        print(hints.lost, len(hints.pages), hints.why, flush=True)
"""


def tracing(fd: int, uid: str) -> subprocess.Popen[str]:
    """A process that traces the file system of `fd`, and drains for each line it gets."""
    child = subprocess.Popen(
        ["setpriv", "--pdeathsig", "KILL", sys.executable, "-c", _DRAINS, str(fd), uid],
        pass_fds=[fd],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    return child


def drained(child: subprocess.Popen[str]) -> str:
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write("\n")
    child.stdin.flush()
    return child.stdout.readline()


def test_a_process_that_stalls_while_its_buffer_runs_over_is_told_and_it_goes_on(ext4: Disk) -> None:
    fd = os.open(ext4.path, os.O_RDONLY)
    child = tracing(fd, me("overrun"))
    os.kill(child.pid, signal.SIGSTOP)
    overwrite(ext4.path / "f", 8000)
    os.kill(child.pid, signal.SIGCONT)
    told = drained(child)
    assert told.startswith("True")
    assert "overran" in told
    overwrite(ext4.path / "g", 10)
    assert drained(child).startswith("False 1")
    child.communicate()
    assert child.returncode == 0
    os.close(fd)


def test_the_same_is_not_lost_where_it_is_drained_in_time(ext4: Disk) -> None:
    fd = os.open(ext4.path, os.O_RDONLY)
    with open_trace(fd, me("drained"), memory=1) as trace:
        for part in range(20):
            overwrite(ext4.path / f"f{part}", 400)
            time.sleep(0.02)
        hints = trace.drain()
        assert not hints.lost, hints.why
        for part in range(20):
            assert covers(hints, number(ext4.path / f"f{part}"), 0, 400 * P)
    os.close(fd)


def test_somebody_who_turns_an_event_off_is_told_and_it_is_on_again(ext4: Disk) -> None:
    fd = os.open(ext4.path, os.O_RDONLY)
    with open_trace(fd, me("off")) as trace:
        for path, text in (
            ("events/enable", "0"),
            ("tracing_on", "0"),
            ("tracing_cpumask", "0"),
            ("set_event_pid", "1"),
            ("events/writeback/writeback_dirty_folio/filter", "0"),
        ):
            setting(me("off"), path, text)
            told = trace.drain()
            assert told.lost, path
            assert "settings" in told.why
            file = ext4.path / path.replace("/", "-")
            overwrite(file, 1)
            found = trace.drain()
            assert not found.lost
            assert number(file) in found.pages, path
    os.close(fd)


def test_somebody_who_reads_or_empties_our_buffer_is_told(ext4: Disk) -> None:
    fd = os.open(ext4.path, os.O_RDONLY)
    with open_trace(fd, me("thief"), interval=3600) as trace:
        overwrite(ext4.path / "f", 4)
        tracefs = open_tracefs()
        pipe = os.open(f"instances/{PREFIX}{me('thief')}/trace_pipe", os.O_RDONLY | os.O_NONBLOCK, dir_fd=tracefs)
        os.close(tracefs)
        assert os.read(pipe, 65536)
        told = trace.drain()
        assert told.lost
        assert "somebody else" in told.why
        os.close(pipe)
        assert not trace.drain().lost
        mine = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {min(mine)})
        try:
            overwrite(ext4.path / "g", 4)
            assert trace.drain().pages
            overwrite(ext4.path / "h", 4)
        finally:
            os.sched_setaffinity(0, mine)
        tracefs = open_tracefs()
        os.close(os.open(f"instances/{PREFIX}{me('thief')}/trace", os.O_WRONLY | os.O_TRUNC, dir_fd=tracefs))
        os.close(tracefs)
        assert trace.drain().lost
        assert not trace.drain().lost
    os.close(fd)


# -- what is left behind


def test_it_leaves_nothing(ext4: Disk) -> None:
    fd = os.open(ext4.path, os.O_RDONLY)
    descriptors = len(os.listdir("/proc/self/fd"))
    trace = open_trace(fd, me("nothing"))
    assert instances() == [PREFIX + me("nothing")]
    trace.close()
    trace.close()
    assert trace.drain().lost
    assert instances() == []
    assert len(os.listdir("/proc/self/fd")) == descriptors
    os.close(fd)


def test_what_a_killed_process_left_is_removed_and_what_lives_is_not(ext4: Disk) -> None:
    fd = os.open(ext4.path, os.O_RDONLY)
    children = [tracing(fd, uid) for uid in (me("dies"), me("lives"))]
    children[0].send_signal(signal.SIGKILL)
    children[0].wait()
    assert instances() == [PREFIX + me("dies"), PREFIX + me("lives")]
    with open_trace(fd, me("next")):  # or another that started in between
        assert instances() == [PREFIX + me("lives"), PREFIX + me("next")]
        with pytest.raises(TraceUnavailable, match="another process holds"):
            open_trace(fd, me("lives"))
    for child in children:
        child.kill()
        child.wait()
    os.close(fd)


def test_ranges_are_merged() -> None:
    assert merged([(8, 9), (0, 4), (4, 6), (1, 2), (7, 7)]) == ((0, 6), (8, 9))
