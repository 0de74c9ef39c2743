"""A source that tells points, played frame by frame, and the session of a target that listens to it."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from storagemirror.contract import Role
from storagemirror.entry import Identity
from storagemirror.errors import Disconnected, StorageMirrorError
from storagemirror.fs.target import TargetVolume
from storagemirror.point import Names, Object
from storagemirror.sync.channel import Channel
from storagemirror.sync.pointmaker.turn import Moment
from storagemirror.sync.requests import Expectation
from storagemirror.sync.stream import SocketStream
from storagemirror.sync.target import TargetSession
from storagemirror.sync.telling_points import PointTeller
from storagemirror.wire import messages as m
from tests.support.engine import PAIR, VOLUME, Recorder, expectation, serve_beside
from tests.support.points import Told

IDENTITY = Identity(inode=2, uuid="00" * 16)


@dataclass
class Source:
    """Speaks to a target."""

    channel: Channel
    welcome: m.Welcome
    failure: list[StorageMirrorError] = field(default_factory=list)

    def hear(self, kind: type[m.Message]) -> m.Message:
        """The next answer but NotKept."""
        while True:
            event = self.channel.receive()
            if not isinstance(event, m.NotKept):
                assert isinstance(event, kind), event
                return event

    def mirror(self, entries: int) -> None:
        """As one that finds nothing to send."""
        self.channel.send(m.Mirror(self.welcome.view, (b"",), digests=False))
        self.channel.send(m.MirrorEnd(entries, full=True))
        self.hear(m.Mirrored)

    def tell(self, records: list[Told], number: int, before: bytes, group: int = 0) -> bytes:
        """A point, up to its end; its digest. `group`: of the point of several volumes that it is of."""
        teller = PointTeller(self.channel, number, before)
        say(teller, records)
        return teller.end(number * 10, moment=Moment(group, number * 100, holds=True) if group else None)

    def point(self, records: list[Told], number: int, before: bytes) -> bytes:
        """One that is taken."""
        digest = self.tell(records, number, before)
        durable = self.hear(m.PointDurable)
        assert durable == m.PointDurable(number, digest)
        assert self.hear(m.PointApplied) == m.PointApplied(number)
        return digest

    def held(self, records: list[Told], number: int, before: bytes, group: int) -> bytes:
        """One of a group, that is taken and held back."""
        digest = self.tell(records, number, before, group)
        assert self.hear(m.PointDurable) == m.PointDurable(number, digest)
        return digest

    def refused(self, records: list[Told], number: int, before: bytes) -> m.PointRefused:
        """One that is not."""
        self.tell(records, number, before)
        answer = self.hear(m.PointRefused)
        assert isinstance(answer, m.PointRefused)
        assert answer.number == number
        return answer


def say(teller: PointTeller, records: list[Told]) -> None:
    """Without its end."""
    for _, _payload, told in records:
        if isinstance(told, Object):
            teller.object(told)
        elif isinstance(told, Names):
            teller.names(told)
        elif isinstance(told, tuple):
            teller.content(told[0], memoryview(told[1]))
        else:
            teller.zeros(told.offset, told.length)  # type: ignore[attr-defined]


@contextmanager
def session(
    target: Path,
    expect: Expectation | None = None,
    features: tuple[str, ...] = m.FEATURES,
    watch: Callable[[TargetVolume], None] = lambda volume: None,
) -> Iterator[Source]:
    """Let in. `watch`: what else is done with the volume before."""
    ours, theirs = socket.socketpair()
    with TargetVolume.open(str(target)) as volume:
        watch(volume)
        wanted = expect or expectation()
        serving = TargetSession(volume, SocketStream(theirs), wanted, Recorder())
        channel = Channel(Role.SOURCE, SocketStream(ours))
        failure: list[StorageMirrorError] = []

        thread = serve_beside(serving, failure)
        try:
            channel.send(m.Hello(1, Role.SOURCE, PAIR, VOLUME, wanted.epoch, 1, IDENTITY, features))
            welcome = channel.receive()
            assert isinstance(welcome, m.Welcome)
            yield Source(channel, welcome, failure)
            with contextlib.suppress(Disconnected):
                channel.leave()
        finally:
            channel.close()
            thread.join(20)
            serving.close()
