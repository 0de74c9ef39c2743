"""Processes of the control plane: each in a cgroup of its own, so that it is found and ended without any record."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.cluster.cgroups import Cgroups, inside
from tests.cluster.layout import CONTROL_PLANE, Layout, checkout
from tests.cluster.network import enter


class Services:
    """Starts, finds and ends named processes of one cluster's control plane."""

    def __init__(self, layout: Layout, cgroups: Cgroups) -> None:
        self._layout = layout
        self._cgroups = cgroups

    def start(self, name: str, words: Sequence[str | Path], *, network: str | None = CONTROL_PLANE) -> None:
        """Start a process in the network of the control plane, of a node, or (None) in the machine's own, with its
        log in the state directory. One that runs already is left alone."""
        if self.running(name):
            return
        group = self._group(name)
        self._cgroups.make(group)
        argv = [str(word) for word in words]
        if network is not None:
            argv = enter(self._layout.netns(network), *argv)
        self._layout.logs.mkdir(parents=True, exist_ok=True)
        with (self._layout.logs / f"{name}.log").open("ab") as log:
            subprocess.Popen(
                inside(self._cgroups.directory(group), argv),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd="/",
            )

    def running(self, name: str) -> bool:
        """Whether any process of that name is alive."""
        return any(_alive(pid) for pid in self._cgroups.pids(self._group(name)))

    def stop(self, name: str) -> None:
        """End it the hard way and wait until it is gone."""
        self._cgroups.kill(self._group(name))

    def log_tail(self, name: str, size: int = 1500) -> str:
        """The end of its log."""
        path = self._layout.logs / f"{name}.log"
        return path.read_bytes()[-size:].decode(errors="replace") if path.exists() else ""

    def _group(self, name: str) -> str:
        return f"{self._layout.cgroup(CONTROL_PLANE)}/{name}"


def own_module(module: str, *words: str) -> list[str]:
    """The command that runs a module of this package with this interpreter, from wherever."""
    return ["env", f"PYTHONPATH={checkout()}", sys.executable, "-m", module, *words]


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in ("Z", "X")
    except OSError:
        return False
