"""The arithmetic of the mirror bench's table."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.bench.mirror import table
from tests.bench.mirror.cases import CASES, chosen
from tests.bench.mirror.processes import Measured
from tests.bench.mirror.publish import BEGIN, END, KEPT, PAGE, published
from tests.bench.mirror.results import OURS, Outcome, Ratio, Report, Residence, read
from tests.bench.mirror.tools import Ours


def run(wall: float, resident: int = 10_000_000, others: float = 0.1) -> Measured:
    """One that took so long."""
    return Measured(wall, wall + 1, wall * 2, {"mirror": resident}, 3_000_000, 20_000, others)


def outcome(ours: list[float], theirs: list[float]) -> Outcome:
    """Rounds of two tools."""
    made = Outcome("d1-first", "D1 first copy", {"rsync": (0.5, 0.25)})
    for mine, other in zip(ours, theirs, strict=True):
        made.add(OURS, run(mine))
        made.add("rsync", run(other))
    return made


def test_a_ratio_is_the_median_of_the_rounds_ratios_not_the_ratio_of_medians() -> None:
    ratio = Ratio.of([1.0, 4.0, 3.0], [2.0, 5.0, 30.0])
    assert ratio == Ratio(0.5, 0.1, 0.8)
    assert ratio.median != 3.0 / 5.0


def test_rounds_that_do_not_pair_are_an_error() -> None:
    with pytest.raises(ValueError, match="longer than"):
        Ratio.of([1.0], [1.0, 2.0])
    with pytest.raises(ValueError, match="at least one"):
        Ratio.of([], [])


@pytest.mark.parametrize(
    ("wall", "verdict"), [(2.5, "aim met"), (2.51, "bar met"), (5.0, "bar met"), (5.01, "MISSED"), (20.0, "MISSED")]
)
def test_the_verdict_is_that_of_the_median_against_bar_and_aim(wall: float, verdict: str) -> None:
    (row,) = outcome([wall, wall, 100.0], [10.0, 10.0, 10.0]).rows()
    assert row.verdict == verdict


def test_syncing_and_processor_time_have_ratios_of_their_own() -> None:
    (row,) = outcome([1.0], [3.0]).rows()
    assert (row.wall.median, row.synced.median, row.cpu.median) == (1 / 3, 0.5, 1 / 3)


def test_memory_is_the_most_of_all_rounds() -> None:
    made = outcome([1.0], [1.0])
    made.add(OURS, run(1.0, resident=50_000_000))
    made.add(OURS, run(1.0, resident=20_000_000))
    assert made.resident(OURS) == {"mirror": 50_000_000}


def test_what_was_missed_is_named() -> None:
    report = Report(1.0, 1, {}, {}, [outcome([9.0], [10.0]), outcome([1.0], [10.0])], [Residence("D1", 1, 3, 2)])
    assert report.missed() == ["D1 first copy against rsync", "memory: D1"]


def test_every_case_is_in_the_table_with_both_its_figures() -> None:
    report = Report(0.1, 3, {"cores": "2"}, {"rsync": ["rsync -a SRC DST"]}, [outcome([1.0], [2.0])])
    said = table.text(report)
    assert "| D1 first copy | rsync | 2.00 s | 1.00 s | 0.50  | 0.50 to 0.50  | 0.5 | 0.25 | bar met |" in said
    assert "data sets at 0.1 of their size; cores 2" in said
    assert "# rsync\nrsync -a SRC DST\n" in said


def test_a_busy_machine_is_told_and_a_quiet_one_is_not() -> None:
    quiet, busy = outcome([1.0], [2.0]), outcome([1.0], [2.0])
    busy.runs = {tool: [run(1.0, others=1.4)] for tool in busy.runs}
    assert "Other work" not in table.text(Report(1.0, 1, {}, {}, [quiet]))
    assert "Other work took 1.4 of the cores" in table.text(Report(1.0, 1, {}, {}, [busy]))


def test_results_are_kept_with_their_rows_and_runs(tmp_path: Path) -> None:
    Report(0.1, 1, {}, {}, [outcome([1.0], [3.0])]).write(tmp_path / "made" / "r.json")
    (kept,) = json.loads((tmp_path / "made" / "r.json").read_text())["outcomes"]
    assert kept["rows"][0]["verdict"] == "bar met"
    assert kept["rows"][0]["wall"]["median"] == 0.3333
    assert kept["runs"][OURS][0]["wall"] == 1.0


def test_kept_results_are_read_as_they_were_written(tmp_path: Path) -> None:
    written = Report(0.5, 2, {"cores": "2"}, {"rsync": ["rsync"]}, [outcome([1.5], [3.0])], [Residence("D1", 1, 2, 3)])
    written.write(tmp_path / "r.json")
    assert read(tmp_path / "r.json") == written


def test_the_page_shows_the_kept_results_and_no_others() -> None:
    page = PAGE.read_text()
    assert published(page, KEPT) == page, "run python -m tests.bench.mirror.publish"


def test_results_are_put_between_the_marks_and_nowhere_else(tmp_path: Path) -> None:
    Report(1.0, 1, {}, {}, [outcome([1.0], [2.0])]).write(tmp_path / "r.json")
    said = published(f"before\n{BEGIN}old\n{END}after\n", tmp_path / "r.json")
    assert said.startswith(f"before\n{BEGIN}")
    assert said.endswith(f"{END}after\n")
    assert "old" not in said
    assert "| D1 first copy |" in said
    with pytest.raises(ValueError, match="expected <!-- measured"):
        published("no marks", tmp_path / "r.json")


def test_every_row_of_the_bars_that_a_mirror_can_meet_is_a_case() -> None:
    bars = {(case.title, peer.tool.name): (peer.bar, peer.aim) for case in CASES for peer in case.peers}
    assert bars == {
        ("D1 first copy", "rsync + stunnel"): (0.55, 0.35),
        ("D1 first copy", "VolSync's passes"): (0.33, 0.20),
        ("D1 nothing changed", "rsync daemon"): (0.5, 0.25),
        ("D1 1 % changed", "rsync daemon"): (0.6, 0.35),
        ("D1 1,000 renamed", "rsync daemon"): (0.25, 0.10),
        ("D2 65 scattered 64 KiB blocks changed", "rsync --inplace"): (0.4, 0.2),
        ("D2 65 scattered 64 KiB blocks changed", "VolSync's passes"): (0.12, 0.05),
        ("D2 first copy", "rsync + stunnel"): (0.7, 0.45),
        ("D3 first copy", "rsync + stunnel"): (0.7, 0.45),
    }
    assert Ours().name == OURS


def test_cases_may_be_chosen() -> None:
    assert [case.key for case in chosen(["d2-first"])] == ["d2-first"]
    assert chosen([]) == list(CASES)
