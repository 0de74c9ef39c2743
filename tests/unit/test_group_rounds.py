"""What the lead of a group decides, and what a seat makes of it: no round of which not all stood still is a point."""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from collections.abc import Callable

import pytest

from storagemirror.errors import ProtocolError
from storagemirror.sync.freezing import FreezeLost
from storagemirror.sync.pointmaker.standstill import PutOff
from storagemirror.sync.pointmaker.turn import Go
from storagemirror.sync.together.rounds import NOT_READY, VOID, Rounds, Said
from storagemirror.sync.together.seat import Seat, Turn
from storagemirror.wire import group as g

MEMBERS = ("data", "wal", "log")
NOW = 1_700_000_000_000_000_000


def rounds(*here: str) -> Rounds:
    made = Rounds(MEMBERS)
    for volume in here or MEMBERS[1:]:
        made.come(volume)
    return made


def begun(made: Rounds) -> int:
    (number,) = {message.round for _, message in made.begin(NOW) if isinstance(message, g.Prepare)}
    return number


def to_all(message: g.Message) -> Said:
    return [(volume, message) for volume in ("wal", "log", "data")]


def say(made: Rounds, kind: Callable[[int], g.Message], number: int, *volumes: str) -> Said:
    """The last answer."""
    found: Said = []
    for volume in volumes or MEMBERS:
        assert found == []
        found = made.heard(volume, kind(number), NOW + 5)
    return found


def ready(number: int) -> g.Message:
    return g.Ready(number, True)


def frozen(made: Rounds) -> int:
    """A round in which all but `log` are frozen."""
    number = begun(made)
    assert say(made, ready, number) == to_all(g.Freeze(number))
    assert say(made, g.Frozen, number, "data", "wal") == []
    return number


def test_a_round_goes_from_step_to_step_only_when_all_have_said_so() -> None:
    made = rounds()
    number = frozen(made)
    assert say(made, g.Frozen, number, "log") == to_all(g.Still(number, NOW + 5))
    assert say(made, g.Held, number) == to_all(g.Commit(number))


def test_where_nothing_has_changed_anywhere_nobody_freezes() -> None:
    made = rounds()
    number = begun(made)
    assert say(made, lambda n: g.Ready(n, False), number) == to_all(g.Nothing(number))
    number = begun(made)
    assert say(made, lambda n: g.Ready(n, False), number, "data", "wal") == []
    assert made.heard("log", g.Ready(number, True), NOW) == to_all(g.Freeze(number))


def test_one_that_is_ready_no_more_is_waited_for_again() -> None:
    made = rounds()
    number = begun(made)
    assert say(made, ready, number, "data", "wal") == []
    assert made.heard("wal", g.Unready(number), NOW) == []
    assert made.heard("log", ready(number), NOW) == []
    assert made.heard("wal", ready(number), NOW) == to_all(g.Freeze(number))
    assert made.heard("wal", g.Unready(number), NOW) == []  # too late: it freezes
    assert say(made, g.Frozen, number) == to_all(g.Still(number, NOW + 5))


def test_a_round_does_not_begin_while_somebody_is_away_and_all_are_told_who() -> None:
    made = rounds("wal")
    told = made.begin(NOW)
    assert [to for to, _ in told] == ["wal", "data"]
    said = told[0][1]
    assert isinstance(said, g.Void)
    assert (said.reason, said.message) == (NOT_READY, "not connected: volume log")
    made.come("log")
    assert begun(made) > said.round


def voided(said: Said) -> tuple[str, str]:
    assert {to for to, _ in said} >= {"data", "wal"}
    (message,) = {message for _, message in said}
    assert isinstance(message, g.Void)
    return message.reason, message.message


def test_one_that_goes_before_all_stand_still_voids_the_round_for_all() -> None:
    made = rounds()
    number = frozen(made)
    assert voided(made.gone("log")) == (VOID, "the agent of volume log has gone")
    assert say(made, g.Frozen, number, "data") == []
    made.come("log")  # a new one of it: that it says so now is of no use
    assert made.heard("log", g.Frozen(number), NOW) == []
    assert say(made, g.Held, number) == []


def test_one_that_goes_after_all_stood_still_and_before_it_said_that_it_held_voids_the_round_for_all() -> None:
    made = rounds()
    number = frozen(made)
    made.heard("log", g.Frozen(number), NOW)
    assert say(made, g.Held, number, "data", "wal") == []
    assert voided(made.gone("log"))[0] == VOID
    assert made.heard("log", g.Held(number), NOW) == []


def test_one_that_goes_once_a_round_is_committed_changes_nothing_of_it() -> None:
    made = rounds()
    number = frozen(made)
    made.heard("log", g.Frozen(number), NOW)
    assert say(made, g.Held, number) == to_all(g.Commit(number))
    assert made.gone("log") == []
    assert made.heard("wal", g.Cannot(number, "FreezeLost", "too late"), NOW) == []


@pytest.mark.parametrize("step", range(4))
def test_what_one_cannot_do_voids_the_round_at_every_step_and_is_told_in_its_words(step: int) -> None:
    made = rounds()
    number = begun(made)
    for kind in (ready, g.Frozen, g.Held)[:step]:
        say(made, kind, number, *(MEMBERS if kind is not g.Held else MEMBERS[:2]))
    reason, message = voided(made.heard("wal", g.Cannot(number, "FreezeLost", "thawed by another"), NOW))
    assert reason == (NOT_READY if step == 0 else VOID)
    assert message == "volume wal: FreezeLost: thawed by another"


@pytest.mark.parametrize(("step", "what"), [(0, "ready"), (1, "frozen"), (2, "read and thawed")])
def test_whoever_waits_no_longer_voids_the_round_and_it_is_said_who_was_missing(step: int, what: str) -> None:
    made = rounds()
    number = begun(made)
    kinds = (ready, g.Frozen, g.Held)
    for kind in kinds[:step]:
        say(made, kind, number)
    say(made, kinds[step], number, "data", "wal")
    reason, message = voided(made.heard("data", g.Cannot(number, VOID, "", late=True), NOW))
    assert reason == (NOT_READY if step == 0 else VOID)
    assert message == f"not {what} in the time that volume data could wait: volume log"


def test_the_number_of_a_round_is_never_given_again() -> None:
    made, seen = rounds(), set()
    for number in range(10):
        seen.add(begun(made))
        if number == 5:
            made = Rounds(MEMBERS, above=max(seen))  # its agent has another order, and its clock was set back
            for volume in MEMBERS[1:]:
                made.come(volume)
    assert len(seen) == 10
    assert min(seen) == NOW // 1_000_000


def test_whatever_comes_in_whatever_order_a_committed_round_stood_still() -> None:
    """The invariant, in random rounds with members that come, go, repeat themselves and speak of other rounds."""
    chance = random.Random(9)
    committed = 0
    for _ in range(3000):
        made, log = rounds(), dict.fromkeys(MEMBERS, 0)
        number = begun(made)
        kinds = [ready, g.Frozen, g.Held]
        still = over = False
        froze: set[str] = set()
        held: set[str] = set()
        for _ in range(60):
            volume = chance.choice(MEMBERS)
            if chance.random() < 0.01 and volume != "data":
                said = made.gone(volume)
                made.come(volume)
            else:
                step = log[volume] if chance.random() < 0.9 else chance.randrange(3)
                message = kinds[step % 3](number if chance.random() < 0.95 else number - 1)
                log[volume] = min(2, step + 1) if message.round == number else log[volume]  # type: ignore[union-attr]
                if isinstance(message, g.Frozen) and message.round == number and not still:
                    froze.add(volume)
                if isinstance(message, g.Held) and message.round == number and still:
                    held.add(volume)
                said = made.heard(volume, message, NOW)
            for message in {m for _, m in said}:
                assert not over
                still = still or isinstance(message, g.Still)
                over = isinstance(message, g.Void | g.Commit)
                if isinstance(message, g.Still):
                    assert froze == set(MEMBERS)
                if isinstance(message, g.Commit):
                    committed += 1
                    assert still
                    assert held == set(MEMBERS)
    assert committed > 100


# a seat


class Table:
    """Seats of one group in one process, and the lead's decisions between them."""

    def __init__(self) -> None:
        self.rounds = Rounds(MEMBERS)
        self.seats = {volume: Seat(self.say(volume), lambda: "Mirroring") for volume in MEMBERS}
        self._unsaid: deque[tuple[str, g.Message]] = deque()
        self._lock = threading.RLock()
        for volume in MEMBERS[1:]:
            self.rounds.come(volume)

    def say(self, volume: str) -> Callable[[g.Message], None]:
        def said(message: g.Message) -> None:
            with self._lock:
                self.tell(self.rounds.heard(volume, message, NOW))

        return said

    def tell(self, said: Said) -> None:
        begun = bool(self._unsaid)
        self._unsaid += said
        while self._unsaid and not begun:
            volume, message = self._unsaid[0]
            self.seats[volume].take(message)
            self._unsaid.popleft()

    def begin(self) -> None:
        with self._lock:
            self.tell(self.rounds.begin(NOW))


@pytest.fixture
def table() -> Table:
    made = Table()
    for volume in MEMBERS:
        made.seats[volume]._engaged = True
    return made


def turns(table: Table) -> dict[str, Turn]:
    table.begin()
    found = {volume: seat.join(0.0) for volume, seat in table.seats.items()}
    assert all(found.values())
    return {volume: turn for volume, turn in found.items() if turn is not None}


def test_all_seats_go_through_a_round_to_the_same_moment(table: Table) -> None:
    made = turns(table)
    assert made["data"].ready(0.0, changed=True) is Go.WAIT
    assert made["wal"].ready(0.0, changed=False) is Go.WAIT
    assert made["log"].ready(0.0, changed=False) is Go.FREEZE
    assert made["data"].unready() is Go.FREEZE
    found = []
    threads = [threading.Thread(target=lambda t=turn: found.append(t.frozen(5.0))) for turn in made.values()]
    for thread in threads:
        thread.start()
        time.sleep(0.05)
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1
    threads = [threading.Thread(target=turn.held, args=(5.0,)) for turn in list(made.values())[1:]]
    for thread in threads:
        thread.start()
    made["data"].held(5.0)


def test_a_seat_that_hears_nothing_while_frozen_waits_no_longer_than_it_may(table: Table) -> None:
    made = turns(table)
    for turn in made.values():
        turn.ready(0.0, changed=True)
    began = time.monotonic()
    with pytest.raises(PutOff) as put_off:
        made["data"].frozen(0.1)
    assert time.monotonic() - began < 0.25
    assert put_off.value.reason == VOID
    told = made["data"].cannot(put_off.value)
    assert told.message == "not frozen in the time that volume data could wait: volume wal, log"
    for volume in ("wal", "log"):
        with pytest.raises(PutOff, match="volume data could wait"):
            made[volume].frozen(5.0)


def test_without_the_word_that_all_held_there_is_no_point(table: Table) -> None:
    made = turns(table)
    for turn in made.values():
        turn.ready(0.0, changed=True)
    table.say("wal")(g.Frozen(table.seats["wal"].round))
    table.say("log")(g.Frozen(table.seats["log"].round))
    made["data"].frozen(5.0)
    made["wal"].cannot(FreezeLost("thawed by another", reason="ThawedByAnother"))
    with pytest.raises(PutOff, match="volume wal: ThawedByAnother: thawed by another"):
        made["data"].held(5.0)


def test_a_seat_whose_lead_is_lost_makes_no_point(table: Table) -> None:
    made = turns(table)
    for turn in made.values():
        turn.ready(0.0, changed=True)
    for volume in ("data", "log"):
        table.say(volume)(g.Frozen(table.seats[volume].round))
    made["wal"].frozen(5.0)
    table.seats["wal"].lost("the lead is not heard")
    with pytest.raises(PutOff, match="not heard") as put_off:
        made["wal"].held(5.0)
    assert put_off.value.reason == VOID


def test_whoever_is_there_hears_why_no_round_began(table: Table) -> None:
    table.rounds.gone("log")
    table.begin()
    for volume in ("data", "wal"):
        turn = table.seats[volume].join(0.0)
        assert turn is not None
        with pytest.raises(PutOff, match="not connected: volume log"):
            turn.ready(5.0, changed=True)


def test_a_round_that_cannot_begin_after_one_that_was_committed_is_no_point_either(table: Table) -> None:
    """Somebody dies between two rounds. The naive seat is still at `Committed`, and its volume makes a point alone."""
    made = turns(table)
    for turn in made.values():
        turn.ready(0.0, changed=True)
    for kind in (g.Frozen, g.Held):
        for volume in MEMBERS:
            table.say(volume)(kind(table.seats["data"].round))
    for turn in made.values():
        turn.held(0.0)
    for volume in MEMBERS:
        table.say(volume)(g.Durable(table.seats["data"].round))
    table.rounds.gone("log")
    table.begin()
    for volume in ("data", "wal"):
        alone = table.seats[volume].join(0.0)
        assert alone is not None
        with pytest.raises(PutOff, match="not connected: volume log"):
            alone.check()
        with pytest.raises(PutOff, match="not connected: volume log"):
            alone.ready(0.0, changed=True)


def test_one_that_makes_no_points_just_now_is_named_at_once(table: Table) -> None:
    table.seats["log"]._engaged = False
    table.begin()
    turn = table.seats["data"].join(0.0)
    assert turn is not None
    with pytest.raises(PutOff, match=r"volume log: NotPointing: it makes no points just now \(Mirroring\)") as put_off:
        turn.ready(5.0, changed=True)
    assert put_off.value.reason == NOT_READY
    assert table.seats["log"].join(0.0) is None


def test_what_is_said_of_an_older_round_is_not_heard(table: Table) -> None:
    turn = turns(table)["data"]
    old = table.seats["data"].round
    table.begin()
    table.seats["data"].take(g.Commit(old))
    with pytest.raises(PutOff, match="another round"):
        turn.held(1.0)


# what travels


def test_messages_come_out_as_they_went_in_however_they_are_cut() -> None:
    told: list[g.Message] = [
        g.Hello("uid", 3, "wal", 2, MEMBERS),
        g.Alive(),
        g.Ready(7, True),
        g.Still(7, NOW),
        g.Cannot(7, "FreezeLost", "no", late=True),
        g.Void(7, VOID, "no"),
    ]
    data = b"".join(map(g.encode, told))
    for step in (1, 3, len(data)):
        parser = g.Parser()
        found = [m for at in range(0, len(data), step) for m in parser.feed(data[at : at + step])]
        assert found == told


@pytest.mark.parametrize(
    "data",
    [
        (g.LIMIT + 1).to_bytes(4, "little"),
        b"\x01\0\0\0\xc1",
        b"\x03\0\0\0\x92\xa1x",
        b"\x08\0\0\0\x92\xa5ready\x01",
    ],
    ids=["long", "no msgpack", "cut", "a field too few"],
)
def test_what_cannot_be_meant_ends_the_connection(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        g.Parser().feed(data)
