"""Bringing a volume home, with two real processes: what the old side wrote is kept aside, then both are made equal."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from storagemirror.contract import (
    Action,
    BeatOrder,
    KeptAside,
    Phase,
    Proof,
    ProofStage,
    ProveOrder,
    Report,
    RestoreOrder,
)
from tests.support.agents import AgentPair, equal_soon, fill, problem, reads, wait_for

QUICK = BeatOrder(interval_seconds=0.5, missed=4)
HOME = RestoreOrder(epoch=2, attempt=1)


def marker(volume: Path) -> dict[str, Any]:
    """What a volume says about itself."""
    found: dict[str, Any] = json.loads((volume / ".storagemirror/pair.json").read_text())
    return found


def told(pair: AgentPair, phase: Phase, seconds: float = 15.0) -> Report:
    """Wait for the target to report the phase, under the order it was given."""

    def there() -> Report | None:
        report, order = pair.target.report(), pair.target.order
        assert order is not None
        return report if report and report.phase is phase and report.revision == order.revision else None

    found = wait_for(there, f"the target to be {phase}", seconds, pair.tell)
    assert found is not None
    return found


def kept(pair: AgentPair, attempt: int = 1, seconds: float = 20.0) -> KeptAside:
    """Wait for the target to tell what it has kept."""

    def there() -> KeptAside | None:
        report = pair.target.report()
        return report.kept if report and report.kept and report.kept.attempt == attempt else None

    found = wait_for(there, "what is kept aside", seconds, pair.tell)
    assert found is not None
    return found


def proven(pair: AgentPair, stage: ProofStage, attempt: int = 1) -> Proof:
    pair.source.give(prove=ProveOrder(attempt=attempt, stage=stage))

    def there() -> Proof | None:
        report = pair.source.report()
        found = report.proof if report else None
        return found if found and (found.attempt, found.stage) == (attempt, stage) else None

    found = wait_for(there, f"the proof {stage}", 30, pair.tell)
    assert found is not None
    return found


def failed_over(pair: AgentPair, files: int = 200) -> tuple[Path, Path]:
    """Mirrored, and the copy promoted to epoch 2: (home, the live side)."""
    fill(pair.source.volume, files)
    pair.start(beat=QUICK)
    pair.until(Phase.REPLICATING)
    equal_soon(pair)
    pair.source.kill()
    pair.target.give(action=Action.PROMOTE, epoch=2)
    told(pair, Phase.PROMOTED)
    return pair.source.volume, pair.target.volume


def test_home_and_forth_again(pair: AgentPair) -> None:
    home, live = failed_over(pair)
    assert (live / ".storagemirror/manifest").exists()
    # The old side lives on for a while, and the new one is written too.
    (home / "d0/sub/f0").write_text("written by the old side after the cut")
    (home / "only-here/deep").mkdir(parents=True)
    (home / "only-here/deep/file").write_text("nobody else has it")
    (home / "d1/sub/f1").unlink()
    (live / "d0/sub/f0").write_text("written by the live side")
    (live / "d2/sub/new").write_text("written by the live side as well")
    (live / "d3/sub/f3").unlink()
    pair.turn(HOME, epoch=2)
    found = kept(pair)
    assert (found.epoch, found.known, found.entries, found.deleted) == (2, True, 4, 1)
    assert found.bytes == len("written by the old side after the cut") + len("nobody else has it")
    assert found.first == ("d0/sub/f0", "only-here")
    pair.until(Phase.REPLICATING)
    equal_soon(pair)
    aside = home / ".storagemirror/diverged/2"
    assert reads(aside / "d0/sub/f0", "written by the old side after the cut")
    assert reads(aside / "only-here/deep/file", "nobody else has it")
    # The live side goes on while it is proven; then it stands still.
    (live / "d4/sub/late").write_text("still written")
    assert proven(pair, ProofStage.LIVE).equal
    (live / "d4/sub/later").write_text("the last word")
    final = proven(pair, ProofStage.FINAL)
    assert final.equal
    assert final.digest
    pair.target.give(action=Action.DRAIN)
    told(pair, Phase.DRAINED)
    assert pair.equal()
    pair.target.give(action=Action.PROMOTE, epoch=3)
    report = told(pair, Phase.PROMOTED)
    assert report.problem is None
    assert report.kept == found
    assert (marker(home)["epoch"], marker(home)["promoted"]) == (3, 3)
    assert not (home / ".storagemirror/manifest").exists()
    # In the first direction again, by itself.
    (home / "d5/sub/at-home").write_text("written at home")
    pair.turn(epoch=3)
    pair.until(Phase.REPLICATING)
    equal_soon(pair)
    assert (marker(live)["epoch"], marker(live)["promoted"]) == (3, None)
    source = pair.source.report()
    assert source is not None
    assert source.not_kept == (), "what is ours at home is no name of the user's"
    assert problem(pair) == ""
    assert os.listdir(aside) != []
