"""What becomes of a round that was committed: no target applies its point before all have theirs, whatever is lost on
the way, and where one does not take it none does."""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from collections.abc import Callable

import pytest

from storagemirror.sync.pointmaker.standstill import PutOff
from storagemirror.sync.together.rounds import NOT_READY, VOID, Rounds, Said
from storagemirror.sync.together.seat import Fate, Seat
from storagemirror.wire import group as g

MEMBERS = ("data", "wal", "log")
NOW = 1_700_000_000_000_000_000


def to_all(message: g.Message) -> Said:
    return [(volume, message) for volume in ("wal", "log", "data")]


def begun(made: Rounds) -> int:
    (number,) = {message.round for _, message in made.begin(NOW) if isinstance(message, g.Prepare)}
    return number


def committed(made: Rounds | None = None, *, holds: bool = True) -> tuple[Rounds, int]:
    """A lead whose members are all there, and the round that it has in hand."""
    if made is None:
        made = Rounds(MEMBERS)
        made.come("wal")
        made.come("log", holds=holds)
    number = begun(made)
    kinds: tuple[Callable[[], g.Message], ...] = (
        lambda: g.Ready(number, True),
        lambda: g.Frozen(number),
        lambda: g.Held(number),
    )
    said: Said = []
    for kind in kinds:
        for volume in MEMBERS:
            said = made.heard(volume, kind(), NOW)
    assert said == to_all(g.Commit(number))
    return made, number


def blocked(made: Rounds) -> tuple[str, str]:
    """Why no round begins now."""
    said = [message for _, message in made.begin(NOW)]
    assert not any(isinstance(message, g.Prepare) for message in said)
    (void,) = {message for message in said if isinstance(message, g.Void)}
    return void.reason, void.message


def test_it_is_released_once_every_target_has_its_point_and_not_before() -> None:
    made, number = committed()
    assert made.heard("wal", g.Durable(number), NOW) == []
    assert made.heard("wal", g.Durable(number), NOW) == []  # said twice
    assert made.heard("data", g.Durable(number), NOW) == []
    assert made.heard("log", g.Durable(number - 1), NOW) == []
    assert made.heard("log", g.Durable(number), NOW) == to_all(g.Release(number))
    assert begun(made) > number


def test_no_round_begins_before_and_the_volume_that_is_waited_for_is_named_and_asked() -> None:
    made, number = committed()
    made.heard("data", g.Durable(number), NOW)
    made.heard("log", g.Durable(number), NOW)
    assert made.lacking == ("wal",)
    said = made.begin(NOW)
    assert [to for to, message in said if message == g.Ask(number)] == ["wal"]
    assert blocked(made) == (NOT_READY, "the point before is not on the target of volume wal")
    assert made.heard("wal", g.Durable(number), NOW) == to_all(g.Release(number))
    assert not made.lacking


def test_one_whose_target_does_not_take_it_has_all_drop_theirs() -> None:
    made, number = committed()
    made.heard("data", g.Durable(number), NOW)
    dropped = g.Drop(number, VOID, "volume wal: TargetFull: no room")
    assert made.heard("wal", g.Lacks(number, "TargetFull", "no room"), NOW) == to_all(dropped)
    assert made.heard("log", g.Durable(number), NOW) == [("log", dropped)]  # it was on its way
    assert made.heard("wal", g.Lacks(number, "TargetFull", "no room"), NOW) == []
    assert begun(made) > number


@pytest.mark.parametrize("released", [True, False])
def test_one_that_was_away_hears_what_was_said_meanwhile(released: bool) -> None:
    made, number = committed()
    for volume in ("data", "wal"):
        made.heard(volume, g.Durable(number), NOW)
    made.heard("log", g.Durable(number) if released else g.Lacks(number, "no", "no"), NOW)
    made.gone("wal")
    assert made.come("wal") == []
    (answer,) = made.heard("wal", g.Durable(number), NOW)
    assert answer == ("wal", g.Release(number) if released else g.Drop(number, VOID, "volume log: no: no"))


def test_one_that_goes_is_waited_for_and_asked_when_it_comes_back() -> None:
    made, number = committed()
    made.gone("wal")
    made.heard("data", g.Durable(number), NOW)
    made.heard("log", g.Durable(number), NOW)
    assert blocked(made) == (NOT_READY, "not connected: volume wal")
    assert made.come("wal") == [("wal", g.Ask(number))]
    assert blocked(made)[1] == "the point before is not on the target of volume wal"
    assert made.heard("wal", g.Durable(number), NOW) == to_all(g.Release(number))


def test_one_that_has_mirrored_anew_is_not_waited_for() -> None:
    made, number = committed()
    made.heard("data", g.Durable(number), NOW)
    made.heard("wal", g.Anew(number), NOW)
    assert made.lacking == ("log",)
    assert made.heard("log", g.Durable(number), NOW) == to_all(g.Release(number))


def test_with_an_agent_of_an_older_release_nothing_is_held() -> None:
    made, number = committed(holds=False)
    assert made.lacking == ()
    said = made.begin(NOW)
    assert {message for _, message in said} == {g.Prepare(number + 1, holds=False)}
    made.come("log")
    assert {message.holds for _, message in made.begin(NOW) if isinstance(message, g.Prepare)} == {True}


def test_a_new_lead_learns_from_the_others_what_was_in_hand() -> None:
    """It has mirrored its own volume by the time it says so."""
    made = Rounds(MEMBERS)
    made.come("wal")
    made.come("log")
    assert made.heard("wal", g.Durable(77), NOW) == [("data", g.Ask(77)), ("log", g.Ask(77))]
    assert blocked(made)[1] == "the point before is not on the target of volume data, log"
    assert made.heard("data", g.Anew(77), NOW) == []
    assert made.heard("log", g.Durable(77), NOW) == to_all(g.Release(77))
    made = Rounds(MEMBERS)
    made.come("wal")
    made.come("log")
    made.heard("wal", g.Durable(77), NOW)
    assert made.heard("log", g.Lacks(77, "Cut", "off"), NOW) == to_all(g.Drop(77, VOID, "volume log: Cut: off"))


def test_a_lead_with_another_order_goes_on_with_what_was_in_hand() -> None:
    made = Rounds(MEMBERS, above=90, in_hand=77)
    assert made.come("wal") == [("wal", g.Ask(77))]
    made.come("log")
    made.heard("data", g.Durable(77), NOW)
    made.heard("wal", g.Durable(77), NOW)
    assert blocked(made)[1] == "the point before is not on the target of volume log"
    assert made.heard("log", g.Durable(77), NOW) == to_all(g.Release(77))


# a seat


class Heard:
    """A seat, and what it says."""

    def __init__(self, *, engaged: bool = True) -> None:
        self.said: list[g.Message] = []
        self.seat = Seat(self.said.append, lambda: "Mirroring")
        self.seat._engaged = engaged

    def take(self, *messages: g.Message) -> list[g.Message]:
        before = len(self.said)
        for message in messages:
            self.seat.take(message)
        return self.said[before:]

    def commit(self, number: int) -> None:
        self.take(g.Prepare(number, True), g.Freeze(number), g.Still(number, NOW), g.Commit(number))
        assert self.seat.in_hand == number


def test_it_says_once_that_its_target_has_the_point_and_hears_what_becomes_of_it() -> None:
    for message, fate in ((g.Release(5), Fate.RELEASED), (g.Drop(5, VOID, "volume wal: no"), Fate.DROPPED)):
        heard = Heard()
        heard.commit(5)
        assert [heard.seat.durable(5) for _ in range(3)] == [Fate.UNKNOWN] * 3
        assert heard.said == [g.Durable(5)]
        assert heard.seat.word == g.Durable(5)  # to a lead that comes later
        heard.take(g.Release(4), message)
        assert heard.seat.durable(5) is fate
        assert heard.seat.in_hand == 0
        heard.seat.durable(5)
        assert len(heard.said) == 1  # a lead that comes now has nothing to hear of it
    assert heard.seat.why.message == "volume wal: no"
    heard.commit(6)
    assert heard.seat.durable(6) is Fate.UNKNOWN


def test_asked_it_says_what_it_knows_and_nothing_while_the_point_is_on_its_way() -> None:
    heard = Heard()
    heard.commit(5)
    assert heard.take(g.Ask(5)) == []
    heard.seat.durable(5)
    assert heard.take(g.Ask(5)) == [g.Durable(5)]
    heard.take(g.Release(5))
    assert heard.take(g.Ask(5)) == [g.Durable(5)]  # a new lead asks, whom one has told that did not hear it
    heard.commit(6)
    heard.seat.lacks(6, PutOff("full", reason="TargetFull"))
    heard.seat.durable(6)  # cannot be any more
    assert heard.take(g.Ask(6)) == [g.Lacks(6, "TargetFull", "full")]
    heard.take(g.Drop(6, VOID, "it lacks it"))
    assert heard.take(g.Ask(6)) == [g.Lacks(6, VOID, "it lacks it")]


def test_one_that_was_cut_off_from_the_word_commit_lacks_its_point() -> None:
    """It has thrown it away; the others hold theirs."""
    heard = Heard()
    heard.take(g.Prepare(5, True), g.Freeze(5), g.Still(5, NOW))
    heard.seat.lost("the lead is not heard")
    (word,) = heard.take(g.Ask(5))
    assert isinstance(word, g.Lacks)
    heard.take(g.Void(9, NOT_READY, "one that did not even begin"))
    (word,) = heard.take(g.Ask(5))
    assert isinstance(word, g.Lacks)


def test_one_that_hears_commit_too_late_lacks_its_point_and_says_so_at_once() -> None:
    heard = Heard()
    heard.take(g.Prepare(5, True))
    turn = heard.seat.join(0.0)
    assert turn is not None
    heard.take(g.Freeze(5), g.Still(5, NOW))
    with pytest.raises(PutOff) as late:
        turn.held(0.0)
    turn.cannot(late.value)
    (word,) = heard.take(g.Commit(5))
    assert isinstance(word, g.Lacks)
    assert heard.seat.in_hand == 0


def test_what_goes_wrong_once_it_is_committed_is_a_lack() -> None:
    heard = Heard()
    heard.take(g.Prepare(5, True))
    turn = heard.seat.join(0.0)
    assert turn is not None
    heard.take(g.Freeze(5), g.Still(5, NOW), g.Commit(5))
    turn.held(0.0)
    turn.cannot(PutOff("an object was not where it is said to be", reason="Changed"))
    assert heard.said[-1] == g.Lacks(5, "Changed", "an object was not where it is said to be")


def test_one_that_has_mirrored_since_says_so() -> None:
    heard = Heard()
    heard.commit(5)
    heard.seat.anew()
    assert heard.said[-1] == g.Anew(5)
    again = Heard()  # the process after it
    assert again.take(g.Ask(5)) == [g.Anew(5)]
    mirroring = Heard(engaged=False)
    assert mirroring.take(g.Ask(5)) == []
    quiet = Heard()
    quiet.seat.anew()
    assert quiet.said == []


def test_whoever_waits_for_the_next_round_wakes_when_it_is_known_what_becomes_of_the_last() -> None:
    heard = Heard()
    heard.commit(5)
    assert heard.seat.join(0.0) is not None
    threading.Timer(0.1, heard.seat.take, [g.Release(5)]).start()
    began = time.monotonic()
    assert heard.seat.join(5.0, 5) is None
    assert time.monotonic() - began < 2.0
    assert heard.seat.join(5.0, 5) is None  # also where it was said before it waited
    assert time.monotonic() - began < 2.0


# all together


class Member:
    """A volume: its agent's seat, its maker as far as it counts here, and its target."""

    def __init__(self, world: World, name: str) -> None:
        self.name = name
        self.world = world
        self.seat = Seat(self._say, lambda: "")
        self.seat._engaged = True
        self.up: deque[g.Message] = deque()
        self.down: deque[g.Message] = deque()
        self.here = True
        self.sent = 0
        self.there = False
        self.applied = 0
        self.held = 0

    def _say(self, message: g.Message) -> None:
        if self.here:
            self.up.append(message)

    @property
    def reached(self) -> set[int]:
        return {self.applied, self.held or self.applied}

    def hear(self) -> None:
        message = self.down.popleft()
        self.seat.take(message)
        number = self.seat.round
        match message:
            case g.Prepare():
                busy = g.Cannot(number, "TargetBehind", "the point before")
                self._say(busy if self.sent else g.Ready(number, True))
            case g.Freeze():
                self._say(g.Frozen(number))
            case g.Still():
                self._say(g.Held(number))
            case g.Commit() if self.seat.in_hand == message.round:
                assert not self.sent
                self.sent, self.there = message.round, False

    def target(self, *, takes: bool) -> None:
        """The target answers."""
        if not self.sent or self.there:
            return
        if takes:
            self.held, self.there = self.sent, True
        else:
            number, self.sent = self.sent, 0
            self.seat.lacks(number, PutOff("no room", reason="TargetFull"))

    def agree(self) -> None:
        """As `Pointing` does."""
        if not (self.sent and self.there):
            return
        fate = self.seat.durable(self.sent)
        if fate is Fate.RELEASED:
            self.applied = self.sent
        if fate is not Fate.UNKNOWN:
            self.sent, self.held = 0, 0


class World:
    """All members, and the lead's decisions."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.rounds = Rounds(MEMBERS)
        self.members = {name: Member(self, name) for name in MEMBERS}
        self.released = self.dropped = 0
        for name in MEMBERS[1:]:
            self.tell(self.rounds.come(name))

    def tell(self, said: Said) -> None:
        for name, message in said:
            self.released += isinstance(message, g.Release) and name == MEMBERS[0]
            self.dropped += isinstance(message, g.Drop) and name == MEMBERS[0]
            if self.members[name].here:
                self.members[name].down.append(message)

    def cut(self, member: Member) -> None:
        """What is on its way is lost."""
        member.here = False
        member.up.clear()
        member.down.clear()
        member.seat.lost("not heard")
        self.tell(self.rounds.gone(member.name))

    def join(self, member: Member) -> None:
        member.here = True
        self.tell(self.rounds.come(member.name))
        if (word := member.seat.word) is not None:
            member.up.append(word)

    def step(self, *, quiet: bool = False) -> None:
        member, what = self.chance.choice(list(self.members.values())), self.chance.random()
        if what < 0.03:
            self.tell(self.rounds.begin(NOW))
        elif what < 0.05 and not quiet and member.here and member.name != MEMBERS[0]:
            self.cut(member)
        elif what < 0.2 and not member.here:
            self.join(member)
        elif what < 0.3:
            member.target(takes=quiet or self.chance.random() < 0.9)
        elif what < 0.4:
            member.agree()
        elif what < 0.7 and member.up:
            self.tell(self.rounds.heard(member.name, member.up.popleft(), NOW))
        elif member.down:
            member.hear()

    def check(self) -> None:
        reached = [member.reached for member in self.members.values()]
        assert set.intersection(*reached), "no point that all can be at"
        latest = max(member.applied for member in self.members.values())
        assert all(latest in one for one in reached), "applied somewhere, and not to be had everywhere"


def test_at_every_moment_all_can_be_brought_to_one_point_that_is_none_before_what_any_is_at() -> None:
    released = dropped = apart = 0
    for seed in range(60):
        world = World(seed)
        for _ in range(3000):
            world.step()
            world.check()
            apart += len({member.applied for member in world.members.values()}) > 1
        before = world.released
        for _ in range(6000):  # and it never ends in waiting for each other
            world.step(quiet=True)
            world.check()
        assert world.released > before, f"no round came to its end any more (seed {seed})"
        released, dropped = released + before, dropped + world.dropped
    assert released > 100
    assert dropped > 30
    assert apart > 100, "never was one ahead: it proves nothing"
