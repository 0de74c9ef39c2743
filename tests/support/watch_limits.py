"""Run in a user namespace of its own, where limits on watches are nobody else's: `watch_limits instances|watches DIR`.

Prints what a watch did when the limit came, as JSON.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from storagemirror.fs.tree import Tree
from storagemirror.sync.watch import TreeWatch, WatchOptions
from tests.support.treemodel import Copy

LIMITS = Path("/proc/sys/user")


def main(kind: str, root: Path) -> dict[str, object]:
    """`instances`: none is to be had from the beginning; `watches`: they run out when a directory is made."""
    if kind == "instances":
        (LIMITS / "max_inotify_instances").write_text("0")
    volume = Tree(str(root))
    copy = Copy(os.path.realpath(os.fsencode(root)))
    with TreeWatch(volume, WatchOptions(quiet=0.005, latency=0.05, scan_every=0.2)) as watch:
        watch.start()
        copy.scan()
        found: dict[str, object] = {"before": watch.capture, "nothing_yet": not watch.drain(0.0)}
        if kind == "watches":
            (LIMITS / "max_inotify_watches").write_text(str(watch.watches))
            (root / "one/too/many").mkdir(parents=True)
            copy.apply(watch.drain(1.0))
        (root / "new").write_text("x")
        first = watch.drain(1.0)
        copy.apply(first)
        truth = Copy(copy.root)
        truth.scan()
        waiting = watch.drain(0.0)
        return found | {
            "after": watch.capture,
            "reason": watch.reason,
            "whole": first.whole,
            "equal": copy.entries == truth.entries,
            "time_stands": not waiting and waiting.through_ns == first.through_ns,
        }


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], Path(sys.argv[2]))))
