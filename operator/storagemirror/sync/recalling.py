"""The source's answer when a target asks what its volume held when it was promoted.

First a digest of each directory; then, of those that the target has otherwise, all entries. It is read twice, so that
no more than one directory is held; of a volume without a manifest what is there may be another thing the second time.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Generator, Iterator
from contextlib import closing

from storagemirror.entry import Origin, View, printable, walk_key
from storagemirror.errors import ProtocolError
from storagemirror.fs import manifest
from storagemirror.fs.manifest import Digest, Manifest, Part
from storagemirror.fs.source import SourceVolume
from storagemirror.wire import messages as m

log = logging.getLogger("storagemirror.agent")

_DIRECTORIES = 2_000
_BYTES_IN_FRAME = 512 * 1024


def origin_of(volume: SourceVolume) -> Origin | None:
    """What the volume says of itself, where it was a copy and was made live."""
    marker = volume.marker()
    if marker is None or marker.promoted is None:
        return None
    return Origin(marker.pair_uid, marker.volume, marker.promoted, marker.source)


class Recalling:
    """Of one session; for its thread. `tell_all`, then `tell_wanted`. OSError when the volume cannot be read."""

    def __init__(self, volume: SourceVolume, epoch: int, view: View, send: Callable[[m.Message], None]) -> None:
        """`view` is for a volume that does not know what it held at `epoch`: what it holds now is told."""
        self._volume = volume
        self._epoch = epoch
        self._view = view
        self._send = send

    def tell_all(self) -> None:
        """The digests of all directories."""
        batch: list[m.ManifestDigest] = []
        size = 0
        with closing(self._digests()) as digests:  # a peer that breaks off leaves no file of ours open
            for told in digests:
                batch.append(told)
                size += len(told.path) + 48
                if len(batch) >= _DIRECTORIES or size >= _BYTES_IN_FRAME:
                    self._send(m.ManifestDigests(batch))
                    batch, size = [], 0
        self._send(m.ManifestDigests(batch, last=True))

    def _digests(self) -> Generator[m.ManifestDigest]:
        found = self._find()
        known = found is not None
        if not known:
            log.warning("what this volume held when it was promoted at epoch %d is not known any more", self._epoch)
        self._send(m.Manifest(self._epoch, known, found.header.view if found is not None else self._view))
        digest = Digest()
        with closing(self._parts(found)) as parts:
            for part in parts:
                digest.add(part.entries)
                if part.last:
                    yield m.ManifestDigest(part.path, part.attributes, digest.digest(), digest.entries)
                    digest = Digest()

    def tell_wanted(self, wanted: Callable[[], m.ManifestWant]) -> None:
        """All entries of the directories that the target names; `wanted` waits for the next list. One that has gone
        meanwhile is empty. `ProtocolError` when one was not told, or is wanted out of order."""
        found = self._find()
        with closing(self._parts(found)) as parts:
            self._tell_parts(parts, wanted, known=found is not None)
        self._send(m.ManifestEnd())

    def _tell_parts(self, parts: Iterator[Part], wanted: Callable[[], m.ManifestWant], *, known: bool) -> None:
        at = next(parts, None)
        last = False
        while not last:
            answer = wanted()
            last = answer.last
            for path in answer.directories:
                key = walk_key(path)
                while at is not None and walk_key(at.path) < key:
                    at = next(parts, None)
                if at is None or at.path != path:
                    if known:
                        raise ProtocolError(f"the directory {printable(path)} is wanted, and was not told before")
                    self._send(m.ManifestPart(path, []))
                while at is not None and at.path == path:
                    self._send(m.ManifestPart(path, at.entries, at.last))
                    at = next(parts, None)

    def _parts(self, found: Manifest | None) -> Generator[Part]:
        if found is None:
            scanner = manifest.scanner(self._volume.tree, self._view, selection=self._volume.selection)
            yield from manifest.parts_of(scanner, changing=True)
            return
        try:
            yield from found.parts()
        finally:
            found.close()

    def _find(self) -> Manifest | None:
        origin = origin_of(self._volume)
        state = self._volume.open_state() if origin is not None else None
        if origin is None or state is None:
            return None
        try:
            return manifest.find(state, origin.pair_uid, origin.volume, self._epoch)
        finally:
            os.close(state)
