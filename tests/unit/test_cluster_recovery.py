"""What `up` decides to do with what it finds."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from tests.cluster.recovery import Found, Phase, Record, decide, format_record, parse_record

KEY = "1.35.4-abc"
UP = Record(KEY, nodes=3, api_port=40000, phase=Phase.UP)
ALL = frozenset({"n1", "n2", "n3"})
WHOLE = Found(UP, True, True, True, ALL, ALL | {"cp"})
NOTHING = Found(None, False, False, False, frozenset(), frozenset())


def test_a_whole_cluster_is_left_alone() -> None:
    plan = decide(WHOLE, KEY, 3)
    assert (plan.why, plan.tear_down, plan.start_control_plane, plan.boot, plan.plug) == ("", False, False, (), ())


def test_nothing_is_removed_where_nothing_is() -> None:
    plan = decide(NOTHING, KEY, None)
    assert not plan.tear_down
    assert plan.start_control_plane
    assert plan.boot == ("n1", "n2", "n3")


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (replace(NOTHING, leftovers=True), "unfinished"),
        (replace(WHOLE, record=None), "unfinished"),
        (replace(WHOLE, record=replace(UP, phase=Phase.MAKING)), "unfinished"),
        (replace(WHOLE, record=replace(UP, key="1.34.0-xyz")), "other programs"),
        (replace(WHOLE, network=False), "restarted"),
    ],
)
def test_what_cannot_be_gone_on_with_is_removed_and_made_anew(found: Found, why: str) -> None:
    plan = decide(found, KEY, None)
    assert plan.tear_down
    assert plan.start_control_plane
    assert plan.boot == ("n1", "n2", "n3")
    assert why in plan.why


def test_a_cluster_made_anew_has_as_many_nodes_as_before() -> None:
    found = replace(WHOLE, record=replace(UP, nodes=5, phase=Phase.MAKING))
    assert decide(found, KEY, None).nodes == 5
    assert decide(found, KEY, 2).nodes == 2


def test_a_running_cluster_grows_and_never_shrinks() -> None:
    assert decide(WHOLE, KEY, 5).boot == ("n4", "n5")
    smaller = decide(WHOLE, KEY, 1)
    assert (smaller.nodes, smaller.boot) == (3, ())


def test_whatever_is_off_cut_or_stopped_is_mended_and_nothing_else() -> None:
    whos = ("cp", "n1", "n2", "n3")
    for off, cut, control_plane in itertools.product(
        itertools.chain.from_iterable(itertools.combinations(whos[1:], n) for n in range(4)),
        itertools.chain.from_iterable(itertools.combinations(whos, n) for n in range(5)),
        (True, False),
    ):
        found = Found(UP, True, True, control_plane, ALL - set(off), frozenset(whos) - set(cut) - set(off))
        plan = decide(found, KEY, None)
        assert not plan.tear_down
        assert plan.start_control_plane is not control_plane
        assert plan.boot == off
        assert set(plan.plug) == set(cut) - set(off), "a node that boots is plugged in by that"
        assert bool(plan.why) == bool(off or cut or not control_plane)


def test_a_slow_link_is_made_good_again() -> None:
    plan = decide(replace(WHOLE, slowed=frozenset({"n2", "cp"})), KEY, None)
    assert plan.quicken == ("cp", "n2")
    assert "cp, n2" in plan.why
    assert not plan.tear_down


def test_a_record_survives_being_written_down() -> None:
    assert parse_record(format_record(UP)) == UP


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"key": "x"}', format_record(replace(UP, format=99)), '{"phase": "Odd"}']
)
def test_what_is_no_record_of_ours_counts_as_none(text: str) -> None:
    assert parse_record(text) is None
