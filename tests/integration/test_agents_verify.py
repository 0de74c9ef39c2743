"""Two agents verify their volumes while replication goes on: what nothing but its content shows is told, or mended."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

from storagemirror.clock import from_rfc3339
from storagemirror.contract import BeatOrder, Phase, ProofStage, ProveOrder, Verification, VerifyOrder
from tests.support.agents import AgentPair, equal_soon, fill, reads, wait_for
from tests.support.drifting import start_unwatched

QUICK = BeatOrder(interval_seconds=0.5, missed=4)
SETTLED = 2.5
"""Seconds after which a file's times say that it was not changed since: two are left for clocks that differ."""


def replicating(pair: AgentPair, files: int = 200) -> None:
    """The target gets no watches: it would see who changes its copy, and mend that before a verification could."""
    fill(pair.source.volume, files)
    start_unwatched(pair, beat=QUICK)
    pair.until(Phase.REPLICATING)
    equal_soon(pair)


def verified(pair: AgentPair, run: str, *, repair: bool = False, seconds: float = 30.0) -> Verification:
    """Order it, and wait for it."""
    pair.source.give(verify=VerifyOrder(run=run, repair=repair))
    return told(pair, run, seconds)


def told(pair: AgentPair, run: str, seconds: float = 30.0) -> Verification:
    def there() -> Verification | None:
        report = pair.source.report()
        found = report.verification if report is not None else None
        return found if found is not None and found.run == run else None

    found = wait_for(there, f"verification {run}", seconds, pair.tell)
    assert found is not None
    return found


def tamper(path: Path) -> None:
    """Another content of the same size, and nothing else to show it."""
    found, content = path.stat(), path.read_bytes()
    path.write_bytes(bytes(byte ^ 0x55 for byte in content))
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))


def content(pair: AgentPair, name: str) -> tuple[bytes, bytes]:
    return (pair.source.volume / name).read_bytes(), (pair.target.volume / name).read_bytes()


def test_equal_volumes_are_verified_with_all_their_files_and_bytes(pair: AgentPair) -> None:
    replicating(pair)
    (pair.source.volume / "large").write_bytes(os.urandom(5 << 20))
    wait_for((pair.target.volume / "large").exists, "it", 20, pair.tell)
    equal_soon(pair)
    time.sleep(SETTLED)
    found = verified(pair, "one")
    files = [p for p in pair.source.volume.rglob("*") if p.is_file()]
    assert (found.files, found.bytes) == (len(files), sum(p.stat().st_size for p in files))
    assert (found.differing, found.changing, found.error) == (0, 0, "")
    assert abs(from_rfc3339(found.at) / 1e9 - time.time()) < 10
    assert pair.source.phase() is Phase.REPLICATING


def test_what_differs_is_told_and_left_alone_until_a_repair_is_asked_for(pair: AgentPair) -> None:
    replicating(pair)
    time.sleep(SETTLED)
    victims = ["d1/sub/f1", "d2/sub/f2"]
    for name in victims:
        tamper(pair.target.volume / name)
    found = verified(pair, "one")
    assert (found.differing, found.repaired, found.files) == (2, 0, 198)
    assert sorted(found.first) == victims
    for name in victims:
        mine, theirs = content(pair, name)
        assert mine != theirs, "nothing was asked to be written"
    repaired = verified(pair, "two", repair=True)
    assert (repaired.differing, repaired.repaired, repaired.files) == (2, 2, 200)
    for name in victims:
        mine, theirs = content(pair, name)
        assert mine == theirs
    assert verified(pair, "three").differing == 0
    equal_soon(pair)


def test_a_run_is_done_once(pair: AgentPair) -> None:
    replicating(pair)
    verified(pair, "one")
    pair.source.give(beat=BeatOrder(interval_seconds=0.6, missed=4))
    wait_for(lambda: (r := pair.source.report()) and r.revision == pair.source.order.revision, "the order", 10)  # type: ignore[union-attr]
    time.sleep(1)
    assert pair.source.log().count("verification one begins") == 1


def test_replication_goes_on_meanwhile_and_what_is_written_is_no_difference(pair: AgentPair) -> None:
    replicating(pair)
    for number in range(2):
        (pair.source.volume / f"bulk{number}").write_bytes(os.urandom(24 << 20))
    wait_for((pair.target.volume / "bulk1").exists, "the bulk", 30, pair.tell)
    equal_soon(pair)
    time.sleep(SETTLED)
    tamper(pair.target.volume / "d3/sub/f3")
    stop = threading.Event()

    def write() -> None:
        number = 0
        while not stop.wait(0.01):
            number += 1
            (pair.source.volume / f"d{number % 3}/busy").write_text(f"{number}\n" * 100)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        pair.source.give(verify=VerifyOrder(run="busy"))
        (pair.source.volume / "meanwhile").write_text("now")
        wait_for(lambda: reads(pair.target.volume / "meanwhile", "now"), "a change to arrive", 10, pair.tell)
        found = told(pair, "busy", 60)
    finally:
        stop.set()
        writer.join()
    assert (found.differing, found.first) == (1, ("d3/sub/f3",))
    assert verified(pair, "mended", repair=True).repaired == 1
    equal_soon(pair)


def test_an_agent_that_dies_in_the_middle_is_followed_by_one_that_begins_again(pair: AgentPair) -> None:
    replicating(pair)
    for number in range(2):
        (pair.source.volume / f"bulk{number}").write_bytes(os.urandom(24 << 20))
    wait_for((pair.target.volume / "bulk1").exists, "the bulk", 30, pair.tell)
    equal_soon(pair)
    time.sleep(SETTLED)
    tamper(pair.target.volume / "d3/sub/f3")
    pair.source.give(verify=VerifyOrder(run="one"))
    wait_for(lambda: "verification one begins" in pair.source.log(), "it to begin", 10, pair.tell)
    pair.source.kill()
    pair.source.start()
    found = told(pair, "one", 60)
    assert (found.differing, found.first) == (1, ("d3/sub/f3",))


def test_a_proof_comes_first_and_the_verification_after_it(pair: AgentPair) -> None:
    replicating(pair)
    pair.source.give(verify=VerifyOrder(run="one"), prove=ProveOrder(attempt=1, stage=ProofStage.LIVE))
    wait_for(lambda: (r := pair.source.report()) is not None and r.proof is not None, "the proof", 30, pair.tell)
    report = pair.source.report()
    assert report is not None
    assert report.verification is None
    pair.source.give(prove=None)
    assert told(pair, "one").differing == 0


def test_an_order_that_is_taken_back_ends_it(pair: AgentPair) -> None:
    replicating(pair)
    (pair.source.volume / "bulk").write_bytes(os.urandom(64 << 20))
    wait_for((pair.target.volume / "bulk").exists, "the bulk", 30, pair.tell)
    pair.source.give(verify=VerifyOrder(run="one"))
    wait_for(lambda: "verification one begins" in pair.source.log(), "it to begin", 10, pair.tell)
    pair.source.give(verify=None)
    (pair.source.volume / "after").write_text("x")
    wait_for((pair.target.volume / "after").exists, "replication", 10, pair.tell)
    assert verified(pair, "two").differing == 0
