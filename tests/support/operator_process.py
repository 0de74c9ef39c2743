"""The operator as a process of its own, against a real API server."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from tests.support.apiserver import free_ports

HOME = "storagemirror-system"
"""Namespace of the operator."""
IMAGE = "storagemirror:test"
TICKS = os.sysconf("SC_CLK_TCK")


class OperatorProcess:
    """`storagemirror operator` with the given kubeconfig; its log is a file in `directory`."""

    def __init__(self, directory: Path, kubeconfig: Path, *, namespace: str, resync: float = 60.0) -> None:
        self._dir = directory
        self._kubeconfig = kubeconfig
        self._namespace = namespace
        self._resync = resync
        self._process: subprocess.Popen[bytes] | None = None
        self.port, self.metrics_port = free_ports(2)

    def start(self) -> None:
        """Start it; does not wait."""
        words = [
            *("setpriv", "--pdeathsig", "KILL", "--", sys.executable, "-m", "storagemirror.cli.main", "operator"),
            *("--namespace", self._namespace, "--image", IMAGE, "--health-port", str(self.port)),
            *("--metrics-port", str(self.metrics_port)),
            *("--resync", str(self._resync), "--lease", "4"),
        ]
        kept = {k: v for k, v in os.environ.items() if not k.startswith("KUBERNETES_")}
        environment = kept | {"KUBECONFIG": str(self._kubeconfig), "PYTHONPATH": "operator"}
        with (self._dir / "operator.log").open("ab") as log:
            self._process = subprocess.Popen(words, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def log(self) -> str:
        """What it has said so far."""
        path = self._dir / "operator.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def kill(self) -> None:
        """As the kernel does it: no word of farewell."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """As the kubelet does it; returns the exit status."""
        return self._end(signal.SIGTERM)

    def _end(self, how: signal.Signals) -> int:
        if self._process is None:
            return 0
        self._process.send_signal(how)
        try:
            return self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(5)
            raise

    def health(self) -> tuple[int, str]:
        """Status and body of /healthz."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/healthz", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as e:
            return e.code, e.read().decode()

    def metrics(self) -> str:
        """What Prometheus would read."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=5) as answer:
            text: str = answer.read().decode()
            return text

    def resident_mb(self) -> float:
        """Resident memory, 10^6 bytes."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6

    def cpu_seconds(self) -> float:
        """User and system time so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS


def eventually(what: str, check: Callable[[], object], seconds: float = 20.0) -> None:
    """Wait until `check` is true; AssertionError names what never came."""
    end = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < end, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.1)
