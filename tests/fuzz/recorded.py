"""Real sessions, recorded frame by frame: what the fuzzer changes.

Each run records them anew, over real volumes, so that they say what the code of today says; the scenarios together use
every frame that both sides send of themselves.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from storagemirror.contract import Role, TargetPolicy
from storagemirror.errors import StorageMirrorError
from storagemirror.fs.source import SourceVolume
from storagemirror.fs.target import TargetVolume
from storagemirror.sync.recalling import origin_of
from storagemirror.sync.requests import Changes, Expectation, MirrorOptions
from storagemirror.sync.source import SourceSession, hello
from storagemirror.sync.stream import SocketStream
from storagemirror.sync.target import TargetSession
from storagemirror.wire.frame import FrameReader
from storagemirror.wire.messages import FrameType
from tests.fuzz.frames import PER_KIND, Frame
from tests.support.engine import PAIR, VOLUME, Recorder, expectation, homeward, promote, serve_beside

Work = Callable[[SourceSession, Path], None]


@dataclass
class Session:
    """One that was recorded: what each side said, and what both volumes were before."""

    name: str
    source: Path
    target: Path
    expect: Expectation
    epoch: int
    work: Work
    said: dict[Role, list[Frame]] = field(default_factory=dict)


class _Tap(SocketStream):
    """Writes down what it sends."""

    def __init__(self, connection: socket.socket, role: Role, log: _Log) -> None:
        super().__init__(connection)
        self._role = role
        self._log = log

    def send(self, data: bytes | bytearray | memoryview) -> None:
        self._log.put(self._role, bytes(data))
        super().send(data)


class _Log:
    """What both said, cut into frames; Pings are left out."""

    def __init__(self) -> None:
        self.said: dict[Role, list[Frame]] = {role: [] for role in Role}
        self._readers = {role: FrameReader() for role in Role}
        self._lock = threading.Lock()

    def put(self, role: Role, data: bytes) -> None:
        reader = self._readers[role]
        with self._lock:
            while data:
                view = reader.writable()
                count = min(len(data), len(view))
                view[:count] = data[:count]
                reader.written(count)
                data = data[count:]
                while (frame := reader.next_frame()) is not None:
                    kind, payload = frame
                    if kind is not FrameType.PING:
                        self.said[role].append(Frame(kind, bytes(payload), self._after(role.peer)))

    def _after(self, peer: Role) -> int:
        """What `peer` said last, and how often it has said that: more of other things may come another time."""
        said = [frame.kind for frame in self.said[peer]]
        return PER_KIND * said[-1] + said.count(said[-1]) if said else 0


def plant(root: Path, generation: int = 0) -> None:
    """A small tree with one of most things; `generation` changes some of it."""
    for path in ("a/b/c", "d/e", "new/dir" if generation else "old/dir"):
        (root / path).mkdir(parents=True, exist_ok=True)
    for number in range(6):
        (root / "d" / f"f{number}").write_bytes(b"%d" % (number * (1 + generation * (number % 2))) * 100)
    (root / "a/f2").write_bytes(b"two" * (1 + generation))
    (root / "big").write_bytes(_large(generation))
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        subprocess.run(["chattr", "+d", str(root / "d/f3")], check=True, capture_output=True)
    os.symlink("a/f2", root / "link")
    os.link(root / "a/f2", root / "hard")
    os.mkfifo(root / "fifo")
    os.setxattr(root / "a/f2", "user.a", b"b%d" % generation)
    if generation:
        (root / "new/dir/file").write_bytes(b"new")
    else:
        (root / "a/b/gone").write_bytes(b"gone")
        (root / "d/f5").unlink()
        (root / "d/f5").mkdir()


def _large(generation: int) -> bytes:
    """Of which most stays what it was, and some is a hole."""
    content = random.Random(5).randbytes(640_000)
    return content[:200_000] + bytes([generation]) * 70_000 + bytes(70_000 * generation) + content[200_000:]


def mirror_and_mark(session: SourceSession, source: Path) -> None:
    """What most of a session is."""
    session.mirror(MirrorOptions())
    session.mark(1)


def live(session: SourceSession, source: Path) -> None:
    """Everything that a source does by itself."""
    session.mirror(MirrorOptions())
    renames = ((b"d/f1", b"d/g1"),)
    if (source / "d/f1").exists():
        os.rename(source / "d/f1", source / "d/g1")
    (source / "d/f2").unlink(missing_ok=True)
    (source / "a/live").write_bytes(b"live" * 1000)
    (source / "big").write_bytes(_large(2))
    (source / "tree/in").mkdir(parents=True, exist_ok=True)
    (source / "tree/in/file").write_bytes(b"in a tree")
    paths = frozenset({b"d/f2", b"a/live", b"big", b"hard", b"a", b"link"})
    session.apply(Changes(paths=paths, trees=frozenset({b"tree"}), renames=renames))
    session.mark(2)
    if session.can_prove:
        asking = session.asking
        asking.begin()
        number = asking.ask([b"a/f2", b"big", b"nothing"])
        while (session.asking.answer(number)) is None:
            session.ping()
            threading.Event().wait(0.002)
        asking.tally(number, [2], last=True)
        while session.asking.tallied() is None:
            session.ping()
            threading.Event().wait(0.002)
    session.resend([b"a/f2"])
    session.mark(3)


def homecoming(session: SourceSession, source: Path) -> None:
    """What was kept aside is done before, by `recall`."""
    mirror_and_mark(session, source)


def scenarios(directory: Path) -> list[Session]:
    """Volumes for each, not yet talked about."""
    made = []
    for name in ("first", "changed", "live", "home"):
        source, target = directory / name / "source", directory / name / "target"
        source.mkdir(parents=True)
        target.mkdir()
        plant(source, 0 if name in ("first", "home") else 1)
        expect, epoch = expectation(policy=TargetPolicy.ADOPT), 1
        if name in ("changed", "live"):
            old = directory / name / "old"
            old.mkdir()
            plant(old, 0)
            record(Session("before", old, target, expectation(), 1, mirror_and_mark))
            _claim_as(source, target, old)
        if name == "home":
            record(Session("before", source, target, expectation(), 1, mirror_and_mark))
            promote(target)
            (target / "d/f1").write_bytes(b"written on the copy")
            (source / "d/f0").write_bytes(b"written when it was cut off")
            (source / "diverged").mkdir()
            (source / "diverged/file").write_bytes(b"of nobody")
            source, target = target, source
            expect, epoch = homeward(), 2
        work = {"live": live, "home": homecoming}.get(name, mirror_and_mark)
        made.append(Session(name, source, target, expect, epoch, work))
    return made


def _claim_as(source: Path, target: Path, old: Path) -> None:
    """`source` takes the place of `old`: the same tree, newer, and the same directory for the target."""
    for name in os.listdir(old):
        path = old / name
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    for name in os.listdir(source):
        os.rename(source / name, old / name)
    source.rmdir()
    os.rename(old, source)


def record(session: Session) -> Session:
    """Play it for real, and write down what was said."""
    log = _Log()
    ours, theirs = socket.socketpair()
    with SourceVolume.open(str(session.source)) as reader, TargetVolume.open(str(session.target)) as writer:
        serving = TargetSession(writer, _Tap(theirs, Role.TARGET, log), session.expect, Recorder())
        who = hello(PAIR, VOLUME, session.epoch, 1, reader.identity, origin=origin_of(reader))
        asking = SourceSession(reader, _Tap(ours, Role.SOURCE, log), who, Recorder())
        failure: list[StorageMirrorError] = []

        thread = serve_beside(serving, failure)
        try:
            asking.handshake()
            asking.recall()
            session.work(asking, session.source)
        finally:
            asking.close()
            thread.join(30)
    if failure:
        raise failure[0]
    session.said = log.said
    return session
