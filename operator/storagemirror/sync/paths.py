"""Lists of paths, cut so that each part fits a frame."""

from __future__ import annotations

_PATHS_IN_FRAME = 1_000
_BYTES_IN_FRAME = 512 * 1024


def frames_of(paths: list[bytes]) -> list[list[bytes]]:
    """Cut into lists that fit a frame."""
    frames: list[list[bytes]] = []
    size = _BYTES_IN_FRAME
    for path in paths:
        size += len(path) + 8
        if size >= _BYTES_IN_FRAME or len(frames[-1]) >= _PATHS_IN_FRAME:
            frames.append([])
            size = len(path)
        frames[-1].append(path)
    return frames
