"""`storagemirror mirror` to a `storagemirror serve`, over TLS, as between two hosts."""

from __future__ import annotations

import json
import os
import signal
import stat
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from storagemirror.cli.ends import VOLUME, pair_uid
from storagemirror.cli.main import main
from storagemirror.contract import Role, peer_name
from storagemirror.kube import signing
from tests.support import trees
from tests.support.hosts import Serving, run, serving, start


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("hosts") / "keys"
    assert main(["keys", str(path)]) == 0
    return path


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.mkdir()
    return path


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "target"


def mirror(source: Path, there: Serving, keys: Path, *more: str) -> int:
    return main(["mirror", str(source), there.address, "--keys", str(keys / "source"), *more])


def result(printed: str) -> dict[str, object]:
    lines = [json.loads(line) for line in printed.splitlines()]
    return next(dict(line) for line in lines if line["type"] in ("result", "error"))


def equal(source: Path, target: Path) -> None:
    assert trees.rsync_differences(source, target) == ""


def until(condition: object, seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end
        time.sleep(0.01)


# -- a mirror


def test_a_mirror_to_another_host_is_equal_and_the_second_sends_nothing(
    source: Path, target: Path, keys: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trees.everything(source)
    with serving(target, keys / "target") as there:
        assert mirror(source, there, keys) == 0
        equal(source, target)
        capsys.readouterr()
        assert mirror(source, there, keys, "--json") == 0
        again = result(capsys.readouterr().out)
        assert (again["filesSent"], again["deleted"], again["failed"]) == (0, 0, 0)
        told = [there.line()["type"] for _ in range(6)]
        assert told == ["connected", "mirrored", "ended"] * 2
        assert there.stop() == 0


def test_an_ipv6_address_is_written_in_brackets(source: Path, target: Path, keys: Path) -> None:
    (source / "file").write_text("content")
    with serving(target, keys / "target", "--once", host="::1") as there:
        assert there.address.startswith("[::1]:")
        assert mirror(source, there, keys) == 0
        assert there.process.wait(20) == 0, "with --once it ends after the first source"
    equal(source, target)


def test_an_address_that_cannot_be_meant_is_said_at_once(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for wrong, said in (("::1:7460", "in brackets"), ("host:70000", "HOST:PORT")):
        with pytest.raises(SystemExit) as ended:
            main(["mirror", str(source), wrong])
        assert ended.value.code == 2
        assert said in capsys.readouterr().err
    assert main(["mirror", str(source), "host:7460"]) == 2, "no --keys"


def test_what_the_target_allows_is_not_for_the_source_to_say(source: Path, target: Path, keys: Path) -> None:
    for number in range(20):
        (source / f"{number}").write_text("content")
    assert main(["mirror", str(source), "localhost:1", "--adopt", "--keys", str(keys / "source")]) == 2
    with serving(target, keys / "target") as there:
        assert mirror(source, there, keys) == 0
        for number in range(19):
            (source / f"{number}").unlink()
        assert mirror(source, there, keys) == 3, "the guard holds"
        assert len(list(target.glob("[0-9]*"))) == 20
        ended = next(line for line in iter(there.line, {}) if line["type"] == "ended" and line["reason"])
        assert ended["reason"] == "MassDelete"
        there.stop()
    with serving(target, keys / "target", "--confirm", str(ended["token"])) as there:
        assert mirror(source, there, keys) == 0
    equal(source, target)


def test_the_keys_are_readable_by_nobody_else_and_are_made_anew_of_the_same_ca(tmp_path: Path) -> None:
    place = tmp_path / "keys"
    assert main(["keys", str(place)]) == 0
    for path in (place / "ca.key", place / "source" / "tls.key", place / "target" / "tls.key"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    before = (place / "ca.crt").read_bytes(), (place / "source" / "tls.crt").read_bytes()
    assert main(["keys", str(place)]) == 0
    assert (place / "ca.crt").read_bytes() == before[0]
    assert (place / "source" / "tls.crt").read_bytes() != before[1]
    (place / "ca.key").write_text("no key")
    assert main(["keys", str(place)]) == 1


# -- who is who


def expired(place: Path, keys: Path, role: Role) -> Path:
    """A directory as of that side, whose certificate ended an hour ago."""
    ca, ca_key = signing.read_ca((keys / "ca.crt").read_bytes(), (keys / "ca.key").read_bytes())
    key = signing.new_key()
    then = datetime.now(UTC) - timedelta(days=1, hours=1)
    leaf = signing.sign_leaf(ca, ca_key, key, peer_name(role, VOLUME, pair_uid("")), now=then, days=1)
    place.mkdir()
    (place / "ca.crt").write_bytes((keys / "ca.crt").read_bytes())
    (place / "tls.crt").write_bytes(signing.pem_of(leaf))
    (place / "tls.key").write_bytes(signing.pem_of(key))
    return place


def test_who_cannot_show_a_certificate_is_told_why(
    source: Path, target: Path, keys: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other, pair = tmp_path / "other", tmp_path / "pair"
    assert main(["keys", str(other)]) == 0
    assert main(["keys", str(pair), "--pair", "accounts"]) == 0
    with serving(target, keys / "target") as there:

        def said(*arguments: str) -> str:
            capsys.readouterr()
            assert main(["mirror", str(source), there.address, *arguments]) == 1
            return capsys.readouterr().err

        assert "PeerNotTrusted" in said("--keys", str(other / "source")), "another CA"
        assert "has expired" in said("--keys", str(expired(tmp_path / "old", keys, Role.SOURCE)))
        assert "not that of this side" in said("--keys", str(keys / "target"))
        assert "not that of this side" in said("--keys", str(pair / "source")), "another pair's"
        assert "--pair" in said("--keys", str(keys / "source"), "--pair", "accounts")
        assert "expected tls.crt" in said("--keys", str(tmp_path))
        assert there.stop() == 0
        assert "NoServer" in said("--keys", str(keys / "source"))
    assert "NoSuchHost" in run("mirror", source, "nobody.invalid:7460", "--keys", keys / "source").stderr
    assert list(target.iterdir()) == []


def test_a_serve_whose_own_certificate_is_no_good_does_not_begin(
    target: Path, keys: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = expired(tmp_path / "old", keys, Role.TARGET)
    assert main(["serve", str(target), "--listen", "127.0.0.1:0", "--keys", str(old)]) == 1
    assert "has expired" in capsys.readouterr().err
    assert main(["serve", str(target), "--listen", "127.0.0.1:0", "--keys", str(keys / "source")]) == 1
    assert not target.exists()


def test_a_source_of_another_pair_is_not_let_in(source: Path, target: Path, keys: Path, tmp_path: Path) -> None:
    """Of the same CA, so that only the name in its certificate tells."""
    assert main(["keys", str(keys), "--pair", "accounts"]) == 0
    accounts = tmp_path / "accounts"
    (keys / "source").rename(accounts)
    assert main(["keys", str(keys)]) == 0
    with serving(target, keys / "target") as there:
        refused = main(["mirror", str(source), there.address, "--keys", str(accounts), "--pair", "accounts"])
        assert refused == 1, "the source refuses the target's name"
    assert list(target.iterdir()) == []


# -- interrupted


SLOWLY = ("--bwlimit", "30Mi", "--compress", "off")
"""So that there is a middle, however fast the machine is."""


def big(source: Path) -> None:
    """`many` is sent first, and the large file takes a while."""
    trees.many(source / "many", 400)
    (source / "zeta").mkdir()
    (source / "zeta" / "large").write_bytes(os.urandom(96 << 20))


def test_a_source_that_is_killed_goes_on_at_the_next_run(
    source: Path, target: Path, keys: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    big(source)
    with serving(target, keys / "target") as there:
        client = start("mirror", source, there.address, "--keys", keys / "source", "--quiet", *SLOWLY)
        until(lambda: (target / "many").exists() or client.poll() is not None)
        client.kill()
        client.communicate()
        assert client.returncode == -signal.SIGKILL
        # The serving side goes on, and knows at once that the source has gone.
        assert mirror(source, there, keys, "--json") == 0
        assert there.process.poll() is None
    equal(source, target)


def test_a_serve_that_is_killed_is_told_and_the_next_run_goes_on(source: Path, target: Path, keys: Path) -> None:
    big(source)
    with serving(target, keys / "target") as there:
        client = start("mirror", source, there.address, "--keys", keys / "source", "--json", *SLOWLY)
        until(lambda: (target / "many").exists() or client.poll() is not None)
        there.process.kill()
        out, _ = client.communicate(timeout=30)
        assert client.returncode == 1
        assert result(out)["reason"] == "Disconnected"
    with serving(target, keys / "target") as there:
        assert mirror(source, there, keys) == 0
    equal(source, target)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_source_says_goodbye(number: signal.Signals, source: Path, target: Path, keys: Path) -> None:
    big(source)
    with serving(target, keys / "target") as there:
        client = start("mirror", source, there.address, "--keys", keys / "source", "--quiet", *SLOWLY)
        until(lambda: (target / "many").exists() or client.poll() is not None)
        client.send_signal(number)
        _, said = client.communicate(timeout=30)
        assert client.returncode == 130
        assert "the next run goes on" in said
        assert there.line()["type"] == "connected"
        ended = there.line()
        # A goodbye waits for half a second at most, which a busy machine may not keep.
        assert (ended["type"], ended["reason"]) in [("ended", None), ("ended", "Disconnected")]


def test_a_serve_that_is_told_to_stop_keeps_what_has_come(source: Path, target: Path, keys: Path) -> None:
    big(source)
    with serving(target, keys / "target") as there:
        client = start("mirror", source, there.address, "--keys", keys / "source", "--quiet", *SLOWLY)
        until(lambda: (target / "many").exists() or client.poll() is not None)
        assert there.stop() == 0
        client.communicate(timeout=30)
        assert client.returncode == 1
    assert (target / ".storagemirror" / "pair.json").exists()
    assert json.loads((target / ".storagemirror" / "pair.json").read_text())["open"] is False


def test_a_second_source_is_told_that_the_target_is_busy(
    source: Path, target: Path, keys: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("storagemirror.cli.ends.BUSY_SECONDS", 0.5)
    (source / "file").write_text("content")
    with serving(target, keys / "target") as there:
        from storagemirror.cli import ends
        from storagemirror.fs.source import SourceVolume
        from storagemirror.sync.observer import SilentObserver

        with (
            SourceVolume.open(str(source)) as volume,
            ends.opened(volume, ends.address(there.address), ends.Terms(), SilentObserver(), keys=str(keys / "source")),
        ):
            assert mirror(source, there, keys) == 1
            assert "TargetBusy" in capsys.readouterr().err
        assert mirror(source, there, keys) == 0
    equal(source, target)
