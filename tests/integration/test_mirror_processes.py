"""`storagemirror mirror`: two processes, killed at any moment, on disks that fill up, against peers that lie."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from storagemirror.clock import Clock
from storagemirror.contract import Role
from storagemirror.entry import Attributes, Identity
from storagemirror.errors import Disconnected, ProtocolError, StorageMirrorError
from storagemirror.fs.source import SourceVolume
from storagemirror.fs.target import TargetVolume
from storagemirror.sync.requests import Expectation
from storagemirror.sync.source import SourceSession, hello
from storagemirror.sync.stream import SocketStream
from storagemirror.sync.target import TargetSession
from storagemirror.wire import messages as m
from storagemirror.wire.connection import Connection
from storagemirror.wire.content import Child, Enter, File, Record
from storagemirror.wire.frame import HEADER
from storagemirror.wire.messages import FrameType
from tests.support import trees
from tests.support.disks import disk
from tests.support.engine import PAIR, VOLUME, Recorder, expectation, joined

ROOT = Path(__file__).parents[2]


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "storagemirror.cli.main", "mirror", *map(str, arguments)]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT / "operator")}


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments), capture_output=True, text=True, check=False, env=environment(), timeout=120
    )


def run_as_nobody(first: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Privileges are given up when all modules are loaded (by a mirror of `first` that root makes): another user may
    not be able to read this Python."""
    program = (
        "import os, sys; from storagemirror.cli.main import main; "
        "status = main(['mirror', '-q', sys.argv[1], sys.argv[1] + '.copy']); "
        "os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534); "
        "sys.exit(status or main(sys.argv[2:]))"
    )
    first.mkdir(exist_ok=True)
    return subprocess.run(
        [sys.executable, "-c", program, str(first), "mirror", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env=environment(),
        timeout=120,
    )


def lines(done: subprocess.CompletedProcess[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.mkdir()
    return path


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "target"


def equal(source: Path, target: Path) -> None:
    assert trees.differences(source, target) == []
    assert trees.rsync_differences(source, target) == ""


# -- the command


def test_it_copies_says_so_and_the_second_time_sends_nothing(source: Path, target: Path) -> None:
    trees.everything(source)
    trees.many(source / "many", 100)
    first = run(source, target)
    assert first.returncode == 0, first.stderr
    assert first.stderr == ""
    assert "mirrored" in first.stdout
    equal(source, target)
    again = run("--json", source, target)
    assert again.returncode == 0
    *steps, result = lines(again)
    assert result["type"] == "result"
    assert {key: result[key] for key in ("filesSent", "metadataSent", "linksSent", "deleted", "failed")} == {
        "filesSent": 0,
        "metadataSent": 0,
        "linksSent": 0,
        "deleted": 0,
        "failed": 0,
    }
    assert [step["type"] for step in steps] == ["progress", "syncing"]
    assert steps[0]["filesDone"] == steps[0]["filesTotal"] == result["entries"]


def test_refusals_name_the_reason_and_the_way_out(source: Path, target: Path) -> None:
    trees.write(source / "mine", "x")
    trees.write(target / "theirs", "x")
    refused = run(source, target)
    assert refused.returncode == 1
    assert "TargetNotEmpty" in refused.stderr
    assert "--adopt" in refused.stderr
    assert run("--adopt", source, target).returncode == 0
    equal(source, target)


@pytest.mark.parametrize(
    ("one", "other"), [("source", "source"), ("source", "source/inner"), ("source/inner", "source"), ("none", "target")]
)
def test_directories_that_cannot_be_meant_are_refused(source: Path, tmp_path: Path, one: str, other: str) -> None:
    trees.write(source / "inner/file", "x")
    before = trees.picture(source)
    done = run(tmp_path / one, tmp_path / other)
    assert done.returncode == 1
    assert trees.picture(source) == before


def test_a_command_line_that_cannot_be_meant_ends_with_2(source: Path, target: Path) -> None:
    assert run(source).returncode == 2
    assert run("--max-delete-percent", "101", source, target).returncode == 2
    assert run("--max-delete-percent", "many", source, target).returncode == 2


def test_an_emptied_source_is_held_with_3_and_the_token_lets_it_through(source: Path, target: Path) -> None:
    trees.many(source / "all", 50)
    assert run(source, target).returncode == 0
    before = trees.picture(target)
    os.system(f"rm -rf '{source}'/*")
    held = run("--json", source, target)
    assert held.returncode == 3
    error = lines(held)[-1]
    assert (error["type"], error["reason"]) == ("error", "MassDelete")
    after = trees.picture(target)
    assert set(after) == set(before)
    assert f"token: {error['token']}" in run(source, target).stderr
    assert run("--confirm", "0000000000", source, target).returncode == 3
    assert run("--confirm", error["token"], source, target).returncode == 0
    equal(source, target)


def test_another_source_is_held_before_anything_is_changed(source: Path, target: Path, tmp_path: Path) -> None:
    trees.many(source, 50)
    assert run(source, target).returncode == 0
    before = trees.picture(target)
    trees.many(tmp_path / "other", 50, seed=5)
    held = run("--json", tmp_path / "other", target)
    assert held.returncode == 3
    assert lines(held)[-1]["reason"] == "SourceReplaced"
    assert trees.picture(target) == before


@pytest.fixture
def open_to_all() -> Iterator[Path]:
    """A directory that any user can get to (pytest's own lets only its user in)."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o777)
        yield Path(name)


def test_without_root_what_cannot_be_kept_is_counted(open_to_all: Path) -> None:
    source, target = open_to_all / "source", open_to_all / "target"
    trees.everything(source)
    trees.write(source / "secret", "x")
    os.chmod(source / "secret", 0o600)
    os.chmod(source / "d", 0o755)
    done = run_as_nobody(open_to_all / "first", "--json", source, target)
    assert done.returncode == 1, "what cannot be read is not on the target"
    result = lines(done)[-1]
    assert (result["unread"], result["failed"]) == (3, 0)
    kept = {item["kind"]: item for item in result["notKept"]}  # type: ignore[attr-defined]
    assert {"Owner", "Device", "Unreadable", "FileCapability"} <= set(kept)
    assert "secret" in kept["Unreadable"]["first"]
    again = lines(run_as_nobody(open_to_all / "first", "--json", source, target))[-1]
    assert (again["filesSent"], again["metadataSent"]) == (0, 0)
    assert (target / "a/b/two").read_text() == "two"


# -- killed at any moment


@pytest.mark.parametrize("victim", ["reader", "writer"])
def test_killed_at_any_moment_it_goes_on_where_it_was(source: Path, target: Path, victim: str) -> None:
    trees.many(source, 1500, size=8000)
    for number in range(4):
        trees.write(source / f"large{number}", os.urandom(3_000_000))
    trees.everything(source / "everything")
    rnd = random.Random(victim)
    killed = 0
    for _ in range(8):
        began = subprocess.Popen(
            command("--json", source, target), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment()
        )
        enough = _entries(target) + rnd.randrange(1, 300)
        while began.poll() is None and _entries(target) < enough:
            time.sleep(0.002)
        kill(began, victim)
        began.communicate(timeout=60)
        killed += began.returncode != 0
        _no_partial_file(source, target)
    assert killed, "each mirror was over before it was killed"
    done = run("--json", source, target)
    assert done.returncode == 0, done.stderr
    equal(source, target)
    assert os.listdir(target / ".storagemirror/tmp") == []


def writer_of(process: subprocess.Popen[bytes]) -> int | None:
    """The child that writes; None when it has ended."""
    try:
        return int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[0])
    except (OSError, IndexError):
        return None


def until_gone(pid: int | None) -> None:
    """A writer whose reader is dead syncs what it has, and ends."""
    end = time.monotonic() + 30
    while pid is not None and Path(f"/proc/{pid}/cmdline").exists() and time.monotonic() < end:
        time.sleep(0.05)


def kill(process: subprocess.Popen[bytes], victim: str) -> None:
    """SIGKILL to the process itself (it reads) or to its child (it writes)."""
    pid = process.pid
    if victim == "writer":
        writer = writer_of(process)
        if writer is None:
            return
        pid = writer
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _entries(target: Path) -> int:
    return sum(len(names) for _, _, names in os.walk(target))


def _no_partial_file(source: Path, target: Path) -> None:
    """A file whose time is the source's is whole; large ones have their name only then."""
    here = trees.picture(source)
    for path, there in (trees.picture(target) if target.exists() else {}).items():
        mine = here.get(path)
        if mine is not None and there[3] == mine[3]:
            assert there[4:7] == mine[4:7], path
        if mine is not None and path.startswith(b"large"):
            assert there[6] == mine[6], path


def test_what_was_whole_is_not_sent_again(source: Path, target: Path) -> None:
    trees.many(source, 3000, size=3000)
    began = subprocess.Popen(command(source, target), stdout=subprocess.DEVNULL, env=environment())
    while len(trees.picture(target) if target.exists() else {}) < 300 and began.poll() is None:
        time.sleep(0.02)
    writer = writer_of(began)
    kill(began, "reader")
    began.wait(60)
    until_gone(writer)
    there = trees.picture(target)
    here = trees.picture(source)
    whole = sum(1 for path, value in there.items() if here[path] == value and value[6] is not None)
    files = sum(1 for value in here.values() if value[6] is not None)
    result = lines(run("--json", source, target))[-1]
    assert int(str(result["filesSent"])) == files - whole
    equal(source, target)


def test_a_source_that_changes_all_the_time_is_equal_once_it_rests(source: Path, target: Path) -> None:
    trees.many(source, 500)
    stop = threading.Event()

    def churn() -> None:
        rnd = random.Random(1)
        number = 0
        while not stop.is_set():
            number += 1
            path = source / f"churn/{rnd.randrange(30)}/{rnd.randrange(10)}"
            if path.exists() and rnd.random() < 0.4:
                path.unlink()
            else:
                trees.write(path, rnd.randbytes(rnd.choice([10, 1000, 10_000, 300_000])))
            if number % 50 == 0:
                os.rename(source / "churn", source / f"moved{number}")

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        for _ in range(3):
            done = run("--max-delete-percent", "100", source, target)
            assert done.returncode == 0, done.stderr
    finally:
        stop.set()
        thread.join()
    assert run("--max-delete-percent", "100", source, target).returncode == 0
    equal(source, target)


def test_a_full_target_says_so_and_goes_on_when_something_was_freed(source: Path, tmp_path: Path) -> None:
    trees.many(source, 200)
    trees.write(source / "large", os.urandom(9_000_000))
    with disk(tmp_path, "ext4", 16) as made:
        trees.write(made.path / ".storagemirror/ballast", b"b" * 7_000_000)
        full = run("--json", source, made.path)
        assert full.returncode == 1
        assert lines(full)[-1]["reason"] == "TargetFull"
        os.unlink(made.path / ".storagemirror/ballast")
        done = run("--json", source, made.path)
        assert done.returncode == 0, done.stderr
        assert int(str(lines(done)[-1]["filesSent"])) < 200
        equal(source, made.path)


def test_a_target_that_becomes_read_only_says_so(source: Path, tmp_path: Path) -> None:
    trees.many(source, 50)
    with disk(tmp_path, "ext4", 16) as made:
        assert run(source, made.path).returncode == 0
        trees.write(source / "new", "x")
        made.remount("ro")
        refused = run("--json", source, made.path)
        assert refused.returncode == 1
        assert lines(refused)[-1]["reason"] == "TargetNotWritable"


# -- peers that lie, and peers that are silent


class Liar:
    """A source that says what it likes to a real target."""

    def __init__(self, target: Path, expect: Expectation | None = None, clock: Clock | None = None) -> None:
        ours, theirs = socket.socketpair()
        self.socket = ours
        self.connection = Connection(Role.SOURCE)
        self.failure: list[StorageMirrorError] = []
        self.volume = TargetVolume.open(str(target))
        stream = SocketStream(theirs, silence=2)
        self.session = TargetSession(self.volume, stream, expect or expectation(), Recorder(), clock)

        def serve() -> None:
            try:
                self.session.serve()
            except StorageMirrorError as e:
                self.failure.append(e)

        self.thread = threading.Thread(target=serve)
        self.thread.start()

    def greet(self, who: m.Hello | None = None) -> object:
        self.say(self.connection.send(who or hello(PAIR, VOLUME, 1, 1, Identity(1))))
        return self.hear()

    def hear(self) -> object:
        """What the target says next, but for its Pings."""
        while (event := self.connection.next_event()) is None or isinstance(event, m.Ping):
            if event is None:
                view = self.connection.writable()
                self.connection.written(self.socket.recv_into(view))
        return event

    def say(self, data: bytes) -> None:
        self.socket.sendall(data)

    def end(self) -> StorageMirrorError | None:
        self.socket.shutdown(socket.SHUT_WR)
        self.thread.join(20)
        assert not self.thread.is_alive()
        self.socket.close()
        self.volume.close()
        return self.failure[0] if self.failure else None


@pytest.mark.parametrize(
    "lie",
    [
        m.Delete([b"../outside"]),
        m.Delete([b"/outside"]),
        m.Rename([(b"a", b"../outside")]),
        m.Link(b"stolen", b"../outside"),
        m.Delete([b".storagemirror"]),
        m.Sum(1, [b"../outside"]),
        m.Sum(1, [b"stolen", b".storagemirror/pair.json"]),
    ],
    ids=str,
)
def test_a_path_out_of_the_volume_ends_the_session(target: Path, tmp_path: Path, lie: m.Message) -> None:
    target.mkdir()
    trees.write(tmp_path / "outside", "stays")
    liar = Liar(target)
    liar.greet()
    liar.say(liar.connection.send(lie))
    assert isinstance(liar.end(), ProtocolError)
    assert (tmp_path / "outside").read_text() == "stays"


@pytest.mark.parametrize(
    "record", [File(b".storagemirror", Attributes(0o100644, 0, 0, 1), 0), Child(b".storagemirror")]
)
def test_what_a_target_knows_of_itself_cannot_be_replaced_by_a_pack(target: Path, record: Record) -> None:
    """A file of that name would have made way for itself: no marker, and no guard any more."""
    target.mkdir()
    liar = Liar(target)
    liar.greet()
    liar.say(b"".join(liar.connection.send_pack([Enter(b""), record], [])))
    assert isinstance(liar.end(), ProtocolError)
    assert (target / ".storagemirror/lock").exists()


def test_a_symlink_swapped_in_is_not_followed(target: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    target.mkdir()
    os.symlink(tmp_path / "outside", target / "in the way")
    trees.write(target / ".storagemirror/keep", "x")
    os.unlink(target / "in the way")
    liar = Liar(target)
    liar.greet()
    os.symlink(tmp_path / "outside", target / "swapped")

    attributes = Attributes(0o100644, 0, 0, 1)
    liar.say(b"".join(liar.connection.send_pack([Enter(b"swapped"), File(b"planted", attributes, 1)], [b"x"])))
    liar.say(liar.connection.send(m.Begin(b"swapped2/large", attributes, 1)))
    os.symlink(tmp_path / "outside", target / "swapped2")
    liar.say(liar.connection.send(m.Drop()))
    liar.end()
    assert os.listdir(tmp_path / "outside") == []


def test_a_huge_length_ends_the_session_at_once(target: Path) -> None:
    target.mkdir()
    liar = Liar(target)
    liar.greet()
    liar.say(HEADER.pack(FrameType.PACK, 0xFFFFFFFF))
    assert isinstance(liar.end(), ProtocolError)


def test_garbage_instead_of_hello_ends_the_session(target: Path) -> None:
    target.mkdir()
    liar = Liar(target)
    liar.say(b"GET / HTTP/1.1\r\n\r\n")
    assert isinstance(liar.end(), ProtocolError)
    assert os.listdir(target) == []


def test_content_that_is_not_what_its_checksum_says_gets_no_name(target: Path) -> None:

    target.mkdir()
    liar = Liar(target)
    liar.greet()
    say = liar.connection
    liar.say(say.send(m.Begin(b"big", Attributes(0o100644, 0, 0, 1), 4)) + say.send_data(0, 4) + b"evil")
    liar.say(say.send(m.End(4, b"not its checksum", 1)))
    assert isinstance(liar.end(), ProtocolError)
    assert not (target / "big").exists()


def test_a_silent_source_is_given_up(target: Path) -> None:
    target.mkdir()
    liar = Liar(target)
    liar.greet()
    began = time.monotonic()
    liar.thread.join(10)
    assert not liar.thread.is_alive()
    assert time.monotonic() - began < 6
    assert isinstance(liar.failure[0], Disconnected)
    liar.socket.close()
    liar.volume.close()


def test_a_silent_target_is_given_up(source: Path) -> None:
    ours, theirs = socket.socketpair()
    with SourceVolume.open(str(source)) as volume:
        who = hello(PAIR, VOLUME, 1, 1, volume.identity)
        session = SourceSession(volume, SocketStream(ours, silence=1.5), who, Recorder())
        began = time.monotonic()
        with pytest.raises(Disconnected):
            session.handshake()
        assert time.monotonic() - began < 5
        session.close()
    theirs.close()


def test_an_idle_session_stays_alive(source: Path, target: Path) -> None:
    target.mkdir()
    with joined(source, target, silence=2.5) as pair:
        for _ in range(5):
            time.sleep(1)
            pair.source.ping()
        pair.mirror()
