"""A guard that is killed at a chosen step: run as its program, with DIE_AT=`step:when`, once the file DIE_AFTER exists.

`step` is write_note, freeze, thaw or remove_note; `when` is before or after it.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from storagemirror.agent.guard_parts import Volume
from storagemirror.agent.guard_shared import Shared
from storagemirror.cli.main import main


def deadly(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
    """`call`, which ends this process when its time has come."""
    step, when = os.environ["DIE_AT"].split(":")

    def called(*args: Any, **options: Any) -> Any:
        now = name == step and os.path.exists(os.environ["DIE_AFTER"])
        if now and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = call(*args, **options)
        if now:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    return called


if __name__ == "__main__":
    for kind, names in ((Volume, ("freeze", "thaw")), (Shared, ("write_note", "remove_note"))):
        for name in names:
            setattr(kind, name, deadly(name, getattr(kind, name)))
    sys.exit(main())
