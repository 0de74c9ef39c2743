"""The source's part in a proof, as far as the wire goes: asking for sums, and hearing them."""

from __future__ import annotations

from collections.abc import Callable

from storagemirror.errors import ProtocolError
from storagemirror.wire import messages as m


class Asking:
    """`take` is called by the receiving thread, under the inbox's lock; all else by the session's thread.

    Answers to what was asked before a proof began anew may still come: they are passed over.
    """

    def __init__(self, send: Callable[[m.Message], None]) -> None:
        self._send = send
        self._number = 0
        self._begun = 0
        self._asked: dict[int, int] = {}  # how many paths each list has
        self._answers: dict[int, list[bytes | None]] = {}
        self._tallied: m.Tallied | None = None
        self._examining: tuple[int, int] | None = None
        self._examined: m.Examined | None = None
        self._untallied = 0

    @property
    def room(self) -> bool:
        """May another list be asked for?"""
        return self._untallied < m.SUM_WINDOW

    def begin(self) -> None:
        """Forget all before, here and there; whatever the target still reads for it, it reads no longer."""
        self._number += 1
        self._begun = self._number
        self._asked.clear()
        self._answers.clear()
        self._tallied = None
        self._untallied = 0
        self._send(m.Sum(self._number, [], begin=True))

    def ask(self, paths: list[bytes]) -> int:
        """Ask for the sums of these files, at most `SUM_PATHS`; the number of the list."""
        self._number += 1
        self._asked[self._number] = len(paths)
        self._untallied += 1
        self._send(m.Sum(self._number, paths))
        return self._number

    def answer(self, number: int) -> list[bytes | None] | None:
        """The target's sums of list `number`; None while they have not come."""
        return self._answers.pop(number, None)

    def tally(self, number: int, skipped: list[int], *, last: bool = False) -> None:
        """Let the sums of that list count, but for these."""
        self._untallied -= 1
        self._send(m.Tally(number, skipped, last))

    def tallied(self) -> m.Tallied | None:
        """What the target says that it came to; None while it has not."""
        return self._tallied

    @property
    def heard(self) -> bool:
        """Whether there is an answer that nobody has taken."""
        return bool(self._answers) or self._tallied is not None or self._examined is not None

    def examine(self, paths: list[bytes]) -> None:
        """Ask what is at these paths, at most `EXAMINE_PATHS`; one list at a time."""
        self._number += 1
        self._examined = None
        self._examining = self._number, len(paths)
        self._send(m.Examine(self._number, paths))

    def examined(self) -> list[m.Seen | None] | None:
        """The answer to the last `examine`; None while it has not come."""
        answer, self._examined = self._examined, None
        return answer.seen if answer is not None else None

    def take(self, event: m.Summed | m.Tallied | m.Examined) -> None:
        """What has come."""
        if isinstance(event, m.Examined):
            if (event.number, len(event.seen)) != self._examining:
                raise ProtocolError(f"{len(event.seen)} paths examined that were not asked for (list {event.number})")
            self._examining, self._examined = None, event
            return
        if event.number < self._begun:
            return
        if isinstance(event, m.Tallied):
            self._tallied = event
            return
        asked = self._asked.pop(event.number, None)
        if asked is None or asked != len(event.sums):
            raise ProtocolError(f"{len(event.sums)} sums that were not asked for (list {event.number})")
        self._answers[event.number] = event.sums
