"""The target's end of a session that only compares: it answers questions, and writes nothing at all.

Not even the volume's own `.storagemirror` is made, locked or written; what the target can hold is told by what the
process may do and what the file system answers, not by trying (`fs.abilities.expected`).
"""

from __future__ import annotations

from dataclasses import replace

import msgspec

from storagemirror import __version__
from storagemirror.clock import SystemClock
from storagemirror.errors import ProtocolError
from storagemirror.fs.abilities import expected
from storagemirror.fs.target import TargetVolume
from storagemirror.sync.admission import agree, check_hello
from storagemirror.sync.answers import listing
from storagemirror.sync.channel import Channel
from storagemirror.sync.inbox import aborted
from storagemirror.sync.orphans import Orphans
from storagemirror.sync.requests import Expectation
from storagemirror.sync.summing import Summing
from storagemirror.sync.walker import Walker
from storagemirror.terms import EXACT
from storagemirror.wire import messages as m

FEATURES = (m.FEATURE_SUMS, m.FEATURE_VERIFY, m.FEATURE_COMPRESS, m.FEATURE_TERMS)
"""What such a session has use for."""


class Looking:
    """Serves one such connection; for the session's thread."""

    def __init__(self, volume: TargetVolume, expect: Expectation, channel: Channel) -> None:
        self._expect = expect
        self._channel = channel
        self._volume = volume
        self._view = expected(volume.tree.root)
        self._scanner = volume.scanner(self._view)  # anew with each mirror, under the rules of that
        self._summing = Summing(volume.tree, self._view, channel.send)
        self._walker: Walker | None = None
        self._orphans = Orphans(volume, EXACT, SystemClock().now_ns)
        self._going = 0

    def serve(self, hello: m.Hello) -> None:
        """Returns when the source has said goodbye. Raises as `TargetSession.serve`."""
        check_hello(self._expect, hello)
        # What is told under rules is what a mirror under them would see; nothing of the target's own terms is at stake.
        self._orphans.terms = agree(self._volume, replace(self._expect, terms=None), hello)
        welcome = m.Welcome(
            version=m.PROTOCOL_VERSION,
            epoch=self._expect.epoch,
            view=self._view,
            has_entries=not self._volume.is_empty(),
            features=FEATURES,
            software=__version__,
        )
        if m.FEATURE_COMPRESS in hello.features:
            self._channel.agree()
        self._channel.send(welcome)
        self._channel.start_ticking()
        while self._take(self._channel.receive()):
            pass

    def stop(self) -> None:
        """Its threads end."""
        if self._walker is not None:
            self._walker.stop()
        self._summing.stop()

    def _count(self, event: m.Doomed) -> None:
        """How many entries a mirror would delete or move aside."""
        for path in event.paths:
            if not event.in_the_way and self._orphans.stays(path):
                self._orphans.leave(path)
            else:
                self._going += self._volume.count(path, lambda entry: False)
        if event.last:
            self._channel.send(m.Cleared(self._going))

    def _take(self, event: object) -> bool:
        match event:
            case m.Mirror():
                if self._walker is not None:
                    self._walker.stop()
                # Leaders are those of one walk.
                self._scanner = self._volume.scanner(self._view)
                self._orphans.begin(whole=True)
                self._going = 0
                self._walker = Walker(self._scanner, event.scopes, self._channel.send)
                if event.digests:
                    self._walker.start()
            case m.Credit() if self._walker is not None:
                self._walker.credit(event.frames)
            case m.Want():
                for path in event.directories:
                    for answer in listing(self._scanner, path):
                        self._channel.send(answer)
            case m.Doomed():
                self._count(event)
            case m.MirrorEnd():
                if self._walker is not None:
                    self._walker.stop()
                    self._walker = None
                told = m.Mirrored(0, 0, None, "")
                first = tuple(self._orphans.first)
                self._channel.send(msgspec.structs.replace(told, orphans=self._orphans.left, first_orphans=first))
            case m.Sum() | m.Tally() | m.Examine():
                self._summing.take(event)
            case m.Bye():
                return False
            case m.Abort():
                raise aborted(event)
            case _:
                raise ProtocolError(f"{type(event).__name__} is not taken of a source that said it would only look")
        return True
