"""The one table of legal moves: who may send what, when. docs/protocol.md prints it, and a test holds it to that.

Each side is in a state of its own. What a side sends moves its own state; a few frames also move the other's
(`TRIGGERS`), because they are questions that the other may now answer.
"""

from __future__ import annotations

from enum import Enum

from storagemirror.contract import Role
from storagemirror.wire.messages import FrameType as F


class State(Enum):
    """Where a side is in the conversation."""

    START = "start"
    """Nothing was sent yet."""
    GREETED = "greeted"
    """Source: waits to be let in."""
    IDLE = "idle"
    """Let in. Source: may send changes. Target: speaks when it is asked."""
    TELLING = "telling"
    """Source: within what its volume held once."""
    COMPARING = "comparing"
    """A mirror is running."""
    FILE = "file"
    """Source: within a large file, no mirror running."""
    COMPARING_FILE = "comparing-file"
    """Source: within a large file of a mirror."""
    POINT = "point"
    """Source: within a point."""
    ENDING = "ending"
    """Source: the mirror was ended, the target has not answered yet."""
    DONE = "done"
    """Its last frame was sent."""


Moves = dict[State, dict[F, State]]

_CHANGES = (F.PACK, F.LINK, F.RENAME, F.DELETE, F.LOOK, F.FLAGS, F.BLOCKS, F.LET_GO)


def _stay(state: State, *kinds: F) -> dict[F, State]:
    return dict.fromkeys(kinds, state)


SOURCE: Moves = {
    State.START: {F.HELLO: State.GREETED},
    State.GREETED: {F.PING: State.GREETED, F.BYE: State.DONE, F.ABORT: State.DONE},
    State.IDLE: {
        **_stay(State.IDLE, F.PING, F.MARK, F.SUM, F.TALLY, F.EXAMINE, F.POINT_RELEASE, *_CHANGES),
        F.BEGIN: State.FILE,
        F.DELTA: State.FILE,
        F.MIRROR: State.COMPARING,
        F.MANIFEST: State.TELLING,
        F.POINT: State.POINT,
        F.BYE: State.DONE,
        F.ABORT: State.DONE,
    },
    State.POINT: {
        **_stay(State.POINT, F.PING, F.OBJECT, F.NAMES, F.DATA, F.HOLE),
        F.POINT_END: State.IDLE,
        F.DROP: State.IDLE,
        F.BYE: State.DONE,
        F.ABORT: State.DONE,
    },
    State.TELLING: {
        **_stay(State.TELLING, F.PING, F.MANIFEST_DIGESTS, F.MANIFEST_PART),
        F.MANIFEST_END: State.IDLE,
        F.BYE: State.DONE,
        F.ABORT: State.DONE,
    },
    State.FILE: {
        **_stay(State.FILE, F.PING, F.DATA, F.HOLE, F.COPY, F.BLOCKS),
        F.END: State.IDLE,
        F.DROP: State.IDLE,
        F.BYE: State.DONE,
        F.ABORT: State.DONE,
    },
    State.COMPARING: {
        **_stay(State.COMPARING, F.PING, F.MARK, F.CREDIT, F.WANT, F.DOOMED, F.FLAGS_TOLD, F.MOVES, *_CHANGES),
        F.BEGIN: State.COMPARING_FILE,
        F.DELTA: State.COMPARING_FILE,
        F.MIRROR_END: State.ENDING,
        F.BYE: State.DONE,
        F.ABORT: State.DONE,
    },
    State.COMPARING_FILE: {
        **_stay(State.COMPARING_FILE, F.PING, F.CREDIT, F.DATA, F.HOLE, F.COPY, F.BLOCKS),
        F.END: State.COMPARING,
        F.DROP: State.COMPARING,
        F.BYE: State.DONE,
        F.ABORT: State.DONE,
    },
    State.ENDING: {**_stay(State.ENDING, F.PING), F.BYE: State.DONE, F.ABORT: State.DONE},
    State.DONE: {},
}

TARGET: Moves = {
    State.START: {F.WELCOME: State.IDLE, F.REFUSE: State.DONE, F.HOLD: State.DONE, F.ABORT: State.DONE},
    State.IDLE: {
        **_stay(State.IDLE, F.PING, F.LOOKED, F.MARKED, F.FAILED, F.NOT_KEPT, F.SUMMED, F.TALLIED),
        **_stay(State.IDLE, F.MANIFEST_WANT, F.KEPT, F.BLOCK_SUMS, F.EXAMINED),
        **_stay(State.IDLE, F.POINT_DURABLE, F.POINT_APPLIED, F.POINT_REFUSED, F.DISTURBED),
        F.HOLD: State.DONE,
        F.ABORT: State.DONE,
    },
    State.COMPARING: {
        **_stay(
            State.COMPARING,
            *(F.PING, F.DIGESTS, F.LISTING, F.CLEARED, F.LOOKED, F.MARKED, F.FAILED, F.NOT_KEPT),
            *(F.SUMMED, F.TALLIED, F.EXAMINED),  # asked for before the mirror was read
            *(F.BLOCK_SUMS, F.MOVED, F.MANIFEST_WANT, F.KEPT),
            *(F.POINT_DURABLE, F.POINT_APPLIED, F.POINT_REFUSED, F.DISTURBED),
        ),
        F.MIRRORED: State.IDLE,
        F.HOLD: State.DONE,
        F.ABORT: State.DONE,
    },
    State.DONE: {},
}

MOVES: dict[Role, Moves] = {Role.SOURCE: SOURCE, Role.TARGET: TARGET}

TRIGGERS: dict[tuple[Role, F], tuple[State, State]] = {
    (Role.TARGET, F.WELCOME): (State.GREETED, State.IDLE),
    (Role.SOURCE, F.MIRROR): (State.IDLE, State.COMPARING),
    (Role.TARGET, F.MIRRORED): (State.ENDING, State.IDLE),
}
"""(who sends, what) → the state of the other side before and after."""


def legal(role: Role, state: State) -> frozenset[F]:
    """What `role` may send in `state`."""
    return frozenset(MOVES[role].get(state, {}))
