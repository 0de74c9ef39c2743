"""Draining and promoting a copy: two real processes, killed between any two steps."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from storagemirror.contract import Action, BeatOrder, Peer, PeerState, Phase, Report, Role
from storagemirror.fs import manifest
from tests.support.agents import PAIR, VOLUME, Agent, AgentPair, equal_soon, fill, problem, reads, wait_for

QUICK = BeatOrder(interval_seconds=0.5, missed=4)


def marker(pair: AgentPair) -> dict[str, Any]:
    """What the target volume says about itself."""
    found: dict[str, Any] = json.loads((pair.target.volume / ".storagemirror/pair.json").read_text())
    return found


def until(pair: AgentPair, phase: Phase, seconds: float = 15.0) -> Report:
    """Wait for the target to report the phase, under the order it was given."""

    def there() -> Report | None:
        report = pair.target.report()
        order = pair.target.order
        assert order is not None
        return report if report and report.phase is phase and report.revision == order.revision else None

    found = wait_for(there, f"the target to be {phase}", seconds, pair.tell)
    assert found is not None
    return found


def replicating(pair: AgentPair, files: int = 50) -> None:
    fill(pair.source.volume, files)
    pair.start(beat=QUICK)
    pair.until(Phase.REPLICATING)
    equal_soon(pair)


def listing(root: Path) -> dict[str, tuple[int, int, int]]:
    """Everything on a volume, ours too: size, time of change and of the inode, of what is no directory."""
    found = {}
    for here, _, files in os.walk(root):
        for name in files:
            at = Path(here, name).lstat()
            found[str(Path(here, name).relative_to(root))] = (at.st_size, at.st_mtime_ns, at.st_ctime_ns)
    return found


def open_on(agent: Agent) -> list[str]:
    """What the process has open on its volume."""
    links = []
    for fd in Path(f"/proc/{agent.running().pid}/fd").iterdir():
        try:
            links.append(os.readlink(fd))
        except FileNotFoundError:
            continue
    return [link for link in links if link.startswith(str(agent.volume))]


def remembers(volume: Path, epoch: int) -> bool:
    """Whether it knows what it held when it was promoted."""
    state = os.open(volume / ".storagemirror", os.O_RDONLY)
    try:
        found = manifest.find(state, PAIR, VOLUME, epoch)
    finally:
        os.close(state)
    if found is None:
        return False
    told = sum(len(part.entries) for part in found.parts())
    found.close()
    return (
        told
        == sum(len(files) + len(there) for _, there, files in os.walk(volume))
        - sum(len(files) + len(there) for _, there, files in os.walk(volume / ".storagemirror"))
        - 1
    )


# -- drain


def test_a_drained_target_lets_nobody_in_until_the_order_says_run_again(pair: AgentPair) -> None:
    replicating(pair)
    pair.target.give(action=Action.DRAIN)
    report = until(pair, Phase.DRAINED)
    assert report.synced_through is not None
    assert report.problem is None
    assert not report.peer_connected
    (pair.source.volume / "late").write_text("x")
    time.sleep(2)
    assert not (pair.target.volume / "late").exists()
    assert pair.target.phase() is Phase.DRAINED
    assert not marker(pair)["open"]
    assert marker(pair)["epoch"] == 1
    pair.target.give(action=Action.RUN)
    wait_for(lambda: reads(pair.target.volume / "late", "x"), "what was written meanwhile", 15, pair.tell)
    equal_soon(pair)


def test_what_a_source_sent_before_it_died_is_applied_before_the_target_says_drained(pair: AgentPair) -> None:
    """The source is killed with much on its way; the target is stopped, so that all of it lies unread."""
    replicating(pair)
    pair.target.kill(signal.SIGSTOP)
    for i in range(60):
        (pair.source.volume / f"on-its-way-{i}").write_text(f"{i}")
    time.sleep(1)
    pair.source.kill()
    pair.target.give(action=Action.DRAIN)
    pair.target.kill(signal.SIGCONT)
    until(pair, Phase.DRAINED)
    for i in range(60):
        assert reads(pair.target.volume / f"on-its-way-{i}", f"{i}")


def test_a_file_that_has_not_come_whole_keeps_its_old_content(pair: AgentPair, tmp_path: Path) -> None:
    replicating(pair)
    (pair.source.volume / "large").write_bytes(b"old" * (1 << 20))
    equal_soon(pair)
    (tmp_path / "large").write_bytes(b"new" * (64 << 20))
    (tmp_path / "large").rename(pair.source.volume / "large")
    wait_for(lambda: any((pair.target.volume / ".storagemirror/tmp").iterdir()), "it to begin", 15, pair.tell)
    pair.target.give(action=Action.DRAIN)
    until(pair, Phase.DRAINED)
    content = (pair.target.volume / "large").read_bytes()
    assert content in (b"old" * (1 << 20), b"new" * (64 << 20))
    pair.target.give(action=Action.RUN)
    equal_soon(pair, 30)


def test_draining_is_done_anew_by_an_agent_that_comes_after_one_that_was_killed(pair: AgentPair) -> None:
    replicating(pair)
    pair.source.kill()
    pair.target.kill()
    pair.target.give(action=Action.DRAIN)
    for _ in range(2):
        pair.target.start()
        report = until(pair, Phase.DRAINED)
        assert report.synced_through is not None
        assert report.peer is not None
        assert report.peer.state is PeerState.NEVER
        assert not marker(pair)["open"]
        pair.target.kill()
        pair.target.give()


def test_a_volume_that_nobody_ever_wrote_is_drained_and_not_touched(pair: AgentPair) -> None:
    (pair.target.volume / "somebody's").write_text("x")
    pair.target.give(action=Action.DRAIN)
    pair.target.start()
    report = until(pair, Phase.DRAINED)
    assert report.synced_through is None
    assert set(listing(pair.target.volume)) == {"somebody's"}
    assert not (pair.target.volume / ".storagemirror").exists()


@pytest.mark.parametrize(("action", "phase"), [(Action.DRAIN, Phase.DRAINED), (Action.PROMOTE, Phase.PROMOTED)])
def test_a_sync_that_fails_is_reported_and_tried_again(
    pair: AgentPair, tmp_path: Path, action: Action, phase: Phase
) -> None:
    replicating(pair)
    broken = tmp_path / "broken"
    pair.target.kill()
    broken.touch()
    program = [sys.executable, "-m", "tests.support.failing", "agent"]
    pair.target.give(action=action, epoch=2)
    pair.target.start(program=program, FAIL_WHILE=str(broken))
    wait_for(lambda: (r := pair.target.report()) and r.problem, "the problem", 15, pair.tell)
    report = pair.target.report()
    assert report is not None
    assert report.problem is not None
    assert report.problem.reason == "TargetFailing"
    assert report.phase is Phase.FAILED
    assert (marker(pair)["boot"], marker(pair)["epoch"]) == ("", 1)
    broken.unlink()
    report = until(pair, phase)
    assert report.problem is not None
    assert report.problem.reason == "TargetInDoubt", "the next sync succeeds, whatever the disk has dropped"


# -- promote


def test_a_promoted_volume_bears_the_epoch_and_is_let_go_of(pair: AgentPair) -> None:
    replicating(pair)
    pair.target.give(action=Action.DRAIN)
    until(pair, Phase.DRAINED)
    assert open_on(pair.target)
    pair.target.give(action=Action.PROMOTE, epoch=2)
    report = until(pair, Phase.PROMOTED)
    assert report.epoch == 2
    assert report.synced_through is not None
    assert (marker(pair)["epoch"], marker(pair)["promoted"], marker(pair)["open"]) == (2, 2, False)
    assert open_on(pair.target) == []
    # In use by now, it is not touched again: neither by this agent nor by one that comes after it.
    before = listing(pair.target.volume)
    pair.target.give()
    until(pair, Phase.PROMOTED)
    pair.target.kill()
    pair.target.start()
    report = until(pair, Phase.PROMOTED)
    assert report.epoch == 2
    assert report.synced_through is not None
    assert listing(pair.target.volume) == before
    assert open_on(pair.target) == []


POINTS = [
    *(f"syncfs:1:{when}" for when in ("before", "after")),
    *(f"{call}:{number}:{when}" for call in ("fsync", "rename") for number in (1, 2) for when in ("before", "after")),
    *(f"fsync:{number}:{when}" for number in (3, 4) for when in ("before", "after")),
    *(f"open:{number}:after" for number in range(1, 11)),
    *(f"manifest.{call}:1:{when}" for call in ("open", "fsync", "rename") for when in ("before", "after")),
    *(f"manifest.fsync:2:{when}" for when in ("before", "after")),
]


@pytest.mark.parametrize("point", POINTS)
def test_a_promotion_that_is_killed_at_any_step_is_finished_by_the_next_agent(
    pair: AgentPair, tmp_path: Path, point: str
) -> None:
    replicating(pair, 20)
    pair.target.kill()  # in the middle of a session: the marker says so, and is written twice
    pair.source.kill()
    pair.target.give(action=Action.PROMOTE, epoch=2)
    after = tmp_path / "now"
    after.touch()
    program = [sys.executable, "-m", "tests.support.dying", "agent"]
    pair.target.start(program=program, DIE_AT=point, DIE_AFTER=str(after))
    assert pair.target.process is not None
    assert pair.target.process.wait(15) == -signal.SIGKILL, f"it never came to {point}"
    told = pair.target.report()
    assert told is None or told.phase is not Phase.PROMOTED
    assert marker(pair)["epoch"] in (1, 2), "whole, the old one or the new one"
    pair.target.start()
    report = until(pair, Phase.PROMOTED)
    assert report.epoch == 2
    assert (marker(pair)["epoch"], marker(pair)["promoted"]) == (2, 2)
    assert report.problem is None
    assert remembers(pair.target.volume, epoch=2)
    assert pair.equal()


def test_after_a_promotion_an_older_epoch_is_refused_by_the_volume_and_nothing_changes(pair: AgentPair) -> None:
    replicating(pair)
    pair.target.give(action=Action.PROMOTE, epoch=2)
    until(pair, Phase.PROMOTED)
    (pair.target.volume / "d0/sub/f0").write_text("written by the new live side")
    before = listing(pair.target.volume)
    # Both agents of the old epoch, as if nobody had told them.
    pair.target.give(action=Action.RUN, epoch=1)
    (pair.source.volume / "d0/sub/f0").write_text("written by the old live side")
    wait_for(lambda: problem(pair) == "EpochTooOld", "the refusal", 15, pair.tell)
    wait_for(lambda: (r := pair.target.report()) and r.problem, "the target to say so too", 15, pair.tell)
    assert listing(pair.target.volume) == before
    # The epoch of the promotion itself is no better: this is the live side, no copy.
    pair.target.give(epoch=2)
    pair.source.give(epoch=2)
    wait_for(lambda: "became the live side at epoch 2" in pair.source.log(), "the refusal", 15, pair.tell)
    assert listing(pair.target.volume) == before


def test_an_older_epoch_is_refused_by_the_peer(pair: AgentPair) -> None:
    replicating(pair)
    pair.target.give(action=Action.PROMOTE, epoch=2)
    until(pair, Phase.PROMOTED)
    before = listing(pair.target.volume)
    pair.target.give(action=Action.RUN, epoch=3)
    (pair.source.volume / "d0/sub/f0").write_text("of epoch 1")
    wait_for(lambda: problem(pair) == "EpochTooOld", "the refusal", 15, pair.tell)
    assert "the pair is at 3" in pair.source.log()
    assert listing(pair.target.volume) == before
    # A rollback: with the next epoch it is a copy again.
    pair.source.give(epoch=3)
    equal_soon(pair)
    assert (marker(pair)["epoch"], marker(pair)["promoted"]) == (3, None)


def test_a_volume_of_a_later_epoch_is_not_promoted_to_an_earlier_one(pair: AgentPair) -> None:
    replicating(pair)
    pair.target.give(action=Action.PROMOTE, epoch=3)
    until(pair, Phase.PROMOTED)
    before = listing(pair.target.volume)
    for action in (Action.PROMOTE, Action.DRAIN):
        pair.target.give(action=action, epoch=2)
        report = until(pair, Phase.FAILED)
        assert report.problem is not None
        assert report.problem.reason == "EpochTooOld"
        assert listing(pair.target.volume) == before


def test_a_volume_of_another_pair_is_not_promoted(pair: AgentPair, tmp_path: Path) -> None:
    replicating(pair)
    pair.source.kill()
    pair.target.kill()
    before = listing(pair.target.volume)
    pair.target.tls = pair.authority.write(tmp_path / "other", Role.TARGET, VOLUME, "another-pair")
    pair.target.give(action=Action.PROMOTE, epoch=2, pair_uid="another-pair")
    pair.target.start()
    report = until(pair, Phase.FAILED)
    assert report.problem is not None
    assert report.problem.reason == "TargetOwnedByAnother"
    assert report.synced_through is None
    assert PAIR in report.problem.message
    assert listing(pair.target.volume) == before


def test_a_volume_that_nobody_ever_mirrored_is_not_promoted(pair: AgentPair) -> None:
    (pair.target.volume / "somebody's").write_text("x")
    pair.target.give(action=Action.PROMOTE, epoch=2)
    pair.target.start()
    report = until(pair, Phase.FAILED)
    assert report.problem is not None
    assert report.problem.reason == "TargetNotMirrored"
    assert set(listing(pair.target.volume)) == {"somebody's"}


def test_a_copy_that_was_never_whole_is_promoted_when_that_is_ordered_and_says_so(pair: AgentPair) -> None:
    fill(pair.source.volume, 20_000, directories=100)
    pair.start(beat=QUICK)
    wait_for(lambda: any(pair.target.volume.glob("d*/sub/f*")), "the first files", 20, pair.tell)
    pair.source.kill()
    pair.target.give(action=Action.PROMOTE, epoch=2)
    until(pair, Phase.PROMOTED)
    assert marker(pair)["entries"] is None
    assert marker(pair)["promoted"] == 2
    assert "never whole" in pair.target.log()


def test_a_source_that_still_sends_is_cut_off_by_the_promotion(pair: AgentPair) -> None:
    replicating(pair)
    stop = time.monotonic() + 4
    pair.target.give(action=Action.PROMOTE, epoch=2)
    number = 0
    while pair.target.phase() is not Phase.PROMOTED:
        (pair.source.volume / f"n-{number}").write_text(f"{number}")
        number += 1
        assert time.monotonic() < stop, pair.tell()
    before = listing(pair.target.volume)
    for i in range(20):
        (pair.source.volume / f"after-{i}").write_text("x")
    pair.introduce()
    pair.source.give(peer=Peer(address="127.0.0.1", port=pair.target.port()))
    time.sleep(1.5)
    assert listing(pair.target.volume) == before


def test_a_promotion_waits_for_nobody_who_holds_the_volume(pair: AgentPair) -> None:
    """Another process writes the volume: an agent that was given up but lives on. It is promoted once that has gone."""
    replicating(pair)
    pair.source.kill()
    pair.target.kill()
    with (pair.target.volume / ".storagemirror/lock").open() as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        pair.target.give(action=Action.PROMOTE, epoch=2)
        pair.target.start()
        report = until(pair, Phase.FAILED)
        assert report.problem is not None
        assert report.problem.reason == "TargetBusy"
        assert marker(pair)["epoch"] == 1
    until(pair, Phase.PROMOTED)
    assert marker(pair)["epoch"] == 2
