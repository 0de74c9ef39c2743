"""Both ends are killed in the middle, and others take their place: what was sent is not sent again.

Judged by the bytes that passed between them, all sessions together, against those of a copy that nobody disturbed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from storagemirror.contract import Action, Peer, Phase
from tests.support.agents import AgentPair, equal_soon, wait_for
from tests.support.relay import Relay

FILES, SIZE = 350, 200_000
"""Each travels in a pack; content that no compression makes smaller."""
WHOLE = FILES * SIZE
IN_FLIGHT = 14 << 20
"""What may be on its way when both die: the buffers of two sockets (4 MiB each, which the kernel doubles for what it
keeps with them), and the packs that are being made and written, 1 MiB each."""


@pytest.fixture
def relay() -> Iterator[Relay]:
    made = Relay()
    yield made
    made.close()


def begin(pair: AgentPair, relay: Relay) -> None:
    """As `AgentPair.start`, through the relay."""
    pair.target.give()
    pair.target.start()
    relay.upstream = pair.target.port()
    pair.source.give(peer=Peer(address="127.0.0.1", port=relay.port))
    pair.source.start()


def many_files(root: Path) -> None:
    for number in range(FILES):
        directory = root / f"d{number % 10}"
        directory.mkdir(exist_ok=True)
        (directory / f"f{number}").write_bytes(os.urandom(SIZE))


def passed(relay: Relay, share: float) -> Callable[[], bool]:
    return lambda: relay.forth >= share * WHOLE


@pytest.mark.parametrize("times", [2])
def test_both_agents_are_replaced_in_the_middle_and_only_what_was_in_flight_is_sent_again(
    pair: AgentPair, relay: Relay, times: int
) -> None:
    many_files(pair.source.volume)
    begin(pair, relay)
    for number in range(1, times + 1):
        wait_for(passed(relay, 0.9 * number / (times + 1)), "the middle", 60, pair.tell)
        assert pair.source.phase() is not Phase.REPLICATING, "too late: everything was sent"
        kill_both(pair, relay, number + 1)
    pair.until(Phase.REPLICATING, 60)
    equal_soon(pair)
    again = relay.forth - WHOLE
    assert again > 0
    assert again < times * IN_FLIGHT + WHOLE // 50, f"{again} bytes were sent again"


def test_a_pause_in_the_middle_sends_nothing_again_but_what_was_in_flight(pair: AgentPair, relay: Relay) -> None:
    many_files(pair.source.volume)
    begin(pair, relay)
    wait_for(passed(relay, 0.4), "the middle", 60, pair.tell)
    for agent in (pair.source, pair.target):
        agent.give(action=Action.PAUSE)
    wait_for(lambda: pair.source.phase() is Phase.PAUSED, "the pause", 20, pair.tell)
    before = relay.forth
    (pair.source.volume / "meanwhile").write_text("written while nobody copied")
    for agent in (pair.target, pair.source):
        agent.give(action=Action.RUN)
    pair.until(Phase.REPLICATING, 60)
    equal_soon(pair)
    assert before < 0.9 * WHOLE, "too late: nearly everything was sent"
    again = relay.forth - WHOLE
    assert 0 < again < IN_FLIGHT + WHOLE // 50, f"{again} bytes were sent again"


# -- a large file


LARGE = 128 << 20


@pytest.fixture
def large(pair: AgentPair) -> Path:
    path = pair.source.volume / "large"
    path.write_bytes(os.urandom(LARGE))
    return path


def kill_both(pair: AgentPair, relay: Relay, number: int) -> None:
    """And start others, of the next number."""
    pair.source.kill()
    pair.target.kill()
    pair.target.give(instance=number)
    pair.target.start(instance=number)
    relay.upstream = pair.target.port()
    pair.source.give(instance=number)
    pair.source.start(instance=number)


def kept(pair: AgentPair) -> Path:
    return pair.target.volume / ".storagemirror" / "tmp" / "partial"


@pytest.mark.parametrize("where", ["at the root", "beside others"])
def test_a_large_file_goes_on_where_both_were_killed(pair: AgentPair, relay: Relay, large: Path, where: str) -> None:
    if where == "beside others":
        (pair.source.volume / "deep" / "er").mkdir(parents=True)
        large.rename(pair.source.volume / "deep" / "er" / "large")
        for number in range(100):
            (pair.source.volume / f"f{number}").write_text("small")
    begin(pair, relay)
    wait_for(lambda: relay.forth >= 0.8 * LARGE, "most of it", 60, pair.tell)
    assert pair.source.phase() is not Phase.REPLICATING, "too late: everything was sent"
    kill_both(pair, relay, 2)
    pair.until(Phase.REPLICATING, 60)
    equal_soon(pair)
    assert relay.forth < LARGE + IN_FLIGHT, f"{relay.forth - LARGE} bytes were sent again"
    assert not kept(pair).exists()


def test_what_came_of_it_is_not_believed(pair: AgentPair, relay: Relay, large: Path) -> None:
    """The file that was kept is changed, and so is the source's: every block is compared."""
    begin(pair, relay)
    wait_for(lambda: relay.forth >= 0.5 * LARGE, "half of it", 60, pair.tell)
    pair.source.kill()
    pair.target.kill()
    assert kept(pair).stat().st_size > 1 << 20
    for path, offset in ((kept(pair), 1_000_000), (kept(pair), 7), (large, 2_000_000)):
        with path.open("r+b") as file:
            file.seek(offset)
            file.write(b"something else")
    with large.open("r+b") as file:
        file.truncate(LARGE - 12_345)
    pair.target.start()
    relay.upstream = pair.target.port()
    pair.source.start()
    pair.until(Phase.REPLICATING, 60)
    equal_soon(pair)
    assert relay.forth < LARGE + IN_FLIGHT


def test_what_came_of_a_file_that_is_gone_is_not_kept(pair: AgentPair, relay: Relay, large: Path) -> None:
    begin(pair, relay)
    wait_for(lambda: relay.forth >= 0.3 * LARGE, "some of it", 60, pair.tell)
    pair.source.kill()
    wait_for(kept(pair).exists, "what came", 10, pair.tell)
    large.unlink()
    (pair.source.volume / "other").write_text("x")
    pair.source.start()
    pair.until(Phase.REPLICATING, 60)
    equal_soon(pair)
    assert not kept(pair).exists()


def test_a_file_whose_content_has_moved_since_is_right_all_the_same(pair: AgentPair, relay: Relay, large: Path) -> None:
    begin(pair, relay)
    wait_for(lambda: relay.forth >= 0.5 * LARGE, "half of it", 60, pair.tell)
    pair.source.kill()
    large.write_bytes(b"in front of all" + large.read_bytes())
    pair.source.start()
    pair.until(Phase.REPLICATING, 60)
    equal_soon(pair)
