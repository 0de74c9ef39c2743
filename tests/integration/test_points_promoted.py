"""Two agents that make points, and the copy is promoted: what the target says of it then, and what it holds."""

from __future__ import annotations

import shutil
from pathlib import Path

from storagemirror.contract import (
    Action,
    CopyPoint,
    Phase,
    Proof,
    ProofStage,
    ProveOrder,
    ReplicationOrder,
    RestoreOrder,
)
from storagemirror.fs.journal.journal import BETWEEN_POINTS, NotPromotable
from storagemirror.fs.target import TargetVolume
from tests.support.agents import AgentPair, equal_soon, fill, told, wait_for
from tests.support.pointpair import POINTS, pointing, until_point
from tests.support.points import commit, difference, look
from tests.support.trees import picture

OURS = shutil.ignore_patterns(".storagemirror", "lost+found")


def at_point(pair: AgentPair, promotable: bool, after: int = 0, seconds: float = 20.0) -> CopyPoint:
    """Wait for the target to say that its copy is a point beyond `after`, or none."""

    def there() -> CopyPoint | None:
        report = pair.target.report()
        found = report.copy_point if report is not None else None
        if found is None or found.promotable is not promotable:
            return None
        return found if not promotable or found.number > after else None

    found = wait_for(there, f"promotable to be {promotable}", seconds, pair.tell)
    assert found is not None
    return found


def prove(pair: AgentPair, stage: ProofStage) -> Proof:
    pair.source.give(prove=ProveOrder(attempt=1, stage=stage))

    def there() -> Proof | None:
        report = pair.source.report()
        proof = report.proof if report is not None else None
        return proof if proof is not None and proof.equal and proof.stage is stage else None

    found = wait_for(there, f"the proof {stage}", 30, pair.tell)
    assert found is not None
    return found


def test_a_planned_failover_of_points_ends_equal_and_without_a_doubt(pair: AgentPair, tmp_path: Path) -> None:
    with pointing(pair, tmp_path, "ext4") as (made, _):
        fill(made.path, 30)
        pair.start(replication=POINTS)
        until_point(pair)
        at_point(pair, promotable=True)
        (made.path / "late").write_text("while it is proven")
        prove(pair, ProofStage.LIVE)
        (made.path / "last").write_text("before it is stopped")
        prove(pair, ProofStage.FINAL)
        pair.target.give(action=Action.DRAIN)
        drained = told(pair, Phase.DRAINED, 20.0)
        assert drained.copy_point is not None
        assert (drained.copy_point.promotable, drained.copy_point.reason) == (False, "Mirroring")
        assert pair.equal()
        # The naive one, without the proof's word, would call a copy in doubt that was proven equal.
        pair.target.give(action=Action.PROMOTE, epoch=2, proven=True)
        report = told(pair, Phase.PROMOTED, 20.0)
        assert report.problem is None
        assert pair.equal()


def test_without_a_proof_a_copy_between_points_is_promoted_in_doubt(pair: AgentPair, tmp_path: Path) -> None:
    with pointing(pair, tmp_path, "ext4") as (made, _):
        fill(made.path, 10)
        pair.start(replication=POINTS)
        until_point(pair)
        (made.path / "late").write_text("while it is proven")
        prove(pair, ProofStage.LIVE)
        pair.source.kill()
        pair.target.give(action=Action.DRAIN)
        told(pair, Phase.DRAINED, 20.0)
        pair.target.give(action=Action.PROMOTE, epoch=2)
        report = told(pair, Phase.PROMOTED, 20.0)
        assert report.problem is not None
        assert report.problem.reason == "TargetInDoubt"


def test_a_committed_point_is_applied_without_a_source_and_after_the_way_home_it_counts_no_more(
    pair: AgentPair, tmp_path: Path
) -> None:
    """The target's agent was killed after its acknowledgement, and the source's node died: nobody connects any more."""
    with pointing(pair, tmp_path, "ext4") as (made, _):
        fill(made.path, 10)
        pair.start(replication=POINTS)
        until_point(pair)
        pair.source.kill()
        pair.target.kill()
        after = tmp_path / "after"
        shutil.copytree(pair.target.volume, after, symlinks=True, ignore=OURS)
        base = look(after)
        (after / "d0/sub/f0").write_text("of the point that was acknowledged")
        with TargetVolume.open(str(pair.target.volume)) as volume:
            volume.claim()
            number = volume.journal.at.number + 1
            commit(volume.journal, difference(base, look(after)), number)
            found = volume.promotable()
            assert isinstance(found, NotPromotable)
            assert found.reason == BETWEEN_POINTS
        pair.target.start(instance=1)
        assert at_point(pair, promotable=True, after=number - 1).number == number
        assert (pair.target.volume / "d0/sub/f0").read_text() == "of the point that was acknowledged"
        # Drained, it still is that point; promoted, nothing is in doubt.
        pair.target.give(action=Action.DRAIN)
        drained = told(pair, Phase.DRAINED, 20.0)
        assert drained.copy_point is not None
        assert (drained.copy_point.promotable, drained.copy_point.number) == (True, number)
        held = picture(pair.target.volume)
        pair.target.give(action=Action.PROMOTE, epoch=2)
        assert told(pair, Phase.PROMOTED, 20.0).problem is None
        assert picture(pair.target.volume) == held
        _home_and_forth(pair, number)


def _home_and_forth(pair: AgentPair, number: int) -> None:
    """The application writes the copy, and comes home; then it is replicated as before."""
    (pair.target.volume / "written while live").write_text("x")
    pair.turn(RestoreOrder(epoch=2, attempt=1), epoch=2)
    equal_soon(pair, 30)
    prove(pair, ProofStage.LIVE)
    prove(pair, ProofStage.FINAL)
    pair.target.give(action=Action.DRAIN)
    told(pair, Phase.DRAINED, 20.0)
    pair.target.give(action=Action.PROMOTE, epoch=3, proven=True)
    assert told(pair, Phase.PROMOTED, 20.0).problem is None
    assert pair.equal()

    pair.close()
    pair.source.volume, pair.target.volume = pair.target.volume, pair.source.volume
    pair.target.give(action=Action.RUN, restore=None, proven=False, epoch=3)
    pair.target.start()
    # Its journal still names the point of before; what it holds is another moment.
    assert at_point(pair, promotable=False).reason == "Mirroring"
    pair.source.give(action=Action.RUN, prove=None, epoch=3, replication=ReplicationOrder())
    pair.source.start()
    pair.introduce()
    pair.until(Phase.REPLICATING)
    pair.target.kill()  # a mirror that found nothing to change has ended: the marker tells no more of that life
    with TargetVolume.open(str(pair.target.volume)) as volume:
        assert isinstance(volume.promotable(), NotPromotable)
    pair.target.start(instance=1)
    pair.source.give(replication=POINTS)
    pair.introduce()
    until_point(pair)
    at_point(pair, promotable=True, after=number)
    equal_soon(pair)
