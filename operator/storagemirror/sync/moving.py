"""The target's part in renames: it looks whether what it has is what was renamed, and only then renames it."""

from __future__ import annotations

import os

from storagemirror.entry import split
from storagemirror.errors import BadInput, VolumeFull
from storagemirror.fs.contents import file_digest, tree_digest
from storagemirror.fs.target import TargetVolume
from storagemirror.sync.deletions import Deletions
from storagemirror.wire import messages as m


def move_all(volume: TargetVolume, deletions: Deletions, moves: m.Moves) -> m.Moved:
    """Rename what can be; what cannot the source sends."""
    return m.Moved(moves.number, [_move(volume, deletions, move) for move in moves.moves])


def _move(volume: TargetVolume, deletions: Deletions, move: m.Move) -> bool:
    try:
        if volume.tree.lstat(move.new) is not None or not deletions.orphans.may_rename(move.old, move.new):
            return False
        if _digest(volume, move) != move.digest:
            return False
        os.close(volume.enter(split(move.new)[0])[0])
        return deletions.rename(move.old, move.new)
    except (OSError, BadInput, VolumeFull):
        return False


def _digest(volume: TargetVolume, move: m.Move) -> bytes:
    if move.directory:
        return tree_digest(volume.scanner(volume.view), move.old)
    parent, name = split(move.old)
    directory = volume.directory(parent)
    try:
        return file_digest(directory, move.old, name)
    finally:
        os.close(directory)
