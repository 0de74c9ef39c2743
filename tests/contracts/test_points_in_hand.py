"""Points of a group while it is not known what becomes of them, made of a real volume that is really frozen: what
counts as durable, and what is told again of one that is dropped."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from storagemirror.sync.pointmaker.making import MirrorAgain, PointRefused
from storagemirror.sync.pointmaker.standstill import PutOff
from storagemirror.sync.together.rounds import Rounds, Said
from storagemirror.sync.together.seat import Seat
from storagemirror.wire import group as g
from storagemirror.wire import messages as m
from tests.support.disks import disk
from tests.support.pointmodel import differences
from tests.support.pointrun import Run


class Alone:
    """A maker in a group of which it is the only member; what becomes of its points is the test's to say."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.rounds = Rounds(("data",))
        self.seat = Seat(self._said, lambda: "")
        self.seat._engaged = True
        self.model = run.mirror()
        self.model.holds = True

    def _said(self, message: g.Message) -> None:
        if not isinstance(message, g.Durable):
            self._tell(self.rounds.heard("data", message, self.run.clock.now_ns()))

    def _tell(self, said: Said) -> None:
        for _, message in said:
            self.seat.take(message)

    def make(self) -> int:
        """The next point; its number in the group. `PutOff`."""
        self._tell(self.rounds.begin(self.run.clock.now_ns()))
        turn = self.seat.join(0.0)
        assert turn is not None
        assert self.run.maker.make(self.model, turn)
        self.rounds = Rounds(("data",), self.seat.round)
        moment = self.run.maker.in_hand
        assert moment is not None
        assert moment.holds
        return moment.group

    def behind(self) -> bool:
        """Whether no point is made now, for the one before."""
        with pytest.raises(PutOff) as why:
            self.make()
        return why.value.reason == "TargetBehind"

    def equal(self) -> bool:
        """Whether the copy is what the source was when it was frozen last."""
        assert self.run.truth is not None
        return differences(self.run.truth, self.model.root) == []


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Alone]:
    with disk(tmp_path, "ext4", 100) as made:
        here = made.path / "here"
        here.mkdir()
        for name in ("written", "renamed", "deleted"):
            (here / name).write_bytes(name.encode() * 50_000)
        run = Run(made.path)
        yield Alone(run)
        run.close()


def _change(root: Path, text: str) -> None:
    with open(root / "here/written", "r+b") as file:
        file.seek(70_000)
        file.write(text.encode())
    (root / f"here/new {text}").write_text(text)


def test_it_counts_as_durable_once_it_is_released_and_no_point_is_made_before(alone: Alone) -> None:
    maker, model = alone.run.maker, alone.model
    alone.make()
    assert maker.waits
    maker.hear(model, 0.0)
    assert not maker.waits
    assert (maker.durable, maker.through_ns) == (None, None), "one target alone has it"
    assert maker.unsent_bytes is not None
    assert alone.behind()
    maker.release(model)
    assert maker.in_hand is None
    assert maker.durable is not None
    assert maker.through_ns == maker.durable.at_ns
    assert model.released == [(1, False)]
    assert alone.equal()
    _change(alone.run.root, "second")
    alone.make()
    maker.hear(model, 0.0)
    maker.release(model)
    assert alone.equal()


def test_of_one_that_is_dropped_everything_is_told_again(alone: Alone) -> None:
    maker, model, here = alone.run.maker, alone.model, alone.run.root / "here"
    alone.make()
    maker.hear(model, 0.0)
    maker.release(model)
    first = maker.durable
    _change(alone.run.root, "dropped")
    os.rename(here / "renamed", here / "renamed to")
    os.unlink(here / "deleted")
    (here / "d").mkdir()
    alone.make()
    maker.hear(model, 0.0)
    maker.drop(model)
    assert model.released[-1] == (2, True)
    assert (maker.in_hand, maker.durable) == (None, first)
    os.rename(here / "new dropped", here / "d/moved on")
    _change(alone.run.root, "later")
    alone.make()
    maker.hear(model, 0.0)
    maker.release(model)
    assert alone.equal()
    assert maker.figures.missed == 0


@pytest.mark.parametrize("drop", [False, True])
def test_a_word_that_was_lost_with_the_connection_is_said_again(alone: Alone, drop: bool) -> None:
    maker, model = alone.run.maker, alone.model
    alone.make()
    maker.hear(model, 0.0)
    maker.release(model)
    _change(alone.run.root, "second")
    alone.make()
    maker.hear(model, 0.0)
    model.deaf = True
    (maker.drop if drop else maker.release)(model)
    assert model.held
    assert maker.go_on(model)
    assert not model.held
    assert model.released[-2:] == [(2, drop), (2, drop)]
    _change(alone.run.root, "third")
    alone.make()
    maker.hear(model, 0.0)
    maker.release(model)
    assert alone.equal()


def test_after_a_break_it_is_known_that_the_target_has_it_and_it_is_in_hand_still(alone: Alone) -> None:
    maker, model = alone.run.maker, alone.model
    group = alone.make()
    model.said.clear()  # the answer was lost
    assert maker.go_on(model)
    assert not maker.waits
    assert maker.in_hand is not None
    assert maker.in_hand.group == group
    assert maker.durable is None
    assert model.released == []
    maker.release(model)
    assert alone.equal()


def test_one_that_the_target_refuses_is_known_to_be_lacking(alone: Alone) -> None:
    maker, model = alone.run.maker, alone.model
    model.refuse = m.FailureReason.FULL
    group = alone.make()
    with pytest.raises(PointRefused):
        maker.hear(model, 0.0)
    assert (maker.in_hand, maker.lacked) == (None, group)
    alone.make()
    maker.hear(model, 0.0)
    maker.release(model)
    assert alone.equal()


def test_a_target_that_cannot_apply_it_any_more_is_mirrored_anew(alone: Alone) -> None:
    maker, model = alone.run.maker, alone.model
    alone.make()
    maker.hear(model, 0.0)
    model.deaf = True
    maker.release(model)
    model.said.append(m.PointRefused(1, m.FailureReason.CONFLICT, "somebody else has changed the copy"))
    with pytest.raises(MirrorAgain):
        maker.hear(model, 0.0)
