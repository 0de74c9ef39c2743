"""The agents of one pair with several volumes: each source on a file system of its own, with guards of its own."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from storagemirror.contract import GroupOrder, Peer, PointsMade, ReplicationOrder
from storagemirror.fs.journal.journal import NotPromotable, Promotable, promotable_beneath
from tests.support.agents import AgentPair, wait_for
from tests.support.guards import Guards
from tests.support.inorder import number
from tests.support.pointpair import POINTS, pointing, points
from tests.support.smallapi import SmallApi

Seen = tuple[int, int, int]
"""Number of a group's point, and what the copies of the first and of the second volume hold at it."""


class Grouped:
    """Nothing runs until `start`."""

    def __init__(self, pairs: dict[str, AgentPair], guards: dict[str, Guards]) -> None:
        self.pairs = pairs
        self.guards = guards

    @property
    def members(self) -> tuple[str, ...]:
        return tuple(self.pairs)

    @property
    def lead(self) -> AgentPair:
        return self.pairs[self.members[0]]

    @property
    def sources(self) -> list[Path]:
        return [pair.source.volume for pair in self.pairs.values()]

    @property
    def copies(self) -> list[Path]:
        return [pair.target.volume for pair in self.pairs.values()]

    def start(self, replication: ReplicationOrder = POINTS, *, together: bool = True) -> None:
        """All agents; `together`: with the group in their orders."""
        for pair in self.pairs.values():
            group = GroupOrder(members=self.members) if together else None
            pair.start(replication=replication, group=group)
        if together:
            self.introduce()

    def introduce(self) -> None:
        """Tell the members where the lead listens now."""
        peer = Peer(address="127.0.0.1", port=self.lead.source.port())
        self.tell_members(GroupOrder(members=self.members, peer=peer))

    def tell_members(self, group: GroupOrder) -> None:
        """All but the lead."""
        for name, pair in self.pairs.items():
            if name != self.members[0]:
                pair.source.give(group=group)

    def points(self) -> list[PointsMade | None]:
        return [points(pair) for pair in self.pairs.values()]

    def at(self) -> list[Promotable | NotPromotable]:
        """At which point each copy is, as its own volume says it."""
        return [at_point(copy) for copy in self.copies]

    def group(self) -> int:
        """Number of the group's point that all copies are at; 0: they are at none, or at different ones."""
        numbers = {at.group if isinstance(at, Promotable) else 0 for at in self.at()}
        return numbers.pop() if len(numbers) == 1 else 0

    def until_group(self, after: int = 0, seconds: float = 60.0) -> int:
        """Wait until all copies are at one later group point."""

        def later() -> int:
            found = self.group()
            return found if found > after else 0

        return wait_for(later, f"a group point after {after}", seconds, self.tell)

    def watch(self, count: int, seconds: float = 60.0) -> list[Seen]:
        """What the copies hold at so many different group points. Read between two looks at where the copies are."""
        found: dict[int, Seen] = {}
        end = time.monotonic() + seconds
        while len(found) < count:
            assert time.monotonic() < end, f"{len(found)} group points in {seconds} s\n{self.tell()}"
            before = self.at()
            first, second = (number(copy) for copy in self.copies[:2])
            if before == self.at() and (group := self.group_of(before)):
                found[group] = (group, first, second)
            time.sleep(0.005)
        return list(found.values())

    @staticmethod
    def group_of(at: list[Promotable | NotPromotable]) -> int:
        numbers = {one.group if isinstance(one, Promotable) else 0 for one in at}
        return numbers.pop() if len(numbers) == 1 else 0

    def why(self, volume: str) -> str:
        """Why that volume made no point the last time; empty when it did."""
        found = points(self.pairs[volume])
        return found.why if found is not None else ""

    def until_why(self, volume: str, fits: Callable[[str], bool], seconds: float = 60.0) -> str:
        """Wait until it says why it makes no points, in words that fit."""

        def fitting() -> str:
            said = self.why(volume)
            return said if fits(said) else ""

        return wait_for(fitting, "a reason", seconds, self.tell)

    def tell(self) -> str:
        return "\n".join(f"{at}" for at in self.at()) + "".join(
            f"\n== {name}: {pair.tell()}" for name, pair in self.pairs.items()
        )


def at_point(volume: Path) -> Promotable | NotPromotable:
    """As the volume itself says it, while its agent works on it."""
    try:
        state = os.open(volume / ".storagemirror", os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return NotPromotable("NoPoint", "nothing was ever written to it")
    try:
        return promotable_beneath(state)
    finally:
        os.close(state)


@contextmanager
def grouped(directory: Path, api: SmallApi, *volumes: str, kind: str = "ext4") -> Iterator[Grouped]:
    """A pair with these volumes; nothing of it runs yet, but the guards."""
    pairs: dict[str, AgentPair] = {}
    guards: dict[str, Guards] = {}
    with ExitStack() as stack:
        for name in volumes:
            where = directory / name
            where.mkdir()
            authority = next(iter(pairs.values())).authority if pairs else None
            pair = AgentPair(where, "shop", lambda role: api, mirrored=name, authority=authority)
            stack.callback(pair.close)
            _, guards[name] = stack.enter_context(pointing(pair, where, kind, 100))
            pairs[name] = pair
        yield Grouped(pairs, guards)
