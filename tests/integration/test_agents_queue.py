"""A target that is slow, stalled or away: what waits at the source is limited and told, the application is not slowed
down, and everything goes on by itself."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread

import pytest

from storagemirror.contract import (
    BandwidthWindow,
    CompareBy,
    Compression,
    Consistency,
    Peer,
    Phase,
    PointsMade,
    Queued,
    QueueOrder,
    ReplicationOrder,
    TransferOrder,
)
from tests.support.agents import AgentPair, equal_soon, problem, wait_for
from tests.support.disks import disk
from tests.support.guards import writer
from tests.support.pointpair import POINTS, pointing, points, until_point
from tests.support.relay import Relay
from tests.support.running import running

MIB = 1 << 20
SMALL = QueueOrder(memory=8 * MIB, disk=64 * MIB)


def with_queue(order: ReplicationOrder, queue: QueueOrder, remirror: CompareBy | None = None) -> ReplicationOrder:
    """`order`, with these limits."""
    fields = {name: getattr(order, name) for name in order.__struct_fields__}
    return ReplicationOrder(**{**fields, "queue": queue, "remirror": remirror})


def queued(pair: AgentPair) -> Queued:
    """What the source told last of what waits."""
    report = pair.source.report()
    assert report is not None
    assert report.queue is not None
    return report.queue


@contextmanager
def watched(pair: AgentPair, volume: Path) -> Iterator[list[float]]:
    """A writer on the volume: the longest pause of its writes, and the largest resident memory of the source's agent,
    as they are at the end."""
    found = [0.0, 0.0]
    end: list[bool] = []

    def look() -> None:
        last, count = time.monotonic(), made.count
        while not end:
            time.sleep(0.005)
            now = time.monotonic()
            if made.count != count:
                last, count = now, made.count
            found[0] = max(found[0], now - last)
            found[1] = max(found[1], pair.source.resident())

    with writer(volume) as made:
        thread = Thread(target=look)
        thread.start()
        try:
            yield found
        finally:
            end.append(True)
            thread.join()


def change(volume: Path, mebibytes: int) -> None:
    """So much is overwritten, a mebibyte at a time, in files of 10 MiB."""
    for number in range(mebibytes):
        with (volume / f"f{number // 10 % 10}").open("r+b") as file:
            file.seek(number % 10 * MIB)
            file.write(os.urandom(MIB))


def test_a_stalled_target_slows_nobody_down_and_the_memory_is_limited(pair: AgentPair, tmp_path: Path) -> None:
    with pointing(pair, tmp_path, "ext4") as (made, _):
        for number in range(10):
            (made.path / f"f{number}").write_bytes(os.urandom(10 * MIB))
        pair.start(replication=with_queue(POINTS, SMALL))
        first = until_point(pair, seconds=60)
        with watched(pair, made.path) as found:
            until_point(pair, first.number or 0, seconds=60)
            pair.target.kill(signal.SIGSTOP)
            before, found[0] = pair.source.resident(), 0.0
            change(made.path, 300)
            wait_for(lambda: problem(pair) == "Disconnected", "the source to miss the target", 40, pair.tell)
            told = points(pair)
            assert told is not None
            stretched = told.interval_seconds or 0
            wait_for(lambda: _interval(pair) > stretched + 2, "the interval to be told as longer", 20, pair.tell)
            assert _interval(pair) > 5
            assert queued(pair).memory_bytes <= SMALL.memory
            assert queued(pair).disk_bytes <= SMALL.disk
            pair.target.kill(signal.SIGCONT)
            until_point(pair, told.number or 0, seconds=90)
        stall, memory = found
        print(f"longest pause {stall:.3f} s, {(memory - before) / MIB:.0f} MiB of memory")
        assert stall < POINTS.max_stall_seconds + 1.0, "beyond the stated stall: FIFREEZE itself, and a busy machine"
        assert memory - before < 96 * MIB
        equal_soon(pair, 60)


def _interval(pair: AgentPair) -> float:
    told = points(pair)
    return (told.interval_seconds or 0.0) if told is not None else 0.0


def test_a_point_that_was_read_is_sent_from_the_queue_after_the_network_was_cut(
    pair: AgentPair, tmp_path: Path
) -> None:
    relay = Relay()
    try:
        with pointing(pair, tmp_path, "ext4") as (made, _):
            (made.path / "a").write_bytes(b"a")
            pair.start(replication=POINTS)
            before = until_point(pair)
            relay.upstream = pair.target.port()
            pair.source.give(peer=Peer(address="127.0.0.1", port=relay.port))
            wait_for(lambda: relay.forth, "the source to come through the relay", 20, pair.tell)
            (made.path / "b").write_bytes(b"b")
            first = until_point(pair, before.number or 0)  # through the relay
            relay.hold()
            (made.path / "a").write_bytes(b"of the point")
            wait_for(lambda: _points(pair).made > first.made, "the point to be made", 30, pair.tell)
            waiting = _points(pair)
            assert waiting.number == first.number, "the target has not got it"
            relay.cut()
            wait_for(lambda: _points(pair).told_again, "the point to be told again", 60, pair.tell)
            later = until_point(pair, first.number or 0)
            assert later.number == (first.number or 0) + 1
            assert later.made == waiting.made, "it was sent without another freeze"
            assert (pair.target.volume / "a").read_bytes() == b"of the point"
            assert "nothing needs to be compared" in pair.source.log()
    finally:
        relay.close()


@pytest.mark.parametrize("mode", [Consistency.LIVE, Consistency.POINT], ids=str)
def test_a_link_that_takes_less_than_is_written_slows_nobody_down_and_the_lag_says_so(
    pair: AgentPair, tmp_path: Path, mode: Consistency
) -> None:
    link = TransferOrder(bandwidth=(BandwidthWindow(limit=2 * MIB),), compression=Compression.OFF)
    order = POINTS if mode is Consistency.POINT else ReplicationOrder(consistency=mode)
    with pointing(pair, tmp_path, "ext4") as (made, _):
        (made.path / "f0").write_bytes(bytes(10 * MIB))
        pair.start(replication=with_queue(order, SMALL))
        pair.until(Phase.REPLICATING, 60)
        if mode is Consistency.POINT:
            until_point(pair, seconds=60)
        pair.source.give(transfer=link)
        wait_for(lambda: "order 3" in pair.source.log(), "the limit to hold", 10, pair.tell)
        with watched(pair, made.path) as found:
            before = pair.source.resident()
            most = sent = 0.0
            began = time.monotonic()
            while time.monotonic() < began + 12:
                with (made.path / "f0").open("r+b") as file:  # some 20 MiB a second: a tenth of it can be sent
                    for at in range(0, 10 * MIB, MIB):
                        file.seek(at)
                        file.write(os.urandom(MIB))
                        time.sleep(0.05)
                report = pair.source.report()
                assert report is not None
                most, sent = max(most, report.lag_seconds or 0), report.bytes_sent or 0
        stall, memory = found
        print(f"most lag {most:.1f} s, longest pause {stall:.3f} s, {(memory - before) / MIB:.0f} MiB, sent {sent}")
        assert most > 4, "the lag is not told"
        assert stall < POINTS.max_stall_seconds + 1.0
        assert memory - before < 96 * MIB
        pair.source.give(transfer=TransferOrder())
        equal_soon(pair, 90)


WRITER = """# By other content, all the time: each freeze finds more than a small queue's memory holds.
import os, sys, time
fds = [os.open(os.path.join(sys.argv[1], f"f{n}"), os.O_RDWR | os.O_CREAT) for n in range(8)]
number = 0
while True:
    os.pwrite(fds[number % 8], os.urandom(1 << 20), number // 8 % 8 << 20)
    number += 1
    time.sleep(0.003)
"""


def on_disk(pair: AgentPair, scratch: Path) -> int:
    """Bytes of the source's files there, which have no name."""
    size = 0
    for link in Path(f"/proc/{pair.source.running().pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            if os.readlink(link).startswith(f"{scratch}/"):
                size += link.stat().st_size
    return size


def test_an_agent_that_is_killed_with_a_queue_on_disk_leaves_nothing_and_the_next_one_makes_the_copy_equal(
    pair: AgentPair, tmp_path: Path
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    pair.source.settings["TMPDIR"] = str(scratch)
    small = QueueOrder(memory=MIB, disk=256 * MIB)
    with pointing(pair, tmp_path, "ext4") as (made, _):
        with running("-c", WRITER, made.path):
            pair.start(replication=with_queue(POINTS, small))
            until_point(pair, seconds=60)
            wait_for(lambda: on_disk(pair, scratch) > MIB // 4, "a queue on disk", 40, pair.tell)
            pair.source.kill()
            assert list(scratch.iterdir()) == [], "its files have no name"
            pair.source.start()
            until_point(pair, seconds=60)
        equal_soon(pair, 60)
        assert list(scratch.iterdir()) == []


def _points(pair: AgentPair) -> PointsMade:
    told = points(pair)
    assert told is not None
    return told


def test_a_target_that_is_full_in_the_middle_of_a_point_stays_at_the_one_before(
    pair: AgentPair, tmp_path: Path
) -> None:
    with (
        disk(tmp_path, "ext4", 64, "copy") as small,
        pointing(pair, tmp_path, "ext4") as (made, _),
    ):
        pair.target.volume = small.path
        (made.path / "a").write_bytes(b"before")
        pair.start(replication=POINTS)
        first = until_point(pair)
        with watched(pair, made.path) as found:
            (made.path / "large").write_bytes(os.urandom(90 * MIB))
            wait_for(lambda: problem(pair) == "TargetFull", "the source to say so", 60, pair.tell)
            assert not (small.path / "large").exists()
            wait_for(lambda: _copy_point(pair), "the copy to be a point", 10, pair.tell)
            (made.path / "a").write_bytes(b"after.")
            time.sleep(2)
            assert (small.path / "a").read_bytes() == b"before"
            (made.path / "large").unlink()
            later = until_point(pair, first.number or 0, seconds=60)
            wait_for(lambda: (small.path / "a").read_bytes() == b"after.", "the point", 60, pair.tell)
        assert found[0] < POINTS.max_stall_seconds + 1.0
        assert (later.number or 0) > (first.number or 0)
        pair.close()


def _copy_point(pair: AgentPair) -> bool:
    report = pair.target.report()
    return report is not None and report.copy_point is not None and report.copy_point.promotable


@pytest.mark.parametrize("kind", [None, CompareBy.CHECKSUM], ids=["as ever", "Checksum"])
def test_more_names_than_may_wait_are_dropped_and_both_sides_compared_by_the_chosen_kind(
    pair: AgentPair, kind: CompareBy | None
) -> None:
    secret, copy = pair.source.volume / "secret", pair.target.volume / "secret"
    secret.write_bytes(b"before")
    pair.start(replication=with_queue(ReplicationOrder(), QueueOrder(memory=256 << 10), kind))
    pair.until(Phase.REPLICATING)
    assert not queued(pair).overflowed
    pair.target.kill(signal.SIGSTOP)
    (pair.source.volume / "noticed").write_bytes(b"")
    wait_for(lambda: problem(pair) == "Disconnected", "the source to miss the target", 40, pair.tell)
    # Nothing but its content tells that it has changed.
    times = secret.stat()
    secret.write_bytes(b"after.")
    os.utime(secret, ns=(times.st_atime_ns, times.st_mtime_ns))
    for number in range(100):
        (pair.source.volume / f"few{number}").write_bytes(b"few")
    wait_for(lambda: queued(pair).names > 100, "the names to be told", 20, pair.tell)
    assert 30 < queued(pair).percent < 100
    for number in range(600):
        (pair.source.volume / f"many{number}").write_bytes(b"many")
    wait_for(lambda: queued(pair).overflowed, "the overflow to be told", 20, pair.tell)
    assert queued(pair).names < 10
    pair.target.kill(signal.SIGCONT)
    wait_for(lambda: not queued(pair).overflowed, "it to be made up for", 60, pair.tell)
    wait_for((pair.target.volume / "many599").exists, "the last file", 30, pair.tell)
    if kind is CompareBy.CHECKSUM:
        equal_soon(pair, 30)
    assert copy.read_bytes() == (b"before" if kind is None else b"after.")
    assert queued(pair).overflows == 1
