"""Two agents prove that both volumes hold the same: what nothing but its content shows is found, and mended."""

from __future__ import annotations

import mmap
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from storagemirror.clock import from_rfc3339
from storagemirror.contract import BeatOrder, Capture, PeerState, Phase, Proof, ProofStage, ProveOrder, Report
from tests.support.agents import AgentPair, equal_soon, fill, reads, wait_for
from tests.support.disks import KINDS, disk
from tests.support.drifting import UNWATCHED, start_unwatched

QUICK = BeatOrder(interval_seconds=0.5, missed=4)


def replicating(pair: AgentPair, files: int = 200) -> None:
    """The target gets no watches: it would see who changes its copy, and mend that before a proof could find it."""
    fill(pair.source.volume, files)
    start_unwatched(pair, beat=QUICK)
    pair.until(Phase.REPLICATING)
    equal_soon(pair)


def proof(pair: AgentPair, attempt: int, stage: ProofStage, seconds: float = 30.0) -> Proof:
    """Order it, and wait for it."""
    pair.source.give(prove=ProveOrder(attempt=attempt, stage=stage))
    return proven(pair, attempt, stage, seconds)


def proven(pair: AgentPair, attempt: int, stage: ProofStage, seconds: float = 30.0) -> Proof:
    def there() -> Proof | None:
        found = report(pair).proof
        return found if found and (found.attempt, found.stage) == (attempt, stage) else None

    found = wait_for(there, f"proof {attempt}, {stage}", seconds, pair.tell)
    assert found is not None
    return found


def report(pair: AgentPair) -> Report:
    found = pair.source.report()
    assert found is not None
    return found


def tamper(path: Path, content: bytes) -> None:
    """Another content of the same size, and nothing else to show it."""
    found = path.stat()
    assert len(content) == found.st_size
    with path.open("r+b") as f:
        f.write(content)
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))


@contextmanager
def mapped(path: Path) -> Iterator[mmap.mmap]:
    """A file in memory, as a database maps it; it is never synced."""
    with path.open("r+b") as f, mmap.mmap(f.fileno(), 0) as memory:
        yield memory


def same(pair: AgentPair, name: str) -> bool:
    return (pair.source.volume / name).read_bytes() == (pair.target.volume / name).read_bytes()


# -- live


def test_equal_volumes_are_proven_with_all_their_files_and_bytes(pair: AgentPair) -> None:
    replicating(pair)
    (pair.source.volume / "large").write_bytes(os.urandom(5 << 20))
    with (pair.source.volume / "sparse").open("wb") as f:
        f.truncate(1 << 40)
        f.seek(3 << 30)
        f.write(b"in the middle of nothing")
    os.link(pair.source.volume / "large", pair.source.volume / "d0/second-name")
    os.symlink("large", pair.source.volume / "link")
    (pair.source.volume / "empty").touch()
    wait_for((pair.target.volume / "empty").exists, "the last of them", 20, pair.tell)
    found = proof(pair, 1, ProofStage.LIVE)
    files = [p for p in pair.source.volume.rglob("*") if p.is_file() and not p.is_symlink()]
    assert found.equal
    assert found.files == len(files) == 204
    assert found.bytes == sum(p.stat().st_size for p in files)
    assert found.differing == 0
    assert len(found.digest) == 32
    assert abs(from_rfc3339(found.at) / 1e9 - time.time()) < 10
    # Said twice, it is the same; of other content another.
    again = proof(pair, 2, ProofStage.LIVE)
    assert again.digest == found.digest
    (pair.source.volume / "empty").write_text("x")
    assert proof(pair, 3, ProofStage.LIVE).digest != found.digest


@pytest.mark.parametrize("size", [100, 9 << 20], ids=["small", "large"])
def test_a_file_that_differs_in_nothing_but_its_content_is_found_and_mended(pair: AgentPair, size: int) -> None:
    replicating(pair)
    content = os.urandom(size)
    (pair.source.volume / "d1/victim").write_bytes(content)
    wait_for((pair.target.volume / "d1/victim").exists, "it", 10, pair.tell)
    equal_soon(pair)
    time.sleep(2.5)
    tamper(pair.target.volume / "d1/victim", content[: size // 2] + bytes(size - size // 2))
    assert not same(pair, "d1/victim")
    found = proof(pair, 1, ProofStage.LIVE)
    assert (found.equal, found.differing) == (True, 1)
    assert same(pair, "d1/victim")
    equal_soon(pair)


def test_a_file_with_several_names_is_mended_under_all_of_them(pair: AgentPair) -> None:
    replicating(pair)
    (pair.source.volume / "d1/one").write_text("content")
    os.link(pair.source.volume / "d1/one", pair.source.volume / "d2/two")
    wait_for((pair.target.volume / "d2/two").exists, "it", 10, pair.tell)
    equal_soon(pair)
    time.sleep(2.5)
    tamper(pair.target.volume / "d1/one", b"CONTENT")
    found = proof(pair, 1, ProofStage.LIVE)
    assert found.equal
    assert found.differing == 2
    assert same(pair, "d2/two")
    one, two = (pair.target.volume / name for name in ("d1/one", "d2/two"))
    assert one.stat().st_ino == two.stat().st_ino
    equal_soon(pair)


def test_many_files_that_differ_are_all_mended(pair: AgentPair) -> None:
    replicating(pair, 3000)
    time.sleep(2.5)
    for i in range(0, 3000, 2):
        victim = pair.target.volume / f"d{i % 10}/sub/f{i}"
        tamper(victim, b"x" * victim.stat().st_size)
    found = proof(pair, 1, ProofStage.LIVE, 60)
    assert (found.equal, found.files, found.differing) == (True, 3000, 1500)
    for i in range(3000):
        assert same(pair, f"d{i % 10}/sub/f{i}")


def test_a_proof_of_a_volume_that_is_written_all_the_time_ends_and_changes_flow(pair: AgentPair) -> None:
    replicating(pair, 2000)
    for i in range(4):
        (pair.source.volume / f"large-{i}").write_bytes(os.urandom(64 << 20))
    pair.until(Phase.REPLICATING)
    wait_for(lambda: report(pair).lag_bytes == 0, "all of it to be there", 60, pair.tell)
    end = threading.Event()

    def write() -> None:
        number = 0
        while not end.is_set():
            number += 1
            (pair.source.volume / f"d{number % 10}/sub/f{number % 300}").write_text(f"{number}\n" * 20)
            with (pair.source.volume / "large-0").open("r+b") as f:
                f.seek(number * 4096 % (60 << 20))
                f.write(os.urandom(4096))
            time.sleep(0.01)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        pair.source.give(prove=ProveOrder(attempt=1, stage=ProofStage.LIVE))
        slowest = 0.0
        for i in range(8):
            start = time.monotonic()
            (pair.source.volume / "beat").write_text(f"{i}")
            wait_for(lambda i=i: reads(pair.target.volume / "beat", f"{i}"), "a change", 10, pair.tell)  # type: ignore[misc]
            slowest = max(slowest, time.monotonic() - start)
            theirs = pair.target.report()
            assert theirs is not None
            assert theirs.peer is not None
            assert theirs.peer.state is PeerState.CONNECTED
        found = proven(pair, 1, ProofStage.LIVE, 60)
    finally:
        end.set()
        writer.join()
    print(f"\nslowest change {slowest:.2f} s; {found.files} files, {found.bytes / 1e6:.0f} MB")
    assert found.equal
    assert found.differing == 0, "what is on its way is no difference"
    assert slowest < 2.5
    last = proof(pair, 1, ProofStage.FINAL, 60)
    assert (last.equal, last.differing) == (True, 0)
    assert pair.equal()


def test_a_target_that_takes_long_to_read_a_file_goes_on_with_everything_else(pair: AgentPair) -> None:
    """Reading it takes longer than a silence may last."""
    fill(pair.source.volume, 20)
    (pair.source.volume / "large").write_bytes(os.urandom(50 << 20))
    pair.target.give(beat=QUICK)
    pair.target.start(program=[sys.executable, "-m", "tests.support.unreadable", "agent"], SLOW_PIECE="0.2")
    pair.source.give(beat=QUICK)
    pair.source.start()
    pair.introduce()
    pair.until(Phase.REPLICATING)

    def heard() -> bool:
        told = pair.target.report()
        return told is not None and told.peer is not None and told.peer.state is PeerState.CONNECTED

    # The target tells it by its next heartbeat; from then on it is never to tell anything else.
    wait_for(heard, "the target to say that it hears its source", 5, pair.tell)
    pair.source.give(prove=ProveOrder(attempt=1, stage=ProofStage.LIVE))
    start, number = time.monotonic(), 0
    while not report(pair).proof:
        number += 1
        wrote = time.monotonic()
        (pair.source.volume / "d0/sub/f0").write_text(f"{number}")
        wait_for(lambda: reads(pair.target.volume / "d0/sub/f0", f"{number}"), "a change", 2, pair.tell)  # noqa: B023
        assert time.monotonic() - wrote < 2
        theirs = pair.target.report()
        assert theirs is not None
        assert theirs.peer is not None
        assert theirs.peer.state is PeerState.CONNECTED
        assert time.monotonic() - start < 60
    assert time.monotonic() - start > 10
    assert report(pair).proof.equal  # type: ignore[union-attr]
    assert pair.source.log().count("connected to") == 1


def test_a_source_that_cannot_read_a_file_does_not_prove_it(pair: AgentPair) -> None:
    """As root nothing is unreadable: a disk error stands in for it, a file that opens and fails."""
    replicating(pair, 20)
    pair.source.kill()
    pair.source.start(program=[sys.executable, "-m", "tests.support.unreadable", "agent"], UNREADABLE="f7")
    pair.until(Phase.REPLICATING)
    found = proof(pair, 1, ProofStage.LIVE)
    assert not found.equal
    wait_for(lambda: (p := report(pair).problem) and p.reason == "ProofFailed", "the problem", 10, pair.tell)
    problem = report(pair).problem
    assert problem is not None
    assert "f7" in problem.message


# -- final


@pytest.mark.parametrize("kind", KINDS)
def test_a_write_through_a_memory_map_after_the_live_part_is_found_by_the_final_one(
    pair: AgentPair, tmp_path: Path, kind: str
) -> None:
    """The page is dirty already when it is written again: no time tells it, and a comparison by time copies nothing.
    (The file is large: a small one is sent again whenever it is named.)"""
    name = "d3/database"
    with disk(tmp_path, kind, 320) as made:
        pair.source.volume = made.path
        replicating(pair)
        (pair.source.volume / name).write_bytes(bytes(1 << 20))
        wait_for((pair.target.volume / name).exists, "it", 10, pair.tell)
        with mapped(pair.source.volume / name) as memory:
            proof(pair, 4, ProofStage.LIVE)
            memory[0:5] = b"first"
            os.utime(pair.source.volume / name)  # told, and so copied; the page stays dirty
            wait_for(lambda: reads_at(pair, name, b"first"), "the first", 15, pair.tell)
            before = (pair.source.volume / name).stat()
            memory[100:106] = b"second"
        after = (pair.source.volume / name).stat()
        assert (before.st_mtime_ns, before.st_size) == (after.st_mtime_ns, after.st_size), "nothing tells it"
        time.sleep(1)
        assert not same(pair, name), "the watch names it, the comparison by size and time finds nothing"
        found = proof(pair, 4, ProofStage.FINAL)
        assert found.equal
        assert same(pair, name)
        assert found.differing == 1
        assert found.files == (201 if kind == "tmpfs" else found.files)
        pair.close()


def reads_at(pair: AgentPair, name: str, content: bytes) -> bool:
    with (pair.target.volume / name).open("rb") as f:
        return f.read(len(content)) == content


def test_the_final_part_reads_what_may_have_changed_and_no_more(pair: AgentPair) -> None:
    replicating(pair, 500)
    time.sleep(2.5)
    assert proof(pair, 1, ProofStage.LIVE).files == 500
    (pair.source.volume / "d0/sub/f0").write_text("after")
    (pair.source.volume / "new").write_text("after")
    equal_soon(pair)
    began = time.time()
    found = proof(pair, 1, ProofStage.FINAL)
    assert (found.equal, found.files, found.differing) == (True, 2, 0)
    through = report(pair).synced_through
    assert through is not None
    assert from_rfc3339(through) / 1e9 >= began
    assert from_rfc3339(through) <= from_rfc3339(found.at)


def test_what_was_not_sent_yet_is_sent_by_the_final_part(pair: AgentPair) -> None:
    replicating(pair)
    proof(pair, 1, ProofStage.LIVE)
    for i in range(500):
        (pair.source.volume / f"d{i % 10}/late-{i}").write_text(f"{i}")
    (pair.source.volume / "d0/sub/f0").unlink()
    found = proof(pair, 1, ProofStage.FINAL)
    assert found.equal
    assert pair.equal()


def test_without_the_live_part_of_the_attempt_everything_is_compared(pair: AgentPair) -> None:
    replicating(pair)
    time.sleep(2.5)
    proof(pair, 1, ProofStage.LIVE)
    # Another attempt, whose live part never was.
    assert proof(pair, 2, ProofStage.FINAL).files == 200
    # A source agent that begins anew remembers none.
    proof(pair, 3, ProofStage.LIVE)
    victim = pair.target.volume / "d0/sub/f0"
    tamper(victim, b"x" * victim.stat().st_size)
    pair.source.kill(signal.SIGTERM)
    pair.source.give(prove=ProveOrder(attempt=3, stage=ProofStage.FINAL))
    pair.source.start()
    found = proven(pair, 3, ProofStage.FINAL)
    assert (found.equal, found.files, found.differing) == (True, 200, 1)
    assert same(pair, "d0/sub/f0")


def test_the_live_part_is_remembered_over_a_broken_connection(pair: AgentPair) -> None:
    replicating(pair)
    time.sleep(2.5)
    proof(pair, 1, ProofStage.LIVE)
    pair.target.kill()
    (pair.source.volume / "d1/sub/f1").write_text("while nobody listened")
    pair.target.start()
    pair.introduce()
    pair.until(Phase.REPLICATING)
    equal_soon(pair)
    found = proof(pair, 1, ProofStage.FINAL)
    assert (found.equal, found.files) == (True, 1)


def test_a_proof_is_told_once_and_nothing_happens_without_an_order(pair: AgentPair) -> None:
    replicating(pair)
    first = proof(pair, 1, ProofStage.LIVE)
    time.sleep(2)
    assert report(pair).proof == first
    pair.source.give(prove=None)
    victim = pair.target.volume / "d0/sub/f0"
    tamper(victim, b"x" * victim.stat().st_size)
    time.sleep(3)
    assert report(pair).proof == first
    assert not same(pair, "d0/sub/f0")
    assert pair.source.log().count("begins: Live") == 1


def test_where_no_watches_are_to_be_had_a_proof_goes_by_times(pair: AgentPair) -> None:
    fill(pair.source.volume, 200)
    pair.start_as(source=UNWATCHED, target=UNWATCHED, beat=QUICK)
    pair.until(Phase.REPLICATING)
    assert report(pair).capture is Capture.SCAN
    assert "max_user" in report(pair).capture_why, "it says why, and what to do"
    time.sleep(2.5)
    victim = pair.target.volume / "d0/sub/f0"
    tamper(victim, b"x" * victim.stat().st_size)
    live = proof(pair, 1, ProofStage.LIVE)
    assert (live.equal, live.files, live.differing) == (True, 200, 1)
    (pair.source.volume / "new").write_text("after")
    final = proof(pair, 1, ProofStage.FINAL)
    assert (final.equal, final.differing) == (True, 0)
    assert final.files in (1, 201), "what is new; all, where a scan came between"
    assert same(pair, "new")


# -- what gets in the way


@pytest.mark.parametrize("victim", ["source", "target"])
def test_a_proof_that_is_cut_off_begins_anew(pair: AgentPair, victim: str) -> None:
    replicating(pair, 500)
    for i in range(3):
        (pair.source.volume / f"large-{i}").write_bytes(os.urandom(200 << 20))
    wait_for(lambda: report(pair).lag_bytes == 0, "all of it to be there", 60, pair.tell)
    pair.source.give(prove=ProveOrder(attempt=1, stage=ProofStage.LIVE))
    wait_for(lambda: "begins: Live" in pair.source.log(), "it to begin", 10, pair.tell)
    time.sleep(0.1)
    agent = pair.source if victim == "source" else pair.target
    agent.kill()
    agent.start()
    if victim == "target":
        pair.introduce()
    found = proven(pair, 1, ProofStage.LIVE, 60)
    assert (found.equal, found.files) == (True, 503)


def test_another_order_ends_a_proof_and_the_next_one_is_not_mixed_up_with_it(pair: AgentPair) -> None:
    replicating(pair, 500)
    for i in range(3):
        (pair.source.volume / f"large-{i}").write_bytes(os.urandom(200 << 20))
    wait_for(lambda: report(pair).lag_bytes == 0, "all of it to be there", 60, pair.tell)
    for attempt in range(1, 6):
        pair.source.give(prove=ProveOrder(attempt=attempt, stage=ProofStage.LIVE))
        wait_for(lambda: pair.source.log().count("begins: Live") >= attempt, "it to begin", 10, pair.tell)  # noqa: B023
        if attempt % 2:
            pair.source.give(prove=None)
    pair.source.give(prove=ProveOrder(attempt=9, stage=ProofStage.LIVE))
    found = proven(pair, 9, ProofStage.LIVE, 60)
    assert (found.equal, found.files, found.differing) == (True, 503, 0)


def test_agents_stay_lean_while_they_prove(pair: AgentPair) -> None:
    replicating(pair, 10_000)
    (pair.source.volume / "large").write_bytes(os.urandom(256 << 20))
    wait_for(lambda: report(pair).lag_bytes == 0, "all of it to be there", 60, pair.tell)
    start = time.monotonic()
    found = proof(pair, 1, ProofStage.LIVE, 120)
    took = time.monotonic() - start
    print(f"\n{found.files} files, {found.bytes / 1e6:.0f} MB in {took:.1f} s")
    for agent in (pair.source, pair.target):
        print(f"{agent.role}: {agent.resident() / 1e6:.1f} MB")
        assert agent.resident() < 90e6
    assert found.equal
