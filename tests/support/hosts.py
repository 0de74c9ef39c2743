"""`storagemirror serve` as a process, and the other verbs beside it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "storagemirror.cli.main", *map(str, arguments)]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT / "operator")}


def start(*arguments: object) -> subprocess.Popen[str]:
    """Any verb, as a process of its own."""
    pipe = subprocess.PIPE
    # A shell that starts the tests in the background has SIGINT ignored, and that is inherited.
    words = ["env", "--default-signal=INT", *command(*arguments)]
    return subprocess.Popen(words, stdout=pipe, stderr=pipe, text=True, env=environment())


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Any verb, to its end."""
    return subprocess.run(
        command(*arguments), capture_output=True, text=True, check=False, env=environment(), timeout=120
    )


def run_as_nobody(first: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Privileges are given up when all modules are loaded (by what root does with `first`): another user may not be
    able to read this Python."""
    program = (
        "import os, sys; from storagemirror.cli.main import main; "
        "status = main(['mirror', '-q', sys.argv[1], sys.argv[1] + '.copy']); "
        "status = status or main(['verify', '-q', sys.argv[1], sys.argv[1] + '.copy']); "
        "os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534); "
        "sys.exit(status or main(sys.argv[2:]))"
    )
    first.mkdir(exist_ok=True)
    return subprocess.run(
        [sys.executable, "-c", program, str(first), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env=environment(),
        timeout=120,
    )


@dataclass
class Serving:
    """A `serve --json` that listens."""

    process: subprocess.Popen[str]
    host: str
    port: int

    @property
    def address(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def line(self) -> dict[str, object]:
        """What it tells next; {} when it has ended."""
        assert self.process.stdout is not None
        text = self.process.stdout.readline()
        return dict(json.loads(text)) if text else {}

    def stop(self) -> int:
        """SIGTERM; its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)


@contextmanager
def serving(target: Path, keys: Path, *more: object, host: str = "127.0.0.1") -> Iterator[Serving]:
    """Ended at the end, if it has not ended before."""
    listen = f"[{host}]:0" if ":" in host else f"{host}:0"
    process = start("serve", target, "--listen", listen, "--keys", keys, "--json", *more)
    served = Serving(process, host, 0)
    try:
        first = served.line()
        assert first.get("type") == "listening", process.communicate(timeout=10)
        served.port = int(str(first["port"]))
        yield served
    finally:
        if process.poll() is None:
            process.terminate()
        process.communicate(timeout=30)
