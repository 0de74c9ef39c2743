"""A copy that changes follow to as they come, and its watch: two sessions of this process; messages are counted.

By hand: `python -m tests.support.followed DIRECTORY FIRST LAST` prints what was taken for somebody else's, by seed.
"""

from __future__ import annotations

import os
import random
import stat
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from storagemirror.clock import SystemClock
from storagemirror.fs.journal.others import Changed
from storagemirror.fs.target import TargetVolume
from storagemirror.sync.copywatch import CopyWatch
from storagemirror.sync.requests import MirrorOptions
from storagemirror.sync.target import TargetSession
from storagemirror.sync.watch import TreeWatch, WatchOptions
from storagemirror.terms import EXACT, Terms
from storagemirror.wire.connection import Event
from tests.support.engine import Pair, expectation, joined
from tests.support.livestorm import LinkStorm


class Watched(TargetVolume):
    """A target whose copy is watched."""

    told: list[Changed]
    watch: CopyWatch

    def __init__(self, *words: object) -> None:
        super().__init__(*words)  # type: ignore[arg-type]
        self.told = []
        self.others = self.watch = CopyWatch(self.tree, SystemClock(), self.told.append)

    def close(self) -> None:
        self.watch.close()
        super().close()


@dataclass
class Followed:
    """Mirrored once, and followed."""

    source: Path
    target: Path
    pair: Pair
    seen: TreeWatch
    volume: Watched
    messages: Counter[str] = field(default_factory=Counter)
    """What the target's session was told, by kind."""

    def mirror(self) -> None:
        """Compare everything."""
        self.pair.source.mirror(MirrorOptions(follows=True))

    def follow(self) -> None:
        """Send what has changed."""
        changes = self.seen.drain(0.0)
        self.pair.source.apply(changes)
        self.pair.source.mark(changes.through_ns)

    def others(self) -> set[bytes]:
        """What somebody else has changed on the copy."""
        changed = self.volume.watch.changed()
        return set(changed.first) if changed is not None else set()

    def same(self) -> str:
        """What rsync would still change; by content."""
        words = ["rsync", "-acniHAX", "--delete", "--exclude=/.storagemirror", "--exclude=/lost+found"]
        ends = [f"{self.source}/", f"{self.target}/"]
        return subprocess.run([*words, *ends], check=True, capture_output=True, text=True).stdout


@contextmanager
def followed(source: Path, target: Path, terms: Terms = EXACT) -> Iterator[Followed]:
    """The first mirror has ended."""
    messages: Counter[str] = Counter()
    take = TargetSession._take

    def counting(session: TargetSession, event: Event) -> bool:
        messages[type(event).__name__] += 1
        return take(session, event)

    quick = WatchOptions(quiet=0.001, latency=0.01)
    expect = expectation(max_delete_percent=100)
    TargetSession._take = counting  # type: ignore[method-assign,assignment]
    try:
        with (
            joined(source, target, expect, writes=Watched, terms=terms) as pair,
            TreeWatch(pair.source_volume.tree, quick, selection=pair.source_volume.selection) as seen,
        ):
            seen.start()
            volume = pair.target_volume
            assert isinstance(volume, Watched)
            made = Followed(source, target, pair, seen, volume, messages)
            made.mirror()
            yield made
    finally:
        TargetSession._take = take  # type: ignore[method-assign]


class EverythingStorm(LinkStorm):
    """With large files too, written in place, shifted and punched; flags; special files; and bursts of small ones."""

    def step(self) -> None:
        try:
            if self._random.random() < 0.7:
                super().step()
            else:
                self._random.choice(
                    [self._large] * 3
                    + [self._patch] * 4
                    + [self._insert, self._punch, self._flag, self._socket, self._burst, self._replace_tree]
                    + [self._close_directory]
                )()
        except (OSError, subprocess.CalledProcessError):
            return

    def _root_file(self) -> bytes:
        return os.path.join(self._root, b"large%d" % self._random.randrange(3))

    def _large(self) -> None:
        path = self._random.choice([self._path(), self._root_file()])
        if os.path.lexists(path) and os.stat(path).st_size > 1_000_000:
            return
        with open(path, "wb") as file:
            file.write(self._random.randbytes(self._random.choice([300_000, 3_000_000])))
            file.truncate(self._random.choice([3_000_000, 12_000_000, 40_000_000]))

    def _patch(self) -> None:
        path = self._root_file()
        with open(path, "r+b") as file:
            file.seek(self._random.randrange(os.fstat(file.fileno()).st_size))
            file.write(self._random.randbytes(5_000))

    def _insert(self) -> None:
        path = self._root_file()
        with open(path, "r+b") as file:
            content = file.read(4_000_000)
            file.seek(0)
            file.write(self._random.randbytes(100) + content)

    def _punch(self) -> None:
        subprocess.run(
            ["fallocate", "-p", "-o", "65536", "-l", "131072", self._root_file()], check=True, capture_output=True
        )

    def _close_directory(self) -> None:
        """To its owner too, unless they are privileged."""
        path = self._path()
        if os.path.isdir(path) and not os.path.islink(path):
            os.chmod(path, self._random.choice([0o500, 0o755]))

    def _flag(self) -> None:
        path = self._path()
        subprocess.run(["chattr", self._random.choice(["+d", "-d", "+A", "-A"]), path], check=True, capture_output=True)

    def _socket(self) -> None:
        """Who opens one does not wait for anybody, as with a FIFO."""
        os.mknod(self._path(), stat.S_IFSOCK | 0o600)

    def _burst(self) -> None:
        path = self._path()
        os.mkdir(path)
        for number in range(self._random.choice([10, 900])):
            with open(os.path.join(path, b"n%d" % number), "wb") as file:
                file.write(self._data())

    def _replace_tree(self) -> None:
        path = self._path(2)
        if os.path.isdir(path) and not os.path.islink(path):
            subprocess.run(["rm", "-rf", path], check=True)
            with open(path, "wb") as file:
                file.write(self._data())


def storm(made: Followed, seed: int, bursts: int) -> str:
    """Of everything: what of ours was taken for somebody else's, in which burst; empty: nothing was."""
    chance = random.Random(seed)
    operations = EverythingStorm(os.fsencode(made.source), seed)
    for number in range(bursts):
        operations.run(chance.choice((1, 8, 40)))
        what = "follow" if chance.random() < 0.85 else "mirror"
        if what == "follow":
            made.follow()
        else:
            made.mirror()
            made.follow()
        if made.others() or made.volume.told:
            return f"seed {seed}, burst {number} ({what}): {made.volume.told[0].first[:10]}"
    return ""


def main(base: Path, first: int, last: int) -> int:
    """How many seeds have raised a false alarm."""
    failed = 0
    for seed in range(first, last):
        source, target = base / f"source-{seed}", base / f"target-{seed}"
        source.mkdir()
        target.mkdir()
        with followed(source, target) as made:
            found = storm(made, seed, 60)
        print(found or f"seed {seed}: {dict(made.messages)}", flush=True)
        failed += bool(found)
    return failed


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
