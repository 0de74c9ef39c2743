"""A group whose volumes' points reach their targets at different times, and what each copy can be brought to."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
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


@dataclass(frozen=True)
class OnDisk:
    """Of the group's points on a target, as its disk says it while its agent works on it. 0: there is none."""

    at: int = 0
    held: int = 0
    applying: int = 0

    @property
    def reached(self) -> set[int]:
        """What the copy can be brought to, whatever is killed now."""
        return ({self.applying} if self.applying else {self.at, self.held}) - {0}


def on_disk(volume: Path) -> OnDisk | None:
    """None where something was taken away while we looked."""
    try:
        journal = os.open(volume / ".storagemirror/journal", os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return OnDisk()
    try:
        at, mark = slots.read(journal) or slots.At(), steps.read(journal)
        found = OnDisk(at.group if at.number and not at.spoiled else 0)
        for point in segments.segments(journal):
            commit = segments.committed(journal, point) if point > at.number else None
            if commit is not None and mark is not None and mark.point == point:
                found = replace(found, applying=commit.end.group)
            elif commit is not None:
                found = replace(found, held=commit.end.group)
        return None if mark is not None and not found.applying else found
    except OSError:
        return None
    finally:
        os.close(journal)


def held_on(volume: Path) -> int:
    """Group of the point that is held back on a target; 0: none is."""
    found = on_disk(volume)
    return found.held if found is not None and not found.applying else 0


def together(group: Grouped) -> list[OnDisk] | None:
    """All copies at one moment; None where one of them changed while the others were looked at."""
    before = [on_disk(copy) for copy in group.copies]
    after = [on_disk(copy) for copy in group.copies]
    return [one for one in before if one is not None] if before == after and None not in before else None


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
