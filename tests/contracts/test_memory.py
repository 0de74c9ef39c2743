"""A large copy beside a small memory limit: page cache is charged to the agent, and must not get it killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from storagemirror.fs.behind import memory_limit
from tests.cluster.layout import checkout
from tests.support import trees
from tests.support.disks import disk

MIB = 1 << 20
SIZE = int(os.environ.get("STORAGEMIRROR_TEST_MEBIBYTES", "128")) * MIB
LIMIT = 64 * MIB
CGROUPS = Path("/sys/fs/cgroup")
STORAGEMIRROR = [sys.executable, "-m", "storagemirror.cli.main"]


@contextmanager
def memory_cgroup(limit: int) -> Iterator[Path]:
    """A real one, of whichever version this machine has."""
    one, two = CGROUPS / "memory", CGROUPS
    version_one = (one / "memory.limit_in_bytes").exists()
    path = (one if version_one else two) / f"storagemirror-test-{os.getpid()}"
    path.mkdir()
    (path / ("memory.limit_in_bytes" if version_one else "memory.max")).write_text(str(limit))
    try:
        yield path
    finally:
        for _ in range(100):
            try:
                path.rmdir()
                break
            except OSError:
                time.sleep(0.05)


def peak(cgroup: Path) -> int:
    """The most that it has used, bytes."""
    for name in ("memory.max_usage_in_bytes", "memory.peak"):
        if (cgroup / name).exists():
            return int((cgroup / name).read_text())
    raise AssertionError("no peak")


def killed(cgroup: Path) -> int:
    """How many processes the kernel has killed there."""
    for name in ("memory.oom_control", "memory.events"):
        if (cgroup / name).exists():
            words = dict(line.split() for line in (cgroup / name).read_text().splitlines())
            return int(words["oom_kill"])
    raise AssertionError("no count of kills")


@contextmanager
def serving(target: Path, directory: Path, cgroup: Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A target's process in the cgroup; where it listens."""
    subprocess.run([*STORAGEMIRROR, "keys", str(directory / "keys")], cwd=checkout(), check=True, capture_output=True)
    command = [*STORAGEMIRROR, "serve", str(target), "--listen", "127.0.0.1:0", "--once", "--json"]
    process = subprocess.Popen(
        [
            "sh",
            "-c",
            f'echo $$ > {cgroup}/cgroup.procs && exec "$@"',
            "sh",
            *command,
            "--keys",
            f"{directory}/keys/target",
        ],
        cwd=checkout(),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        yield f"127.0.0.1:{told['port']}", process
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("kind", ["ext4"])
def test_a_large_file_passes_through_a_small_limit(tmp_path: Path, kind: str) -> None:
    source = tmp_path / "source"
    source.mkdir()
    noise = os.urandom(4 * MIB)
    with (source / "large").open("wb") as file:
        for number in range(SIZE // len(noise)):
            file.write(number.to_bytes(8, "little") + noise[8:])
    with disk(tmp_path, kind, SIZE // MIB + 500) as made, memory_cgroup(LIMIT) as cgroup:
        target = made.path / "copy"
        target.mkdir()
        with serving(target, tmp_path, cgroup) as (address, process):
            began = time.monotonic()
            mirror = subprocess.run(
                [*STORAGEMIRROR, "mirror", str(source), address, "--keys", f"{tmp_path}/keys/source"],
                cwd=checkout(),
                check=False,
                capture_output=True,
                text=True,
            )
            seconds = time.monotonic() - began
            assert (mirror.returncode, killed(cgroup)) == (0, 0), mirror.stderr
            assert process.wait(30) == 0
        assert SIZE / seconds > 5 * MIB, "it lives, but crawls"
        assert peak(cgroup) < 0.75 * LIMIT, "it stood at its limit, and the kernel took pages away"
        assert trees.rsync_differences(source, target) == ""


def test_the_limit_of_a_cgroup_is_known_inside_of_it() -> None:
    with memory_cgroup(80 * MIB) as cgroup:
        inner = cgroup / "inner"
        inner.mkdir()
        try:
            said = subprocess.run(
                [
                    *("sh", "-c", f'echo $$ > {inner}/cgroup.procs && exec "$@"', "sh", sys.executable, "-c"),
                    "from storagemirror.fs.behind import memory_limit; print(memory_limit())",
                ],
                cwd=checkout(),
                check=True,
                capture_output=True,
                text=True,
                env={**os.environ, "PYTHONPATH": "operator"},
            ).stdout
        finally:
            inner.rmdir()
    assert int(said) == 80 * MIB


def test_where_nothing_is_said_there_is_no_limit(tmp_path: Path) -> None:
    assert memory_limit(str(tmp_path), str(tmp_path / "none")) is None
    (tmp_path / "process").write_text("0::/a/b\n")
    assert memory_limit(str(tmp_path), str(tmp_path / "process")) is None
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/memory.max").write_text("max\n")
    assert memory_limit(str(tmp_path), str(tmp_path / "process")) is None
    (tmp_path / "a/memory.max").write_text("4096\n")
    assert memory_limit(str(tmp_path), str(tmp_path / "process")) == 4096
    (tmp_path / "memory.max").write_text("1024\n")
    assert memory_limit(str(tmp_path), str(tmp_path / "process")) == 1024
