"""What a tracer and the engine beside it say to each other, over a Unix socket of type SOCK_SEQPACKET.

The tracer has CAP_SYS_ADMIN: it makes the instance, for the volume that it sees itself, and puts its settings right.
The engine is exposed to the network: it gets descriptors of single files, opened in a mount that is read-only, and
never one of a directory. One packet is one message, words with a space between; the last field may hold spaces.

    engine -> tracer   open                        make an instance; once in a connection
                       check                       put right what somebody changed, and say so
    tracer -> engine   file PATH                   with a descriptor: of a file of the instance
                       setting PATH TEXT           with a descriptor: of one that shows this as long as all is well
                       ready TYPE BDI NUMBER PAGES that was all; device (see `Device`), pages of records a processor
                       checked TEXT                why events may be missing; empty when they are not
                       refused REASON TEXT         there is no trace (see `TraceUnavailable`)

The instance is removed when the connection ends and the descriptors are closed.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from typing import NamedTuple

from storagemirror.errors import ProtocolError
from storagemirror.fs.trace.events import Chosen
from storagemirror.fs.trace.files import Files
from storagemirror.fs.trace.keeping import OwnKeeper

SOCKET_NAME = "tracer.sock"
"""In the directory that the tracer and the engine share."""

LONGEST_MESSAGE = 8192
"""Bytes."""

_FIELDS = {"open": 1, "check": 1, "file": 2, "setting": 3, "ready": 5, "checked": 2, "refused": 3}
"""How many, the word itself counted."""


class Message(NamedTuple):
    """The word and what follows it, and the descriptor that came with it (-1: none)."""

    fields: list[str]
    descriptor: int


def send(to: socket.socket, word: str, *fields: object, descriptor: int = -1) -> None:
    """One message. OSError, TimeoutError."""
    text = " ".join([word, *(str(field) for field in fields)]).encode("utf-8", "replace")
    socket.send_fds(to, [text[:LONGEST_MESSAGE]], [descriptor] if descriptor >= 0 else [])


def receive(of: socket.socket, words: tuple[str, ...]) -> Message:
    """One message with one of `words`; the descriptor is the caller's. OSError; `ProtocolError`; EOFError when the
    other side is gone."""
    # Room for more than the one that may come, so that a second is seen.
    packet, found, flags, _ = socket.recv_fds(of, LONGEST_MESSAGE, 2, socket.MSG_CMSG_CLOEXEC)
    try:
        if not packet:
            raise EOFError
        text = packet.decode("utf-8", "replace")
        word = text.split(" ", 1)[0]
        wanted = _FIELDS[word] if word in words else None
        fields = text.split(" ", (wanted or 1) - 1)
        carries = 1 if word in ("file", "setting") else 0
        cut = flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC)
        if len(fields) != wanted or fields[0] != word or len(found) != carries or cut:
            raise ProtocolError(f"expected {' or '.join(words)}, got {text[:80]!r} with {len(found)} descriptors")
    except (EOFError, ProtocolError):
        for fd in found:
            os.close(fd)
        raise
    return Message(fields, found[0] if found else -1)


def hand_over(keeper: OwnKeeper, read_only: int, to: socket.socket) -> None:
    """Give all that is needed to read and to watch the keeper's instance. `read_only`: root of a mount of tracefs that
    cannot be written through. OSError, TimeoutError."""
    instance, expected = keeper.files, keeper.settings.expected
    for path in _needed(instance, keeper.events):
        flags = os.O_NONBLOCK if path.endswith("/trace_pipe_raw") else 0
        _hand(to, "file", path, instance.open_read_only(read_only, path, flags))
    for path, text in expected.items():
        _hand(to, "setting", path, instance.open_read_only(read_only, path), text)
    device = keeper.device
    send(to, "ready", device.fs_type, device.bdi, device.number, keeper.pages_each)


def _hand(to: socket.socket, word: str, path: str, descriptor: int, *text: str) -> None:
    try:
        send(to, word, path, *text, descriptor=descriptor)
    finally:
        os.close(descriptor)


def _needed(files: Files, events: list[Chosen]) -> Iterator[str]:
    yield "events/header_page"
    for event in events:
        yield f"events/{event.name}/format"
    for name in files.list("per_cpu"):
        yield f"per_cpu/{name}/trace_pipe_raw"
        yield f"per_cpu/{name}/stats"
