"""While a volume is brought home: nobody's last copy is overwritten because nothing showed that it was one.

What the old side wrote is found by size, time and attributes. A file whose content alone is another is not found so:
the proof by checksum finds it later, and the live side's is sent in its place. It shows by what comes: a file of the
same size and time as the one that lies here, which has not been changed since what deviates was kept aside. Then it is
kept aside as well.
"""

from __future__ import annotations

import os
import stat

import msgspec

from storagemirror.contract import RestoreOrder
from storagemirror.entry import split
from storagemirror.fs.aside import Aside
from storagemirror.fs.kept import first_names, record_of
from storagemirror.fs.target import TargetVolume


class Sparing:
    """Of one session under a restore order, once what deviates was kept; for its thread."""

    def __init__(self, volume: TargetVolume, order: RestoreOrder) -> None:
        self._volume = volume
        self._epoch = order.epoch
        record = record_of(volume, order.epoch)
        self._before_ns = record.at_ns if record is not None else 0
        self._aside = Aside(volume, order.epoch)
        self._spared = False

    def close(self) -> None:
        """Let go of everything."""
        self._aside.close()

    def spare(self, fd: int, path: bytes, name: bytes, size: int, mtime_ns: int) -> None:
        """Before a file of this size and time takes the place of `name` in the directory `fd` at `path`. OSError,
        `VolumeError`, `VolumeFull`: then it must not."""
        try:
            found = os.stat(name, dir_fd=fd, follow_symlinks=False)
        except FileNotFoundError:
            return
        grain = self._volume.view.time_grain_ns
        same = stat.S_ISREG(found.st_mode) and found.st_size == size and found.st_mtime_ns // grain == mtime_ns // grain
        if same and found.st_ctime_ns < self._before_ns:
            self._aside.keep(fd, path, name)
            self._spared = True

    def spare_at(self, path: bytes, size: int, mtime_ns: int) -> None:
        """The same for a file by its path."""
        directory, name = split(path)
        try:
            fd = self._volume.tree.open_directory(directory)
        except FileNotFoundError:
            return
        try:
            self.spare(fd, directory, name, size, mtime_ns)
        finally:
            os.close(fd)

    def tell(self) -> bool:
        """Count what was spared since the last call; whether there was any. OSError, `VolumeError`, `VolumeFull`."""
        record = record_of(self._volume, self._epoch) if self._spared else None
        if record is None:
            return False
        tally = self._aside.tally()
        told = msgspec.structs.replace(
            record, entries=tally.entries, bytes=tally.content_bytes, first=first_names(tally)
        )
        self._aside.write_record(told)
        self._spared = False
        return True
