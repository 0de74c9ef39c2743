"""`storagemirror serve` as a process, and `storagemirror mirror` to it over TLS; on a narrow link where asked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.cluster.layout import checkout

STORAGEMIRROR = (sys.executable, "-m", "storagemirror.cli.main")


@dataclass(frozen=True)
class Served:
    """A target that waits for one source."""

    address: str
    keys: Path
    process: subprocess.Popen[str]

    def mirror(self, source: Path, *options: str) -> dict[str, Any]:
        """Mirror `source` to it, to the end; what it came to."""
        command = (*STORAGEMIRROR, "mirror", str(source), self.address, "--keys", f"{self.keys}/source", "--json")
        done = subprocess.run([*command, *options], cwd=checkout(), check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        assert self.process.wait(60) == 0
        return result


@contextmanager
def serving(target: Path, directory: Path, *, within: Sequence[str] = (), host: str = "127.0.0.1") -> Iterator[Served]:
    """A target's process, started by the command `within`, that ends after its first source."""
    target.mkdir(exist_ok=True)
    keys = directory / "keys"
    if not keys.exists():
        subprocess.run([*STORAGEMIRROR, "keys", str(keys)], cwd=checkout(), check=True, capture_output=True)
    options = ("serve", str(target), "--listen", f"{host}:0", "--once", "--json", "--keys", f"{keys}/target")
    process = subprocess.Popen([*within, *STORAGEMIRROR, *options], cwd=checkout(), stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        port = json.loads(process.stdout.readline())["port"]
        yield Served(f"{host}:{port}", keys, process)
    finally:
        process.kill()
        process.wait()


@dataclass(frozen=True)
class Link:
    """Who is started with `within` listens at `host`, and what is sent there passes the narrow link."""

    within: tuple[str, ...]
    host: str


@contextmanager
def narrow_link(rate: str) -> Iterator[Link]:
    """A network namespace behind a link of so much (as tc writes it: 80mbit), made by the kernel's own shaper."""
    name = f"smt{os.getpid() % 100_000}"
    near, far = "10.213.0.1", "10.213.0.2"
    _run("ip", "netns", "add", name)
    try:
        _run("ip", "link", "add", f"{name}a", "type", "veth", "peer", "name", f"{name}b", "netns", name)
        _run("ip", "addr", "add", f"{near}/24", "dev", f"{name}a")
        _run("ip", "link", "set", f"{name}a", "up")
        _run("ip", "-n", name, "addr", "add", f"{far}/24", "dev", f"{name}b")
        _run("ip", "-n", name, "link", "set", f"{name}b", "up")
        _run("tc", "qdisc", "add", "dev", f"{name}a", "root", "tbf", "rate", rate, "burst", "64k", "latency", "50ms")
        yield Link(("ip", "netns", "exec", name), far)
    finally:
        _run("ip", "netns", "del", name)


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)
