"""Points of a source on real file systems, really frozen, under writers of every kind: what a point tells is what the
volume held while it was frozen."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from storagemirror.clock import SystemClock
from storagemirror.fs.source import SourceVolume
from storagemirror.sync.pointmaker.capturing import WatchCapture
from storagemirror.sync.pointmaker.making import Limits, Maker, PutOff
from storagemirror.sync.watch import TreeWatch
from tests.cluster.layout import checkout
from tests.support.disks import disk
from tests.support.freezes import DirectFreezer
from tests.support.pointmodel import Model, Node, differences, read_tree

PATIENT = Limits(max_stall=30.0)
"""While it is frozen the test reads all of the volume."""

KINDS = ("ext4", "xfs", "btrfs")


@pytest.fixture(params=KINDS)
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    with disk(tmp_path, request.param, 400) as made:
        (made.path / "here").mkdir()
        yield made.path


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

    def __init__(self, root: Path, limits: Limits = PATIENT) -> None:
        self.root = root
        self.volume = SourceVolume.open(str(root))
        self.watch = TreeWatch(self.volume.tree)
        self.watch.start()
        self.freezer = DirectFreezer(str(root), self._see)
        self.clock = SystemClock()
        self.truth: Node | None = None
        self.maker = Maker(self.volume, WatchCapture(self.watch), self.freezer, self.clock, limits)

    def _see(self) -> None:
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

    def close(self) -> None:
        self.watch.close()
        self.volume.close()


@pytest.fixture
def run(root: Path) -> Iterator[Run]:
    made = Run(root)
    yield made
    made.close()


@pytest.mark.parametrize("kinds", [("content", "content"), ("all", "all")], ids=["content", "all"])
def test_each_point_is_what_the_volume_held_while_frozen(run: Run, kinds: tuple[str, ...]) -> None:
    for number in range(30):
        (run.root / "here" / f"f{number}").write_bytes(os.urandom(1 + number * 7_000))
    with storm(run.root / "here", *kinds):
        time.sleep(0.5)
        run.mirror()
        for _ in range(8):
            assert run.point() == []
            time.sleep(0.1)
    run.maker.hear(run.model, 0.0)
    assert run.maker.durable is not None
    assert run.maker.figures.made == 8


def test_nothing_is_frozen_where_nothing_has_changed(run: Run) -> None:
    (run.root / "here/a").write_bytes(b"a")
    run.mirror()
    assert run.point() == []
    time.sleep(1.1)
    run.maker.make(run.model)
    for _ in range(3):
        run.truth = None
        assert not run.maker.make(run.model)
        assert run.truth is None
    through = run.maker.through_ns
    assert through is not None
    assert run.clock.now_ns() - through < 1e9


def test_a_stall_that_would_be_too_long_is_put_off(run: Run) -> None:
    (run.root / "here/large").write_bytes(os.urandom(64 << 20))
    run.mirror()
    assert run.point() == []
    run.maker.limits = Limits(max_stall=0.05)
    run.maker._read_rate = 1e8
    (run.root / "here/large").open("r+b").write(b"changed")
    with pytest.raises(PutOff) as why:
        run.maker.make(run.model)
    assert why.value.reason == "TooMuchToRead"
