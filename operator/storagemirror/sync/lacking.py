"""What a target's session knows and tells of what its volume could not keep, inode flags among it."""

from __future__ import annotations

import contextlib

import msgspec

from storagemirror.entry import NotKeptKind
from storagemirror.errors import StorageMirrorError
from storagemirror.fs.scan import Report
from storagemirror.fs.shortfall import Lack
from storagemirror.fs.target import TargetVolume
from storagemirror.sync.admission import Admitted
from storagemirror.sync.applier import Applier
from storagemirror.sync.flagger import set_all
from storagemirror.wire import messages as m

_REMEMBER_NS = 600_000_000_000
"""Where nothing changes: what the source changed within so long is looked at for flags in each mirror."""


class Lacking:
    """Of one session that was let in; for its thread."""

    def __init__(self, volume: TargetVolume, applier: Applier, admitted: Admitted, report: Report) -> None:
        self._volume = volume
        self._applier = applier
        self._pair_uid, self._source = admitted.marker.pair_uid, admitted.marker.source
        self._report = report
        self.told_through_ns = 0
        stored = admitted.stored
        lacks = volume.shortfall
        if stored is None or stored.promoted is not None or stored.pair_uid != self._pair_uid:
            # A volume that was empty has no flags; one that was another's, or lived, may have any.
            lacks.flagged = admitted.has_entries
        else:
            lacks.read(volume.ours, self._pair_uid, self._source)
        if volume.distrust_after_ns is not None:
            lacks.flags_through_ns = 0  # a crash may have lost flags that were set
        volume.locks.active = lacks.flagged

    def told(self, welcome: m.Welcome) -> m.Welcome:
        """With what the source must know of flags, and of space."""
        lacks = self._volume.shortfall
        space = self._volume.facts()
        return msgspec.structs.replace(
            welcome,
            flags_through_ns=lacks.flags_through_ns,
            flagged=lacks.flagged,
            capacity=space.size,
            free=space.free,
        )

    def flags(self, message: m.Flags) -> None:
        """Set them."""
        self._applier.changed = True
        lacks = self._volume.shortfall
        if not lacks.flagged:
            # Written before the first flag is set: a later session must know that there may be some.
            lacks.flagged = self._volume.locks.active = True
            try:
                lacks.write(self._volume.ours, self._pair_uid, self._source)
            except OSError as e:
                lacks.flagged = False
                for entry in message.entries:
                    self._applier.fail(entry.path, e)
                return
        set_all(self._volume, message, self._report, self._applier.fail)

    def end_mirror(self, *, whole: bool) -> None:
        """Locks are given back; after a mirror of everything what is lacking is told again, and written down."""
        self._volume.locks.give_back()
        if not whole:
            return
        lacks = self._volume.shortfall
        for where in (lacks.attributes, lacks.links, lacks.flags):
            self._tell(where)
        if self._applier.failed:
            return
        if self._applier.changed or self.told_through_ns - lacks.flags_through_ns > _REMEMBER_NS:
            lacks.flags_through_ns = self.told_through_ns
        self._write()

    def _tell(self, where: dict[bytes, Lack]) -> None:
        for path, lack in list(where.items()):
            try:
                gone = self._volume.tree.lstat(path) is None
            except (OSError, StorageMirrorError):
                gone = False
            if gone:
                del where[path]
                continue
            for kind in lack.kinds:
                self._report(NotKeptKind(kind), path)

    def _write(self) -> None:
        with contextlib.suppress(OSError):  # it costs one attempt more
            self._volume.shortfall.write(self._volume.ours, self._pair_uid, self._source)
