"""What somebody else changes on a copy: seen at once, told, and a copy that was at a point is at none then.

The watch is of the volume that is open, with or without a source. Where points are made: from when the copy is found to
be at a point, or the first point after a mirror begins to come, to when the copy is changed by us otherwise than by
points. Where changes follow as they come: from the end of the first mirror on (`storagemirror.sync.disturbed`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from storagemirror.agent.view import View
from storagemirror.clock import Clock, rfc3339
from storagemirror.contract import Drifted, Order
from storagemirror.entry import Identity, brief
from storagemirror.errors import BadInput
from storagemirror.fs.identity import NETWORK_FILE_SYSTEMS
from storagemirror.fs.journal.journal import Promotable
from storagemirror.fs.journal.others import Changed
from storagemirror.fs.selection import selection_of
from storagemirror.fs.target import TargetVolume
from storagemirror.sync import handover
from storagemirror.sync.copywatch import CopyWatch
from storagemirror.sync.requests import Expectation

log = logging.getLogger("storagemirror.agent")

FIRST_NAMES = 16
LONGEST_WHY = 300


class Watching:
    """Of a target's agent. For its main thread, save `report` and `unsettled`."""

    def __init__(self, view: View, clock: Clock, quiet_seconds: float, found: Callable[[], None]) -> None:
        """`quiet_seconds`: a finding is told until nothing was seen for so long. `found` is called from any thread when
        there is something to `settle`."""
        self._view = view
        self._clock = clock
        self._quiet_seconds = quiet_seconds
        self._found = found
        self._watch: CopyWatch | None = None
        self._network = ""
        self._identity: Identity | None = None
        self._pending: tuple[Identity | None, Changed] | None = None
        """What the volume does not know of yet, and which volume. It outlives the watch."""
        self._told: tuple[int, Drifted] | None = None
        """What was found last, and by which watch."""

    def open(self, volume: TargetVolume) -> None:
        """This one is watched from now on, while its copy is at a point."""
        volume.others = self._watch = CopyWatch(volume.tree, self._clock, self._changed)
        fs_type = volume.facts().fs_type
        self._network = fs_type if fs_type in NETWORK_FILE_SYSTEMS else ""
        self._identity = volume.identity

    def close(self) -> None:
        """Before the volume is."""
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.close()

    def begin(self, volume: TargetVolume, order: Order, expect: Expectation) -> None:
        """Watch, where the copy is at a point already: an agent before us may have made it so. Nothing that goes wrong
        here keeps the copy from following."""
        watch = self._watch
        if watch is None or watch.armed or not handover.is_copy(volume, expect):
            return
        if not isinstance(volume.promotable(), Promotable):
            return
        try:
            selection = selection_of(order.mirror.terms().rules)
        except BadInput:
            return  # nothing is mirrored under such rules, and the operator says so
        watch.arm(selection)
        if watch.armed:
            log.info("the copy is at a point: %d directories of it are watched", watch.watches)

    def noted(self, changed: Changed) -> None:
        """The volume knows of it: there is nothing to `settle` of that."""
        pending = self._pending
        if pending is not None and pending[1].watch == changed.watch:
            self._pending = None

    @property
    def unsettled(self) -> bool:
        """Whether something was found that the volume does not know of. For any thread."""
        return self._pending is not None

    def settle(self, volume: TargetVolume, expect: Expectation) -> None:
        """Have the volume say that it is at no point, where somebody else has changed it up to now. Raises as
        `handover.note_changed`."""
        if self._watch is not None:
            self._watch.changed()
        pending = self._pending
        if pending is None:
            return
        if pending[0] == volume.identity:
            handover.note_changed(volume, expect, pending[1])
        if self._pending is pending:
            self._pending = None

    def report(self) -> Drifted | None:
        """What is told of it; None: nothing can be said yet. For any thread."""
        watch, told = self._watch, self._told
        drifted = told[1] if told is not None else None
        if watch is None:
            return drifted
        quiet = watch.quiet_seconds()
        if quiet is not None and quiet >= self._quiet_seconds:
            drifted = Drifted()
        idle = watch.idle_seconds()
        if idle is not None and idle >= self._quiet_seconds:
            drifted = None  # nobody watches it: the source's comparisons have the word
        why = watch.reason
        if not why and self._network and watch.armed:
            why = f"NetworkFileSystem: what other nodes do on {self._network} is not told to this one"
        if not why:
            return drifted
        old = drifted if drifted is not None else Drifted()
        return Drifted(at=old.at, count=old.count, first=old.first, unwatched=why[:LONGEST_WHY])

    def _changed(self, changed: Changed) -> None:
        """From any thread."""
        told = self._told
        new = told is None or told[0] != changed.watch
        at = rfc3339(self._clock.now_ns()) if told is None or new else told[1].at
        first = tuple(map(brief, changed.first[:FIRST_NAMES]))
        self._told = changed.watch, Drifted(at=at, count=changed.count, first=first)
        self._view.wake()
        if new:
            log.warning("%s: it will be mirrored anew", changed.sentence)
            self._pending = self._identity, changed
            self._found()
