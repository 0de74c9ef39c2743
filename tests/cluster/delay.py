"""A process: holds every packet of a link for a while, in both directions, and then lets it go on.

`python -m tests.cluster.delay SECONDS`, inside the network of a node or of the control plane; rules there send what
comes and goes through eth0 to netfilter queue QUEUE. The kernel keeps the packets; only their numbers come here, in
order, and one verdict lets go of all up to a number, so that this costs little. Written because the kernels this runs
on have no netem. Source of the messages' format: linux/netfilter/nfnetlink_queue.h.
"""

from __future__ import annotations

import collections
import select
import socket
import struct
import sys
import time
from collections.abc import Iterator

QUEUE = 7460
_MAX_PACKETS = 20_000

_NETLINK_NETFILTER = 12
_SOL_NETLINK, _NETLINK_NO_ENOBUFS = 270, 5
_SUBSYSTEM = 3 << 8
_PACKET, _CONFIG, _VERDICT_BATCH = _SUBSYSTEM | 0, _SUBSYSTEM | 2, _SUBSYSTEM | 3
_REQUEST, _ACKNOWLEDGE = 1, 4
_ERROR = 2
_HEADER = struct.Struct("=IHHII")
_NF_ACCEPT = 1
_ATTRIBUTE_PACKET_HEADER, _ATTRIBUTE_VERDICT = 1, 2
_CONFIG_COMMAND, _CONFIG_PARAMETERS, _CONFIG_MAX_LENGTH, _CONFIG_MASK, _CONFIG_FLAGS = 1, 2, 3, 4, 5
_FLAG_WHOLE_SEGMENTS = 1 << 2


def attribute(kind: int, value: bytes) -> bytes:
    """A netlink attribute, padded to four bytes."""
    return struct.pack("=HH", 4 + len(value), kind) + value + b"\0" * (-len(value) % 4)


def message(kind: int, queue: int, *attributes: bytes, flags: int = _REQUEST) -> bytes:
    """A netlink message about a queue."""
    body = struct.pack(">BBH", 0, 0, queue) + b"".join(attributes)
    return _HEADER.pack(_HEADER.size + len(body), kind, flags, 0, 0) + body


def messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Kind and body (after the netlink header) of every message in what was received."""
    at = 0
    while at + _HEADER.size <= len(data):
        length, kind, _, _, _ = _HEADER.unpack_from(data, at)
        if length < _HEADER.size:
            return
        yield kind, data[at + _HEADER.size : at + length]
        at += (length + 3) & ~3


def packet_number(body: bytes) -> int | None:
    """The number of the packet that a message tells of, or None."""
    at = 4
    while at + 4 <= len(body):
        length, kind = struct.unpack_from("=HH", body, at)
        if kind & 0x7FFF == _ATTRIBUTE_PACKET_HEADER:
            return int(struct.unpack_from(">I", body, at + 4)[0])
        if length < 4:
            return None
        at += (length + 3) & ~3
    return None


def open_queue(queue: int) -> socket.socket:
    """Take the packets of a queue. Raises OSError where the kernel does not give it."""
    netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER)
    netlink.bind((0, 0))
    netlink.setsockopt(_SOL_NETLINK, _NETLINK_NO_ENOBUFS, 1)
    netlink.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
    bind = attribute(_CONFIG_COMMAND, struct.pack(">BBH", 1, 0, socket.AF_INET))
    numbers_only = attribute(_CONFIG_PARAMETERS, struct.pack(">IB", 0, 1))
    longest = attribute(_CONFIG_MAX_LENGTH, struct.pack(">I", _MAX_PACKETS))
    whole = attribute(_CONFIG_MASK, struct.pack(">I", _FLAG_WHOLE_SEGMENTS)) + attribute(
        _CONFIG_FLAGS, struct.pack(">I", _FLAG_WHOLE_SEGMENTS)
    )
    for wish in (bind, numbers_only, longest, whole):
        netlink.send(message(_CONFIG, queue, wish, flags=_REQUEST | _ACKNOWLEDGE))
        for kind, body in messages(netlink.recv(1 << 16)):
            if kind == _ERROR:
                error = -int(struct.unpack_from("=i", body)[0])
                if error:
                    raise OSError(error, f"netfilter queue {queue} is refused")
    return netlink


def run(netlink: socket.socket, queue: int, seconds: float) -> None:
    """Never returns. Packets leave in the order they came, so one verdict frees all that are due."""
    waiting: collections.deque[tuple[float, int]] = collections.deque()
    while True:
        pause = max(0.0, waiting[0][0] - time.monotonic()) if waiting else None
        if select.select([netlink], [], [], pause)[0]:
            due = time.monotonic() + seconds
            for kind, body in messages(netlink.recv(1 << 16)):
                number = packet_number(body) if kind == _PACKET else None
                if number is not None:
                    waiting.append((due, number))
        last = None
        while waiting and waiting[0][0] <= time.monotonic():
            last = waiting.popleft()[1]
        if last is not None:
            verdict = attribute(_ATTRIBUTE_VERDICT, struct.pack(">II", _NF_ACCEPT, last))
            netlink.send(message(_VERDICT_BATCH, queue, verdict))


if __name__ == "__main__":
    run(open_queue(QUEUE), QUEUE, float(sys.argv[1]))
