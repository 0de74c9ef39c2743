"""What the engine of points needs of a session with the target."""

from __future__ import annotations

from typing import Protocol

from storagemirror.entry import Entry, View
from storagemirror.fs.scan import Report
from storagemirror.point import Names
from storagemirror.sync.channel import Channel
from storagemirror.sync.inbox import Inbox
from storagemirror.sync.pointmaker.telling import Tells
from storagemirror.sync.pointmaker.turn import Moment
from storagemirror.sync.telling_points import PointTeller
from storagemirror.wire import messages as m

Answer = m.PointDurable | m.PointApplied | m.PointRefused


class Teller(Tells, Protocol):
    """A point that is being told; see `PointTeller`."""

    def names(self, told: Names) -> None: ...
    def end(self, at_ns: int, *, changed_ns: int = 0, entries: int = 0, moment: Moment | None = None) -> bytes: ...
    def drop(self) -> None: ...


class Line(Protocol):
    """One session. All raise `Disconnected` and what else ends a session."""

    @property
    def view(self) -> View:
        """What the target can hold."""
        ...

    @property
    def report(self) -> Report:
        """Hears what cannot be kept."""
        ...

    @property
    def point(self) -> tuple[int, bytes]:
        """Of the point that was durable on the target when the session began: number and digest."""
        ...

    @property
    def held(self) -> bool:
        """Whether that point is held back there: `release` it."""
        ...

    def begin(self, number: int, before: bytes) -> Teller:
        """Tell a point. Until its end nothing else may be asked."""
        ...

    def release(self, number: int, *, drop: bool = False) -> None:
        """What becomes of a point of a group that was told; not within another point."""
        ...

    def answers(self, seconds: float) -> list[Answer]:
        """What the target has said of points since the last call; waits so long for something."""
        ...

    def look(self, paths: list[bytes]) -> list[Entry | None]:
        """What the target has at these paths."""
        ...


class SessionLine:
    """A `Line` by the parts of a `SourceSession`."""

    def __init__(self, channel: Channel, inbox: Inbox, view: View, report: Report, welcome: m.Welcome) -> None:
        self._channel = channel
        self._inbox = inbox
        self._welcome = welcome
        self.view = view
        self.report = report

    @property
    def point(self) -> tuple[int, bytes]:
        """See `Line`."""
        return self._welcome.point, self._welcome.point_digest

    @property
    def held(self) -> bool:
        """See `Line`."""
        return self._welcome.point_held

    def release(self, number: int, *, drop: bool = False) -> None:
        """See `Line`. A target of an older release holds nothing back."""
        if m.FEATURE_HOLD in self._welcome.features:
            self._channel.send(m.PointRelease(number, drop))

    def begin(self, number: int, before: bytes) -> Teller:
        """See `Line`."""
        return PointTeller(self._channel, number, before)

    def answers(self, seconds: float) -> list[Answer]:
        """See `Line`."""
        return self._inbox.points(seconds)

    def look(self, paths: list[bytes]) -> list[Entry | None]:
        """See `Line`."""
        return self._inbox.look(paths).entries
