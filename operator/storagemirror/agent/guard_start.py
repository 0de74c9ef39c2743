"""How a guard begins: it thaws what a guard before it left frozen, and tries whether the volume can be frozen at all.

A note says that a guard of this pod froze the volume and did not come to thaw it: it is thawed at once. A volume that
is frozen without a note may have been left so by the guard of a pod that is gone with all it had, or be frozen by
another tool for its own good reason. Nobody can tell, so it is given time; then it is thawed, for an application that
stands still for ever is worse than a backup that failed and says so.

The trial is a freeze that is thawed at once: it alone proves that we may and can. It comes after a sync, so that it is
short, and it finds a freeze without ending it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

from storagemirror.agent.guard_parts import Volume, Wake
from storagemirror.agent.guard_shared import POINT, Shared
from storagemirror.errors import VolumeError
from storagemirror.fs.freeze import Answer, Outcome

_LOOK_SECONDS = 0.25
_TRIAL_SECONDS = 2.0

PASSING, LASTING = "passing", "lasting"
NOT_READY = "GuardNotReady"
NOT_PERMITTED = "FreezeNotPermitted"
BY_ANOTHER = "FrozenByAnother"
FAILED = "FreezeFailed"


class Ability(NamedTuple):
    """Whether the volume can be frozen; if not, whether that passes, and why."""

    able: bool
    kind: str = PASSING
    reason: str = NOT_READY
    text: str = "the guard is about to begin"


ABLE = Ability(True, text="")


class Start:
    """The beginning of one guard. For the worker's thread: each of its calls may hang. `stranger_seconds` is how long a
    freeze that nobody explains is left alone."""

    def __init__(
        self, volume: Volume, shared: Shared, wake: Wake, say: Callable[[str], None], stranger_seconds: float
    ) -> None:
        self._volume = volume
        self._shared = shared
        self._wake = wake
        self._say = say
        self._stranger_seconds = stranger_seconds
        self.seen = Ability(False)
        """What is known so far."""

    def rescue(self) -> Answer:
        """Thaw what a guard of this pod left frozen. FAILED when it may be frozen still."""
        note = self._shared.read_note()
        if note is None:
            return Answer(Outcome.DONE)
        if note.kind != POINT:
            self._say(f"the volume is frozen for a reason that this guard does not know ({note.kind!r}): left so")
            return Answer(Outcome.FAILED)
        answer = self._volume.thaw()
        if answer.outcome is Outcome.DONE:
            self._say("thawed the volume, which the guard before this one had left frozen")
        elif answer.outcome is not Outcome.NOT_FROZEN:
            self._say(f"cannot thaw what the guard before this one froze: {answer.text}")
            return answer
        self._shared.remove_note()
        return Answer(Outcome.DONE)

    def look(self) -> Answer:
        """Thaw what was left frozen, then see whether it can be frozen: `seen`. For the worker."""
        answer = self.rescue()
        if answer.outcome is Outcome.DONE:
            self.seen = self._ability()
        else:
            self.seen = Ability(False, PASSING, BY_ANOTHER, f"the volume is left frozen: {answer.text}")
        return answer

    def _ability(self) -> Ability:
        try:
            self._volume.check_own()
        except VolumeError as e:
            return Ability(False, LASTING, e.reason, e.message)
        self._volume.sync()
        first = time.monotonic()
        while not self._wake.ending:
            answer = self._trial()
            if answer.outcome is Outcome.DONE:
                return ABLE
            if answer.outcome is Outcome.NOT_PERMITTED:
                return Ability(False, LASTING, NOT_PERMITTED, f"cannot freeze {self._volume.path}: {answer.text}")
            if answer.outcome is Outcome.NOT_SUPPORTED:
                return Ability(False, LASTING, "FilesystemCannotFreeze", f"{self._volume.path}: {answer.text}")
            if answer.outcome is not Outcome.ALREADY_FROZEN:
                return Ability(False, PASSING, FAILED, f"cannot freeze {self._volume.path}: {answer.text}")
            self.seen = Ability(False, PASSING, BY_ANOTHER, "the volume was frozen already when the guard began")
            if time.monotonic() - first > self._stranger_seconds:
                self._thaw_stranger()
                first = time.monotonic()
            time.sleep(_LOOK_SECONDS)
        return Ability(False, PASSING, NOT_READY, "the guard is ending")

    def _trial(self) -> Answer:
        try:
            self._shared.write_note(_TRIAL_SECONDS)
        except OSError as e:
            return Answer(Outcome.FAILED, e.errno or 0)
        answer = self._volume.freeze()
        if answer.outcome is Outcome.DONE:
            thawed = self._volume.thaw()
            if thawed.outcome not in (Outcome.DONE, Outcome.NOT_FROZEN):
                return thawed  # with the note: whoever begins next thaws it
        self._shared.remove_note()
        return answer

    def _thaw_stranger(self) -> None:
        answer = self._volume.thaw()
        self._say(
            f"the volume was frozen when this guard began, and for {self._stranger_seconds:.1f} s since, by nobody who "
            f"is known: thawed ({answer.text})"
        )
