"""What of a session is on the target's disk, and what the volume itself says about that.

Files are not synced one by one: the whole file system is, at each mark after a change, every `CHECKPOINT_SECONDS`, and
at the end. Marks and checkpoints are beside all else: syncing may take long, and what arrives need not wait for it. The
marker tells whose copy this is, and whether it was left in good order.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable

import msgspec

from storagemirror.clock import Clock
from storagemirror.errors import StorageMirrorError
from storagemirror.fs.marker import Marker
from storagemirror.fs.target import TargetVolume
from storagemirror.sync.admission import Admitted
from storagemirror.sync.applier import Applier
from storagemirror.sync.deletions import Deletions

CHECKPOINT_SECONDS = 30.0
"""While a mirror runs the target is synced this often, so that a crash costs no more than that."""
REMEMBER_NS = 5_000_000_000
"""While nothing changes, the volume's own word on what is durable is at most so old."""


class Durability:
    """Of one session that was let in; for its thread."""

    def __init__(
        self, volume: TargetVolume, admitted: Admitted, applier: Applier, deletions: Deletions, clock: Clock
    ) -> None:
        self._volume = volume
        self._stored = admitted.stored
        self._marker = admitted.marker
        self._written = admitted.stored == admitted.marker
        self._applier = applier
        self._deletions = deletions
        self._clock = clock
        synced = admitted.synced
        self._through_ns = self._remembered_ns = synced.through_ns if synced is not None else 0
        self._synced = clock.monotonic()
        self._syncing: threading.Thread | None = None
        self._not_durable: StorageMirrorError | None = None

    def before_change(self) -> None:
        """Before the first change: the volume says whose it is, and that it may not be all on the disk."""
        if not self._written:
            self._write(self._marker)

    def compared(self, entries: int) -> None:
        """A full comparison has ended: the source has so many entries."""
        lifetime = self._volume.lifetime
        marker = msgspec.structs.replace(self._marker, entries=entries, boot=lifetime.boot, mount=lifetime.mount)
        if not self._says_already(marker):
            self._write(marker)

    def begin_mark(self, through_ns: int | None, ended: Callable[[], None]) -> None:
        """Begin to make all durable that has come up to now; the source's time up to which it has come whole, None: as
        before. `ended` is called when that is over, maybe from another thread, maybe at once; then call `end_mark`.
        What comes meanwhile is for the next mark. Raises as `end_mark`, for a sync that ran before."""
        if through_ns is not None:
            self._through_ns = through_ns
        self._end_syncing()
        if self._applier.changed or self._volume.unsynced:
            self._applier.changed = False
            self._begin_syncing(ended)
            return
        if abs(self._through_ns - self._remembered_ns) >= REMEMBER_NS:
            self._remember()
        ended()

    def end_mark(self) -> None:
        """The mark that was begun is over, or is waited for. `VolumeError` and `VolumeFull` when the disk refused."""
        self._end_syncing()
        self._synced = self._clock.monotonic()

    def applied(self, through_ns: int) -> None:
        """A point was applied, and all is on the disk: the volume remembers that, and up to when it has everything.
        Raises as `end_mark`."""
        self._applier.changed = True
        self.begin_mark(through_ns, lambda: None)
        self.end_mark()

    def maybe_checkpoint(self) -> None:
        """Begin to sync where that is due. Raises as `end_mark`, for a sync that ran before."""
        if self._not_durable is not None:
            self._end_syncing()
        if self._clock.monotonic() - self._synced < CHECKPOINT_SECONDS or not self._applier.changed:
            return
        if self._syncing is None or not self._syncing.is_alive():
            self._begin_syncing(lambda: None)

    def finish(self) -> None:
        """The session is over: leave all in order."""
        if not self._written:
            if self._through_ns != self._remembered_ns:
                self._remember()
            return
        self._end_syncing()
        if self._applier.changed or self._volume.unsynced:
            self._begin_syncing(lambda: None)
            self._end_syncing()
        elif self._through_ns != self._remembered_ns:
            self._remember()
        if self._marker.open and self._volume.distrust_after_ns is None:
            self._write(msgspec.structs.replace(self._marker, open=False))

    def join(self) -> None:
        """Wait for a sync that runs."""
        if self._syncing is not None:
            self._syncing.join()

    def _says_already(self, marker: Marker) -> bool:
        """Whether the volume's own marker need not be written for this one."""
        if self._written:
            return marker == self._marker
        return self._stored is not None and msgspec.structs.replace(marker, open=self._stored.open) == self._stored

    def _write(self, marker: Marker) -> None:
        self._volume.write_marker(marker)
        self._marker = marker
        self._written = True

    def _remember(self) -> None:
        """Nothing has changed since the last sync: it covers more of the source's time by now. An agent that comes
        after this one knows it from the volume, when there may be no source left to say it."""
        with contextlib.suppress(StorageMirrorError):
            self._volume.remember(self._through_ns)
        self._remembered_ns = self._through_ns

    def distrust(self) -> None:
        """A sync has failed. The kernel says once that something could not be written, and may then have dropped it: it
        looks whole, and the next sync succeeds. As after a crash, then: the next session sends again what came since
        the last sync."""
        with contextlib.suppress(StorageMirrorError):
            self._write(msgspec.structs.replace(self._marker, boot="", mount=None, open=True))

    def _begin_syncing(self, ended: Callable[[], None]) -> None:
        self._synced = self._clock.monotonic()
        through_ns, deletions = self._through_ns, self._deletions
        told = (through_ns, deletions.deleted, deletions.there_to_lose)

        def run() -> None:
            try:
                self._volume.sync(*told)
                self._remembered_ns = through_ns
            except StorageMirrorError as e:
                self._not_durable = e  # raised by the session's own thread
            finally:
                ended()

        self._syncing = threading.Thread(target=run, name="sync", daemon=True)
        self._syncing.start()

    def _end_syncing(self) -> None:
        """Wait for one that runs: two at a time would each write what they knew when they began."""
        self.join()
        self._syncing = None
        if self._not_durable is not None:
            self.distrust()
            raise self._not_durable
