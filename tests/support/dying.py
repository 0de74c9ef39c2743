"""An agent that is killed at a chosen call of the kernel: run as its program, with DIE_AT=`name:number:when`.

`name` is what `storagemirror.fs.marker` calls on the volume (open, fsync, rename), or another of its modules
(`manifest.open`, `aside.rename` ...), or `syncfs`; `number` counts such calls from the moment at which the file
DIE_AFTER appears; `when` is before or after the call.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from storagemirror.cli.main import main
from storagemirror.fs import aside, manifest, marker, target, unshare


def deadly(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
    """`call`, which ends this process when its time has come."""
    wanted, number, when = os.environ["DIE_AT"].split(":")
    left = [int(number)]

    def called(*args: Any, **options: Any) -> Any:
        if name != wanted or not os.path.exists(os.environ["DIE_AFTER"]):
            return call(*args, **options)
        left[0] -= 1
        if left[0] == 0 and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = call(*args, **options)
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    return called


if __name__ == "__main__":
    names = {name: getattr(os, name) for name in dir(os)}
    for module, prefix in ((marker, ""), (manifest, "manifest."), (aside, "aside."), (unshare, "unshare.")):
        calls = {name: deadly(prefix + name, names[name]) for name in ("open", "fsync", "rename", "mkdir", "unlink")}
        module.os = SimpleNamespace(**{**names, **calls})  # type: ignore[attr-defined]
    target.syncfs = deadly("syncfs", target.syncfs)  # type: ignore[attr-defined]
    sys.exit(main())
