"""What FIFREEZE, FITHAW and FS_IOC_SHUTDOWN do, and which volumes are file systems of their own."""

from __future__ import annotations

import errno
import os
import subprocess
import threading
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path

import pytest

from storagemirror.errors import VolumeError
from storagemirror.fs import freeze, mounts
from storagemirror.fs.freeze import Outcome
from tests.support.disks import disk
from tests.support.guards import SIZES, opened, until

KINDS = tuple(SIZES)


@pytest.mark.parametrize("kind", KINDS)
def test_each_outcome_is_told_apart(tmp_path: Path, kind: str) -> None:
    with disk(tmp_path, kind, SIZES[kind]) as made, opened(made.path) as fd:
        outcomes = [call(fd).outcome for call in (freeze.thaw, freeze.freeze, freeze.freeze, freeze.thaw, freeze.thaw)]
        assert outcomes == [
            Outcome.NOT_FROZEN,
            Outcome.DONE,
            Outcome.ALREADY_FROZEN,
            Outcome.DONE,
            Outcome.NOT_FROZEN,
        ]
        can_be_shut = freeze.shut_down(fd).outcome
        assert can_be_shut is (Outcome.NOT_SUPPORTED if kind == "btrfs" else Outcome.DONE)


def test_what_cannot_be_frozen_says_so(tmp_path: Path) -> None:
    with disk(tmp_path, "tmpfs", 1) as made, opened(made.path) as fd:
        assert freeze.freeze(fd).outcome is Outcome.NOT_SUPPORTED


@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_what_waits_in_a_freeze_lands_after_a_thaw_but_not_after_a_shutdown(tmp_path: Path, kind: str) -> None:
    for shut in (False, True):
        with disk(tmp_path, kind, SIZES[kind], f"{kind}-{shut}") as made, opened(made.path) as fd:
            names = ("renamed", "removed", "truncated", "written", "mode")
            for name in names:
                (made.path / name).write_bytes(b"A" * 8192)
            os.sync()
            assert freeze.freeze(fd).outcome is Outcome.DONE
            work = (rename, remove, truncate, write, create, chmod)
            writers = [get_context("fork").Process(target=job, args=(made.path,)) for job in work]
            for process in writers:
                process.start()
            until(lambda: all(_waits_in_the_kernel(p.pid) for p in writers))  # noqa: B023
            if shut:
                assert freeze.shut_down(fd).outcome is Outcome.DONE
            assert freeze.thaw(fd).outcome is Outcome.DONE
            for process in writers:
                process.join(10)
            assert [p.exitcode for p in writers] == ([5] if shut else [0]) * 6  # EIO
        assert _landed(made.image, tmp_path) is not shut


def rename(path: Path) -> None:
    attempt(lambda: os.rename(path / "renamed", path / "new name"))


def remove(path: Path) -> None:
    attempt(lambda: os.unlink(path / "removed"))


def truncate(path: Path) -> None:
    attempt(lambda: os.truncate(path / "truncated", 5))


def write(path: Path) -> None:
    attempt(lambda: (path / "written").write_bytes(b"B" * 8192))


def create(path: Path) -> None:
    attempt((path / "created").touch)


def chmod(path: Path) -> None:
    attempt(lambda: os.chmod(path / "mode", 0o777))


def attempt(call: object) -> None:
    """End with the error's number."""
    assert callable(call)
    try:
        call()
    except OSError as e:
        os._exit(e.errno or 1)
    os._exit(0)


def _waits_in_the_kernel(process: int | None) -> bool:
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "D"


def _landed(image: Path, directory: Path) -> bool:
    """Whether anything did, on the disk as it is mounted next; AssertionError when only some did."""
    again = directory / f"again {image.name}"
    again.mkdir()
    subprocess.run(["mount", "-o", "loop", str(image), str(again)], check=True)
    try:
        landed = {
            (again / "new name").exists(),
            not (again / "removed").exists(),
            (again / "truncated").stat().st_size == 5,
            (again / "written").read_bytes() == b"B" * 8192,
            (again / "created").exists(),
            (again / "mode").stat().st_mode & 0o777 == 0o777,
        }
    finally:
        subprocess.run(["umount", str(again)], check=True)
    assert len(landed) == 1
    return landed.pop()


def test_on_a_disk_that_hangs_a_freeze_waits_and_a_shutdown_cuts_off_at_once(tmp_path: Path) -> None:
    """FIFREEZE has no time limit. Nor has the call that shuts down, but what it does is done before it waits."""
    with (
        disk(tmp_path, "xfs", 420, "outer") as outer,
        disk(outer.path, "ext4", 64, "inner") as inner,
        (inner.path / "dirty").open("wb", buffering=0) as file,
        opened(outer.path) as out,
        opened(inner.path) as fd,
    ):
        file.write(b"x" * 5_000_000)
        assert freeze.freeze(out).outcome is Outcome.DONE
        # Whatever waits here cannot be killed: the disk answers again in any case.
        rescue = threading.Timer(6.0, lambda: freeze.thaw(out))
        rescue.start()
        try:
            freezing = _thread(lambda: freeze.freeze(fd))
            freezing.join(0.5)
            assert freezing.is_alive()
            shutting = _thread(lambda: freeze.shut_down(fd))
            shutting.join(0.5)
            errors: list[OSError] = []
            syncing = _thread(lambda: _fsync(file.fileno(), errors))
            syncing.join(1.0)
            assert [e.errno for e in errors] == [errno.EIO]
        finally:
            rescue.cancel()
            freeze.thaw(out)
        for waiting in (freezing, shutting, syncing):
            waiting.join(20.0)
            assert not waiting.is_alive()
        freeze.thaw(fd)


def _thread(work: Callable[[], object]) -> threading.Thread:
    made = threading.Thread(target=work, daemon=True)
    made.start()
    return made


def _fsync(fd: int, errors: list[OSError]) -> None:
    try:
        os.fsync(fd)
    except OSError as e:
        errors.append(e)


def test_a_freeze_outlives_the_mount(tmp_path: Path) -> None:
    with disk(tmp_path, "ext4", 64) as made:
        with opened(made.path) as fd:
            assert freeze.freeze(fd).outcome is Outcome.DONE
        subprocess.run(["umount", str(made.path)], check=True)
        subprocess.run(["mount", made.device, str(made.path)], check=True)
        with opened(made.path) as fd:
            assert freeze.freeze(fd).outcome is Outcome.ALREADY_FROZEN
            assert freeze.thaw(fd).outcome is Outcome.DONE


# -- a file system of its own


@pytest.mark.parametrize("kind", KINDS)
def test_a_whole_file_system_is_its_own_through_a_read_only_mount_too(tmp_path: Path, kind: str) -> None:
    again = tmp_path / "read only"
    again.mkdir()
    with disk(tmp_path, kind, SIZES[kind]) as made:
        subprocess.run(["mount", "-o", "bind,ro", str(made.path), str(again)], check=True)
        try:
            for path in (made.path, again):
                with opened(path) as fd:
                    found = mounts.own_filesystem(fd, str(path))
                    assert (found.kind, found.root, found.place) == (kind, "/", str(path))
            with opened(again) as fd:
                assert [freeze.freeze(fd).outcome, freeze.thaw(fd).outcome] == [Outcome.DONE] * 2
        finally:
            subprocess.run(["umount", str(again)], check=True)


def test_a_directory_of_a_larger_file_system_is_not(tmp_path: Path) -> None:
    with disk(tmp_path, "ext4", 64) as made:
        inside, bound = made.path / "inside", tmp_path / "bound"
        inside.mkdir()
        bound.mkdir()
        assert refused(inside) == "FilesystemShared"  # a directory, no mount
        subprocess.run(["mount", "--bind", str(inside), str(bound)], check=True)
        try:
            assert refused(bound) == "FilesystemShared"  # a mount that shows a part, as a hostPath or subPath does
            assert refused(made.path) == "FilesystemShared"  # the whole, of which somebody else uses a part
        finally:
            subprocess.run(["umount", str(bound)], check=True)
        with opened(made.path) as fd:
            assert mounts.own_filesystem(fd, str(made.path))


def test_the_node_s_own_file_system_is_not() -> None:
    assert refused(Path("/")) is not None
    assert refused(Path("/etc")) is not None


def test_another_kind_is_not(tmp_path: Path) -> None:
    with disk(tmp_path, "tmpfs", 1) as made:
        assert refused(made.path) == "FilesystemCannotFreeze"


def test_a_node_s_disk_is_known_by_what_else_is_mounted_from_it() -> None:
    """A claim of the whole disk that also holds the kubelet's directories, as a container sees it."""
    with opened(Path("/proc")) as fd:
        number = mounts.mount_number(fd)
        lines = (
            f"{number} 700 8:1 / /proc ro,relatime - ext4 /dev/sda1 rw",
            r"702 700 8:1 /var/lib/kubelet/pods/x/etc-hosts /etc/hosts rw - ext4 /dev/sda1 rw",
        )
        with pytest.raises(VolumeError) as shared:
            mounts.own_filesystem(fd, "/proc", [mounts.parse(line) for line in lines])
    assert "/etc/hosts" in shared.value.message


def test_mountinfo_is_read_with_its_escapes() -> None:
    found = mounts.parse(r"36 35 98:0 /a\040b /mnt\134x rw,noatime master:1 - ext3 /dev/root rw,errors=continue")
    assert found == mounts.Mount(36, "98:0", "/a b", "/mnt\\x", "ext3", ("rw", "errors=continue"))
    for line in ("", "36 35 98:0 / /mnt", "36 35 - ext4 x rw"):
        with pytest.raises(ValueError, match="mountinfo"):
            mounts.parse(line)


def refused(path: Path) -> str | None:
    with opened(path) as fd:
        try:
            mounts.own_filesystem(fd, str(path))
        except VolumeError as e:
            return e.reason
    return None
