"""A client of a bank's Service (testbox/bank.py) that keeps a log of what it was told, which no node's death can take.

    python -m tests.support.heard ADDRESS PORT LOG

Runs in a node's network. Each line of LOG is one acknowledgement, as `asker` writes its answers: `HEARD SIDE NUMBER
WRITTEN`, times in seconds since 1970.
"""

from __future__ import annotations

import contextlib
import socket
import sys
import time

CONNECT_SECONDS = 0.3
SILENCE_SECONDS = 1.0
"""After which the server is looked for anew: one whose node has no power says nothing."""


def main(address: str, port: str, log: str) -> None:
    """Listen for ever."""
    with open(log, "a", buffering=1) as file:
        while True:
            try:
                with contextlib.closing(socket.create_connection((address, int(port)), CONNECT_SECONDS)) as peer:
                    peer.settimeout(SILENCE_SECONDS)
                    for line in peer.makefile("r"):
                        side, number, written = line.rstrip(";\n").split()
                        file.write(f"{time.time():.6f} {side} {number} {written}\n")
            except OSError:
                time.sleep(0.05)


if __name__ == "__main__":
    main(*sys.argv[1:])
