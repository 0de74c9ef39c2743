"""Bringing a volume home, with two real processes: what the old side wrote is kept aside, then both are made equal."""

from __future__ import annotations

import json
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from storagemirror.contract import (
    Action,
    BeatOrder,
    KeptAside,
    Phase,
    Proof,
    ProofStage,
    ProveOrder,
    RestoreOrder,
)
from tests.support.agents import AgentPair, equal_soon, fill, problem, reads, told, wait_for
from tests.support.disks import disk
from tests.support.drifting import start_unwatched

QUICK = BeatOrder(interval_seconds=0.5, missed=4)
HOME = RestoreOrder(epoch=2, attempt=1)


def marker(volume: Path) -> dict[str, Any]:
    """What a volume says about itself."""
    found: dict[str, Any] = json.loads((volume / ".storagemirror/pair.json").read_text())
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
    told(pair, Phase.PROMOTED, 15.0)
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
    told(pair, Phase.DRAINED, 15.0)
    assert pair.equal()
    pair.target.give(action=Action.PROMOTE, epoch=3)
    report = told(pair, Phase.PROMOTED, 15.0)
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


def test_what_only_a_checksum_tells_apart_is_kept_aside_too(pair: AgentPair) -> None:
    """Files that the old side changed, of the size and the time that they had: no look at them finds that."""
    pair.source.volume.mkdir(exist_ok=True)
    (pair.source.volume / "large").write_bytes(os.urandom(3 << 20))
    home, _ = failed_over(pair, 20)
    changed: dict[Path, bytes] = {}
    for path in (home / "d0/sub/f0", home / "large"):
        before = path.stat()
        changed[path] = os.urandom(before.st_size)
        path.write_bytes(changed[path])
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    pair.turn(HOME, epoch=2)
    kept(pair)
    pair.until(Phase.REPLICATING)
    # What came to the live side less than two seconds ago may be in flux: the live part leaves it to the final one.
    proofs = [proven(pair, stage) for stage in (ProofStage.LIVE, ProofStage.FINAL)]
    assert [proof.equal for proof in proofs] == [True, True]
    assert sum(proof.differing for proof in proofs) == 2
    assert pair.equal()
    aside = home / ".storagemirror/diverged/2"
    assert {path: (aside / path.relative_to(home)).read_bytes() for path in changed} == changed
    wait_for(lambda: kept(pair).entries == 2, "both to be told", 20, pair.tell)
    assert sorted(kept(pair).first) == ["d0/sub/f0", "large"]


# -- what happens in between


def diverged(pair: AgentPair) -> tuple[Path, Path]:
    """Failed over, and written by hand at home: five entries that nobody else has, in three places."""
    home, live = failed_over(pair, 60)
    (home / "d0/sub/f0").write_text("changed")
    (home / "d1/sub/new").write_text("new")
    (home / "d1/sub/dir/deep").mkdir(parents=True)
    os.link(home / "d2/sub/f2", home / "d2/sub/another-name")
    (home / "d3/sub/f3").unlink()
    return home, live


def as_expected(pair: AgentPair, found: KeptAside, home: Path) -> None:
    aside = home / ".storagemirror/diverged/2"
    assert (found.known, found.entries, found.deleted) == (True, 5, 1)
    assert found.first == ("d0/sub/f0", "d1/sub/new", "d1/sub/dir", "d2/sub/another-name")
    assert found.bytes == len("changed") + len("new") + (home / "d2/sub/f2").stat().st_size
    assert reads(aside / "d0/sub/f0", "changed")
    assert reads(aside / "d1/sub/new", "new")
    assert (aside / "d1/sub/dir/deep").is_dir()
    assert (aside / "d2/sub/another-name").read_bytes() == (home / "d2/sub/f2").read_bytes()
    assert not (aside / "d2/sub/another-name").samefile(home / "d2/sub/f2")
    equal_soon(pair)


POINTS = [
    *(f"aside.rename:{number}:{when}" for number in range(1, 12) for when in ("before", "after")),
    *(f"aside.mkdir:{number}:after" for number in (1, 2, 3)),
    "unshare.open:2:after",
    *(f"syncfs:{number}:{when}" for number in (1, 2) for when in ("before", "after")),
    *(f"rename:{number}:{when}" for number in (1, 2, 3) for when in ("before", "after")),
]


@pytest.mark.parametrize("point", POINTS)
def test_a_target_that_is_killed_at_any_step_is_followed_by_one_that_comes_to_the_same_end(
    pair: AgentPair, tmp_path: Path, point: str
) -> None:
    home, _ = diverged(pair)
    pair.close()
    pair.source.volume, pair.target.volume = pair.target.volume, pair.source.volume
    after = tmp_path / "now"
    after.touch()
    pair.target.give(action=Action.RUN, epoch=2, restore=HOME)
    program = [sys.executable, "-m", "tests.support.dying", "agent"]
    pair.target.start(program=program, DIE_AT=point, DIE_AFTER=str(after))
    pair.source.give(action=Action.RUN, epoch=2)
    pair.source.start()
    pair.introduce()
    assert pair.target.process is not None
    assert pair.target.process.wait(15) == -signal.SIGKILL, f"it never came to {point}"
    pair.target.start()
    pair.introduce()
    as_expected(pair, kept(pair), home)


def test_a_source_that_is_killed_while_it_tells_is_followed_by_one_that_tells_all(pair: AgentPair) -> None:
    home, live = failed_over(pair, 20)
    fill(home, 20_000, directories=300)  # all of it new: so much that it takes a while
    pair.close()
    pair.source.volume, pair.target.volume = live, home
    pair.target.give(action=Action.RUN, epoch=2, restore=HOME)
    pair.target.start()
    pair.source.give(action=Action.RUN, epoch=2)
    pair.source.start()
    pair.introduce()
    wait_for((home / ".storagemirror/diverged").exists, "it to begin", 15, pair.tell)
    pair.source.kill()
    pair.source.start()
    found = kept(pair)
    assert found.entries >= 20_000 - 20
    pair.until(Phase.REPLICATING)
    equal_soon(pair)


def test_what_was_kept_is_told_by_the_next_agent_too_and_only_of_the_present_order(pair: AgentPair) -> None:
    home, _ = diverged(pair)
    pair.turn(HOME, epoch=2)
    found = kept(pair)
    pair.until(Phase.REPLICATING)
    pair.target.kill()
    pair.source.kill()
    pair.target.start()
    assert kept(pair) == found, "with no source to ask"
    pair.target.give(restore=RestoreOrder(epoch=2, attempt=2))
    revision = pair.target.order.revision if pair.target.order else 0
    wait_for(lambda: (r := pair.target.report()) and r.revision == revision, "the new order", 15, pair.tell)
    report = pair.target.report()
    assert report is not None
    assert report.kept is None
    pair.source.start()
    pair.introduce()
    again = kept(pair, attempt=2)
    assert (again.entries, again.first) == (found.entries, found.first)
    as_expected(pair, again, home)
    pair.target.give(restore=None)
    wait_for(lambda: (r := pair.target.report()) and r.kept is None, "nothing to be told", 15, pair.tell)


def test_a_new_claim_at_home_is_seeded_and_mirrors_forth_without_a_hold(pair: AgentPair, tmp_path: Path) -> None:
    _, live = failed_over(pair, 60)
    new = tmp_path / "new-home"
    new.mkdir()
    pair.source.volume = new
    pair.turn(HOME, epoch=2)
    found = kept(pair)
    assert (found.known, found.entries, found.deleted) == (True, 0, 0)
    pair.until(Phase.REPLICATING)
    equal_soon(pair)
    pair.target.give(action=Action.PROMOTE, epoch=3)
    told(pair, Phase.PROMOTED, 15.0)
    (new / "d0/sub/f0").write_text("at home")
    pair.turn(epoch=3)
    pair.until(Phase.REPLICATING)
    equal_soon(pair)
    assert problem(pair) == ""
    assert reads(live / "d0/sub/f0", "at home")


def test_an_order_to_restore_from_what_was_never_live_ends_in_a_problem_with_a_name(pair: AgentPair) -> None:
    home, live = diverged(pair)
    pair.close()
    (live / ".storagemirror/pair.json").unlink()
    pair.turn(HOME, epoch=2)
    wait_for(lambda: problem(pair) == "SourceNotPromoted", "the refusal", 15, pair.tell)
    assert reads(home / "d0/sub/f0", "changed")
    report = pair.target.report()
    assert report is not None
    assert report.kept is None


def test_a_promotion_without_room_for_a_manifest_says_so(pair: AgentPair, tmp_path: Path) -> None:
    with disk(tmp_path, "ext4", 24) as made:
        pair.target.volume = made.path
        fill(pair.source.volume, 3000)
        start_unwatched(pair, beat=QUICK)  # else the ballast, which is somebody else's, is told of in its place
        pair.until(Phase.REPLICATING)
        pair.source.kill()
        with (made.path / "ballast").open("wb") as ballast, suppress(OSError):
            while True:
                ballast.write(bytes(1 << 16))
                ballast.flush()
        os.truncate(made.path / "ballast", (made.path / "ballast").stat().st_size - 20480)
        pair.target.give(action=Action.PROMOTE, epoch=2)
        report = told(pair, Phase.PROMOTED, 15.0)
        assert report.problem is not None
        assert report.problem.reason == "ManifestMissing"
        assert not report.problem.retrying
        assert marker(made.path)["promoted"] == 2
        pair.close()
