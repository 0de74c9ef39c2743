"""The guard of a volume: real freezes of real file systems, and each way in which one of its parts may die."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from storagemirror.agent.guard_parts import longest_freeze
from storagemirror.fs import freeze
from storagemirror.resources.guard import CAPABILITIES
from storagemirror.sync.freezing import CannotFreeze, FreezeLost, GuardFreezer, NotFrozen
from tests.support.disks import Disk, disk
from tests.support.guards import SIZES, Guards, frozen, guarded, guards, thaw, until, writer

AT_ONCE = 1.0
"""Seconds: so soon writes must go on after whatever happened to an engine or a guard."""


@pytest.fixture(scope="module")
def volume(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Disk]:
    with disk(tmp_path_factory.mktemp("guarded"), "ext4", 64) as made:
        yield made


@pytest.fixture
def ours(volume: Disk, tmp_path: Path) -> Iterator[Guards]:
    with guards(tmp_path, volume.path) as made:
        yield made


# -- going well


@pytest.mark.parametrize("kind", list(SIZES))
def test_nothing_is_written_while_it_is_frozen(tmp_path: Path, kind: str) -> None:
    with guarded(tmp_path, kind) as (made, ours), writer(made.path) as application:
        ours.start()
        freezer = ours.freezer()
        for _ in range(3):
            with freezer.freeze(2) as held:
                assert application.stands_still()
                assert 1 < held.left() < 2
            assert 0.15 < held.stall_seconds < 2
            assert held.freeze_seconds < held.stall_seconds
            application.goes_on(AT_ONCE)


def test_a_volume_that_is_its_application_s_alone_is_frozen_with_the_container_s_capabilities(
    tmp_path: Path,
) -> None:
    words = ",".join(f"+{name.lower()}" for name in CAPABILITIES)
    with guarded(tmp_path, "ext4") as (made, ours):
        os.chown(made.path, 999, 999)
        made.path.chmod(0o700)
        ours.start("setpriv", f"--bounding-set=-all,{words}", "--inh-caps=-all", "--")
        with ours.freezer().freeze(2) as held:
            assert held.left() > 0


def test_a_guard_is_small_and_stays_in_memory(ours: Guards) -> None:
    for process in ours.both():
        status = Path(f"/proc/{process.pid}/status").read_text()
        figures = {name: int(re.findall(rf"^{name}:\s+(\d+) kB", status, re.M)[0]) for name in ("VmRSS", "VmLck")}
        print(f"guard: {figures['VmRSS'] / 1024:.1f} MiB resident")
        assert figures["VmRSS"] < 20_000
        assert figures["VmLck"] > 0


def test_a_guard_rests(ours: Guards) -> None:
    both = ours.both()
    before = [_ticks(p.pid) for p in both]
    time.sleep(3)
    assert sum(_ticks(p.pid) for p in both) - sum(before) <= 1  # of 600: well under 1 %


# -- the engine


def test_an_engine_that_dies_frozen_is_thawed_at_once(ours: Guards) -> None:
    ours.start()
    ours.freezer().close()
    with writer(ours.volume) as application:
        program = f"""
import time
from storagemirror.sync.freezing import GuardFreezer
with GuardFreezer({ours.socket!r}).freeze(10):
    print("frozen", flush=True)
    time.sleep(60)
"""
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        with subprocess.Popen([sys.executable, "-c", program], env=env, stdout=subprocess.PIPE) as engine:
            assert engine.stdout is not None
            assert engine.stdout.readline() == b"frozen\n"
            assert application.stands_still()
            engine.kill()
            application.goes_on(AT_ONCE)
        with ours.freezer().freeze(1):
            assert application.stands_still()


def test_an_engine_that_hangs_is_thawed_at_the_deadline_and_its_point_is_void(ours: Guards) -> None:
    ours.start()
    freezer = ours.freezer()
    with writer(ours.volume) as application:
        with loses("DeadlinePassed"), freezer.freeze(0.3) as held:
            assert application.stands_still()
            time.sleep(held.left())
            application.goes_on(AT_ONCE)
        with freezer.freeze(1):  # and goes on
            assert application.stands_still()


def test_an_error_of_the_engine_is_not_hidden_by_a_lost_point(ours: Guards) -> None:
    ours.start()
    freezer = ours.freezer()
    with contextlib.suppress(ZeroDivisionError), freezer.freeze(1):
        thaw(ours.volume)
        print(1 / 0)
    assert not frozen(ours.volume)


def test_one_engine_at_a_time(ours: Guards) -> None:
    ours.start()
    first, second = ours.freezer(), ours.freezer()
    with first.freeze(2):
        with pytest.raises(NotFrozen) as busy, second.freeze(2):
            pass
        assert busy.value.reason == "GuardBusy"
        second.close()
    with ours.freezer().freeze(2):
        pass


def test_who_says_what_makes_no_sense_is_thawed_and_sent_away(ours: Guards) -> None:
    ours.start()
    ours.freezer().close()
    for words in (b"freeze 1", b"freeze x 1", b"what", b"\xff" * 900, b"thawed 1 1", b"freeze 2 " + b"9" * 30):
        with _raw(ours) as engine, writer(ours.volume) as application:
            engine.send(b"freeze 1 5000")
            assert engine.recv(100).startswith(b"frozen 1 ")
            engine.send(words)
            assert engine.recv(100) == b""
            application.goes_on(AT_ONCE)


def test_no_engine_gets_more_than_ten_seconds(ours: Guards) -> None:
    ours.start()
    ours.freezer().close()
    with _raw(ours) as engine:
        engine.send(b"freeze 1 9999999")
        assert engine.recv(100).startswith(b"frozen 1 ")
        deadline = float((ours.shared / "frozen").read_text().split()[1])
        assert 8 < deadline - time.clock_gettime(time.CLOCK_BOOTTIME) <= 10


# -- other tools


def test_a_volume_that_another_tool_has_frozen_is_put_off_and_left_to_it(ours: Guards) -> None:
    ours.start()
    freezer = ours.freezer()
    subprocess.run(["fsfreeze", "-f", str(ours.volume)], check=True)
    with pytest.raises(NotFrozen) as put_off, freezer.freeze(1):
        pass
    assert put_off.value.reason == "FrozenByAnother"
    assert frozen(ours.volume)
    subprocess.run(["fsfreeze", "-u", str(ours.volume)], check=True)
    with freezer.freeze(1):
        pass


def test_a_point_that_another_tool_thawed_is_void(ours: Guards) -> None:
    ours.start()
    freezer = ours.freezer()
    with loses("ThawedByAnother"), freezer.freeze(1):
        subprocess.run(["fsfreeze", "-u", str(ours.volume)], check=True)
    with freezer.freeze(1):
        pass


def test_what_another_tool_froze_before_the_start_is_left_to_it_for_a_while(ours: Guards) -> None:
    subprocess.run(["fsfreeze", "-f", str(ours.volume)], check=True)
    ours.start()
    time.sleep(0.7)
    subprocess.run(["fsfreeze", "-u", str(ours.volume)], check=True)  # it was still frozen: this would fail
    with ours.freezer().freeze(1):
        pass
    assert ours.said("by nobody who is known") == 0


# -- the guards


def test_a_guard_that_is_killed_frozen_is_followed_by_the_other_at_once(ours: Guards) -> None:
    guard, second = ours.both()
    freezer = ours.freezer()
    for _ in range(2):
        with writer(ours.volume) as application:
            with loses("GuardGone"), freezer.freeze(10):
                assert application.stands_still()
                guard.kill()
                took = application.goes_on(AT_ONCE)
            print(f"writes went on {took * 1000:.0f} ms after the kill")
            until(lambda: _points(freezer), 5)
        guard, second = second, ours.start()  # as the kubelet does
        until(lambda: ours.said("waiting") == len(ours.processes) - 1)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", ["write_note", "freeze", "thaw", "remove_note"])
def test_a_guard_that_is_killed_at_any_step_leaves_nothing_frozen(ours: Guards, step: str, when: str) -> None:
    die_after = ours.shared / "now"
    dying = ours.start(program="tests.support.dying_guard", DIE_AT=f"{step}:{when}", DIE_AFTER=str(die_after))
    freezer = ours.freezer()
    ours.start()
    until(lambda: ours.said("waiting") == 1)
    die_after.touch()
    with writer(ours.volume) as application:
        with contextlib.suppress(NotFrozen, FreezeLost), freezer.freeze(5):
            pass
        assert dying.wait(5) == -signal.SIGKILL
        application.goes_on(AT_ONCE)
        until(lambda: _points(freezer), 5)
    assert not (ours.shared / "frozen").exists()


def test_both_killed_frozen_the_next_guard_of_the_pod_thaws_at_once(ours: Guards) -> None:
    with writer(ours.volume) as application:
        _strand(ours)
        assert application.stands_still(1.0)  # a freeze outlives whoever made it
        ours.start()
        took = application.goes_on(3)
        print(f"{took:.2f} s from the start of the next guard")
        with ours.freezer().freeze(1):
            pass
    assert ours.said("left frozen") == 1


def test_a_pod_that_was_killed_frozen_is_rescued_by_the_next_pod(ours: Guards) -> None:
    with writer(ours.volume) as application:
        _strand(ours)
        for name in os.listdir(ours.shared):  # all that the pod had is gone
            os.unlink(ours.shared / name)
        guard = ours.start(words=("--stranger-seconds", "0.5"))
        assert application.stands_still(0.4)
        application.goes_on(5)
        assert ours.said("by nobody who is known") == 1
        assert guard.poll() is None


def test_a_volume_that_was_unmounted_frozen_is_rescued_where_it_is_mounted_next(ours: Guards, volume: Disk) -> None:
    subprocess.run(["fsfreeze", "-f", str(volume.path)], check=True)
    subprocess.run(["umount", str(volume.path)], check=True)
    subprocess.run(["mount", volume.device, str(volume.path)], check=True)
    ours.start(words=("--stranger-seconds", "0.5"))
    until(lambda: _reason(GuardFreezer(ours.socket)) == "FrozenByAnother", 5)
    with ours.freezer().freeze(1):
        pass
    assert ours.said("by nobody who is known") == 1


def test_where_the_kernel_panics_over_tasks_that_wait_freezes_are_shorter(tmp_path: Path) -> None:
    for panic, timeout, longest in (("0", "1", 10), ("1", "120", 10), ("1", "6", 3), ("1", "0", 10), ("x", "6", 10)):
        (tmp_path / "hung_task_panic").write_text(f"{panic}\n")
        (tmp_path / "hung_task_timeout_secs").write_text(f"{timeout}\n")
        assert longest_freeze(str(tmp_path)) == longest
    assert longest_freeze(str(tmp_path / "nowhere")) == 10


def test_a_guard_that_hangs_is_overruled_by_the_second_and_its_point_is_void(ours: Guards) -> None:
    guard, _ = ours.both()
    freezer = ours.freezer()
    with writer(ours.volume) as application:
        with loses("ThawedByAnother", "DeadlinePassed"), freezer.freeze(0.3):
            guard.send_signal(signal.SIGSTOP)
            assert application.stands_still()
            application.goes_on(4)
            guard.send_signal(signal.SIGCONT)
        until(lambda: _points(freezer), 5)


def test_at_sigterm_what_is_frozen_is_thawed_and_both_end(ours: Guards) -> None:
    both = ours.both()
    freezer = ours.freezer()
    with writer(ours.volume) as application:
        with loses("GuardGone"), freezer.freeze(10):
            for process in both:
                process.terminate()
            application.goes_on(AT_ONCE)
        assert [process.wait(5) for process in both] == [0, 0]


def test_at_sigterm_the_second_waits_for_the_guard_and_thaws_when_that_is_killed(ours: Guards) -> None:
    guard, second = ours.both()
    freezer = ours.freezer()
    with writer(ours.volume) as application, loses("GuardGone"), freezer.freeze(10):
        guard.send_signal(signal.SIGSTOP)  # it does not get to what it should do
        guard.terminate()
        second.terminate()
        assert application.stands_still(0.5)
        assert second.poll() is None
        guard.kill()
        application.goes_on(AT_ONCE)
        assert second.wait(5) == 0


# -- where it cannot be


def test_what_is_not_a_file_system_of_its_own_is_never_frozen(tmp_path: Path, volume: Disk) -> None:
    inside = volume.path / "a directory of it"
    inside.mkdir(exist_ok=True)
    with guards(tmp_path, inside) as ours, writer(volume.path) as application:
        ours.start()
        freezer = ours.freezer()
        for attempt in (freezer.check, lambda: freezer.freeze(1).__enter__()):
            with pytest.raises(CannotFreeze) as refused:
                attempt()
            assert refused.value.reason == "FilesystemShared"
        application.goes_on(AT_ONCE)


def test_a_kind_that_cannot_be_frozen_is_told(tmp_path: Path) -> None:
    with disk(tmp_path, "tmpfs", 1) as made, guards(tmp_path, made.path) as ours:
        ours.start()
        with pytest.raises(CannotFreeze) as refused:
            ours.freezer().check()
        assert refused.value.reason == "FilesystemCannotFreeze"


def test_without_the_capability_it_says_so(ours: Guards) -> None:
    ours.start("setpriv", "--bounding-set", "-sys_admin", "--inh-caps", "-sys_admin")
    with pytest.raises(CannotFreeze) as refused:
        ours.freezer().check()
    assert refused.value.reason == "FreezeNotPermitted"
    assert not frozen(ours.volume)


def test_where_its_note_cannot_be_written_nothing_is_frozen(tmp_path: Path, volume: Disk) -> None:
    (tmp_path / "shared").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(tmp_path / "shared")], check=True)
    try:
        ours = Guards(volume.path, tmp_path / "shared", tmp_path / "log")
        ours.start()
        freezer = ours.freezer()
        with (ours.shared / "fills it").open("wb") as full, contextlib.suppress(OSError):
            full.write(bytes(1 << 20))
            full.flush()
        with pytest.raises(NotFrozen) as refused, freezer.freeze(1):
            pass
        assert refused.value.reason == "FreezeFailed"
        (ours.shared / "fills it").unlink()
        with freezer.freeze(1):
            pass
        freezer.close()
    finally:
        ours.end()
        subprocess.run(["umount", "-l", str(tmp_path / "shared")], check=True)


def test_a_disk_that_hangs_is_put_off_at_the_deadline_and_thawed_when_it_is_back(tmp_path: Path) -> None:
    """The volume's disk is a file on another file system: while that one is frozen, the disk does not answer."""
    with (
        disk(tmp_path, "xfs", 420, "outer") as outer,
        disk(outer.path, "ext4", 64, "inner") as inner,
        guards(tmp_path, inner.path) as ours,
    ):
        ours.start()
        freezer = ours.freezer()
        (inner.path / "dirty").write_bytes(b"x" * 5_000_000)
        outside = os.open(outer.path, os.O_RDONLY)
        try:
            assert freeze.freeze(outside).outcome is freeze.Outcome.DONE
            begun = time.monotonic()
            with pytest.raises(NotFrozen) as put_off, freezer.freeze(0.5):
                pass
            assert time.monotonic() - begun < 1.0
            assert put_off.value.reason == "FreezeTooSlow"
            with pytest.raises(NotFrozen) as busy, freezer.freeze(0.5):
                pass
            assert busy.value.reason == "GuardBusy"
        finally:
            freeze.thaw(outside)
            os.close(outside)
        until(lambda: _points(freezer), 5)  # which it is not while it is frozen
        with writer(inner.path) as application:
            application.goes_on(AT_ONCE)


@contextlib.contextmanager
def loses(*reasons: str) -> Iterator[None]:
    """A point that does not hold, for one of these reasons."""
    try:
        yield
    except FreezeLost as e:
        assert e.reason in reasons  # noqa: PT017
        return
    raise AssertionError("the point was said to hold")


def _points(freezer: GuardFreezer) -> bool:
    """Whether a freeze comes off and holds."""
    try:
        with freezer.freeze(2):
            pass
    except (NotFrozen, FreezeLost):
        return False
    return True


def _reason(freezer: GuardFreezer) -> str:
    """Why it cannot be frozen; empty when it can."""
    try:
        freezer.check()
    except (NotFrozen, CannotFreeze) as e:
        return e.reason
    finally:
        freezer.close()
    return ""


def _strand(ours: Guards) -> None:
    """Both guards are killed while the volume is frozen."""
    both = ours.both()
    with contextlib.suppress(FreezeLost), ours.freezer().freeze(10):
        for process in reversed(both):
            process.kill()
            process.wait()


@contextlib.contextmanager
def _raw(ours: Guards) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as engine:
        engine.settimeout(5)
        engine.connect(ours.socket)
        yield engine


def _ticks(process: int) -> int:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])
