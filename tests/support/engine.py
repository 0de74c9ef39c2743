"""A source and a target session, joined by a socket pair, each in a thread of this process."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from storagemirror.clock import Clock
from storagemirror.contract import CompareBy, KeepOrder, RestoreOrder, TargetPolicy
from storagemirror.entry import NotKeptKind
from storagemirror.errors import StorageMirrorError
from storagemirror.fs.source import SourceVolume
from storagemirror.fs.target import TargetVolume
from storagemirror.sync import handover
from storagemirror.sync.handover import Settled
from storagemirror.sync.knownsums import KnownSums
from storagemirror.sync.observer import Event, EventKind, Progress
from storagemirror.sync.recalling import origin_of
from storagemirror.sync.requests import Expectation, MirrorOptions, MirrorResult, TargetOptions
from storagemirror.sync.source import SourceSession, hello
from storagemirror.sync.stream import SocketStream
from storagemirror.sync.target import TargetSession
from storagemirror.terms import EXACT, Terms

PAIR, VOLUME = "pair-1", "data"


@dataclass
class Recorder:
    """An observer that remembers."""

    events: list[Event] = field(default_factory=list)
    kept_not: list[tuple[NotKeptKind, bytes]] = field(default_factory=list)
    steps: list[Progress] = field(default_factory=list)

    def progress(self, progress: Progress) -> None:
        self.steps.append(progress)

    def not_kept(self, kind: NotKeptKind, path: bytes) -> None:
        self.kept_not.append((kind, path))

    def event(self, event: Event) -> None:
        self.events.append(event)

    def kinds(self) -> list[EventKind]:
        return [event.kind for event in self.events]


def expectation(epoch: int = 1, confirm: str | None = None, **options: object) -> Expectation:
    """What the target of these tests expects."""
    return Expectation(PAIR, VOLUME, epoch, TargetOptions(**options), confirm)  # type: ignore[arg-type]


def homeward(epoch: int = 2, attempt: int = 1) -> Expectation:
    """What a target expects that was the live side up to `epoch`."""
    options = TargetOptions(TargetPolicy.ADOPT)
    return Expectation(PAIR, VOLUME, epoch, options, restore=RestoreOrder(epoch=epoch, attempt=attempt))


def promote(target: Path, epoch: int = 2) -> Settled:
    """Make the copy the live side."""
    with TargetVolume.open(str(target)) as volume:
        return handover.promote(volume, expectation(epoch))


@dataclass
class Pair:
    """Two sessions that talk to each other."""

    source: SourceSession
    seen: Recorder
    seen_by_target: Recorder
    target_volume: TargetVolume
    source_volume: SourceVolume
    failure: list[StorageMirrorError] = field(default_factory=list)

    thread: threading.Thread | None = None

    def mirror(self, compare: CompareBy = CompareBy.SIZE_AND_TIME) -> MirrorResult:
        return self.source.mirror(MirrorOptions(compare))

    def end(self) -> None:
        """Both sessions, and let go of the volumes."""
        self.source.close()
        if self.thread is not None:
            self.thread.join(30)
            if self.thread.is_alive():
                raise AssertionError("the target's session did not end")
        self.source_volume.close()
        self.target_volume.close()


@contextmanager
def joined(
    source: Path,
    target: Path,
    expect: Expectation | None = None,
    *,
    grain_ns: int | None = None,
    epoch: int = 1,
    silence: float = 8.0,
    sync_at_end: bool = True,
    writes: type[TargetVolume] = TargetVolume,
    clock: Clock | None = None,
    restoring: bool = True,
    terms: Terms = EXACT,
    look: bool = False,
    keep: KeepOrder | None = None,
    known: KnownSums | None = None,
) -> Iterator[Pair]:
    """Both ends, shaken hands, and what is kept aside done unless `restoring` is False. What the target's end died of
    is in `failure` afterwards."""
    ours, theirs = socket.socketpair()
    reader, writer = SourceVolume.open(str(source)), writes.open(str(target))
    if grain_ns is not None:
        reader.grain_ns = grain_ns
    seen, seen_by_target = Recorder(), Recorder()
    serving = TargetSession(
        writer,
        SocketStream(theirs, silence=silence),
        expect if expect is not None else expectation(),
        seen_by_target,
        clock,
        sync_at_end=sync_at_end,
        known=known,
    )
    session = SourceSession(
        reader,
        SocketStream(ours, silence=silence),
        hello(PAIR, VOLUME, epoch, 1, reader.identity, origin=origin_of(reader), terms=terms, look=look),
        seen,
        keep=keep,
    )
    pair = Pair(session, seen, seen_by_target, writer, reader)

    pair.thread = serve_beside(serving, pair.failure)
    try:
        session.handshake()
        if restoring:
            session.recall()
        yield pair
    finally:
        pair.end()


def serve_beside(serving: TargetSession, failure: list[StorageMirrorError]) -> threading.Thread:
    """The target's end, in a thread that has begun; what it dies of is put into `failure`."""

    def serve() -> None:
        try:
            serving.serve()
        except StorageMirrorError as e:
            failure.append(e)

    thread = threading.Thread(target=serve)
    thread.start()
    return thread


def mirror(
    source: Path,
    target: Path,
    expect: Expectation | None = None,
    *,
    terms: Terms = EXACT,
    compare: CompareBy = CompareBy.SIZE_AND_TIME,
    keep: KeepOrder | None = None,
) -> MirrorResult:
    """One mirror, from start to end."""
    with joined(source, target, expect, terms=terms, keep=keep) as pair:
        result = pair.mirror(compare)
        pair.source.mark(result.started_ns)
        return result
