"""Run in a user namespace of its own, where limits on watches are nobody else's.

`copywatch_limits instances|watches DIR` prints what a watch of a copy did when the limit came, as JSON.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from storagemirror.clock import SystemClock
from storagemirror.fs.tree import Tree
from storagemirror.sync.copywatch import CopyWatch

LIMITS = Path("/proc/sys/user")


def main(kind: str, root: Path) -> dict[str, object]:
    """`instances`: none is to be had from the beginning; `watches`: they run out when a directory is made."""
    if kind == "instances":
        (LIMITS / "max_inotify_instances").write_text("0")
    watch = CopyWatch(Tree(str(root)), SystemClock(), lambda changed: None)
    watch.arm(None)
    before = watch.armed
    if kind == "watches":
        (LIMITS / "max_inotify_watches").write_text(str(watch.watches))
        (root / "one/too/many").mkdir(parents=True)
    changed = watch.changed()
    quiet = watch.quiet_seconds()
    found = {"before": before, "after": watch.armed, "reason": watch.reason, "quiet": quiet}
    return found | {"first": [name.decode() for name in changed.first] if changed is not None else []}


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], Path(sys.argv[2]))))
