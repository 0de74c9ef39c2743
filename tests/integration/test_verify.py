"""`storagemirror verify`: whatever differs is said, nothing is written, and a repair mends just that."""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from storagemirror.cli.main import main
from storagemirror.errors import Disconnected, ProtocolError, Refused
from storagemirror.fs.source import SourceVolume
from storagemirror.fs.target import TargetVolume
from storagemirror.sync.requests import MirrorOptions
from storagemirror.sync.source import SourceSession, hello
from storagemirror.sync.stream import SocketStream
from storagemirror.sync.sums import Summer
from storagemirror.sync.target import TargetSession
from tests.support import trees
from tests.support.engine import PAIR, VOLUME, Recorder, expectation
from tests.support.hosts import run_as_nobody, serving

TIME = 1_700_000_000_123_456_789
Capsys = pytest.CaptureFixture[str]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.mkdir()
    trees.everything(path)
    trees.many(path / "many", 300)
    (path / "large").write_bytes(os.urandom(3 << 20))
    return path


@pytest.fixture
def target(tmp_path: Path, source: Path) -> Path:
    path = tmp_path / "target"
    assert main(["mirror", "-q", str(source), str(path)]) == 0
    # Else all would be told as being changed just now.
    time.sleep(0.1)
    return path


@pytest.fixture
def verify(source: Path, target: Path, capsys: Capsys) -> Callable[..., tuple[int, dict[str, object]]]:
    """Exit status and result."""

    def run(*more: str) -> tuple[int, dict[str, object]]:
        capsys.readouterr()
        status = main(["verify", "--json", str(source), str(target), *more])
        return status, dict(json.loads(capsys.readouterr().out.splitlines()[-1]))

    return run


@pytest.fixture
def common() -> Iterator[Path]:
    """A directory that every user reaches."""
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        yield Path(place)


def told(result: dict[str, object]) -> dict[str, list[str]]:
    first = result["first"]
    assert isinstance(first, list)
    return {difference["path"]: difference["how"] for difference in first}


def damage(path: Path) -> None:
    """Another content under the same size and time, as a disk or a wrong tool does it."""
    before = path.stat()
    with path.open("r+b") as file:
        file.seek(before.st_size // 2)
        byte = file.read(1)
        file.seek(before.st_size // 2)
        file.write(bytes([byte[0] ^ 1]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def keep_time(path: Path, change: Callable[[], object]) -> None:
    """Do it, and give the directory its time back."""
    before = path.stat()
    change()
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def picture(root: Path) -> dict[str, tuple[int, ...]]:
    """Everything by which a write would show, times of change above all."""
    found: dict[str, tuple[int, ...]] = {}
    for directory, names, files in os.walk(root):
        for name in [".", *names, *files]:
            facts = os.lstat(f"{directory}/{name}")
            found[f"{directory}/{name}"] = (facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns)
    return found


def files_in(path: Path) -> list[str]:
    return sorted(p.name for p in path.iterdir() if p.is_file())


Verify = Callable[..., tuple[int, dict[str, object]]]


def test_equal_sides_are_equal_and_every_file_was_read(source: Path, target: Path, verify: Verify) -> None:
    status, result = verify()
    assert (status, result["equal"], result["differing"], result["changing"]) == (0, True, 0, 0), result
    files = [p for p in source.rglob("*") if stat.S_ISREG(p.lstat().st_mode)]
    assert result["files"] == len(files)
    assert result["bytes"] == sum(p.stat().st_size for p in files)


def test_each_kind_of_difference_is_named(source: Path, target: Path, verify: Verify) -> None:
    many = target / "many"
    names = files_in(many)

    def change() -> None:
        damage(many / names[0])
        os.utime(many / names[1], ns=(TIME, TIME))
        (many / names[2]).chmod(0o604)
        os.chown(many / names[3], 12, 34)
        os.setxattr(many / names[4], "user.note", b"1")
        (many / names[5]).unlink()
        os.truncate(many / names[6], 1 << 20)
        (many / names[7]).unlink()
        (many / names[7]).symlink_to("elsewhere")
        (many / "further").write_text("x")
        (many / "directory").mkdir()
        (many / "directory" / "within").write_text("x")

    keep_time(many, change)
    (target / "many").chmod(0o711)
    status, result = verify()
    assert status == 1
    there = told(result)
    assert there == {
        "many": ["mode"],
        f"many/{names[0]}": ["content"],
        f"many/{names[1]}": ["time"],
        f"many/{names[2]}": ["mode"],
        f"many/{names[3]}": ["owner"],
        f"many/{names[4]}": ["xattrs"],
        f"many/{names[5]}": ["onlyHere"],
        f"many/{names[6]}": ["size", "content", "time"],
        f"many/{names[7]}": ["type"],
        "many/further": ["onlyThere"],
        "many/directory": ["onlyThere"],
    }
    assert result["differing"] == len(there)
    assert result["counts"] == {
        "onlyHere": 1,
        "onlyThere": 2,
        "type": 1,
        "size": 1,
        "content": 2,
        "time": 2,
        "mode": 2,
        "owner": 1,
        "xattrs": 1,
    }


def test_names_of_one_file_that_became_two_are_a_difference(source: Path, target: Path, verify: Verify) -> None:
    (source / "links").mkdir()
    (source / "links" / "a").write_text("content")
    os.link(source / "links" / "a", source / "links" / "b")
    assert main(["mirror", "-q", str(source), str(target)]) == 0
    time.sleep(0.1)
    assert verify()[0] == 0

    def separate() -> None:
        content, facts = (target / "links" / "b").read_bytes(), (target / "links" / "b").stat()
        (target / "links" / "b").unlink()
        (target / "links" / "b").write_bytes(content)
        os.utime(target / "links" / "b", ns=(facts.st_atime_ns, facts.st_mtime_ns))

    keep_time(target / "links", separate)
    status, result = verify()
    assert (status, told(result)) == (1, {"links/b": ["links"]})
    assert verify("--repair")[0] == 0
    assert trees.rsync_differences(source, target) == ""


def test_a_directory_that_only_one_side_has_is_told_once(source: Path, target: Path, verify: Verify) -> None:
    trees.many(source / "new", 50)
    time.sleep(0.1)
    _, result = verify()
    assert told(result)["new"] == ["onlyHere"]
    assert not [path for path in told(result) if path.startswith("new/")]


def test_nothing_is_written_on_either_side(source: Path, target: Path, verify: Verify) -> None:
    damage(target / "large")
    (target / "further").write_text("x")
    before = picture(source), picture(target)
    assert verify()[0] == 1
    assert (picture(source), picture(target)) == before


def test_a_directory_that_no_mirror_made_is_compared_and_left_alone(
    source: Path, tmp_path: Path, capsys: Capsys
) -> None:
    other = tmp_path / "other"
    # rsync leaves a time alone that differs by less than a second.
    for path in [*source.rglob("*"), source]:
        os.utime(path, ns=(TIME, TIME), follow_symlinks=False)
    subprocess.run(["rsync", "-aHAX", f"{source}/", f"{other}/"], check=True)
    time.sleep(0.1)
    before = picture(other)
    assert main(["verify", str(source), str(other)]) == 0
    assert "equal" in capsys.readouterr().out
    assert picture(other) == before
    assert not (other / ".storagemirror").exists()
    assert main(["verify", "--repair", str(source), str(other)]) == 0, "nothing differs: nothing to claim"
    damage(other / "large")
    assert main(["verify", "--repair", str(source), str(other)]) == 1
    assert "TargetNotEmpty" in capsys.readouterr().err
    assert main(["verify", "--repair", "--adopt", str(source), str(other)]) == 0
    assert trees.rsync_differences(source, other) == ""


def test_a_repair_sends_what_differs_and_nothing_else(source: Path, target: Path, verify: Verify) -> None:
    names = files_in(target / "many")
    damage(target / "large")
    damage(target / "many" / names[0])
    (target / "many" / names[1]).chmod(0o600)
    (target / "further").write_text("x")
    mended = {target / "large", target / "many" / names[0]}
    untouched = {p: p.lstat().st_ino for p in target.rglob("*") if p.is_file() and p not in mended}
    for other in [target / "further", *(target / ".storagemirror").iterdir()]:
        untouched.pop(other, None)
    assert verify()[0] == 1
    status, result = verify("--repair")
    assert status == 0, result
    # The root too: its time moved with the new name in it.
    assert (result["differing"], result["repaired"], result["left"]) == (5, 5, [])
    assert {p: p.lstat().st_ino for p in untouched} == untouched, "no other file was written anew"
    assert trees.rsync_differences(source, target) == ""
    assert trees.differences(source, target) == []
    assert verify()[0] == 0


def test_what_differs_is_named_for_people_and_the_names_are_bounded(source: Path, target: Path, capsys: Capsys) -> None:
    for path in (target / "many").iterdir():
        if path.is_file():
            path.chmod(0o604)
    odd = os.fsencode(target) + b"/many/odd\n\xff"
    with open(odd, "wb"):
        pass
    capsys.readouterr()
    assert main(["verify", "--names", "3", str(source), str(target)]) == 1
    said = capsys.readouterr().out.splitlines()
    assert len([line for line in said if line.startswith("differs: ")]) == 3
    assert said[3].startswith("... and ")
    assert "ENTRIES DIFFER" in said[4]
    assert main(["verify", "--names", "1000", str(source), str(target)]) == 1
    assert "differs: many/odd\\n\\xff: only in DST" in capsys.readouterr().out


def test_what_one_side_cannot_read_is_not_called_equal(common: Path) -> None:
    """Read as another user than root, who reads past every mode."""
    source, target = common / "a", common / "b"
    for place in (source, target):
        for name in ("shut", "open"):
            (place / name).mkdir(parents=True)
            (place / name / "file").write_text("content")
            os.utime(place / name / "file", ns=(TIME, TIME))
            os.utime(place / name, ns=(TIME, TIME))
        os.utime(place, ns=(TIME, TIME))
    (target / "shut").chmod(0o000)
    (source / "shut").chmod(0o000)
    (target / "open" / "file").chmod(0o000)
    (source / "open" / "file").chmod(0o000)
    time.sleep(0.1)
    done = run_as_nobody(common / "first", "verify", "--json", source, target)
    assert done.returncode == 1, done
    result = json.loads(done.stdout.splitlines()[-1])
    assert told(result) == {"open/file": ["unreadable"], "shut": ["unreadable"]}


def test_under_the_rules_of_the_mirror_what_they_leave_is_no_difference(
    source: Path, target: Path, verify: Verify
) -> None:
    (source / "many" / "scratch.tmp").write_text("x")
    (target / "many" / "other.tmp").write_text("y")
    (target / "kept").write_text("an orphan")
    time.sleep(0.1)
    assert set(told(verify()[1])) >= {"many/scratch.tmp", "many/other.tmp", "kept"}
    status, result = verify("--exclude", "*.tmp", "--orphans", "keep")
    # The directories' own times have moved with the names in them.
    assert (set(told(result)), result["orphans"]) == ({".", "many"}, 1), result
    assert status == 1


# -- while it changes


@contextmanager
def looked_at(source: Path, target: Path, pair: str = PAIR) -> Iterator[SourceSession]:
    """A session that has said that it would only look."""
    ours, theirs = socket.socketpair()
    with SourceVolume.open(str(source)) as reader, TargetVolume.open(str(target)) as volume:
        other = TargetSession(volume, SocketStream(theirs), expectation(), Recorder())

        def serve() -> None:
            with suppress(ProtocolError, Disconnected, Refused):
                other.serve()

        thread = threading.Thread(target=serve)
        thread.start()
        said = hello(pair, VOLUME, 1, 1, reader.identity, look=True)
        session = SourceSession(reader, SocketStream(ours), said, Recorder())
        try:
            session.handshake()
            yield session
        finally:
            session.close()
            thread.join(10)
            assert not thread.is_alive()


def test_a_file_that_changes_meanwhile_is_told_apart(
    source: Path, target: Path, verify: Verify, monkeypatch: pytest.MonkeyPatch
) -> None:
    damage(target / "many" / files_in(target / "many")[0])
    real = Summer.sum
    touched: list[bytes] = []

    def sum_and_write(self: Summer, path: bytes) -> Iterator[object]:
        if path == b"large" and os.getpid() == parent and len(touched) < 1:
            touched.append(path)
            with (source / "large").open("r+b") as file:
                file.write(b"written by the application")
        yield from real(self, path)

    parent = os.getpid()
    monkeypatch.setattr(Summer, "sum", sum_and_write)
    status, result = verify()
    assert touched
    assert status == 1
    assert result["changing"] == 1
    assert list(told(result).values()) == [["content"]], "the damaged one alone"


def test_a_difference_that_is_gone_at_the_second_look_is_none(
    source: Path, target: Path, verify: Verify, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.truncate(target / "large", 5)
    real = Summer.sum

    def mend(self: Summer, path: bytes) -> Iterator[object]:
        if os.getpid() == parent and path == b"large" and (target / "large").stat().st_size == 5:
            (target / "large").write_bytes((source / "large").read_bytes())
            facts = (source / "large").stat()
            os.utime(target / "large", ns=(facts.st_atime_ns, facts.st_mtime_ns))
        yield from real(self, path)

    parent = os.getpid()
    monkeypatch.setattr(Summer, "sum", mend)
    status, result = verify()
    assert (status, result["differing"], result["settled"]) == (0, 0, 1), result


# -- over the wire


def test_another_host_is_verified_and_repaired_over_tls(
    source: Path, target: Path, tmp_path: Path, capsys: Capsys
) -> None:
    keys = tmp_path / "keys"
    assert main(["keys", str(keys)]) == 0
    damage(target / "large")
    before = picture(target)
    with serving(target, keys / "target") as there:
        arguments = [str(source), there.address, "--keys", str(keys / "source")]
        assert main(["verify", *arguments]) == 1
        assert "differs: large: content" in capsys.readouterr().out
        assert picture(target) == before
        assert main(["verify", "--repair", *arguments]) == 0
        assert main(["verify", *arguments]) == 0
    assert trees.rsync_differences(source, target) == ""


def test_who_said_to_look_may_change_nothing(source: Path, target: Path) -> None:
    damage(target / "large")
    (target / "further").write_text("x")
    before = picture(target)
    for change in (
        lambda session: session.mirror(MirrorOptions()),
        lambda session: (session.resend([b"large"]), session.mark(1)),
        lambda session: session.mark(1),
    ):
        with looked_at(source, target) as session, pytest.raises((ProtocolError, Disconnected)):
            change(session)
    assert picture(target) == before


def test_a_look_is_refused_like_any_session_of_another_pair(source: Path, target: Path) -> None:
    with pytest.raises(Refused, match="another pair"), looked_at(source, target, pair="another"):
        pass
