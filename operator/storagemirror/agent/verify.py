"""The source's verification, as its order asks for it: every file by checksum, while replication goes on.

First everything is compared by size and time, as every ten minutes; what differs so is sent, and is no finding. Then
both sides read every file. One that differs is looked at again after all changes were sent; one that still differs,
and was not changed since the verification began, is told. Where the order says `repair`, it is sent whole, and
compared once more.

A file that was changed meanwhile (its times say so, or the watch named it) is not judged: it is counted.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Generator
from dataclasses import dataclass, field

from storagemirror.agent.named import Named
from storagemirror.agent.prove import ProvableSession, Volume, since
from storagemirror.agent.view import View
from storagemirror.clock import Clock, rfc3339
from storagemirror.contract import Verification, VerifyOrder
from storagemirror.entry import brief
from storagemirror.sync.changes import Drained
from storagemirror.sync.proving import Proving, Run, Want, files_of, lists_of

log = logging.getLogger("storagemirror.agent")

FIRST_NAMES = 16
_TOO_OLD = "the target agent is too old to compare by checksum"


@dataclass(slots=True)
class _Found:
    """Of one run."""

    began_ns: int
    named: Named = field(default_factory=Named)
    differing: int = 0
    repaired: int = 0
    changing: int = 0
    first: list[bytes] = field(default_factory=list)

    def moved(self, path: bytes, found: os.stat_result | None) -> bool:
        """See `Proving`. Where events were lost, the times alone tell."""
        changed = found is None or since(found, self.began_ns)
        changed = changed or (not self.named.everything and self.named.has(path))
        self.changing += changed
        return changed


class Verifier:
    """Lives as long as the agent. For the thread that follows the changes."""

    def __init__(self, ordered: Callable[[], VerifyOrder | None], view: View, clock: Clock) -> None:
        """`ordered` gives what is to be verified now."""
        self._ordered = ordered
        self._view = view
        self._clock = clock
        self._session: ProvableSession | None = None
        self._volume: Volume | None = None
        self._order: VerifyOrder | None = None
        self._done: str | None = None
        self._run: Run | None = None
        self._found: _Found | None = None

    def connect(self, session: ProvableSession, volume: Volume) -> None:
        """A new connection: what was not finished begins anew."""
        self._session, self._volume = session, volume
        self._run = None

    def drop(self) -> None:
        """Something else needs the session: what was not finished begins anew."""
        if self._run is not None and self._session is not None:
            self._run = None
            self._session.asking.begin()

    def note(self, changes: Drained) -> None:
        """What the watch has told."""
        if self._found is not None and self._run is not None:
            self._found.named.note(changes)

    def advance(self) -> Want | None:
        """A slice of work, and what is wanted before the next; None where nothing is to be verified."""
        order, session = self._ordered(), self._session
        if order != self._order:
            self.drop()
            self._order = order
        if order is None or session is None or self._volume is None or order.run == self._done:
            return None
        if self._run is None:
            if not session.can_prove:
                self._tell(Verification(run=order.run, at=rfc3339(self._clock.now_ns()), error=_TOO_OLD))
                return None
            log.info("verification %s begins", order.run)
            self._run = self._work(order, session, self._volume)
        try:
            return next(self._run)
        except StopIteration:
            self._run = self._found = None
            return Want.GO_ON

    def _work(self, order: VerifyOrder, session: ProvableSession, volume: Volume) -> Run:
        found = self._found = _Found(self._clock.now_ns())
        yield Want.COMPARE
        session.asking.begin()
        proving = Proving(session, found.moved)
        rest = lists_of(files_of(volume.tree, lambda path, facts: True, volume.selection))
        more = True
        while more:
            suspects: list[bytes] = []
            more = yield from proving.compare(rest, suspects)
            suspects = session.owed((yield from self._again(proving, suspects)))
            found.differing += len(suspects)
            found.first.extend(suspects[: FIRST_NAMES - len(found.first)])
            if order.repair and suspects:
                session.resend(suspects)
                left = yield from self._again(proving, suspects)
                found.repaired += len(suspects) - len(left)
        if order.repair:
            yield Want.MARK
        self._tell(
            Verification(
                run=order.run,
                files=proving.total.files,
                bytes=proving.content_bytes,
                differing=found.differing,
                repaired=found.repaired,
                changing=found.changing,
                first=tuple(map(brief, found.first)),
                at=rfc3339(self._clock.now_ns()),
            )
        )

    @staticmethod
    def _again(proving: Proving, suspects: list[bytes]) -> Generator[Want, None, list[bytes]]:
        """Those that still differ, once all changes up to now are sent."""
        if not suspects:
            return []
        yield Want.STEP
        still: list[bytes] = []
        yield from proving.compare(lists_of((path, 0) for path in suspects), still, most=len(suspects) + 1)
        return still

    def _tell(self, result: Verification) -> None:
        self._done = result.run
        level = logging.WARNING if result.differing or result.error else logging.INFO
        log.log(
            level,
            "verification %s: %d files, %d bytes equal, %d differed, %d repaired, %d changing%s",
            *(result.run, result.files, result.bytes, result.differing, result.repaired, result.changing),
            f": {result.error}" if result.error else "",
        )
        self._view.see(verification=result)
