"""The arithmetic of the benches of replication."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.bench.campaign_overwrite import Course, Look
from tests.bench.idle import Idle
from tests.bench.latency.results import FIRST_LARGE, Report, p95, text
from tests.bench.latency.work import BURST, LARGE, SMALL, Late, Work

MB = 1_000_000


def report(small: list[float], burst: list[float], large: list[float]) -> Report:
    """Of ours, and one peer."""
    made = Report(1.0, 1, "ours", {"cores": "2"}, others=[0.5])
    for work, times in ((SMALL, small), (BURST, burst), (LARGE, large), (FIRST_LARGE, [9.0])):
        for seconds in times:
            made.add(work, "ours", seconds)
            made.add(work, "peer", 100 * seconds)
    return made


def test_p95_is_a_value_that_was_seen() -> None:
    assert p95([float(number) for number in range(100, 0, -1)]) == 95
    assert p95([1.0, 2.0]) == 2.0


def test_a_small_file_is_judged_by_its_p95_and_the_rest_by_the_median() -> None:
    assert report([0.01] * 19 + [5.0], [0.1, 0.2, 9.0], [0.5]).missed() == []
    assert report([0.01] * 18 + [5.0] * 2, [0.6, 0.7, 0.1], [0.51]).missed() == [SMALL, BURST, LARGE]


def test_what_a_peer_takes_and_the_first_block_after_a_start_are_told_and_not_judged() -> None:
    made = report([0.01], [0.1], [0.1])
    assert made.missed() == []
    assert "| 9.00 s" in text(made)
    assert text(made).count("bar met") == 3


def test_results_are_kept_with_what_was_judged(tmp_path: Path) -> None:
    report([0.01], [0.1], [0.7]).write(tmp_path / "r.json")
    said = json.loads((tmp_path / "r.json").read_text())
    assert said["judged"][LARGE] == {"seconds": 0.7, "bar": 0.5}
    assert said["times"][SMALL] == {"ours": [0.01], "peer": [1.0]}


def test_what_does_not_come_is_late(tmp_path: Path) -> None:
    for side in ("source", "target"):
        (tmp_path / side).mkdir()
    work = Work(tmp_path / "source", tmp_path / "target", burst=2, large=1 << 20, patience=0.05)
    work.fill()
    for act in (work.probe, work.small, work.burst, work.large):
        with pytest.raises(Late):
            act()


def test_an_idle_agent_bears_its_share_of_the_periodic_comparison() -> None:
    idle = Idle("Live", 0.004, 0.004, 0.0, {"source": 3.0, "target": 6.0}, 60.0)
    assert idle.share("source") == pytest.approx(0.009)
    assert idle.share("target") == pytest.approx(0.014)
    assert not idle.holds


def course(*sizes: int, equal_after: float | None = 1.0) -> Course:
    """A source agent of so many bytes."""
    looks = [Look(float(at), size, 40 * MB, 1.0, 0, at, 0, 0) for at, size in enumerate(sizes)]
    return Course("Point", 60.0, looks, equal_after=equal_after)


def test_memory_that_grows_to_the_end_fails_a_campaign_and_one_that_has_levelled_out_does_not() -> None:
    assert course(40 * MB, 60 * MB, 90 * MB, 91 * MB, 92 * MB, 90 * MB).holds
    assert not course(40 * MB, 50 * MB, 60 * MB, 70 * MB, 90 * MB, 110 * MB).holds
    assert not course(*[160 * MB] * 6).holds


def test_sides_that_are_not_equal_fail_a_campaign() -> None:
    assert not course(*[40 * MB] * 6, equal_after=None).holds
