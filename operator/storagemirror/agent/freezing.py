"""What the source's agent tells of its guard: whether the volume can be frozen, and if not, why."""

from __future__ import annotations

import logging
import threading

from storagemirror.agent.view import View
from storagemirror.contract import Freezing
from storagemirror.errors import StorageMirrorError
from storagemirror.sync.freezing import CannotFreeze, GuardFreezer, NotFrozen

log = logging.getLogger("storagemirror.agent")

LOOK_SECONDS = 5.0


def watch_guard(socket: str, view: View, stop: threading.Event) -> None:
    """Ask the guard that listens at `socket` again and again, for a thread of its own: it may hang."""
    freezer = GuardFreezer(socket)
    known: Freezing | None = None
    while not stop.is_set():
        found = ask(freezer)
        if found != known:
            log.info("the volume can be frozen" if found.able else f"not frozen: {found.reason}: {found.message}")
        known = found
        view.see(freezing=found)
        stop.wait(LOOK_SECONDS if found.able else LOOK_SECONDS / 5)
    freezer.close()


def ask(freezer: GuardFreezer) -> Freezing:
    """One question."""
    try:
        freezer.check()
    except (NotFrozen, CannotFreeze) as e:
        return told(e)
    return Freezing(able=True)


def told(error: StorageMirrorError) -> Freezing:
    """Why it cannot, as it is reported."""
    return Freezing(able=False, reason=error.reason, message=error.message)
