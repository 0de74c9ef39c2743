"""The rounds of a case: the tools one after the other, again and again, and after each run the proof that it worked.

Every run starts with memory that is this machine's own (`ownmemory`), with nothing of the run before waiting to be
written (syncfs), and with the source, and of a change the target too, in the page cache. A first copy goes into a
directory that was never there before, and its directory stays until all of D1 is done: on ext4, making files right
after deleting many is slow for a reason that has nothing to do with the copier. (A few large files are deleted at once,
else they would fill the disk.) For changes each tool has a target of its own, which it made itself.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench.mirror.cases import Case
from tests.bench.mirror.datasets import D1, DataSet
from tests.bench.mirror.ownmemory import Held
from tests.bench.mirror.processes import Failed, Measured, measure, sync_of
from tests.bench.mirror.results import Outcome
from tests.bench.mirror.tools import Ours, Tool

JUDGE = ("rsync", "-anciHAX", "--delete", "--exclude=/.storagemirror", "--exclude=/lost+found")
_ROOT = b" ./"
"""End of the judge's line about the root itself: VolSync's passes leave that alone on purpose."""
_READ = 4 << 20


@dataclass
class Workshop:
    """Where sources and targets lie: one directory, all of it ours, on the file system that is measured."""

    base: Path
    scale: float
    commands: dict[str, list[str]] = field(default_factory=dict)
    """Of each tool, as they were run; paths made short."""
    memory: Held = field(default_factory=Held)
    holds: bool = False
    """Whether memory is held: only where nobody else needs it."""
    _made: set[str] = field(default_factory=set)
    _targets: dict[str, Path] = field(default_factory=dict)

    def source(self, data: DataSet) -> Path:
        """Made the first time it is asked for."""
        path = self.base / data.name / "source"
        if data.name not in self._made:
            path.mkdir(parents=True)
            data.make(path, self.scale)
            self._made.add(data.name)
        return path

    def run(self, case: Case, rounds: int) -> Outcome:
        """All rounds of it. Raises `Failed` when a tool fails, or leaves something unequal."""
        outcome = Outcome(case.key, case.title, {peer.tool.name: (peer.bar, peer.aim) for peer in case.peers})
        tools: list[Tool] = [Ours(), *(peer.tool for peer in case.peers)]
        source = self.source(case.data)
        if case.change is not None:
            for tool in tools:
                self._ready(case.data, tool, source)
        for number in range(rounds):
            if case.change is not None:
                case.change.make(source, self.scale, number)
            turn = number % len(tools)
            for tool in tools[turn:] + tools[:turn]:  # nobody is always the first
                self._once(outcome, case, tool, source, number)
        return outcome

    def forget(self, data: DataSet) -> None:
        """Give the room back that a data set and its targets take."""
        shutil.rmtree(self.base / data.name, ignore_errors=True)
        self._made.discard(data.name)
        for name in [name for name in self._targets if name.startswith(f"{data.name} ")]:
            del self._targets[name]

    def _once(self, outcome: Outcome, case: Case, tool: Tool, source: Path, number: int) -> None:
        if case.change is None:
            target = self._fresh(case.data, f"{case.key}-{number}-{_short(tool)}")
            read_all(source)
        else:
            target = self._targets[f"{case.data.name} {tool.name}"]
            read_all(source)
            read_all(target)
        outcome.add(tool.name, self._measured(tool, source, target))
        prove_equal(tool, source, target)
        if case.change is None and case.data is not D1:
            shutil.rmtree(target)

    def _measured(self, tool: Tool, source: Path, target: Path) -> Measured:
        plan = tool.plan(source, target, self._scratch(tool))
        sync_of(self.base)
        told = [str(command) for command in (*plan.servers, *plan.clients)]
        self.commands.setdefault(tool.name, [self._shortened(line, source, target) for line in told])
        if self.holds:
            self.memory.fetch()
        with self.memory.giving():
            return measure(plan, target, self.base / "log")

    def _ready(self, data: DataSet, tool: Tool, source: Path) -> None:
        """The target of a tool for changes: as the source is now."""
        name = f"{data.name} {tool.name}"
        if name not in self._targets:
            self._targets[name] = self._fresh(data, f"changes-{_short(tool)}")
        self._measured(tool, source, self._targets[name])
        prove_equal(tool, source, self._targets[name])

    def _fresh(self, data: DataSet, name: str) -> Path:
        path = self.base / data.name / name
        path.mkdir()
        return path

    def _scratch(self, tool: Tool) -> Path:
        path = self.base / f"scratch-{_short(tool)}"
        path.mkdir(exist_ok=True)
        return path

    def _shortened(self, line: str, source: Path, target: Path) -> str:
        programs = f"{Path(sys.executable).parent}/"
        for long, short in ((str(source), "SRC"), (str(target), "DST"), (f"{self.base}/", ""), (programs, "")):
            line = line.replace(long, short)
        return line


def prove_equal(tool: Tool, source: Path, target: Path) -> None:
    """`Failed` unless rsync finds no difference, contents included."""
    done = subprocess.run([*JUDGE, f"{source}/", f"{target}/"], check=False, capture_output=True)
    lines = [
        line for line in done.stdout.splitlines() if not (line.endswith(_ROOT) and tool.name.startswith("VolSync"))
    ]
    if done.returncode or lines:
        found = b"\n".join(lines[:10]).decode(errors="replace")
        raise Failed(f"{tool.name} left differences, says rsync ({done.returncode}):\n{found}")


def read_all(root: Path) -> None:
    """Look at and read everything below, so that it is in the page cache (as far as that goes)."""
    buffer = bytearray(_READ)
    for _, _, names, directory in os.fwalk(root):
        for name in names:
            fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=directory)
            try:
                while os.readv(fd, [buffer]):
                    pass
            finally:
                os.close(fd)


def _short(tool: Tool) -> str:
    return "-".join("".join(letter if letter.isalnum() else " " for letter in tool.name.lower()).split())
