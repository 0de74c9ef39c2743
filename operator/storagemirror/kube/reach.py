"""Does an endpoint take a connection? Tried from the operator's own pod, all at once, each for a moment."""

from __future__ import annotations

import os
import selectors
import socket
from collections.abc import Mapping

from storagemirror.clock import Clock
from storagemirror.plan.observed import Reached

REACH_SECONDS = 1.0


def reach(clock: Clock, targets: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[Reached, ...]]:
    """By Service: what came of a TCP connection to each `ip:port`. Takes no longer than `REACH_SECONDS`."""
    addresses = {address for some in targets.values() for address in some}
    found = _all(clock, sorted(addresses))
    return {service: tuple(found[a] for a in some) for service, some in targets.items()}


def _all(clock: Clock, addresses: list[str]) -> dict[str, Reached]:
    found: dict[str, Reached] = {}
    waiting: dict[int, tuple[str, socket.socket]] = {}
    deadline = clock.monotonic() + REACH_SECONDS
    with selectors.DefaultSelector() as selector:
        for address in addresses:
            begun = _begin(address)
            if isinstance(begun, Reached):
                found[address] = begun
            else:
                waiting[begun.fileno()] = (address, begun)
                selector.register(begun, selectors.EVENT_WRITE)
        while waiting and (left := deadline - clock.monotonic()) > 0:
            for key, _ in selector.select(left):
                address, connection = waiting.pop(key.fd)
                selector.unregister(connection)
                error = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                connection.close()
                found[address] = Reached(address, not error, os.strerror(error) if error else "")
    for address, connection in waiting.values():
        connection.close()
        found[address] = Reached(address, False, f"no answer within {REACH_SECONDS:g} s")
    return found


def _begin(address: str) -> socket.socket | Reached:
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    made = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    made.setblocking(False)
    try:
        made.connect((host, int(port)))
    except BlockingIOError:
        return made
    except OSError as e:
        made.close()
        return Reached(address, False, e.strerror or str(e))
    return made
