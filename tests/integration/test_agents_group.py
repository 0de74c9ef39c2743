"""Source agents of one pair whose points are of one moment: what the copies of two volumes hold together, and what they
never do."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from storagemirror.contract import GroupOrder, Peer
from storagemirror.fs.journal.journal import Promotable
from tests.cluster.layout import checkout
from tests.support.agents import wait_for
from tests.support.grouped import Grouped, Seen, grouped
from tests.support.guards import until
from tests.support.inorder import number
from tests.support.pointpair import POINTS
from tests.support.relay import Relay
from tests.support.slowlink import SlowLink
from tests.support.smallapi import SmallApi


@pytest.fixture
def group(tmp_path: Path, api: SmallApi) -> Iterator[Grouped]:
    with grouped(tmp_path, api, "data", "wal") as made:
        yield made


@contextmanager
def writing(group: Grouped) -> Iterator[None]:
    """A writer of both volumes, in its order."""
    env = {**os.environ, "PYTHONPATH": f"{checkout() / 'operator'}:{checkout()}"}
    command = [sys.executable, "-m", "tests.support.inorder", *map(str, group.sources)]
    process = subprocess.Popen(command, cwd=checkout(), env=env)
    try:
        yield
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()


def in_order(seen: list[Seen]) -> bool:
    """Whether at each of these the copies are of one moment."""
    return all(second <= first <= second + 1 for _, first, second in seen)


def test_at_every_point_of_the_group_the_copies_are_of_one_moment(group: Grouped) -> None:
    with writing(group):
        group.start()
        seen = group.watch(12)
        assert in_order(seen), seen
        assert len({first for _, first, _ in seen}) == 12
        assert [number for number, _, _ in seen] == sorted({number for number, _, _ in seen})


def test_points_that_each_volume_makes_for_itself_are_not_of_one_moment(group: Grouped) -> None:
    """What the group is for: the same without it fails."""
    with writing(group):
        group.start(together=False)
        wait_for(lambda: all(isinstance(at, Promotable) for at in group.at()), "points", 60.0, group.tell)
        seen: list[Seen] = []
        for _ in range(50):
            before = group.at()
            first, second = (number(copy) for copy in group.copies)
            if before == group.at() and all(isinstance(at, Promotable) for at in before):
                seen.append((0, first, second))
            time.sleep(0.05)
        assert len(seen) > 5
        assert not in_order(seen), "the writer proves nothing"
        assert group.group() == 0, "a point of one volume bears the number of a group"


def test_a_volume_that_nobody_writes_takes_part_and_a_quiet_group_is_not_frozen(group: Grouped) -> None:
    (group.sources[1] / "still").write_text("as before")
    group.start()
    last = group.until_group()
    for step in range(3):
        (group.sources[0] / "changed").write_text(f"{step}")
        last = group.until_group(last)
        assert (group.copies[0] / "changed").read_text() == f"{step}"
    time.sleep(7)  # a report is told each five seconds
    assert group.group() == last
    before = [point.made for point in group.points() if point is not None]
    time.sleep(6)
    assert [point.made for point in group.points() if point is not None] == before
    assert group.group() == last
    for pair in group.pairs.values():
        report = pair.source.report()
        assert report is not None
        assert report.lag_seconds is not None
        assert report.lag_seconds < 3


LINK_SECONDS = 0.4
"""How long a word takes between the lead and the other. With it, from the moment at which the lead's volume is frozen:
at 0.4 s the other's is, at 0.8 s the lead knows, and at 1.2 s the other knows that all stand still."""
MIDST_SECONDS = 0.6
"""Both are frozen, and neither knows it of the other."""


@contextmanager
def far_apart(group: Grouped) -> Iterator[SlowLink]:
    """All run; what the lead and the other say to each other takes its time."""
    link = SlowLink(LINK_SECONDS)
    try:
        group.start()
        join_by(group, link)
        yield link
    finally:
        link.close()


def join_by(group: Grouped, link: Relay) -> None:
    link.upstream = group.lead.source.port()
    group.tell_members(GroupOrder(members=group.members, peer=Peer(address="127.0.0.1", port=link.port)))


def until_midst(group: Grouped) -> int:
    """Until both volumes stand still, and it has not been said yet; the group point before."""
    at = group.until_group(group.until_group())
    seen = [number(group.sources[0]), time.monotonic()]

    def stands_still() -> bool:
        if number(group.sources[0]) != seen[0]:
            seen[:] = [number(group.sources[0]), time.monotonic()]
        return time.monotonic() - seen[1] >= MIDST_SECONDS

    until(stands_still, 30.0)
    return group.group() or at


def writes_go_on(group: Grouped, within: float = 1.6) -> None:
    """The application waits no longer than it may: both volumes are thawed."""
    before = number(group.sources[1])
    until(lambda: number(group.sources[1]) > before + 1, within)


def stays_at(group: Grouped, at: int, seconds: float = 4.0) -> None:
    """Nobody has ended a point of the round that was void, nor of a later one."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert group.group() == at, group.tell()
        time.sleep(0.1)
    first, second = (number(copy) for copy in group.copies)
    assert second <= first <= second + 1


def goes_on(group: Grouped, after: int) -> None:
    """The group makes points again, and every one of them is of one moment."""
    group.until_group(after, 90.0)
    seen = group.watch(3, 90.0)
    assert in_order(seen), seen


def test_whoever_is_frozen_first_waits_for_the_last_however_far_apart_they_are(group: Grouped) -> None:
    with writing(group), far_apart(group):
        seen = group.watch(4)
        assert in_order(seen), seen
        assert len({first for _, first, _ in seen}) == 4


def test_a_member_that_is_killed_before_all_stand_still_voids_the_round(group: Grouped) -> None:
    with writing(group), far_apart(group) as link:
        at = until_midst(group)
        group.pairs["wal"].source.kill()
        writes_go_on(group)
        stays_at(group, at)
        assert "GroupVoid: the agent of volume wal has gone" in group.lead.source.log()
        assert "wal" in group.until_why("data", lambda why: why.startswith("GroupNotReady"))
        group.pairs["wal"].source.give(instance=2)
        group.pairs["wal"].source.start(2)
        join_by(group, link)
        goes_on(group, at)


def test_a_lead_that_is_killed_before_all_stand_still_voids_the_round(group: Grouped) -> None:
    with writing(group), far_apart(group) as link:
        at = until_midst(group)
        group.lead.source.kill()
        writes_go_on(group)
        stays_at(group, at)
        assert "GroupVoid: " in group.pairs["wal"].source.log()
        why = group.until_why("wal", lambda why: why.startswith("Group"))
        assert "the agent of volume data, which leads the group, is not heard" in why
        group.lead.source.give(instance=2, group=GroupOrder(members=group.members))
        group.lead.source.start(2)
        join_by(group, link)
        goes_on(group, at)


def test_a_member_that_is_cut_off_before_all_stand_still_voids_the_round(group: Grouped) -> None:
    with writing(group), far_apart(group) as link:
        at = until_midst(group)
        link.hold()
        writes_go_on(group)
        stays_at(group, at, 12.0)
        assert all("GroupVoid: " in pair.source.log() for pair in group.pairs.values())
        assert "not connected: volume wal" in group.until_why("data", lambda why: "connected" in why)
        assert group.until_why("wal", lambda why: why.startswith("Group"))
        link.cut()
        goes_on(group, at)


def test_a_guard_that_dies_while_all_stand_still_voids_the_round(group: Grouped) -> None:
    with writing(group), far_apart(group):
        at = until_midst(group)
        group.guards["wal"].processes[0].kill()
        writes_go_on(group)
        while "GroupVoid: volume wal: " not in group.lead.source.log():
            stays_at(group, at, 0.1)
        goes_on(group, at)  # the second guard has taken over
        put_off = [made.put_off for made in group.points() if made is not None]
        assert len(put_off) == 2
        assert all(put_off)


def test_a_member_whose_guards_are_gone_keeps_the_whole_group_from_points_and_says_so(group: Grouped) -> None:
    with writing(group):
        group.start()
        group.until_group(group.until_group())
        for guard in group.guards["wal"].processes:
            guard.kill()
        time.sleep(1.5)
        at = group.until_group()
        stays_at(group, at)
        why = group.until_why("data", lambda why: why.startswith("GroupNotReady"))
        assert "volume wal: GuardNotReady" in why
        assert group.until_why("wal", lambda why: why.startswith("GuardNotReady"))
        group.guards["wal"].both()
        goes_on(group, at)


def test_a_member_that_dies_between_two_rounds_leaves_no_volume_to_make_points_alone(group: Grouped) -> None:
    with writing(group):
        group.start()
        group.until_group(group.until_group())
        time.sleep(0.2)
        group.pairs["wal"].source.kill()
        assert "not connected: volume wal" in group.until_why("data", lambda why: "connected" in why)
        at = group.group()
        assert at, group.tell()
        stays_at(group, at)


def test_a_member_that_never_comes_is_named(group: Grouped) -> None:
    with writing(group):
        group.pairs["data"].start(replication=POINTS, group=GroupOrder(members=group.members))
        why = group.until_why("data", lambda why: why.startswith("GroupNotReady"))
        assert "not connected: volume wal" in why
        assert not isinstance(group.at()[0], Promotable)
