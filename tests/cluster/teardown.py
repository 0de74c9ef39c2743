"""Leaving nothing: whatever a cluster of this prefix has on the machine is found by looking, and removed."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.cgroups import Cgroups
from tests.cluster.command import run, say
from tests.cluster.errors import ClusterError
from tests.cluster.filesystems import detach, loop_devices, thaw
from tests.cluster.layout import VOLUME_ROOT, Layout


@dataclass(frozen=True)
class Leftovers:
    """What of a cluster exists on the machine, each as a person would name it."""

    processes: tuple[int, ...]
    cgroups: tuple[str, ...]
    mounts: tuple[str, ...]
    loop_devices: tuple[str, ...]
    state: tuple[str, ...]

    def __bool__(self) -> bool:
        return any((self.processes, self.cgroups, self.mounts, self.loop_devices, self.state))


def look(layout: Layout, cgroups: Cgroups) -> Leftovers:
    """Everything of this prefix, found without any record."""
    groups = tuple(name for name in cgroups.tops() if layout.owns_cgroup(name))
    return Leftovers(
        processes=tuple(pid for group in groups for pid in cgroups.pids(group)),
        cgroups=groups,
        mounts=tuple(_mounts_below(layout.state)),
        loop_devices=tuple(loop_devices(layout.state)),
        state=(str(layout.state),) if layout.state.exists() else (),
    )


def tear_down(layout: Layout, cgroups: Cgroups) -> None:
    """Remove all of it; raises ClusterError that names what resisted, when all else is gone."""
    found = look(layout, cgroups)
    for pid in found.processes:
        _thaw_volumes(Path(f"/proc/{pid}/root{VOLUME_ROOT}"))
    for group in found.cgroups:
        cgroups.kill(group)
    for point in reversed(list(_mounts_below(layout.state))):
        run("umount", "-l", point, check=False)
    resisted = []
    for device in loop_devices(layout.state):
        try:
            detach(device)
        except ClusterError as e:
            resisted.append(e.message)
    for group in found.cgroups:
        cgroups.remove(group)
    shutil.rmtree(layout.state, ignore_errors=True)
    left = look(layout, cgroups)
    if left:
        raise ClusterError(
            f"something of the cluster {layout.prefix!r} stays: {left} {'; '.join(resisted)}".rstrip(),
            hint="run `down` again; a process in state D (see ps) is waiting for its disk",
        )
    if found:
        say(f"removed: {len(found.processes)} processes, {len(found.cgroups)} cgroups, "
            f"{len(found.mounts)} mounts, {len(found.loop_devices)} loop devices")  # fmt: skip


def _mounts_below(directory: Path) -> Iterator[str]:
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        point = line.split()[4].encode().decode("unicode_escape")
        if Path(point).is_relative_to(directory):
            yield point


def _thaw_volumes(place: Path) -> None:
    """A process that waits for a frozen file system cannot be killed before it thaws."""
    with contextlib.suppress(OSError):
        for volume in place.iterdir():
            thaw(volume)
