"""What a target knows of its source's clock: as of the last byte that came, not of the last word that told."""

from __future__ import annotations

from dataclasses import dataclass

from storagemirror.contract import Role
from storagemirror.sync.channel import Channel
from storagemirror.wire.messages import Mark, Ping

SECOND = 1_000_000_000
START = 1_700_000_000 * SECOND


@dataclass
class Hands:
    """A clock that is set by hand."""

    at: float = 100.0

    def now_ns(self) -> int:
        return START + int(self.at * 1e9)

    def monotonic(self) -> float:
        return self.at

    def sleep(self, seconds: float) -> None:
        self.at += seconds


@dataclass
class Quiet:
    """A stream on which the last byte came at `heard`."""

    clock: Hands
    heard: float = 100.0

    def send(self, data: bytes | bytearray | memoryview) -> None:
        raise AssertionError("nobody sends here")

    def receive_into(self, buffer: memoryview) -> int:
        raise AssertionError("nobody reads here")

    def deafen(self) -> None: ...
    def finish(self) -> None: ...
    def close(self) -> None: ...
    def settle(self, seconds: float) -> None: ...
    def transmitted(self) -> None: ...

    def quiet_seconds(self) -> float:
        return self.clock.monotonic() - self.heard


def test_bytes_that_come_after_the_last_word_about_the_clock_count_as_later() -> None:
    """Behind a narrow link the last word is old when the last byte comes: what was written in between is lost too."""
    clock = Hands()
    stream = Quiet(clock)
    channel = Channel(Role.TARGET, stream, clock)  # type: ignore[arg-type]
    channel._learn(Ping(now_ns=START))
    assert channel.heard_ns() == START
    clock.at, stream.heard = 112.0, 110.0  # bytes came for ten seconds more, and no word; then silence
    assert channel.heard_ns() == START + 10 * SECOND
    clock.at = 150.0
    assert channel.heard_ns() == START + 10 * SECOND, "the outage itself does not count"


def test_a_word_that_waited_on_its_way_takes_nothing_back() -> None:
    clock = Hands()
    stream = Quiet(clock)
    channel = Channel(Role.TARGET, stream, clock)  # type: ignore[arg-type]
    channel._learn(Ping(now_ns=START))
    clock.at = stream.heard = 120.0
    channel._learn(Ping(now_ns=START + 8 * SECOND))  # twelve seconds under way
    assert channel.heard_ns() == START + 20 * SECOND


def test_a_clock_that_was_set_back_is_believed() -> None:
    clock = Hands()
    stream = Quiet(clock)
    channel = Channel(Role.TARGET, stream, clock)  # type: ignore[arg-type]
    channel._learn(Ping(now_ns=START + 3600 * SECOND))
    clock.at = stream.heard = 101.0
    channel._learn(Mark(1, START + 3600 * SECOND))  # of before, and sent now
    channel._learn(Ping(now_ns=START + SECOND))
    assert channel.heard_ns() == START + SECOND
    channel._learn(Mark(2, START + SECOND))
    clock.at, stream.heard = 112.0, 110.0
    assert channel.heard_ns() == START + 10 * SECOND


def test_a_word_that_another_thread_overtook_changes_nothing() -> None:
    clock = Hands()
    stream = Quiet(clock)
    channel = Channel(Role.TARGET, stream, clock)  # type: ignore[arg-type]
    channel._learn(Ping(now_ns=START))
    clock.at = stream.heard = 120.0
    channel._learn(Mark(1, START + 8 * SECOND))
    channel._learn(Ping(now_ns=START + 8 * SECOND - 1))
    assert channel.heard_ns() == START + 20 * SECOND


def test_before_any_word_nothing_is_known() -> None:
    clock = Hands()
    assert Channel(Role.TARGET, Quiet(clock), clock).heard_ns() is None  # type: ignore[arg-type]
