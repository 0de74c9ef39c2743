"""A group whose volumes' points reach their targets at different times, and what each copy can be brought to."""

from __future__ import annotations

import os
from pathlib import Path

from storagemirror.contract import Action, CopyPoint, Peer, Phase, Report, SettleOrder
from storagemirror.fs.journal import segments, slots, steps
from storagemirror.plan.grouping import latest_common
from tests.support.agents import told
from tests.support.grouped import Grouped
from tests.support.relay import Relay


def through(group: Grouped, volume: str, link: Relay) -> None:
    """What the agents of that volume say to each other takes this way from now on."""
    pair = group.pairs[volume]
    link.upstream = pair.target.port()
    pair.source.give(peer=Peer(address="127.0.0.1", port=link.port))


def held_on(volume: Path) -> int:
    """Group of the point that is held back on a target, as its disk says it while its agent works on it; 0: none is."""
    try:
        journal = os.open(volume / ".storagemirror/journal", os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return 0
    try:
        at = slots.read(journal)
        for point in segments.segments(journal):
            commit = segments.committed(journal, point) if steps.read(journal) is None else None
            if commit is not None and commit.end.group and (at is None or point > at.number):
                return commit.end.group
        return 0
    except OSError:
        return 0  # it was taken away while we looked
    finally:
        os.close(journal)


def reported(group: Grouped, volume: str) -> CopyPoint:
    """What the target of that volume told last of its copy."""
    report = group.pairs[volume].target.report()
    assert report is not None
    assert report.copy_point is not None, group.tell()
    return report.copy_point


def drained(group: Grouped) -> list[CopyPoint]:
    """Have all targets take in what has come; what they say then."""
    for pair in group.pairs.values():
        pair.target.give(action=Action.DRAIN)
    for pair in group.pairs.values():
        told(pair, Phase.DRAINED, 30.0)
    return [reported(group, volume) for volume in group.members]


def promoted(group: Grouped, at: list[CopyPoint]) -> int:
    """Have all promoted as the operator would, by what they said when they were drained; at which point."""
    common = latest_common(at)
    assert common is not None, at
    reports: list[Report] = []
    for pair in group.pairs.values():
        pair.target.give(action=Action.PROMOTE, epoch=2, settle=SettleOrder(group=common))
    for pair in group.pairs.values():
        reports.append(told(pair, Phase.PROMOTED, 30.0))
    assert [report.problem for report in reports] == [None] * len(reports)
    return common
