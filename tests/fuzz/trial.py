"""One trial: one role, one session over a real volume, one hostile script; and the verdict.

What may come out is an error of `storagemirror.errors`, or nothing. A finding is anything else: another exception, in
whatever thread; a session that does not end in time, or leaves a thread behind; something changed outside of the
volume.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from storagemirror.contract import Role
from storagemirror.errors import StorageMirrorError
from storagemirror.fs.source import SourceVolume
from storagemirror.fs.target import TargetVolume
from storagemirror.sync.recalling import origin_of
from storagemirror.sync.source import SourceSession, hello
from storagemirror.sync.target import TargetSession
from storagemirror.wire.connection import Connection
from storagemirror.wire.content import Pack
from storagemirror.wire.moves import MOVES, TRIGGERS
from tests.fuzz import canary
from tests.fuzz.frames import Frame, Frames, conversation
from tests.fuzz.recorded import Session
from tests.fuzz.script import Script
from tests.fuzz.values import PLAIN_PATHS, Values
from tests.support.engine import PAIR, VOLUME, Recorder

SECONDS = 20.0
"""A session that takes longer hangs."""
_VOLUMES = ("volume",)
_TRIALS_PER_VOLUME = 25


class Found(AssertionError):
    """Something that must not be."""


class Hang(Found):
    """A session that does not end: what comes after it in this process says nothing."""


@dataclass
class Ground:
    """Where trials are made: a volume, and the canary beside it. The volume is set up anew now and then: what an
    earlier script left in it is what a later one meets."""

    base: Path
    _seen: canary.Look = field(default_factory=dict)
    _from: str = ""
    _used: int = 0

    def __post_init__(self) -> None:
        self.base.mkdir(parents=True, exist_ok=True)
        canary.plant(self.base)
        self.volume.mkdir()
        self._seen = canary.look(self.base, _VOLUMES)

    @property
    def volume(self) -> Path:
        """The one that is talked about."""
        return self.base / "volume"

    def set_up(self, template: Path, *, anew: bool = False) -> None:
        """The volume, equal to `template` (once at least), and links out of it."""
        if not anew and self._from == str(template) and self._used < _TRIALS_PER_VOLUME:
            self._used += 1
            return
        remove(self.volume)
        _copy(template, self.volume)
        canary.lead_to(self.base / "canary", self.volume)
        self._from, self._used = str(template), 0

    def check(self) -> None:
        """`Found` when anything outside of the volume is not as it was."""
        now = canary.look(self.base, _VOLUMES)
        if now != self._seen:
            changed = sorted(name for name in now.keys() | self._seen.keys() if now.get(name) != self._seen.get(name))
            raise Found(f"outside of the volume changed: {changed}")


def remove(path: Path) -> None:
    """With all that is in it: deeper than shutil goes, and what a script made immutable."""
    if path.exists() and subprocess.run(["rm", "-rf", "--", str(path)], check=False, capture_output=True).returncode:
        subprocess.run(["chattr", "-R", "-f", "-ia", str(path)], check=False, capture_output=True)
        subprocess.run(["rm", "-rf", "--", str(path)], check=True)


def _copy(template: Path, volume: Path) -> None:
    shutil.copytree(template, volume, symlinks=True, copy_function=_copy_one)


def _copy_one(source: str, target: str) -> None:
    with contextlib.suppress(OSError, shutil.SpecialFileError):
        shutil.copy2(source, target, follow_symlinks=False)


@contextlib.contextmanager
def _watched() -> Iterator[list[str]]:
    """What threads of the session die of."""
    died: list[str] = []
    before = threading.excepthook

    def note(args: threading.ExceptHookArgs) -> None:
        if args.exc_type is not None and not issubclass(args.exc_type, StorageMirrorError):
            died.append("".join(traceback.format_exception(args.exc_type, args.exc_value, args.exc_traceback)))

    threading.excepthook = note
    try:
        yield died
    finally:
        threading.excepthook = before


def in_time(work: Callable[[], None], seconds: float = SECONDS) -> StorageMirrorError | None:
    """Run `work`; the error of ours that it ended with. `Found` for another, and when it does not end."""
    ended: list[BaseException | None] = []

    def run() -> None:
        try:
            work()
        except BaseException as e:
            ended.append(e)
        else:
            ended.append(None)

    before = set(threading.enumerate())
    with _watched() as died:
        thread = threading.Thread(target=run, name="session")
        thread.start()
        thread.join(seconds)
        if thread.is_alive():
            raise Hang(f"no end after {seconds} s:\n{_stacks()}")
        left = [other for other in threading.enumerate() if other not in before and other is not thread]
        for other in left:
            other.join(5)
            if other.is_alive():
                raise Hang(f"a thread was left behind: {other.name}\n{_stacks()}")
    if died:
        raise Found(f"a thread died of\n{died[0]}")
    error = ended[0]
    if error is None or isinstance(error, StorageMirrorError):
        return error
    raise Found("".join(traceback.format_exception(error))) from error


def _stacks() -> str:
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    return "\n".join(
        f"{names.get(ident, ident)}:\n{''.join(traceback.format_stack(frame))}"
        for ident, frame in sys._current_frames().items()
    )


def against_target(ground: Ground, session: Session, frames: list[Frame]) -> str:
    """A hostile source. What came of it, by name."""
    stream = Script(frames)

    def work() -> None:
        with TargetVolume.open(str(ground.volume)) as volume:
            TargetSession(volume, stream, session.expect, Recorder()).serve()

    return _verdict(ground, work)


def against_source(ground: Ground, session: Session, frames: list[Frame]) -> str:
    """A hostile target."""
    stream = Script(frames)

    def work() -> None:
        with SourceVolume.open(str(ground.volume)) as volume:
            who = hello(PAIR, VOLUME, session.epoch, 1, volume.identity, origin=origin_of(volume))
            asking = SourceSession(volume, stream, who, Recorder())
            try:
                asking.handshake()
                asking.recall()
                session.work(asking, ground.volume)
            finally:
                asking.close()

    return _verdict(ground, work)


def _verdict(ground: Ground, work: Callable[[], None]) -> str:
    descriptors = len(os.listdir("/proc/self/fd"))
    error = in_time(work)
    ground.check()
    left = len(os.listdir("/proc/self/fd")) - descriptors
    if left > 0:
        raise Found(f"{left} descriptors were left open after {error!r}")
    return f"{type(error).__name__} {error.reason}" if error is not None else "ended"


def against_wire(role: Role, frames: list[Frame], step: int, rnd: random.Random) -> str:
    """Bytes against the protocol alone, as `role` has them from its peer, cut into pieces of `step`. The peer is put
    where it may send most of them: its state moves by what both sides say, and `role` says nothing here."""
    connection = Connection(role)
    try:
        for frame in frames:
            may = [state for state, moves in MOVES[role.peer].items() if frame.kind in moves]
            if may and rnd.random() < 0.97:
                connection.state[role.peer] = rnd.choice(may)
                for (_, kind), (asked, _) in TRIGGERS.items():
                    if kind == frame.kind:
                        connection.state[role] = asked
            _feed(connection, frame.wire, step)
    except StorageMirrorError as e:
        return type(e).__name__
    except BaseException as e:
        raise Found("".join(traceback.format_exception(e))) from e
    return "ended"


def _feed(connection: Connection, data: bytes, step: int) -> None:
    at = 0
    while at < len(data):
        view = connection.writable()
        count = min(len(view), len(data) - at, step)
        view[:count] = data[at : at + count]
        connection.written(count)
        at += count
        while (event := connection.next_event()) is not None:
            if isinstance(event, Pack):
                list(event)


def script(rnd: random.Random, session: Session, role: Role) -> list[Frame]:
    """What the hostile peer `role` says: a recorded session with something changed, or one made of chance."""
    frames = Frames(rnd, Values(rnd, PLAIN_PATHS, rnd.choice((0.0, 0.0, 0.02)), rnd.choice((0.5, 0.95, 0.99))))
    said = session.said[role]
    if rnd.random() < 0.25:
        return [said[0], *conversation(role, frames, rnd.choice((3, 10, 30)))]
    changes = rnd.choice((1, 1, 1, 2, 3, 8))
    places = {rnd.randrange(len(said)) for _ in range(changes)}
    changed: list[Frame] = []
    for number, frame in enumerate(said):
        changed.extend(frames.change(frame) if number in places else [frame])
    return changed
