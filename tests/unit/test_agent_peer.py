"""When a source counts as lost: never without silence, never after a goodbye, never under another order than Run."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from storagemirror.agent.peer import PeerWatch
from storagemirror.clock import rfc3339
from storagemirror.contract import Action, BeatOrder, Order, PeerState, Role
from tests.unit.test_agent_parts import NOW, SECOND, StillClock

BEAT = BeatOrder(interval_seconds=1.0, missed=5)


@dataclass
class Wire:
    """A connection on which something came `last` seconds on the clock."""

    clock: StillClock
    last: float
    source_ns: int | None = None

    def quiet_seconds(self) -> float:
        return self.clock.monotonic() - self.last


class World:
    """A peer watch, its clock, and how often it had something to tell."""

    def __init__(self) -> None:
        self.clock = StillClock()
        self.told = 0
        self.watch = PeerWatch(self.clock, self._tell)
        self.watch.expect(order())

    def _tell(self) -> None:
        self.told += 1

    def come(self) -> Wire:
        wire = Wire(self.clock, self.clock.monotonic())
        self.watch.come(wire)
        return wire

    def state(self) -> PeerState:
        self.watch.check()
        return self.watch.seen().state


def order(action: Action = Action.RUN, beat: BeatOrder = BEAT, epoch: int = 1) -> Order:
    return Order(
        pair_uid="uid",
        pair_name="orders",
        namespace="shop",
        volume="data",
        role=Role.TARGET,
        revision=1,
        instance=1,
        epoch=epoch,
        action=action,
        beat=beat,
    )


@pytest.fixture
def world() -> World:
    return World()


def test_nobody_who_has_never_come_is_missed(world: World) -> None:
    world.clock.sleep(3600)
    assert world.state() is PeerState.NEVER
    assert world.watch.seen().last_heard is None
    assert world.told == 0


def test_silence_is_loss_after_interval_times_missed_and_not_before(world: World) -> None:
    world.come()
    world.clock.sleep(4.99)
    assert world.state() is PeerState.CONNECTED
    world.clock.sleep(0.02)
    told = world.told
    assert world.state() is PeerState.LOST
    assert world.told == told + 1
    seen = world.watch.seen()
    assert seen.last_heard == rfc3339(NOW)
    assert seen.since == rfc3339(world.clock.ns)


def test_the_next_look_is_due_when_the_silence_may_be_too_long(world: World) -> None:
    wire = world.come()
    world.clock.sleep(2)
    wire.last = world.clock.monotonic()
    assert world.watch.check() == pytest.approx(5)
    world.clock.sleep(1)
    assert world.watch.check() == pytest.approx(4)


def test_a_word_that_came_and_was_not_read_is_a_word(world: World) -> None:
    wire = world.come()
    for _ in range(10):
        world.clock.sleep(4)
        wire.last = world.clock.monotonic()
        assert world.state() is PeerState.CONNECTED


def test_a_connection_that_broke_is_no_loss_before_its_time(world: World) -> None:
    wire = world.come()
    world.clock.sleep(1)
    world.watch.gone(wire, let_go=False)
    world.clock.sleep(3.9)
    assert world.state() is PeerState.CONNECTED
    world.clock.sleep(0.2)
    assert world.state() is PeerState.LOST


def test_one_that_comes_back_in_time_was_never_lost(world: World) -> None:
    world.watch.gone(world.come(), let_go=False)
    world.clock.sleep(4)
    world.come()
    world.clock.sleep(4)
    assert world.state() is PeerState.CONNECTED
    assert world.told == 1


def test_one_that_is_lost_and_comes_or_speaks_again_is_connected(world: World) -> None:
    wire = world.come()
    world.clock.sleep(6)
    assert world.state() is PeerState.LOST
    wire.last = world.clock.monotonic()
    assert world.state() is PeerState.CONNECTED
    world.watch.gone(wire, let_go=False)
    world.clock.sleep(6)
    assert world.state() is PeerState.LOST
    world.come()
    assert world.state() is PeerState.CONNECTED


def test_after_a_goodbye_nobody_is_missed(world: World) -> None:
    world.watch.gone(world.come(), let_go=True)
    world.clock.sleep(3600)
    assert world.state() is PeerState.LEFT


@pytest.mark.parametrize("action", [Action.PAUSE, Action.STOP, Action.DRAIN, Action.PROMOTE])
@pytest.mark.parametrize("silent", [False, True])
def test_under_another_order_nobody_is_missed(world: World, action: Action, silent: bool) -> None:
    world.come()
    world.clock.sleep(6 if silent else 1)
    assert world.state() is (PeerState.LOST if silent else PeerState.CONNECTED)
    world.watch.expect(order(action))
    assert world.state() is PeerState.LEFT
    world.clock.sleep(3600)
    assert world.state() is PeerState.LEFT
    world.watch.expect(order())
    world.clock.sleep(3600)
    assert world.state() is PeerState.LEFT


def test_under_another_epoch_the_old_source_is_not_missed(world: World) -> None:
    world.come()
    world.watch.expect(order(epoch=2))
    world.clock.sleep(60)
    assert world.state() is PeerState.LEFT


def test_an_order_that_only_beats_otherwise_counts_at_once_and_misses_nobody_by_itself(world: World) -> None:
    world.come()
    world.clock.sleep(4)
    world.watch.expect(order(beat=BeatOrder(interval_seconds=1.0, missed=3)))
    assert world.state() is PeerState.LOST
    world.watch.expect(order(beat=BeatOrder(interval_seconds=10.0, missed=5)))
    wire = world.come()
    world.clock.sleep(49)
    assert world.state() is PeerState.CONNECTED
    world.watch.gone(wire, let_go=False)
    world.clock.sleep(2)
    assert world.state() is PeerState.LOST


def test_a_longer_limit_makes_nobody_heard_who_is_lost(world: World) -> None:
    world.watch.gone(world.come(), let_go=False)
    world.clock.sleep(6)
    assert world.state() is PeerState.LOST
    world.watch.expect(order(beat=BeatOrder(interval_seconds=10.0, missed=5)))
    assert world.state() is PeerState.LOST


def test_what_the_sources_clock_said_last_stays_known(world: World) -> None:
    wire = world.come()
    assert world.watch.seen().source_time is None
    wire.source_ns = NOW - 7 * SECOND
    world.watch.gone(wire, let_go=False)
    world.clock.sleep(60)
    assert world.watch.seen().source_time == rfc3339(NOW - 7 * SECOND)


def test_one_that_comes_in_while_the_order_changes_is_not_expected(world: World) -> None:
    world.watch.expect(order(Action.DRAIN))
    world.come()
    assert world.state() is PeerState.NEVER
