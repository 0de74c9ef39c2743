"""What an engine and the guard of its volume say to each other, over a Unix socket of type SOCK_SEQPACKET.

One packet is one message, ASCII words with a space between; only the last field, a text for people, may hold spaces.

    engine -> guard   able                         may this volume be frozen at all?
                      freeze N MILLISECONDS        freeze it; thaw it by yourself after so long
                      thaw N
    guard -> engine   able                         it may
                      frozen N MICROSECONDS        it is; FIFREEZE took so long
                      thawed N MICROSECONDS        it was frozen all the time, so long in all, and is not any more
                      lost N REASON TEXT           it is not frozen any more, and was not all the time
                      refused N KIND REASON TEXT   it was not frozen; KIND is `passing` or `lasting`. N is 0 for `able`

N is a number of the engine's, at least 1, that grows with each freeze of a connection. The guard thaws when the
connection ends. It answers each `freeze` and each `thaw` once. Imports next to nothing: the guard is small.
"""

from __future__ import annotations

from storagemirror.errors import ProtocolError

SOCKET_NAME = "guard.sock"
"""In the directory that the guard and the engine share."""

LONGEST_MESSAGE = 1024
"""Bytes."""

_FIELDS = {"able": 1, "freeze": 3, "thaw": 2, "frozen": 3, "thawed": 3, "lost": 4, "refused": 5}
"""How many, the word itself counted."""
_NUMBERS = {"freeze": 2, "thaw": 1, "frozen": 2, "thawed": 2, "lost": 1, "refused": 1}
"""How many fields after the word are numbers."""


def encode(word: str, *fields: object) -> bytes:
    """One message. A text that is too long is cut."""
    text = " ".join([word, *(str(field) for field in fields)])
    return text.encode("ascii", "replace").replace(b"\n", b" ")[:LONGEST_MESSAGE]


def decode(packet: bytes) -> list[str]:
    """The fields of a message, the word first; `ProtocolError` for what is none of ours."""
    text = packet.decode("ascii", "replace")
    word = text.split(" ", 1)[0]
    wanted = _FIELDS.get(word)
    fields = text.split(" ", (wanted or 1) - 1)
    numbers = fields[1 : 1 + _NUMBERS.get(word, 0)]
    if len(fields) != wanted or not all(number.isdecimal() and len(number) < 20 for number in numbers):
        raise ProtocolError(f"expected a message of the guard's protocol, got {text[:80]!r}")
    return fields
