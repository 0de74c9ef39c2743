"""A maker of points on a real volume, really frozen, with a model of its target."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from storagemirror.clock import SystemClock
from storagemirror.fs.blocks import PIECE
from storagemirror.fs.source import SourceVolume
from storagemirror.fs.trace import MEMORY, Trace, open_trace
from storagemirror.sync.pointmaker.capturing import WatchCapture
from storagemirror.sync.pointmaker.making import Maker
from storagemirror.sync.pointmaker.standstill import Limits
from storagemirror.sync.pointmaker.tracing import TraceCapture
from storagemirror.sync.watch import TreeWatch
from tests.cluster.layout import checkout
from tests.support.freezes import DirectFreezer
from tests.support.pointmodel import Model, Node, differences, read_tree

PATIENT = Limits(max_stall=30.0)
"""While it is frozen the test reads all of the volume."""


@contextmanager
def storm(directory: Path, *kinds: str) -> Iterator[None]:
    """A writer of each kind, until the end."""
    command = [sys.executable, "-m", "tests.support.pointstorm", str(directory)]
    running = [
        subprocess.Popen([*command, str(number), kind], cwd=checkout(), env={**os.environ, "PYTHONPATH": "operator"})
        for number, kind in enumerate(kinds)
    ]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


class Run:
    """A maker of points of `root`, a model of its target, and what the volume held at each point."""

    def __init__(self, root: Path, limits: Limits = PATIENT, opens: Callable[[int], Trace] | None = None) -> None:
        """`opens` gives the kernel's trace of an open directory; None: by inotify alone."""
        self.root = root
        self.volume = SourceVolume.open(str(root))
        self.kind = self.volume.facts().fs_type
        self.watch = TreeWatch(self.volume.tree)
        self.watch.start()
        self.freezer = DirectFreezer(str(root), self.see)
        self.clock = SystemClock()
        self.truth: Node | None = None
        self.traced: TraceCapture | None = None
        if opens is not None:
            self.traced = TraceCapture(self.watch, lambda: opens(self.volume.tree.root), self.clock)
        capture = self.traced or WatchCapture(self.watch)
        self.maker = Maker(self.volume, capture, self.freezer, self.clock, limits)

    def see(self) -> None:
        self.truth = read_tree(str(self.root))

    def mirror(self) -> Model:
        """As a mirror does it: all is read while it is written."""
        began = self.clock.now_ns()
        self.volume.sync()
        self.model = Model(read_tree(str(self.root)))
        self.maker.begin(self.model, began)
        return self.model

    def point(self) -> list[str]:
        """What differs at the next point."""
        self.truth = None
        self.maker.make(self.model)
        assert self.truth is not None
        return differences(self.truth, self.model.root)

    def prove(self) -> None:
        """Have the trace, where there is one, compared with what changes: it is relied on from then on."""
        if self.traced is None:
            return
        proof = self.root / "proof"
        for number in range(3):
            with proof.open("r+b" if number else "wb") as file:
                file.write(os.urandom(4096 if number else 2 * PIECE))
            assert self.point() == []
        assert self.traced.names_pages, self.traced.reason

    def close(self) -> None:
        if self.traced is not None:
            self.traced.close()
        self.watch.close()
        self.volume.close()


def traced(root: Path, memory: int = MEMORY) -> Run:
    """By the kernel's trace, too; with so many bytes of ring buffer."""
    return Run(root, PATIENT, lambda fd: open_trace(fd, f"test-{os.getpid()}-points", memory=memory))
