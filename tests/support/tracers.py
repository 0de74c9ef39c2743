"""Tracers as processes, and engines without CAP_SYS_ADMIN that use them."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from storagemirror.fs.trace.handover import SOCKET_NAME
from storagemirror.fs.trace.tracefs import PREFIX, open_tracefs, sweep
from tests.cluster.layout import checkout
from tests.support.guards import until

ENGINE = ("setpriv", "--bounding-set=-all,+dac_override,+fowner", "--inh-caps=-all", "--")
"""Runs a command as the engine's container is: root, with the capabilities of a source agent."""
TRACER = ("setpriv", "--bounding-set=-all,+sys_admin,+dac_read_search", "--inh-caps=-all", "--")


@dataclass
class Tracers:
    """The tracer of a volume, as a container would run it, and those that follow it."""

    volume: Path
    shared: Path
    log: Path
    uid: str
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self, *prefix: str, ready: bool = True) -> subprocess.Popen[bytes]:
        """One more, listening where `ready`. `prefix` goes before the command in the place of `TRACER`."""
        words = ["--volume", str(self.volume), "--shared", str(self.shared), "--uid", self.uid]
        command = [*(prefix or TRACER), sys.executable, "-m", "storagemirror.cli.main", "tracer", *words]
        env = {**os.environ, "PYTHONPATH": f"{checkout() / 'operator'}:{checkout()}"}
        with self.log.open("ab") as log:
            made = subprocess.Popen(command, env=env, stderr=log)
        self.processes.append(made)
        if ready:
            until(self._listens)
        return made

    def _listens(self) -> bool:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as engine:
            return engine.connect_ex(str(self.shared / SOCKET_NAME)) == 0

    @property
    def instance(self) -> bool:
        """Whether the kernel has one of the tracer's name."""
        return PREFIX + self.uid in instances()

    def write(self, path: str, text: str) -> None:
        """A setting of the instance, as somebody else on the node sets it."""
        tracefs = open_tracefs()
        fd = os.open(f"instances/{PREFIX}{self.uid}/{path}", os.O_WRONLY, dir_fd=tracefs)
        os.write(fd, text.encode())
        os.close(fd)
        os.close(tracefs)

    def end(self) -> None:
        """Kill all, and leave nothing in the kernel."""
        for process in self.processes:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGCONT)
            process.kill()
            process.wait()
        sweep()


@contextmanager
def tracers(directory: Path, volume: Path) -> Iterator[Tracers]:
    """None runs yet. Their shared directory and log are in `directory`."""
    shared = directory / "tracer-shared"
    shared.mkdir()
    made = Tracers(
        volume, shared, directory / "tracer.log", f"test-{os.getpid()}-{directory.name[:40]}".replace("_", "-")
    )
    made.log.touch()
    try:
        yield made
    finally:
        made.end()


def instances() -> list[str]:
    """Of all traces in the kernel."""
    tracefs = open_tracefs()
    try:
        fd = os.open("instances", os.O_RDONLY | os.O_DIRECTORY, dir_fd=tracefs)
        try:
            return os.listdir(fd)
        finally:
            os.close(fd)
    finally:
        os.close(tracefs)
