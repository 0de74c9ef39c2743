"""Reading again what may have changed in the very moment when it was read."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass

from xxhash import xxh3_128_digest

from storagemirror.clock import Clock
from storagemirror.entry import NotKeptKind, split
from storagemirror.fs.blocks import digest_of_sums
from storagemirror.fs.source import SourceDirectory, data_extents, unchanged
from storagemirror.sync.deltas import Deltas
from storagemirror.sync.sender import Sender, Unsettled
from storagemirror.wire.content import ContentDigest
from storagemirror.wire.frame import DATA_CHUNK, SMALL_FILE

ROUNDS = 3


@dataclass(slots=True)
class Settler:
    """Goes through what a sender left unsettled, until nothing is left or it has changed each time."""

    sender: Sender
    clock: Clock
    deltas: Deltas | None = None
    """Large files are sent again by these, where the target can: it has what was sent before."""

    def settle(self, *, resend: bool = True) -> None:
        """What is at rest gets its right time. What is not is sent again (`resend`: small files a few times, large
        ones once), or left to the watch that will name it: its last change came after what it was told for.

        What is unsettled after that changes all the time. It is reported, and differs on the target (by a grain of
        its time) until a later look finds it at rest."""
        for number in range(ROUNDS):
            open_ = [path for path, file in self.sender.unsettled.items() if self._due(file, number, resend=resend)]
            if not open_:
                break
            self._wait()
            for path in sorted(open_):
                self._one(path, self.sender.unsettled.pop(path), resend=resend)
            if self.deltas is not None:
                for path in sorted(self.deltas.send()):
                    self.sender.directory_attributes(path)
            self.sender.flush()
        if resend:
            for path in sorted(self.sender.unsettled):
                self.sender.report(NotKeptKind.CHANGING, path)

    @staticmethod
    def _due(file: Unsettled, number: int, *, resend: bool) -> bool:
        if file.digest:
            return True
        return resend and (number == 0 or file.found.st_size <= SMALL_FILE)

    def _wait(self) -> None:
        """Until no change of these files can have the time they were read with."""
        newest = max(file.found.st_ctime_ns for file in self.sender.unsettled.values())
        grain = self.sender.volume.grain_ns
        left = newest + grain - self.clock.now_ns()
        if left > 0:
            self.clock.sleep(min(left, grain + 1) / 1e9)

    def _one(self, path: bytes, file: Unsettled, *, resend: bool) -> None:
        parent, name = split(path)
        sender = self.sender
        try:
            with sender.volume.directory(parent, sender.view, sender.report) as directory:
                found = directory.lstat(name)
                if not stat.S_ISREG(found.st_mode):
                    return  # it is something else by now: the next change or comparison sees that
                if file.digest and unchanged(file.found, found) and self._digest(directory, name, file) == file.digest:
                    sender.settle(path, found)
                    return
                if not resend:
                    sender.unsettled[path] = Unsettled(b"", found)
                    return
                if self.deltas is not None and self.deltas.able and min(found.st_size, file.found.st_size) > SMALL_FILE:
                    self.deltas.add(path, found.st_size)
                    return
                sender.enter(parent, fresh=False)
                sender.file(directory, name)
                sender.leave(directory.attributes())
        except OSError:
            return  # gone: likewise

    @staticmethod
    def _digest(directory: SourceDirectory, name: bytes, file: Unsettled) -> bytes:
        fd, found = directory.open_file(name)
        try:
            if found.st_size <= SMALL_FILE:
                return xxh3_128_digest(directory.read_small(fd, found, name).data)
            if file.blocks:
                return digest_of_sums(fd, found.st_size)
            digest = ContentDigest()
            for begin, end in data_extents(fd, found.st_size):
                at = begin
                while at < end:
                    data = os.pread(fd, min(DATA_CHUNK, end - at), at)
                    if not data:
                        return b""
                    digest.add(at, data)
                    at += len(data)
        finally:
            os.close(fd)
        return digest.digest()
