"""What somebody else changes on a copy that changes follow to as they come: noted, told to the source, and mended.

    found → the volume notes it, durably → Disturbed → the source compares; files changed since are told as differing,
    whatever their size and time → that mirror ends, and is durable → the volume notes that it is mended

The watch stays armed through all that: what is written is told to it path by path (`Others.touch`). What is found while
a mirror runs counts anew, and has another one run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from storagemirror.fs.journal.others import Changed
from storagemirror.fs.target import TargetVolume
from storagemirror.sync.admission import doubt
from storagemirror.terms import OrphanPolicy, Terms
from storagemirror.wire import messages as m


class Disturbances:
    """Of one session that was let in; for its thread, save `found`."""

    def __init__(
        self,
        volume: TargetVolume,
        terms: Terms,
        send: Callable[[m.Message], None],
        noted: Callable[[Changed], None],
        *,
        restoring: bool,
    ) -> None:
        """`noted` is told what the volume knows of from then on. While a volume is restored nothing is watched."""
        self._volume = volume
        self._send = send
        self._noted = noted
        plain = terms.orphans is OrphanPolicy.DELETE and not terms.keeps and not terms.older_than_seconds
        self._may_watch = plain and not restoring
        """Elsewhere there may be things of somebody else's on purpose, or we put such aside."""
        self.follows = False
        """Since the last mirror of everything began changes follow as they come, and no point has come."""
        self._waiting = False
        """Something was found that is not noted."""
        self._mended = False
        """A mirror of everything that began after the last note has ended."""
        self._marked = False
        """And a mark has begun that makes it durable."""

    def let_in(self) -> None:
        """The session begins. `VolumeFull`, OSError."""
        others = self._volume.others
        if others.armed and not (self._may_watch and others.armed_under(self._volume.selection)):
            changed = others.changed()
            others.disarm()
            if changed is not None:
                self._note(changed)

    def found(self) -> None:
        """Somebody else has changed the volume: call `take` soon. For any thread."""
        self._waiting = True

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Something that the source has sent is applied within."""
        others = self._volume.others
        if not (self.follows and others.armed):
            yield
            return
        others.applying()
        try:
            yield
        finally:
            others.applied()

    def take(self) -> None:
        """Note what was found, and have the source compare. `VolumeFull`, OSError, and as `send`."""
        if not self._waiting or not self.follows:
            return
        self._waiting = False
        changed = self._volume.others.changed()
        if changed is not None:
            self._note(changed)
            self._send(m.Disturbed())

    def mirroring(self, *, follows: bool) -> None:
        """A mirror of everything begins: it mends what was found up to now. `VolumeFull`, OSError."""
        self.follows = follows
        self._mended = self._marked = self._waiting = False
        if not follows:
            return
        changed = self._volume.others.renew()
        if changed is not None:
            self._note(changed)
        doubt(self._volume)  # also what a session before us has noted

    def mirrored(self) -> None:
        """It has ended, and nothing failed: everything on the volume is the source's."""
        if not self.follows:
            return
        self._mended = True
        others = self._volume.others
        changed = others.changed()
        if changed is not None:
            self._volume.distrust_after_ns = changed.since_ns
        elif self._may_watch:
            others.arm(self._volume.selection)

    def marking(self) -> None:
        """A mark begins: what came before it is durable when it has ended."""
        self._marked = self._mended

    def marked(self) -> None:
        """It has. `VolumeFull`, OSError."""
        if not (self._mended and self._marked):
            return
        self._mended = self._marked = False
        self._volume.journal.mended(self._volume.others.changed())
        self._volume.others.mended()

    def _note(self, changed: Changed) -> None:
        self._volume.journal.spoil_changed(changed)
        self._noted(changed)
        doubt(self._volume)
