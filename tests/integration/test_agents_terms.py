"""Rules, orphans and ways to compare, with two real agents: from the order to the report, live, proven, and home."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

from storagemirror.contract import (
    Action,
    BeatOrder,
    CompareBy,
    MirrorOrder,
    OrphansOrder,
    Phase,
    Proof,
    ProofStage,
    ProveOrder,
    Report,
    RestoreOrder,
    RuleOrder,
)
from storagemirror.terms import OrphanPolicy
from tests.support.agents import AgentPair, fill, problem, reads, wait_for
from tests.support.drifting import start_unwatched

QUICK = BeatOrder(interval_seconds=0.5, missed=4)
NO_CACHE = (RuleOrder(exclude="cache/"), RuleOrder(exclude="*.tmp"), RuleOrder(include="keep.tmp"))
FILTERS = ("--include=keep.tmp", "--exclude=*.tmp", "--exclude=cache/")
KEEP = OrphansOrder(policy=OrphanPolicy.KEEP)


def rsync_says(pair: AgentPair, *filters: str, delete: bool = True) -> str:
    words = ["rsync", "-anciHAX", "--exclude=/.storagemirror", "--exclude=/lost+found", *filters]
    words += ["--delete"] if delete else []
    ends = [f"{pair.source.volume}/", f"{pair.target.volume}/"]
    done = subprocess.run([*words, *ends], check=False, capture_output=True, text=True)
    return done.stdout if done.returncode == 0 else f"rsync ended with {done.returncode}: {done.stderr}"


def equal_under(pair: AgentPair, *filters: str, delete: bool = True) -> None:
    wait_for(lambda: rsync_says(pair, *filters, delete=delete) == "", "both sides to be equal", 20, pair.tell)


def left(pair: AgentPair) -> dict[str, tuple[int, tuple[str, ...]]]:
    report = pair.source.report()
    return {kind.kind: (kind.count, kind.first) for kind in report.left_alone} if report else {}


def proven(pair: AgentPair, stage: ProofStage) -> Proof:
    pair.source.give(prove=ProveOrder(attempt=1, stage=stage))

    def there() -> Proof | None:
        report = pair.source.report()
        found = report.proof if report else None
        return found if found and found.stage == stage else None

    found = wait_for(there, f"the proof {stage}", 30, pair.tell)
    assert found is not None
    return found


def told(pair: AgentPair, phase: Phase) -> Report:
    def there() -> Report | None:
        report, order = pair.target.report(), pair.target.order
        assert order is not None
        return report if report and report.phase is phase and report.revision == order.revision else None

    found = wait_for(there, f"the target to be {phase}", 20, pair.tell)
    assert found is not None
    return found


def started(pair: AgentPair, **mirror: Any) -> tuple[Path, Path]:
    fill(pair.source.volume, 40)
    for name in ("cache/x", "d0/cache/y", "d1/a.tmp", "d1/keep.tmp"):
        path = pair.source.volume / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(name)
    pair.start(beat=QUICK, mirror=MirrorOrder(**mirror))
    pair.until(Phase.REPLICATING)
    return pair.source.volume, pair.target.volume


def test_rules_hold_live_and_a_new_order_changes_them(pair: AgentPair) -> None:
    source, target = started(pair, rules=NO_CACHE)
    equal_under(pair, *FILTERS)
    assert not (target / "cache").exists()
    (source / "cache/new").write_text("x")
    (source / "d2/new.tmp").write_text("x")
    (source / "d2/new").write_text("x")
    equal_under(pair, *FILTERS)
    assert not (target / "d2/new.tmp").exists()
    # One agent hears of it before the other: they wait for each other.
    pair.source.give(mirror=MirrorOrder())
    wait_for(lambda: problem(pair) == "TermsDiffer", "the source to say why", 15, pair.tell)
    assert not (target / "cache").exists()
    pair.target.give(mirror=MirrorOrder())
    equal_under(pair)
    assert reads(target / "cache/new", "x")


def test_a_rule_that_cannot_be_meant_is_a_problem_with_a_name(pair: AgentPair) -> None:
    fill(pair.source.volume, 5)
    pair.start(beat=QUICK, mirror=MirrorOrder(rules=(RuleOrder(exclude="[a"),)))
    wait_for(lambda: problem(pair) == "RuleInvalid", "the problem", 15, pair.tell)
    assert not any(path.name.startswith("d") for path in pair.target.volume.iterdir())
    pair.target.give(mirror=MirrorOrder())
    pair.source.give(mirror=MirrorOrder())
    equal_under(pair)


def test_a_pair_that_keeps_orphans_and_rules_is_proven_equal_and_says_how_many_there_are(pair: AgentPair) -> None:
    source, target = started(pair, rules=NO_CACHE, orphans=OrphansOrder(policy=OrphanPolicy.REPORT))
    (source / "d0/sub/f0").unlink()
    subprocess.run(["rm", "-r", source / "d1/sub"], check=True)
    (source / "d2/sub/new").write_text("new")
    equal_under(pair, *FILTERS, delete=False)
    live = proven(pair, ProofStage.LIVE)
    (source / "d3/sub/f3").write_text("the last word")
    final = proven(pair, ProofStage.FINAL)
    assert (live.equal, final.equal) == (True, True)
    assert reads(target / "d0/sub/f0", "0\n")
    wait_for(lambda: "Orphan" in left(pair), "the orphans to be told", 20, pair.tell)
    count, first = left(pair)["Orphan"]
    assert count == 1 + 5
    assert set(first) == {"d0/sub/f0", "d1/sub"}
    assert rsync_says(pair, *FILTERS, delete=False) == ""
    pair.target.give(action=Action.DRAIN)
    told(pair, Phase.DRAINED)


def test_a_pair_that_spares_newer_files_is_proven_equal_but_for_these(pair: AgentPair) -> None:
    source, target = started(pair, compare=CompareBy.NEWER)
    path = target / "d0/sub/f0"
    path.write_text("newer on the target")
    os.utime(path, ns=(4 * 10**18, 4 * 10**18))
    assert proven(pair, ProofStage.LIVE).equal
    final = proven(pair, ProofStage.FINAL)
    assert final.equal
    assert final.differing == 0
    assert reads(path, "newer on the target")
    (source / "d0/sub/f0").write_text("written now, and older than that")
    wait_for(lambda: left(pair).get("Newer") == (1, ("d0/sub/f0",)), "it to be told", 15, pair.tell)
    assert reads(path, "newer on the target")


def test_what_only_a_checksum_shows_is_mended_while_changes_follow(pair: AgentPair) -> None:
    fill(pair.source.volume, 40)
    start_unwatched(pair, beat=QUICK)  # else it is seen as it happens, and mended before
    pair.until(Phase.REPLICATING)
    for number in (3, 17):
        path = pair.target.volume / f"d{number % 10}/sub/f{number}"
        before = path.stat()
        path.write_text("?" * before.st_size)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert rsync_says(pair) != ""
    by_content = MirrorOrder(compare=CompareBy.CHECKSUM)
    pair.target.give(mirror=by_content)
    pair.source.give(mirror=by_content)
    equal_under(pair)
    (pair.source.volume / "d0/sub/new").write_text("x")
    equal_under(pair)
    wait_for(lambda: "2 differed although nothing showed it" in pair.source.log(), "the log", 15, pair.tell)


def test_a_pair_with_rules_fails_over_and_comes_home(pair: AgentPair) -> None:
    """What the rules leave out is nobody's copy: each side keeps its own, and nothing of it is put aside."""
    home, live = started(pair, rules=NO_CACHE, orphans=KEEP)
    (home / "d0/sub/f0").unlink()
    equal_under(pair, *FILTERS, delete=False)
    pair.source.kill()
    pair.target.give(action=Action.PROMOTE, epoch=2)
    told(pair, Phase.PROMOTED)
    (live / "d1/sub/new").write_text("on the live side")
    (live / "d1/cache").mkdir()
    (live / "d1/cache/live").write_text("the live side's own")
    (home / "d2/sub/after").write_text("after the cut")
    (home / "d2/b.tmp").write_text("left out")
    # As the operator orders it: orphans are not kept on the way home.
    pair.turn(RestoreOrder(epoch=2, attempt=1), epoch=2, mirror=MirrorOrder(rules=NO_CACHE))
    report = wait_for(lambda: (r := pair.target.report()) and r.kept and r, "what is kept", 20, pair.tell)
    assert report
    assert report.kept is not None
    assert (report.kept.known, report.kept.entries, report.kept.first) == (True, 1, ("d2/sub/after",))
    pair.until(Phase.REPLICATING)
    equal_under(pair, *FILTERS)
    assert reads(home / "cache/x", "cache/x")
    assert reads(home / "d2/b.tmp", "left out")
    assert not (home / "d1/cache").exists()
    assert (home / "d0/sub/f0").exists(), "an orphan of the copy is the live side's, and comes home with it"
    assert proven(pair, ProofStage.LIVE).equal
    assert proven(pair, ProofStage.FINAL).equal
    pair.target.give(action=Action.PROMOTE, epoch=3)
    told(pair, Phase.PROMOTED)
    assert reads(home / "d1/sub/new", "on the live side")
