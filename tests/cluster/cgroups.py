"""Control groups: where a cluster's processes are kept, frozen, found and ended.

Every process of a cluster is started inside a leaf below `<prefix>-cp` or `<prefix>-n1`, so that what a killed run
left is found by looking, without any record. The kubelet puts its pods below `<prefix>-n1` as well.

On a machine with cgroup v1 (or hybrid) the freezer hierarchy is the one that holds our processes, and the kubelet's
root is made in every hierarchy. The v2 part is written from the documentation and has NOT been tried.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from abc import ABC, abstractmethod
from pathlib import Path

from tests.cluster.command import wait_for
from tests.cluster.errors import Unsupported

ROOT = Path("/sys/fs/cgroup")
_V1_NEEDED = ("cpu", "cpuacct", "cpuset", "memory", "pids", "devices", "freezer", "blkio", "systemd")

STUCK_SECONDS = 2.0
"""A process that is not stopped within so long is looked at."""


class Cgroups(ABC):
    """The machine's cgroups, as far as a cluster needs them. `group` is a path such as "sm-n1" or "sm-cp/etcd"."""

    @abstractmethod
    def make(self, group: str) -> None:
        """Make the group (and those above it) fit to hold processes of ours."""

    @abstractmethod
    def make_kubelet_root(self, group: str) -> None:
        """Make the group in every hierarchy, with the controllers the kubelet wants."""

    @abstractmethod
    def directory(self, group: str) -> Path:
        """Where the processes of the group are listed."""

    @abstractmethod
    def freeze(self, group: str, frozen: bool) -> None:
        """Stop or continue everything in and below the group; returns when it is so."""

    @abstractmethod
    def remove(self, group: str) -> None:
        """Remove the empty group and all below it, everywhere."""

    @abstractmethod
    def tops(self) -> list[str]:
        """The names of all groups directly below a root."""

    def pids(self, group: str) -> list[int]:
        """Processes in and below the group."""
        found: set[int] = set()
        for where, _, _ in os.walk(self.directory(group)):
            with contextlib.suppress(OSError):
                found.update(int(p) for p in (Path(where) / "cgroup.procs").read_text().split())
        return sorted(found)

    def kill(self, group: str, seconds: float = 20) -> None:
        """SIGKILL everything in and below the group and wait until nothing is left; a frozen group is thawed."""
        if not self.directory(group).exists():
            return
        deadline = time.monotonic() + seconds
        while self.pids(group) and time.monotonic() < deadline:
            for pid in self.pids(group):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.freeze(group, False)
            time.sleep(0.02)


class CgroupsV1(Cgroups):
    """One tree per controller; the freezer's is ours."""

    def _hierarchies(self) -> list[Path]:
        return [ROOT / name for name in (*_V1_NEEDED, "unified") if (ROOT / name).is_dir()]

    def directory(self, group: str) -> Path:
        return ROOT / "freezer" / group

    def make(self, group: str) -> None:
        self.directory(group).mkdir(parents=True, exist_ok=True)

    def make_kubelet_root(self, group: str) -> None:
        for hierarchy in self._hierarchies():
            (hierarchy / group).mkdir(exist_ok=True)
        for name in ("cpuset.cpus", "cpuset.mems"):
            (ROOT / "cpuset" / group / name).write_text((ROOT / "cpuset" / name).read_text())

    def freeze(self, group: str, frozen: bool) -> None:
        state = self.directory(group) / "freezer.state"
        wanted = "FROZEN" if frozen else "THAWED"
        state.write_text(wanted)
        end = time.monotonic() + STUCK_SECONDS

        def there() -> bool:
            if state.read_text().strip() == wanted:
                return True
            # Who waits for a disk (a volume that is frozen, say) is stopped only when it goes on: it does nothing.
            return frozen and time.monotonic() > end and all(map(_waits, self.pids(group)))

        wait_for(f"{group} to be {wanted}", there, 10, every=0.01)

    def remove(self, group: str) -> None:
        for hierarchy in self._hierarchies():
            _remove_tree(hierarchy / group)

    def tops(self) -> list[str]:
        return sorted({d.name for h in self._hierarchies() for d in h.iterdir() if d.is_dir()})


class CgroupsV2(Cgroups):
    """The unified tree. UNTESTED: no machine with it was at hand."""

    def directory(self, group: str) -> Path:
        return ROOT / group

    def make(self, group: str) -> None:
        self.directory(group).mkdir(parents=True, exist_ok=True)

    def make_kubelet_root(self, group: str) -> None:
        self.make(group)
        for above in (ROOT, ROOT / group):
            have = (above / "cgroup.controllers").read_text().split()
            for controller in ("cpuset", "cpu", "io", "memory", "pids"):
                if controller in have:
                    (above / "cgroup.subtree_control").write_text(f"+{controller}")

    def freeze(self, group: str, frozen: bool) -> None:
        (self.directory(group) / "cgroup.freeze").write_text("1" if frozen else "0")
        events = self.directory(group) / "cgroup.events"
        wait_for(f"{group} to be frozen: {frozen}", lambda: f"frozen {int(frozen)}" in events.read_text(), 10)

    def remove(self, group: str) -> None:
        _remove_tree(ROOT / group)

    def tops(self) -> list[str]:
        return sorted(d.name for d in ROOT.iterdir() if d.is_dir())


def _waits(pid: int) -> bool:
    """Whether each thread of a process is stopped or waits for a disk; one that has ended is no trouble."""
    try:
        states = [
            (task / "stat").read_text().rpartition(")")[2].split()[0] for task in Path(f"/proc/{pid}/task").iterdir()
        ]
    except (FileNotFoundError, ProcessLookupError):
        return True
    return all(state in "DZX" for state in states)


def _remove_tree(top: Path) -> None:
    """rmdir from the leaves up; a group whose last process is just going is tried again for a second."""
    if not top.is_dir():
        return
    for where, _, _ in os.walk(top, topdown=False):
        for _ in range(50):
            try:
                Path(where).rmdir()
                break
            except FileNotFoundError:
                break
            except OSError:
                time.sleep(0.02)


def machine_cgroups() -> Cgroups:
    """The kind this machine has; raises Unsupported where it is neither."""
    if (ROOT / "cgroup.controllers").exists():
        return CgroupsV2()
    missing = [name for name in ("freezer", "cpuset", "memory", "pids") if not (ROOT / name).is_dir()]
    if missing:
        raise Unsupported(
            f"expected cgroup v1 or v2 below {ROOT}; no hierarchy for {', '.join(missing)}",
            hint="mount the cgroup hierarchies, or run on a machine that has them",
        )
    return CgroupsV1()


def inside(directory: Path, words: list[str]) -> list[str]:
    """The command that runs `words` inside the group of this directory, from its first instruction on."""
    return ["sh", "-c", 'echo $$ > "$0/cgroup.procs" && exec "$@"', str(directory), *words]
