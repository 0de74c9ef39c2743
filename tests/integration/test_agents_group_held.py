"""Source agents that die after one target has a group's point and before another has it: the copies can be brought to
one moment all the same, and are."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from storagemirror.contract import GroupOrder, Peer, QueueOrder
from storagemirror.plan.grouping import latest_common, settled
from tests.integration.test_agents_group import goes_on, in_order, writing
from tests.support.agents import wait_for
from tests.support.grouped import Grouped, grouped
from tests.support.guards import until
from tests.support.holding import drained, held_on, promoted, reported, through, together
from tests.support.inorder import number
from tests.support.pointpair import POINTS
from tests.support.slowlink import SlowLink
from tests.support.smallapi import SmallApi

LATE_SECONDS = 1.0
"""So much later than the one target the other has its point."""


@pytest.fixture
def group(tmp_path: Path, api: SmallApi) -> Iterator[Grouped]:
    with grouped(tmp_path, api, "data", "wal") as made:
        yield made


@contextmanager
def apart(group: Grouped, late: str) -> Iterator[SlowLink]:
    """All run, and are at points of the group; what the source of volume `late` tells its target takes its time."""
    link = SlowLink(LATE_SECONDS)
    try:
        with writing(group):
            group.start()
            group.until_group()
            through(group, late, link)
            group.until_group(group.group())
            yield link
    finally:
        link.close()


def early(late: str) -> str:
    return "wal" if late == "data" else "data"


def one_has_it(group: Grouped, late: str) -> int:
    """Until a point is held by the target that has it at once, and the other has not got it; its group."""
    first = group.pairs[early(late)].target.volume
    second = group.pairs[late].target.volume
    until(lambda: not held_on(first), 10.0)  # whatever was there before
    at = wait_for(lambda: held_on(first), "a held point", 30.0, group.tell)
    assert held_on(second) != at
    return at


def dies(group: Grouped) -> None:
    """The source's node."""
    for pair in group.pairs.values():
        pair.source.kill()


def of_one_moment(group: Grouped) -> None:
    first, second = (number(copy) for copy in group.copies)
    assert second <= first <= second + 1


@pytest.mark.parametrize("late", ["data", "wal"])
def test_a_source_that_dies_after_one_target_has_the_point_leaves_copies_of_one_moment(
    group: Grouped, late: str
) -> None:
    with apart(group, late) as link:
        lost = one_has_it(group, late)
        link.hold()
        dies(group)
        link.cut()
    at = dict(zip(group.members, drained(group), strict=True))
    assert at[early(late)].held_group == lost
    # The other may not even have been told that all have the one before: it holds that, then.
    before = at[early(late)].group
    assert before in (at[late].group, at[late].held_group)
    assert promoted(group, list(at.values())) == before
    of_one_moment(group)


def test_at_every_moment_there_is_a_point_that_all_copies_can_be_brought_to(group: Grouped) -> None:
    """One target gets everything a second later than the other. Without holding back the copies are at different points
    for that second, and nothing can be done about it."""
    looks = ahead = 0
    with apart(group, "wal"):
        end = time.monotonic() + 20
        while time.monotonic() < end:
            time.sleep(0.01)
            seen = together(group)
            if seen is None:
                continue
            looks += 1
            ahead += len({one.applying or one.at for one in seen}) > 1
            assert set.intersection(*(one.reached for one in seen)), seen
    assert looks > 200
    assert ahead > 20, "never was one ahead of the other: it proves nothing"


def test_a_source_that_dies_when_all_have_the_point_and_none_was_told_so_loses_nothing_of_it(group: Grouped) -> None:
    """The word of one to the other takes so long that both targets hold the point when the source dies."""
    link = SlowLink(LATE_SECONDS)
    try:
        with writing(group):
            group.start(replication=msgspec.structs.replace(POINTS, max_stall_seconds=8.0))
            group.until_group()
            link.upstream = group.lead.source.port()
            group.tell_members(GroupOrder(members=group.members, peer=Peer(address="127.0.0.1", port=link.port)))
            first, second = group.copies

            def both() -> int:
                held = held_on(first)
                return held if held and held == held_on(second) else 0

            at = wait_for(both, "both to hold one point", 60.0, group.tell)
            dies(group)
    finally:
        link.close()
    points = drained(group)
    assert [point.held_group for point in points] == [at, at]
    assert all(point.group is not None and point.group < at for point in points)
    assert promoted(group, points) == at
    of_one_moment(group)


def test_a_target_that_is_killed_while_it_holds_a_point_holds_it_still(group: Grouped) -> None:
    with apart(group, "wal") as link:
        lost = one_has_it(group, "wal")
        link.hold()
        dies(group)
        group.pairs["data"].target.kill()
        link.cut()
    assert held_on(group.copies[0]) == lost
    group.pairs["data"].target.start()
    wait_for(lambda: reported(group, "data").held_group == lost, "it to be told", 20.0, group.tell)
    assert reported(group, "data").promotable
    at = drained(group)
    assert (at[0].held_group, at[0].number > 0) == (lost, True)
    assert promoted(group, at) == at[0].group
    of_one_moment(group)


def test_a_break_while_a_point_is_held_ends_in_it_being_applied_everywhere(group: Grouped) -> None:
    """What was lost on the way is told again from the queue; the target that has its point waits for that."""
    with apart(group, "wal") as link:
        at = one_has_it(group, "wal")
        before = number(group.copies[0])
        link.hold()
        time.sleep(2.0)
        assert held_on(group.copies[0]) == at, "applied, although the other target has not got it"
        assert number(group.copies[0]) == before
        link.cut()
        goes_on(group, at - 1)
        for pair in group.pairs.values():
            assert pair.source.log().count("everything is compared") == 1, "it was mirrored anew"


def test_what_cannot_be_told_again_is_dropped_everywhere_and_the_copies_stay_together(group: Grouped) -> None:
    """The point did not fit the queue: after the break it is read anew, of another moment."""
    link = SlowLink(LATE_SECONDS)
    small = msgspec.structs.replace(POINTS, queue=QueueOrder(memory=64 << 10, disk=0))
    try:
        with writing(group):
            group.start(replication=small)
            group.until_group()
            through(group, "wal", link)
            group.until_group(group.group())
            (group.sources[1] / "large").write_bytes(bytes(range(256)) * 20_000)
            lost = one_has_it(group, "wal")
            link.hold()
            link.cut()
            until(lambda: held_on(group.copies[0]) != lost, 20.0)
            seen = group.watch(3, 60.0)
            assert in_order(seen), seen
            assert lost not in {one for one, _, _ in seen}
            assert "GroupVoid: volume wal: PointRefused" in group.lead.source.log()
    finally:
        link.close()


@pytest.mark.parametrize("volume", ["data", "wal"])
def test_an_agent_that_is_replaced_while_a_point_is_held_does_not_keep_the_group_waiting(
    group: Grouped, volume: str
) -> None:
    with apart(group, "wal") as link:
        at = one_has_it(group, "wal")
        link.hold()
        pair = group.pairs[volume]
        pair.source.kill()
        link.cut()
        pair.source.give(instance=2)
        pair.source.start(2)
        if volume == "data":
            group.introduce()
        goes_on(group, at)


def test_the_pair_says_no_more_of_its_points_than_all_targets_have(group: Grouped) -> None:
    """What a source says to be durable is what a failover would promote: not what one target alone has."""
    with apart(group, "wal") as link:
        at = one_has_it(group, "wal")
        link.hold()
        time.sleep(6)  # a report is told each five seconds
        copies = [reported(group, volume) for volume in group.members]
        given = latest_common(copies)
        assert given is not None
        assert given < at
        for volume, copy in zip(group.members, copies, strict=True):
            ours, theirs = group.pairs[volume].source.report(), group.pairs[volume].target.report()
            assert ours is not None
            assert theirs is not None
            assert ours.points is not None
            assert (ours.points.group or 0) <= given
            until_then = settled(copy, given).at
            assert until_then is not None
            for report in (ours, theirs):
                assert report.synced_through is not None
                assert report.synced_through <= until_then
        link.cut()


def test_the_interval_does_not_suffer_where_the_targets_are_near(group: Grouped) -> None:
    with writing(group):
        group.start()
        group.until_group(group.until_group())
        began, seen = time.monotonic(), group.watch(8)
        assert in_order(seen)
        assert time.monotonic() - began < 8 * 1.5
