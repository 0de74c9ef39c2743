"""The mirror bench at a thousandth of its size: real tools, real TLS, its own network and file system."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.bench.mirror.processes import Failed
from tests.bench.mirror.runs import prove_equal
from tests.bench.mirror.tools import Ours, VolSync
from tests.cluster.layout import checkout


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What one small run of every kind of work wrote down."""
    place = tmp_path_factory.mktemp("bench")
    cases = [word for key in ("d1-first", "d1-renamed") for word in ("--only", key)]
    words = ["--scale", "0.001", "--rounds", "1", "--no-memory", "--dir", str(place), "--json", str(place / "r.json")]
    command = [sys.executable, "-m", "tests.bench.mirror", *words, *cases]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=checkout())
    assert done.returncode == 0, done.stderr
    assert "| D1 1,000 renamed" in done.stdout
    assert [path.name for path in place.iterdir()] == ["r.json"], "nothing is left"
    said: dict[str, Any] = json.loads((place / "r.json").read_text())
    return said


def runs(kept: dict[str, Any], key: str) -> dict[str, dict[str, Any]]:
    """The one run of each tool in a case."""
    (found,) = [outcome for outcome in kept["outcomes"] if outcome["key"] == key]
    return {tool: rounds[0] for tool, rounds in found["runs"].items()}


def test_every_tool_of_a_case_is_run_and_held_against_ours(kept: dict[str, Any]) -> None:
    assert set(runs(kept, "d1-first")) == {"storagemirror", "rsync + stunnel", "VolSync's passes"}
    assert [row["peer"] for row in kept["outcomes"][0]["rows"]] == ["rsync + stunnel", "VolSync's passes"]


def test_bytes_that_cross_are_those_between_the_hosts_alone(kept: dict[str, Any]) -> None:
    content = 100 * 4_071  # of D1 at this scale, about
    for tool, run in runs(kept, "d1-first").items():
        assert 0.8 * content < run["there"] < 1.4 * content, tool
        assert 0 < run["back"] < 0.2 * content, tool


def test_processor_time_and_memory_are_those_of_both_ends(kept: dict[str, Any]) -> None:
    found = runs(kept, "d1-first")
    assert set(found["storagemirror"]["resident"]) == {"serve", "mirror"}
    assert {"stunnel server", "stunnel client", "rsync"} <= set(found["rsync + stunnel"]["resident"])
    assert min(found["storagemirror"]["resident"].values()) > 10e6, "two Pythons"
    for tool, run in found.items():
        assert 0.01 < run["cpu"] < 10, tool
        assert run["wall"] <= run["synced"], tool


def test_results_name_no_paths_and_no_host(kept: dict[str, Any]) -> None:
    said = json.dumps(kept)
    assert "storagemirror-bench." not in said
    assert str(checkout()) not in said
    assert kept["commands"]["storagemirror"][1].startswith("storagemirror mirror SRC 127.0.0.1:8000 ")


def test_a_tool_that_leaves_a_difference_fails_the_bench(tmp_path: Path) -> None:
    for side, content in (("source", "a"), ("target", "b")):
        (tmp_path / side).mkdir()
        (tmp_path / side / "f").write_text(content)
    with pytest.raises(Failed, match="left differences"):
        prove_equal(Ours(), tmp_path / "source", tmp_path / "target")


def test_volsync_alone_may_leave_the_root_as_it_is(tmp_path: Path) -> None:
    for side in ("source", "target"):
        (tmp_path / side).mkdir()
    (tmp_path / "target").chmod(0o700)
    prove_equal(VolSync(), tmp_path / "source", tmp_path / "target")
    with pytest.raises(Failed, match=r"\./"):
        prove_equal(Ours(), tmp_path / "source", tmp_path / "target")
