"""The benches of replication at a thousandth of their size: real agents, real file systems, equality by rsync."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.bench.latency.__main__ import Differ, judge
from tests.bench.latency.tools import Ours
from tests.cluster.layout import checkout


def run(module: str, place: Path, *words: str) -> tuple[str, dict[str, Any]]:
    """What it printed, and kept."""
    command = [sys.executable, "-m", module, "--dir", str(place), "--json", str(place / "r.json"), *words]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=checkout())
    assert done.returncode == 0, done.stdout + done.stderr
    assert [path.name for path in place.iterdir()] == ["r.json"], "nothing is left"
    text = (place / "r.json").read_text()
    assert str(checkout()) not in text
    assert str(place) not in text
    return done.stdout, json.loads(text)


@pytest.mark.parametrize("peer", [None, "lsyncd, delay 0"])
def test_each_kind_of_work_is_timed_until_it_can_be_read(tmp_path: Path, peer: str | None) -> None:
    if peer and shutil.which("lsyncd") is None:
        pytest.skip("lsyncd is not installed (make bench-latency does it)")
    words = ["--scale", "0.001", "--rounds", "1", "--only", peer or "storagemirror"]
    said, kept = run("tests.bench.latency", tmp_path, *words)
    assert "| one small file" in said
    for times in kept["times"].values():
        assert set(times) == {"storagemirror", *(["lsyncd, delay 0 s"] if peer else [])}
        assert all(0 < one < 60 for found in times.values() for one in found)
    assert len(kept["times"]["one small file"]["storagemirror"]) == 60


def test_a_tool_that_leaves_a_difference_fails_the_bench(tmp_path: Path) -> None:
    for side, content in (("source", "a"), ("target", "b")):
        (tmp_path / side).mkdir()
        (tmp_path / side / "f").write_text(content)
    with pytest.raises(Differ, match="left differences"):
        judge(Ours(), tmp_path / "source", tmp_path / "target", 0)


def test_an_idle_pair_is_watched_in_both_modes(tmp_path: Path) -> None:
    said, kept = run("tests.bench.idle", tmp_path, "--files", "200", "--seconds", "2")
    assert [mode["mode"] for mode in kept["modes"]] == ["Live", "Point, each 1 s"]
    assert kept["modes"][0]["comparison"]["source"] > 0
    assert "| Live | source |" in said


def test_a_source_that_is_overwritten_without_a_pause_ends_equal(tmp_path: Path) -> None:
    words = ["--minutes", "0.05", "--rate", "5", "--files", "2", "--mebibytes", "4", "--max-stall", "2"]
    _, kept = run("tests.bench.campaign_overwrite", tmp_path, *words)
    for course in kept["courses"]:
        assert course["equal_after"] is not None
        assert course["reached"] > 0
        assert len(course["looks"]) >= 3
