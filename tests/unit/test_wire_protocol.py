"""docs/protocol.md and the code say the same."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from storagemirror.contract import Role
from storagemirror.wire.connection import MESSAGES, RECORDS
from storagemirror.wire.envelope import ENVELOPES
from storagemirror.wire.frame import LIMITS
from storagemirror.wire.messages import FrameType
from storagemirror.wire.moves import MOVES, TRIGGERS, State

DOCUMENT = (Path(__file__).parents[2] / "docs/protocol.md").read_text()


def rows(columns: int) -> list[list[str]]:
    """The rows of all tables of the document with so many columns."""
    found = []
    for line in DOCUMENT.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("|") and len(cells) == columns and not set(cells[0]) <= {"-"}:
            found.append(cells)
    return found[1:]


def test_every_frame_is_in_the_document_with_its_number_and_its_limit() -> None:
    documented = {row[1]: (int(row[0]), int(row[3])) for row in rows(5)}
    assert documented == {kind.name: (int(kind), LIMITS[kind]) for kind in FrameType}


def test_who_sends_a_frame_is_who_may_send_it() -> None:
    for row in rows(5):
        kind = FrameType[row[1]]
        if kind in ENVELOPES:
            assert row[2] == "both"
            continue
        senders = {role.value.lower() for role in Role if any(kind in moves for moves in MOVES[role].values())}
        assert row[2] == ("both" if len(senders) == 2 else senders.pop()), kind.name


def test_the_table_of_moves_is_the_documents() -> None:
    documented: dict[Role, dict[State, dict[FrameType, State]]] = {role: {} for role in Role}
    for side, state_name, moves in rows(3):
        state = State(state_name)
        table = documented[Role(side.capitalize())][state] = {}
        for move in filter(None, moves.split(", ")):
            kind, _, after = move.partition(" → ")
            table[FrameType[kind]] = State(after) if after else state
    assert documented == MOVES


def test_the_frames_that_move_the_other_side_are_documented() -> None:
    sentence = re.search(r"Three frames also move the other side: (.*?)\.\n", DOCUMENT, re.DOTALL)
    assert sentence is not None
    said = re.findall(r"(\w+)\s+(?:moves )?the (\w+) from (\w+)\s+to\s+(\w+)", sentence[1].replace("\n", " "))
    documented = {
        (Role(moved.capitalize()).peer, FrameType[kind]): (State(before), State(after))
        for kind, moved, before, after in said
    }
    assert documented == TRIGGERS


def test_every_frame_has_a_limit_and_a_message_or_a_content() -> None:
    assert set(LIMITS) == set(FrameType)
    assert set(MESSAGES) | set(RECORDS) | {FrameType.PACK, FrameType.DATA} | ENVELOPES == set(FrameType)


def test_what_a_target_owes_from_before_a_mirror_it_may_say_while_it_compares() -> None:
    """Found by the fuzzer: it reads ahead, so that MIRROR may have come before it answers what stood before it."""
    idle, comparing = MOVES[Role.TARGET][State.IDLE], MOVES[Role.TARGET][State.COMPARING]
    assert set(idle) <= set(comparing)


@pytest.mark.parametrize("role", list(Role))
def test_every_state_can_be_left_in_good_order_or_by_an_abort(role: Role) -> None:
    for state, moves in MOVES[role].items():
        if state not in (State.DONE, State.START):
            assert moves[FrameType.ABORT] is State.DONE
