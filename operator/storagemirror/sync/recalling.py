"""The source's answer when a target asks what its volume held when it was promoted."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator

from storagemirror.entry import Origin, View
from storagemirror.fs import manifest
from storagemirror.fs.manifest import Manifest, Part
from storagemirror.fs.source import SourceVolume
from storagemirror.wire import messages as m

log = logging.getLogger("storagemirror.agent")


def origin_of(volume: SourceVolume) -> Origin | None:
    """What the volume says of itself, where it was a copy and was made live."""
    marker = volume.marker()
    if marker is None or marker.promoted is None:
        return None
    return Origin(marker.pair_uid, marker.volume, marker.promoted, marker.source)


def recall(volume: SourceVolume, epoch: int, view: View, send: Callable[[m.Message], None]) -> None:
    """Tell what the volume held at its promotion at `epoch`; where that is not known, what it holds now, in `view`.

    OSError when the volume cannot be read."""
    found = _find(volume, epoch)
    if found is None:
        log.warning("what this volume held when it was promoted at epoch %d is not known any more", epoch)
        send(m.Manifest(epoch, False, view))
        _tell(manifest.parts_of(manifest.scanner(volume.tree, view), changing=True), send)
        return
    try:
        send(m.Manifest(epoch, True, found.header.view))
        _tell(found.parts(), send)
    finally:
        found.close()


def _find(volume: SourceVolume, epoch: int) -> Manifest | None:
    origin = origin_of(volume)
    state = volume.open_state() if origin is not None else None
    if origin is None or state is None:
        return None
    try:
        return manifest.find(state, origin.pair_uid, origin.volume, epoch)
    finally:
        os.close(state)


def _tell(parts: Iterator[Part], send: Callable[[m.Message], None]) -> None:
    directories = 0
    for part in parts:
        send(m.ManifestPart(part.path, part.attributes, part.entries, part.last))
        directories += part.last
    send(m.ManifestEnd(directories))
