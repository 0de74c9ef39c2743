"""Random operations, a watch, two sessions, and after each burst a comparison that is not ours.

By hand: `python -m tests.support.livestorm DIRECTORY FIRST LAST [links]` prints what differs for which seed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from storagemirror.sync.watch import TreeWatch, WatchOptions
from tests.support.engine import expectation, joined
from tests.support.treemodel import Storm

SAME = ["rsync", "-anciHAX", "--delete", "--exclude=/.storagemirror"]


class CloseStorm(Storm):
    """Without files that stay open: what is written through a name that is gone is told to nobody."""

    def _hold(self) -> None:
        """Not here."""


class LinkStorm(CloseStorm):
    """With hard links, attributes and owners too."""

    def step(self) -> None:
        pick = self._random.random()
        try:
            if pick < 0.15:
                os.link(self._path(), self._path(), follow_symlinks=False)
            elif pick < 0.2:
                os.setxattr(self._path(), b"user.x", self._data(), follow_symlinks=False)
            elif pick < 0.25:
                os.chown(self._path(), self._random.randrange(5), 7, follow_symlinks=False)
            else:
                super().step()
        except OSError:
            return


def differences(base: Path, storm: type[Storm], seed: int, *, bursts: int = 30) -> str:
    """What rsync would still change after some burst; empty when nothing, after any."""
    source, target = base / "source", base / "target"
    source.mkdir(parents=True)
    target.mkdir()
    quick = WatchOptions(quiet=0.001, latency=0.01)
    with (
        joined(source, target, expectation(max_delete_percent=100)) as pair,
        TreeWatch(pair.source_volume.tree, quick) as watch,
    ):
        watch.start()
        pair.mirror()
        operations = storm(os.fsencode(source), seed)
        for number in range(bursts):
            operations.run(8)
            changes = watch.drain(0.0)
            pair.source.apply(changes)
            pair.source.mark(changes.through_ns)
            if found := _differ(source, target):
                return f"seed {seed}, burst {number}: {found}after {changes}"
        return ""


def _differ(source: Path, target: Path) -> str:
    return subprocess.run([*SAME, f"{source}/", f"{target}/"], check=True, capture_output=True, text=True).stdout


def main(base: Path, first: int, last: int, storm: type[Storm]) -> int:
    """Number of seeds that differ."""
    failed = 0
    for seed in range(first, last):
        directory = base / f"storm-{seed}"
        found = differences(directory, storm, seed)
        failed += bool(found)
        if found:
            print(found, flush=True)
        shutil.rmtree(directory)
    print(f"{failed} of {last - first} seeds differ")
    return failed


if __name__ == "__main__":
    kind = LinkStorm if "links" in sys.argv else CloseStorm
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), kind) > 0)
