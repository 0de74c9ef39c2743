"""What a proof compares, when it says equal, and when it does not."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from storagemirror.agent.named import MOST_NAMES, Named
from storagemirror.agent.prove import RETRY_SECONDS, ROUNDS, Prover
from storagemirror.agent.view import View
from storagemirror.contract import Proof, ProofStage, ProveOrder
from storagemirror.entry import View as Sight
from storagemirror.fs.identity import Facts
from storagemirror.fs.selection import Selection
from storagemirror.fs.tree import Tree
from storagemirror.sync.asking import Asking
from storagemirror.sync.changes import WHOLE_TREE, Drained
from storagemirror.sync.observer import Event, EventKind
from storagemirror.sync.proving import Want
from storagemirror.sync.summing import Summing
from storagemirror.sync.sums import Summer
from storagemirror.wire import messages as m

LIVE, FINAL = ProveOrder(attempt=1, stage=ProofStage.LIVE), ProveOrder(attempt=1, stage=ProofStage.FINAL)
OLD = 1_600_000_000_000_000_000


@dataclass
class World:
    """Two directories; both ends of the asking in one process; whoever follows the changes, played by the test.

    `during`: done once, by the next want of that kind; `lost`: what mending does not mend.
    """

    source: Path
    target: Path
    wall: int = OLD + 1_000_000_000_000
    mono: float = 1000.0
    order: ProveOrder | None = None
    kind: str = "ext4"
    able: bool = True
    names: set[bytes] = field(default_factory=set)
    during: dict[Want, list[object]] = field(default_factory=dict)
    lost: frozenset[bytes] = frozenset()
    wants: list[Want] = field(default_factory=list)
    resent: list[bytes] = field(default_factory=list)
    marks_move: bool = True
    selection: Selection | None = None

    def __post_init__(self) -> None:
        self.view = View(1, "uid", self)
        self.tree, self._theirs = Tree(str(self.source)), Tree(str(self.target))
        self._summing = Summing(self._theirs, Sight(), self._answer)
        self.asked = Asking(self._ask)
        self.prover = Prover(lambda: self.order, self.view, self, frozenset({"nfs"}))
        self.prover.connect(self, self)

    def _ask(self, message: m.Message) -> None:
        assert isinstance(message, (m.Sum, m.Tally))
        self._summing.take(message)

    def _answer(self, message: m.Message) -> None:
        assert isinstance(message, (m.Summed, m.Tallied))
        self.asked.take(message)

    def close(self) -> None:
        self._summing.stop()
        self.tree.close()
        self._theirs.close()

    # the clock

    def now_ns(self) -> int:
        return self.wall

    def monotonic(self) -> float:
        return self.mono

    def sleep(self, seconds: float) -> None:
        self.wall += int(seconds * 1e9)
        self.mono += seconds

    # the session and the volume

    @property
    def can_prove(self) -> bool:
        return self.able

    @property
    def asking(self) -> Asking:
        return self.asked

    def summer(self) -> Summer:
        return Summer(self.tree, Sight())

    def is_file(self, path: bytes) -> bool:
        return (self.source / os.fsdecode(path)).is_file()

    def facts(self) -> Facts:
        return Facts(self.kind, 1, 1)

    def owed(self, paths: list[bytes]) -> list[bytes]:
        return paths

    def resend(self, paths: list[bytes]) -> None:
        self.resent += paths
        for path in set(paths) - self.lost:
            self.copy(path)

    def copy(self, path: bytes) -> None:
        name = os.fsdecode(path)
        shutil.copy2(self.source / name, self.target / name)

    # what the test does

    def write(self, name: str, content: str, *, both: bool = True, when: int = OLD) -> None:
        for place in (self.source, self.target) if both else (self.source,):
            (place / name).write_text(content)
            os.utime(place / name, ns=(when, when))

    def change(self, name: str, content: str) -> None:
        """On the source; the watch names it."""
        (self.source / name).write_text(content)
        os.utime(self.source / name, ns=(self.wall, self.wall))
        self.names.add(os.fsencode(name))

    def step(self) -> None:
        """What follows the changes does."""
        drained = Drained(paths=frozenset(self.names), through_ns=self.wall)
        self.prover.note(drained)
        for path in self.names:
            self.copy(path)
        self.names.clear()

    def compare(self) -> None:
        """By size and time."""
        for path in self.source.iterdir():
            theirs = self.target / path.name
            mine = path.stat()
            if not theirs.exists() or (theirs.stat().st_size, theirs.stat().st_mtime_ns) != (
                mine.st_size,
                mine.st_mtime_ns,
            ):
                self.copy(os.fsencode(path.name))

    def prove(self, order: ProveOrder, *, most: int = 20_000) -> Proof:
        """Until it is told."""
        self.order = order
        before = self.view.sight.proof
        for _ in range(most):
            want = self.prover.advance()
            if want is not None and want is not Want.GO_ON:
                self.wants.append(want)
            if want is Want.WAIT:
                time.sleep(0.001)  # the target's thread has its turn
            for action in self.during.pop(want, []) if want is not None else []:
                action()  # type: ignore[operator]
            if want in (Want.STEP, Want.COMPARE, Want.MARK):
                self.step()
            if want is Want.COMPARE:
                self.compare()
            if want is Want.MARK and self.marks_move:
                self.view.see(through_ns=self.wall)
            told = self.view.sight.proof
            if told is not None and told is not before:
                return told
        raise AssertionError("no proof")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    for name in ("source", "target"):
        (tmp_path / name).mkdir()
    made = World(tmp_path / "source", tmp_path / "target")
    # Files are as old as their change times say, and these are this machine's.
    made.wall = (made.source.stat().st_ctime_ns) + 3600 * 1_000_000_000
    for i in range(20):
        made.write(f"f{i}", f"content {i}")
    yield made
    made.close()


def test_equal_sides_are_proven_after_a_comparison_and_with_a_mark(world: World) -> None:
    proof = world.prove(LIVE)
    assert (proof.equal, proof.files, proof.differing) == (True, 20, 0)
    assert proof.bytes == sum(path.stat().st_size for path in world.source.iterdir())
    assert world.wants[0] is Want.COMPARE
    assert Want.MARK in world.wants
    assert world.prover.advance() is None, "it is done"


def test_the_digest_is_of_what_both_sides_hold(world: World) -> None:
    first = world.prove(LIVE).digest
    assert world.prove(ProveOrder(attempt=2, stage=ProofStage.LIVE)).digest == first
    world.write("f3", "CONTENT 3")
    assert world.prove(ProveOrder(attempt=3, stage=ProofStage.LIVE)).digest != first


def test_what_differs_is_looked_at_again_before_it_is_sent_again(world: World) -> None:
    (world.target / "f3").write_text("CONTENT 3")
    os.utime(world.target / "f3", ns=(OLD, OLD))
    proof = world.prove(LIVE)
    assert (proof.equal, proof.differing) == (True, 1)
    assert world.resent == [b"f3"]
    assert world.wants.count(Want.STEP) == 2
    assert (world.target / "f3").read_text() == "content 3"


def test_a_change_that_is_on_its_way_is_no_difference(world: World) -> None:
    world.during[Want.COMPARE] = [lambda: world.during.update({Want.WAIT: [lambda: world.change("f3", "changed")]})]
    proof = world.prove(LIVE)
    assert (proof.equal, proof.differing, world.resent) == (True, 0, [])


def test_what_cannot_be_mended_is_told_and_tried_again(world: World) -> None:
    (world.target / "f3").write_text("CONTENT 3")
    os.utime(world.target / "f3", ns=(OLD, OLD))
    world.lost = frozenset({b"f3"})
    proof = world.prove(LIVE)
    assert (proof.equal, proof.digest) == (False, "")
    problem = world.view.sight.problem
    assert problem is not None
    assert problem.reason == "ProofFailed"
    assert "f3" in problem.message
    assert world.prover.advance() is None
    world.sleep(RETRY_SECONDS)
    world.lost = frozenset()
    assert world.prove(LIVE).equal
    assert world.view.sight.problem is None


def test_entries_that_could_not_be_written_prove_nothing(world: World) -> None:
    world.during[Want.MARK] = [lambda: world.view.event(Event(EventKind.FAILED_ENTRY, "a socket: Denied"))]
    assert not world.prove(LIVE).equal
    assert "a socket" in world.view.sight.problem.message  # type: ignore[union-attr]


def test_the_final_part_compares_what_was_named_or_has_a_time_since_the_live_part_began(world: World) -> None:
    world.prove(LIVE)
    world.sleep(60)
    world.change("f3", "changed")
    world.step()
    world.write("told by its time", "x", when=world.wall)
    proof = world.prove(FINAL)
    assert (proof.equal, proof.files) == (True, 2)


def test_what_changed_without_a_time_and_was_named_is_found_by_the_final_part(world: World) -> None:
    world.prove(LIVE)
    world.sleep(60)
    (world.source / "f3").write_text("CONTENT 3")
    os.utime(world.source / "f3", ns=(OLD, OLD))
    world.prover.note(Drained(paths=frozenset({b"f3"})))
    proof = world.prove(FINAL)
    assert (proof.equal, proof.differing) == (True, 1)
    assert (world.target / "f3").read_text() == "CONTENT 3"


@pytest.mark.parametrize(
    "why", ["another attempt", "no live part", "a new volume", "the clock was set", "network", "memory", "lost events"]
)
def test_where_nobody_can_know_what_changed_the_final_part_compares_everything(world: World, why: str) -> None:
    if why != "no live part":
        world.prove(LIVE if why != "another attempt" else ProveOrder(attempt=2, stage=ProofStage.LIVE))
    world.sleep(60)
    match why:
        case "a new volume":
            world.prover.forget()
        case "the clock was set":
            world.wall -= 50 * 1_000_000_000
        case "network":
            world.kind = "nfs"
        case "memory":
            world.kind = "tmpfs"
        case "lost events":
            world.prover.note(Drained(trees=WHOLE_TREE))
    (world.source / "f3").write_text("CONTENT 3")
    os.utime(world.source / "f3", ns=(OLD, OLD))
    proof = world.prove(FINAL)
    assert (proof.equal, proof.files, proof.differing) == (True, 20, 1)


def test_the_live_part_is_remembered_over_connections(world: World) -> None:
    world.prove(LIVE)
    world.sleep(60)
    world.prover.connect(world, world)
    assert world.prove(FINAL).files == 0


def test_what_is_written_during_the_final_part_is_compared_once_more(world: World) -> None:
    world.prove(LIVE)
    world.sleep(60)
    world.during[Want.MARK] = [lambda: world.change("f3", "changed")]
    proof = world.prove(FINAL)
    assert (proof.equal, proof.files) == (True, 1)
    assert (world.target / "f3").read_text() == "changed"


def test_where_events_are_lost_a_silent_difference_is_mended_all_the_same(world: World) -> None:
    (world.target / "f3").write_text("CONTENT 3")
    os.utime(world.target / "f3", ns=(OLD, OLD))
    world.during[Want.COMPARE] = [lambda: world.prover.note(Drained(trees=WHOLE_TREE))]
    proof = world.prove(LIVE)
    assert (proof.equal, proof.differing) == (True, 1)
    assert (world.target / "f3").read_text() == "content 3"


def test_a_scan_that_names_everything_is_no_change_by_itself(world: World) -> None:
    world.prove(LIVE)
    world.sleep(60)
    world.during[Want.MARK] = [lambda: world.prover.note(Drained(trees=WHOLE_TREE))]
    proof = world.prove(FINAL)
    assert (proof.equal, proof.files) == (True, 0)


def test_what_a_scan_found_to_be_written_during_the_final_part_is_compared_once_more(world: World) -> None:
    world.prove(LIVE)
    world.sleep(60)

    def written() -> None:
        world.change("f3", "changed")
        os.utime(world.source / "f3", ns=(OLD, world.wall))
        world.prover.note(Drained(trees=WHOLE_TREE))

    world.during[Want.MARK] = [written]
    proof = world.prove(FINAL)
    assert (proof.equal, proof.files) == (True, 1)


def test_a_source_that_never_rests_is_not_proven(world: World) -> None:
    world.prove(LIVE)
    world.sleep(60)
    number = 0

    def again() -> None:
        nonlocal number
        number += 1
        world.change("f3", f"changed {number}")
        world.during[Want.MARK] = [again]

    world.during[Want.MARK] = [again]
    assert not world.prove(FINAL).equal
    assert world.view.sight.problem.reason == "SourceChanging"  # type: ignore[union-attr]
    assert number == ROUNDS


def test_a_final_part_whose_end_is_not_durable_proves_nothing(world: World) -> None:
    world.prove(LIVE)
    world.sleep(60)
    world.marks_move = False
    assert not world.prove(FINAL).equal


def test_a_target_that_counts_otherwise_is_not_believed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    take = world.asked.take

    def lie(event: m.Summed | m.Tallied) -> None:
        take(m.Tallied(event.number, event.files, b"x" * 16) if isinstance(event, m.Tallied) else event)

    monkeypatch.setattr(world.asked, "take", lie)
    assert not world.prove(LIVE).equal


def test_without_an_order_nothing_is_read(world: World) -> None:
    assert world.prover.advance() is None
    world.able = False
    world.order = LIVE
    assert world.prover.advance() is None
    assert world.view.sight.problem.reason == "ProofUnsupported"  # type: ignore[union-attr]


def test_another_order_gives_up_what_runs(world: World) -> None:
    world.order = LIVE
    while world.prover.advance() is not Want.WAIT:
        pass
    world.order = None
    assert world.prover.advance() is None
    proof = world.prove(ProveOrder(attempt=7, stage=ProofStage.LIVE))
    assert (proof.attempt, proof.equal, proof.files) == (7, True, 20)


# -- names


def test_a_directory_stands_for_all_that_is_in_it() -> None:
    names = Named()
    names.note(Drained(paths=frozenset({b"a/b"}), trees=frozenset({b"c"}), renames=((b"x", b"y"),)))
    assert all(names.has(path) for path in (b"a/b", b"c", b"c/d/e", b"x", b"y"))
    assert not any(names.has(path) for path in (b"a", b"a/b/c", b"cc", b"b"))


def test_more_names_than_are_kept_stand_for_everything() -> None:
    names = Named()
    for i in range(MOST_NAMES):
        names.add(b"%d" % i)
    assert not names.has(b"other")
    names.add(b"one more")
    assert names.has(b"other")
    assert not names.paths
    assert names
