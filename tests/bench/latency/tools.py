"""The tools that carry changes, each as its user runs it; their command lines and settings are printed.

Ours encrypts, keeps owners, ACLs, extended attributes and hard links, and makes what it says durable. lsyncd runs
rsync with `-aHAX --inplace` to an rsync daemon without encryption, which is less work than any real use of it;
`--modify-window=-1`, since rsync takes two changes within one second for one otherwise.
Syncthing encrypts, and keeps neither owners nor extended attributes in this version. Both have no network but loopback.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from storagemirror.contract import Phase
from tests.support.agents import AgentPair
from tests.support.smallapi import SmallApi

OURS = "storagemirror"
_JUDGE = ("rsync", "-anciHAX", "--delete", "--exclude=/.storagemirror", "--exclude=/lost+found")
_JUDGE_OF_CONTENT = ("rsync", "-rlcn", "--itemize-changes", "--delete", "--exclude=/.stfolder")


class Missing(Exception):
    """A program is not installed."""


class Tool(Protocol):
    """Carries what happens in one directory to another."""

    @property
    def name(self) -> str:
        """In the table."""
        ...

    @property
    def judge(self) -> Sequence[str]:
        """The command that must find no difference in the end."""
        ...

    def said(self) -> list[str]:
        """Command lines and settings, without paths of this machine."""
        ...

    def running(self, source: Path, target: Path, scratch: Path) -> Iterator[None]:
        """Up, until the end; `scratch` is kept from one run of a tool to the next."""
        ...


@dataclass(frozen=True)
class Ours:
    """Two agents under the tests' API server, `Live`."""

    name: str = OURS
    judge: Sequence[str] = _JUDGE

    def said(self) -> list[str]:
        """See `Tool`."""
        return ["storagemirror agent  # source: consistency Live", "storagemirror agent  # target"]

    def running(self, source: Path, target: Path, scratch: Path) -> Iterator[None]:
        """See `Tool`."""
        with agents(scratch) as pair:
            pair.source.volume, pair.target.volume = source, target
            pair.start()
            pair.until(Phase.REPLICATING, 120)
            yield


@contextmanager
def agents(scratch: Path) -> Iterator[AgentPair]:
    """A pair that does not run yet, its volumes in `scratch` unless others are given; ended in the end."""
    here = scratch / f"agents{time.monotonic_ns()}"
    here.mkdir(parents=True)
    api = SmallApi(here)
    pair = AgentPair(here, "shop", lambda role: api)
    try:
        yield pair
    finally:
        pair.close()
        api.stop()


@dataclass(frozen=True)
class Lsyncd:
    """lsyncd, which gathers names for `delay` seconds and runs rsync."""

    delay: int
    judge: Sequence[str] = _JUDGE

    @property
    def name(self) -> str:
        return f"lsyncd, delay {self.delay} s"

    def said(self) -> list[str]:
        """See `Tool`."""
        return [
            "rsync --daemon --no-detach --config=rsyncd.conf --port=PORT",
            "lsyncd -nodaemon lsyncd.conf.lua",
            " ".join(self._settings("SRC", "PORT").split()),
        ]

    def _settings(self, source: str, port: object) -> str:
        return f"""
            settings {{ nodaemon = true, insist = true }}
            sync {{ default.rsync, source = "{source}", target = "rsync://127.0.0.1:{port}/data/", delay = {self.delay},
              rsync = {{ archive = true, acls = true, xattrs = true, hard_links = true, inplace = true,
                _extra = {{ "--modify-window=-1" }} }} }}
        """

    def running(self, source: Path, target: Path, scratch: Path) -> Iterator[None]:
        """See `Tool`."""
        scratch.mkdir(exist_ok=True)
        port = _free_port()
        (scratch / "rsyncd.conf").write_text(
            "address = 127.0.0.1\nuse chroot = false\nnumeric ids = true\nreverse lookup = false\nread only = false\n"
            f"uid = 0\ngid = *\nmax verbosity = 0\n[data]\npath = {target}\n"
        )
        (scratch / "lsyncd.conf.lua").write_text(self._settings(str(source), port))
        daemon = ["rsync", "--daemon", "--no-detach", f"--config={scratch}/rsyncd.conf", f"--port={port}"]
        with _processes(scratch, daemon, ["lsyncd", "-nodaemon", str(scratch / "lsyncd.conf.lua")]):
            yield


@dataclass(frozen=True)
class Syncthing:
    """Two Syncthing processes, one that only sends and one that only receives; the first waits `delay` seconds for
    further events of a file."""

    delay: int
    judge: Sequence[str] = _JUDGE_OF_CONTENT

    @property
    def name(self) -> str:
        return f"Syncthing, fsWatcherDelayS {self.delay}"

    def said(self) -> list[str]:
        """See `Tool`."""
        return [
            "syncthing serve --home=HOME --no-browser --no-upgrade --no-restart  # one for each side",
            f"fsWatcherDelayS={self.delay} fsWatcherEnabled=true setLowPriority=false, no discovery, no relays, no NAT",
        ]

    def running(self, source: Path, target: Path, scratch: Path) -> Iterator[None]:
        """See `Tool`."""
        homes = [scratch / "syncthing-source", scratch / "syncthing-target"]
        ports = [_free_port(), _free_port()]
        ids = [_device(home) for home in homes]
        for side, (home, path, kind) in enumerate(
            zip(homes, (source, target), ("sendonly", "receiveonly"), strict=True)
        ):
            (path / ".stfolder").mkdir(exist_ok=True)
            tree = self._config(path, kind, ids, ports, side)
            ElementTree.ElementTree(tree).write(home / "config.xml")
        serve = ["syncthing", "serve", "--no-browser", "--no-upgrade", "--no-restart"]
        with _processes(scratch, *[[*serve, f"--home={home}"] for home in homes]):
            yield

    def _config(self, path: Path, kind: str, ids: list[str], ports: list[int], side: int) -> ElementTree.Element:
        root = ElementTree.Element("configuration", version="36")
        folder = ElementTree.SubElement(
            root,
            "folder",
            id="data",
            label="data",
            path=str(path),
            type=kind,
            rescanIntervalS="3600",
            fsWatcherEnabled="true",
            fsWatcherDelayS=str(self.delay),
        )
        for number, (device, port) in enumerate(zip(ids, ports, strict=True)):
            ElementTree.SubElement(folder, "device", id=device)
            known = ElementTree.SubElement(root, "device", id=device, name=f"side{number}")
            ElementTree.SubElement(known, "address").text = f"tcp://127.0.0.1:{port}"
        ElementTree.SubElement(root, "gui", enabled="false")
        options = ElementTree.SubElement(root, "options")
        for name, value in (
            ("listenAddress", f"tcp://127.0.0.1:{ports[side]}"),
            *((off, "false") for off in ("globalAnnounceEnabled", "localAnnounceEnabled", "relaysEnabled")),
            *((off, "false") for off in ("natEnabled", "crashReportingEnabled", "startBrowser", "setLowPriority")),
            ("urAccepted", "-1"),
            ("autoUpgradeIntervalH", "0"),
            ("reconnectionIntervalS", "1"),
        ):
            ElementTree.SubElement(options, name).text = value
        return root


TOOLS: tuple[Tool, ...] = (Ours(), Lsyncd(1), Lsyncd(0), Syncthing(1), Syncthing(10))


def _device(home: Path) -> str:
    """The name that the others know it by; keys are made the first time."""
    if not (home / "cert.pem").exists():
        home.mkdir(parents=True, exist_ok=True)
        _say(["syncthing", "generate", f"--home={home}"])
    return _say(["syncthing", f"--home={home}", "--device-id"])


def _say(words: Sequence[str]) -> str:
    if shutil.which(words[0]) is None:
        raise Missing(f"expected the program {words[0]}: `make bench-latency` installs it")
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()


@contextmanager
def _processes(scratch: Path, *commands: list[str]) -> Iterator[None]:
    """These, until the end; what they say is in `scratch`."""
    with ExitStack() as stack:
        log = stack.enter_context((scratch / "log").open("ab"))
        for words in commands:
            if shutil.which(words[0]) is None:
                raise Missing(f"expected the program {words[0]}: `make bench-latency` installs it")
            process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            stack.callback(_end, process)
        yield


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port
