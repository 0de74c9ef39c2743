"""Disks that fail, fill up or turn read-only, and trees that move while they are read: what fails is named with its
cause and what to do, the rest goes on, the exit status differs, and the next run repairs."""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from storagemirror.entry import NotKeptKind
from tests.support import trees
from tests.support.disks import Disk, disk
from tests.support.engine import expectation, mirror
from tests.support.failing_fs import failing_disk

ROOT = Path(__file__).parents[2]


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "storagemirror.cli.main", "mirror", *map(str, arguments)]


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "operator")}
    return subprocess.run(
        command(*arguments), capture_output=True, text=True, check=False, env=environment, timeout=120
    )


def repaired(source: Path, target: Path, *more: str) -> None:
    """The next run sends what is missing, the one after it nothing."""
    done = run(source, target, *more)
    assert done.returncode == 0, done.stderr
    assert trees.rsync_differences(source, target) == ""
    again = run(source, target)
    assert "sent 0 files" in again.stdout
    assert "attributes of 0, 0 links" in again.stdout


# -- reading


def test_a_file_that_cannot_be_read_is_named_and_the_rest_goes_on(tmp_path: Path) -> None:
    target = tmp_path / "target"
    with failing_disk(tmp_path, "source") as source:
        for name in ("small", "other", "directory/inner"):
            trees.write(source.beneath / name, "1" * 100)
        trees.write(source.beneath / "large", b"l" * 3_000_000)
        assert run(source.path, target).returncode == 0
        for name in ("small", "other", "directory/inner"):
            trees.write(source.beneath / name, "2" * 100)
        trees.write(source.beneath / "large", b"m" * 3_000_000)

        source.fail("read", "small")
        done = run(source.path, target)
        assert done.returncode == 1
        assert "not read: small: Input/output error" in done.stderr
        assert "look at its kernel log" in done.stderr
        assert "1 ENTRIES COULD NOT BE READ" in done.stdout
        assert (target / "small").read_text() == "1" * 100, "what was there stays"
        assert (target / "other").read_text() == "2" * 100

        trees.write(source.beneath / "large", b"n" * 3_000_000)
        source.fail("read", "large", offset=1_500_000)
        done = run(source.path, target)
        assert done.returncode == 1
        assert "not read: large: Input/output error" in done.stderr
        assert (target / "large").read_bytes() == b"m" * 3_000_000, "not a part of the new one"
        assert os.listdir(target / ".storagemirror/tmp") == []

        source.heal()
        repaired(source.path, target)


def test_a_directory_that_cannot_be_read_deletes_nothing(tmp_path: Path) -> None:
    target = tmp_path / "target"
    with failing_disk(tmp_path, "source") as source:
        trees.many(source.beneath, 30)
        trees.write(source.beneath / "directory/inner", "i")
        assert run(source.path, target).returncode == 0
        source.fail("readdir", "directory")
        trees.write(source.beneath / "new", "n")
        done = run(source.path, target)
        assert done.returncode == 1
        assert "not read: directory: Input/output error" in done.stderr
        assert (target / "directory/inner").read_text() == "i"
        assert (target / "new").read_text() == "n"
        source.heal()
        repaired(source.path, target)

        trees.write(source.beneath / "red \x1b[31m\nname", "r")
        source.fail("read", "red \x1b[31m\nname")
        done = run(source.path, target)
        assert done.returncode == 1
        assert r"not read: red \x1b[31m\nname: Input/output error" in done.stderr
        assert "\x1b" not in done.stderr


# -- writing


def test_a_target_whose_writes_fail_says_which_and_why(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for number in range(5):
        trees.write(source / f"small {number}", "s")
    trees.write(source / "large", b"l" * 2_000_000)
    with failing_disk(tmp_path, "target") as target:
        target.fail("write", offset=1_000_000)
        done = run(source, target.path)
        assert done.returncode == 1
        assert "not written: large: InputOutput: Input/output error" in done.stderr
        assert "DST's disk fails" in done.stderr
        assert not (target.beneath / "large").exists()
        assert (target.beneath / "small 4").read_text() == "s"
        target.heal()
        repaired(source, target.path)
        target.fail("fsync")
        trees.write(source / "another", "a")
        done = run(source, target.path)
        assert done.returncode == 1
        assert "TargetFailing" in done.stderr
        target.heal()
        assert run(source, target.path).returncode == 0
        assert trees.rsync_differences(source, target.path) == ""


def test_a_target_that_is_too_small_takes_what_needs_no_room_and_the_rest_when_it_has_grown(tmp_path: Path) -> None:
    source = tmp_path / "source"
    trees.write(source / "b/large", os.urandom(30 << 20))
    for number in range(20):
        trees.write(source / f"b/file {number}", os.urandom(200_000))
    trees.write(source / "a/first", "f")
    with disk(tmp_path, "ext4", 24, "target") as target:
        os.symlink("later", source / "z link")
        (source / "z directory").mkdir()
        done = run(source, target.path)
        assert done.returncode == 1
        assert "TargetFull" in done.stderr
        assert "not written: b/large: Full" in done.stderr
        assert "Grow DST's volume" in done.stderr
        assert (target.path / "a/first").read_text() == "f"
        assert os.readlink(target.path / "z link") == "later"
        assert (target.path / "z directory").is_dir()
        os.chmod(source / "a/first", 0o600)
        assert run(source, target.path).returncode == 1
        assert (target.path / "a/first").stat().st_mode & 0o777 == 0o600, "an attribute needs no room"
        target.grow_unmounted(64)
        repaired(source, target.path)


def test_a_target_that_turns_read_only_in_the_middle_says_so_and_is_repaired(tmp_path: Path) -> None:
    source = tmp_path / "source"
    trees.many(source, 1_500, size=20_000)
    with disk(tmp_path, "ext4", 128, "target") as target:
        seen: list[str] = []
        thread = threading.Thread(target=_abort_when_begun, args=(target, 200, seen))
        thread.start()
        done = run(source, target.path)
        thread.join()
        assert seen == ["aborted"]
        assert done.returncode == 1
        assert "Read-only file system" in done.stderr or "Input/output error" in done.stderr
        assert "kernel log" in done.stderr
        target.mount_again()
        repaired(source, target.path)


def _abort_when_begun(target: Disk, entries: int, seen: list[str]) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            found = sum(len(files) for _, _, files in os.walk(target.path))
            if found > entries:
                target.abort()
                seen.append("aborted")
                return
        time.sleep(0.01)


# -- trees that move


_RENAME_EXCHANGE = 2


@contextmanager
def _flipping(one: Path, other: Path) -> Iterator[None]:
    """Two names change places all the time."""
    libc = ctypes.CDLL(None)
    stop = threading.Event()

    def flip() -> None:
        while not stop.wait(0.002):
            libc.renameat2(-100, os.fsencode(one), -100, os.fsencode(other), _RENAME_EXCHANGE)

    thread = threading.Thread(target=flip)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def test_a_directory_that_becomes_a_symlink_while_it_is_read_leads_nowhere(tmp_path: Path) -> None:
    source, target, outside = tmp_path / "source", tmp_path / "target", tmp_path / "outside"
    trees.many(source / "directory", 200)
    trees.write(outside / "secret", "secret")
    os.symlink(outside, source / "link")
    target.mkdir()
    with _flipping(source / "directory", source / "link"):
        for _ in range(8):
            result = mirror(source, target, expectation(max_delete_percent=100))
            assert (result.failed, result.unread) == (0, 0)
            assert not list(target.rglob("secret"))
    mirror(source, target, expectation(max_delete_percent=100))
    assert trees.rsync_differences(source, target) == ""
    assert not list(target.rglob("secret"))


def test_files_that_change_or_are_renamed_over_while_they_are_read_are_right_in_the_end(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    trees.many(source / "still", 100)
    target.mkdir()
    for name in ("small", "large", "gone", "replaced"):
        trees.write(source / name, b"0" * 500_000)
    stop = threading.Event()

    def move() -> None:
        number = 0
        while not stop.wait(0.001):
            number += 1
            (source / "small").write_bytes(b"%d" % number * (number % 50))
            os.truncate(source / "large", 4_000_000 if number % 2 else 300_000)
            with contextlib.suppress(FileNotFoundError):
                (source / "gone").unlink()
            (source / "gone").write_bytes(b"g" * 400_000)
            (source / "other").write_bytes(b"%d" % (number % 10) * 3_000_000)
            (source / "other").replace(source / "replaced")

    thread = threading.Thread(target=move)
    thread.start()
    try:
        for _ in range(3):
            result = mirror(source, target)
            assert (result.failed, result.unread) == (0, 0)
            assert {item.kind for item in result.not_kept} <= {NotKeptKind.CHANGING}
    finally:
        stop.set()
        thread.join()
    mirror(source, target)
    assert trees.rsync_differences(source, target) == ""
    assert mirror(source, target).files_sent == 0
