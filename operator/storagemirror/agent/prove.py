"""The source's proof that both sides hold the same, as its order asks for it.

*Live*, while the source is written: note the time, sync the source, compare everything by checksum. What differs and
was changed since is no difference: it is remembered, with all that the watch names from then on.

*Final*, when nobody writes any more: send what has changed, sync the source, compare everything by size and time; then
by checksum all that was named since the live part began, and every file whose modification or change time is not older
than that (a page that was dirty already changes no time when it is written again). What is named meanwhile is compared
once more. Without a live part of the same attempt, everything is compared by checksum.

The live part is remembered by this process alone, over connections: a source agent that begins anew compares
everything.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from storagemirror.agent.named import Named
from storagemirror.agent.view import View
from storagemirror.clock import Clock, rfc3339
from storagemirror.contract import Problem, Proof, ProofStage, ProveOrder
from storagemirror.entry import brief
from storagemirror.fs.identity import Facts
from storagemirror.fs.selection import Selection
from storagemirror.fs.tree import Tree
from storagemirror.sync.changes import Drained
from storagemirror.sync.proving import Proving, Run, Session, Want, files_of

log = logging.getLogger("storagemirror.agent")

RETRY_SECONDS = 10.0
MARGIN_NS = 2_000_000_000
"""A time that a file system gave may be so much older than the clock's."""
CLOCK_SECONDS = 1.0
"""Where the clock was set by more than this meanwhile, times prove nothing."""
ROUNDS = 5
SILENT_FILE_SYSTEMS = frozenset({"tmpfs", "ramfs"})
"""A write through a memory map moves no time there."""


class ProvableSession(Session, Protocol):
    """What is needed of a `SourceSession`."""

    @property
    def can_prove(self) -> bool: ...


class Volume(Protocol):
    """What is needed of a `SourceVolume`."""

    tree: Tree
    selection: Selection | None

    def facts(self) -> Facts: ...


@dataclass(slots=True)
class _Live:
    """What is remembered of a live part."""

    attempt: int
    started_ns: int
    started: float
    named: Named = field(default_factory=Named)
    proven: bool = False

    def since(self, found: os.stat_result) -> bool:
        """Whether a file may have been changed since it began, by its times."""
        return since(found, self.started_ns)

    def moved(self, path: bytes, found: os.stat_result | None) -> bool:
        """See `Proving`."""
        if found is None:
            self.named.add(path)
            return True
        # Where everything is named, nothing is: events were lost, or changes are found by comparing alone.
        return self.since(found) or (not self.named.everything and self.named.has(path))


class Prover:
    """Lives as long as the agent. For the thread that follows the changes."""

    def __init__(self, ordered: Callable[[], ProveOrder | None], view: View, clock: Clock, network: frozenset[str]):
        """`ordered` gives what is to be proven now; `network`: file systems that others write too."""
        self._ordered = ordered
        self._view = view
        self._clock = clock
        self._unsure = network | SILENT_FILE_SYSTEMS
        self._session: ProvableSession | None = None
        self._volume: Volume | None = None
        self._run: Run | None = None
        self._order: ProveOrder | None = None
        self._done: ProveOrder | None = None
        self._not_before = 0.0
        self._live: _Live | None = None
        self._round = Named()
        self._round_ns = 0
        self.problem: Problem | None = None
        """Why there is no proof yet."""

    def connect(self, session: ProvableSession, volume: Volume) -> None:
        """A new connection: what was not finished begins anew."""
        self._session, self._volume = session, volume
        self._run = None

    def forget(self) -> None:
        """The volume was let go of: what happened to it since nobody saw."""
        self._live = None
        self._run = self._done = None

    def note(self, changes: Drained) -> None:
        """What the watch has told."""
        if self._live is not None:
            self._live.named.note(changes)
        self._round.note(changes)

    @property
    def wanted(self) -> bool:
        """Whether something is to be proven, or was until now."""
        order = self._ordered()
        return order is not None or order != self._order

    def advance(self) -> Want | None:
        """A slice of work, and what is wanted before the next; None where nothing is to be proven."""
        order = self._ordered()
        if order != self._order:
            self._drop()
            self._order = order
            self.problem, self._not_before = None, 0.0
        session = self._session
        if order is None or session is None or order == self._done or self._clock.monotonic() < self._not_before:
            return None
        if self._run is None:
            if not session.can_prove:
                self._later("ProofUnsupported", "the target agent is too old to compare by checksum")
                return None
            log.info("proof %d begins: %s", order.attempt, order.stage)
            self._round = Named()
            self._run = self._live_part(order) if order.stage is ProofStage.LIVE else self._final_part(order)
        try:
            return next(self._run)
        except StopIteration:
            self._run = None
            return Want.GO_ON

    def _drop(self) -> None:
        """The order has changed: neither side reads any further."""
        if self._run is not None and self._session is not None:
            self._run = None
            self._session.asking.begin()

    # -- the two parts

    def _live_part(self, order: ProveOrder) -> Run:
        session, volume = self._connected()
        live = self._live = _Live(order.attempt, self._clock.now_ns(), self._clock.monotonic())
        yield Want.COMPARE
        session.asking.begin()
        proving = Proving(session, live.moved)
        yield from proving.run(files_of(volume.tree, lambda path, found: True, volume.selection))
        yield Want.MARK
        agreed = yield from proving.agreed()
        live.proven = self._tell(order, proving, agreed=agreed, steady=True, since_ns=0)

    def _final_part(self, order: ProveOrder) -> Run:
        session, volume = self._connected()
        live = self._remembered(order, volume)
        began_ns = self._clock.now_ns()
        yield Want.COMPARE
        session.asking.begin()
        proving = Proving(session, self._moved)
        files = files_of(
            volume.tree,
            lambda path, found: live is None or live.since(found) or live.named.has(path),
            volume.selection,
        )
        for _ in range(ROUNDS):
            # What came before is in the comparison, in the memory of the live part, or in the round before.
            self._round, self._round_ns = Named(), self._clock.now_ns()
            yield from proving.run(files)
            yield Want.MARK
            again = self._round
            if proving.left or not again:
                break
            files = files_of(volume.tree, self._among(again, self._round_ns, volume), volume.selection)
        agreed = yield from proving.agreed()
        self._tell(order, proving, agreed=agreed, steady=not again, since_ns=began_ns)

    def _moved(self, path: bytes, found: os.stat_result | None) -> bool:
        if found is None:
            self._round.add(path)
            return True
        return since(found, self._round_ns) if self._round.everything else self._round.has(path)

    def _among(self, names: Named, since_ns: int, volume: Volume) -> Callable[[bytes, os.stat_result], bool]:
        """The files that may have changed in a round."""
        if not names.everything:
            return lambda path, found: names.has(path)
        if volume.facts().fs_type in self._unsure:
            return lambda path, found: True
        return lambda path, found: since(found, since_ns)

    def _connected(self) -> tuple[ProvableSession, Volume]:
        if self._session is None or self._volume is None:
            raise AssertionError("connect first")
        return self._session, self._volume

    def _remembered(self, order: ProveOrder, volume: Volume) -> _Live | None:
        """The live part, where what it remembers tells all that changed since."""
        live = self._live
        if live is None or live.attempt != order.attempt or not live.proven:
            return None
        if volume.facts().fs_type in self._unsure:
            return None
        by_clock = (self._clock.now_ns() - live.started_ns) / 1e9
        return live if abs(by_clock - (self._clock.monotonic() - live.started)) < CLOCK_SECONDS else None

    # -- what came of it

    def _tell(self, order: ProveOrder, proving: Proving, *, agreed: bool, steady: bool, since_ns: int) -> bool:
        """Report; whether both sides are equal. `since_ns`: what was done before must be durable on the target."""
        failed, first = self._view.failed_entries()
        through_ns = self._view.sight.through_ns
        why: tuple[str, str] | None = None
        if proving.left:
            why = "ProofFailed", f"{len(proving.left)} files differ; the first: {brief(proving.left[0])}"
        elif failed:
            why = "ProofFailed", f"{failed} entries could not be written on the target; the first: {first}"
        elif not steady:
            why = "SourceChanging", "the source was written while the last part of the proof ran"
        elif not agreed:
            why = "ProofFailed", "the two sides count different totals"
        elif through_ns is None or through_ns < since_ns:
            why = "ProofFailed", "what was sent is not known to be durable on the target"
        proof = Proof(
            attempt=order.attempt,
            stage=order.stage,
            equal=why is None,
            files=proving.total.files,
            bytes=proving.content_bytes,
            differing=proving.differing,
            digest=proving.total.digest().hex() if why is None else "",
            at=rfc3339(self._clock.now_ns()),
        )
        if why is not None:
            self._later(*why)
        else:
            self._done, self.problem = order, None
        log.info(
            "proof %d, %s: %s, %d files, %d bytes, %d differed",
            *(order.attempt, order.stage, "equal" if proof.equal else "not equal"),
            *(proof.files, proof.bytes, proof.differing),
        )
        self._view.see(proof=proof, problem=self.problem)
        return proof.equal

    def _later(self, reason: str, message: str) -> None:
        problem = Problem(reason=reason, message=message, hint="the proof is tried again every 10 s")
        if problem != self.problem:
            log.warning("%s: %s", reason, message)
        self.problem = problem
        self._view.see(problem=self.problem)
        self._not_before = self._clock.monotonic() + RETRY_SECONDS


def since(found: os.stat_result, then_ns: int) -> bool:
    """Whether a file may have been changed since, by its times."""
    return max(found.st_mtime_ns, found.st_ctime_ns) >= then_ns - MARGIN_NS
