"""A client of a Service: asks again and again who answers, and keeps a log that no node's death can take.

    python -m tests.support.asker ADDRESS PORT LOG

Runs in a node's network, so that the Service's address is turned as for a pod there. Each line of LOG is one question:
`ASKED SIDE NUMBER WRITTEN` (times in seconds since 1970; NUMBER is the last one that the application acknowledged), or
`ASKED - ERROR` where nobody answered in time. One question every 100 ms, whatever becomes of those before it.
"""

from __future__ import annotations

import contextlib
import itertools
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.cluster import Cluster
from tests.cluster.service import own_module
from tests.support.ledger_lines import Line

EVERY_SECONDS = 0.1
PATIENCE_SECONDS = 1.0


@dataclass(frozen=True)
class Answered:
    """One question that was answered: when it was asked, by which side, the last acknowledged number and its time."""

    asked: float
    side: str
    number: int
    written: float

    @property
    def line(self) -> Line:
        """The acknowledged line."""
        return Line(self.number, self.side, self.written)


class Client:
    """A running client: of this module, or of another one that keeps such a log."""

    def __init__(
        self, cluster: Cluster, node: str, address: str, port: int, log: Path, module: str = "tests.support.asker"
    ) -> None:
        self._log = log
        log.touch()
        words = cluster.network_command(node, *own_module(module, address, str(port), str(log)))
        self._process = subprocess.Popen(words, stdin=subprocess.DEVNULL)

    def answers(self) -> list[Answered]:
        """All answers so far, in the order they were asked for."""
        found = []
        for line in self._log.read_text().splitlines():
            words = line.split()
            if len(words) == 4 and words[1] != "-":
                found.append(Answered(float(words[0]), words[1], int(words[2]), float(words[3])))
        return sorted(found, key=lambda answer: answer.asked)

    def last(self) -> Answered | None:
        """The latest answer."""
        return max(self.answers(), key=lambda answer: answer.asked, default=None)

    def first_of(self, side: str, since: float = 0.0) -> Answered | None:
        """The first answer of a side to a question asked at `since` or later."""
        return next((a for a in self.answers() if a.side == side and a.asked >= since), None)

    def longest_silence(self, since: float = 0.0) -> float:
        """The longest time between two answers in a row, by when they were asked for; seconds."""
        times = [a.asked for a in self.answers() if a.asked >= since]
        return max((b - a for a, b in itertools.pairwise(times)), default=0.0)

    def stop(self) -> None:
        """No more questions."""
        self._process.kill()
        self._process.wait()


def main(address: str, port: str, log: str) -> None:
    """Ask for ever."""
    guard = threading.Lock()
    with open(log, "a", buffering=1) as file:

        def ask() -> None:
            asked = time.time()
            try:
                with contextlib.closing(socket.create_connection((address, int(port)), PATIENCE_SECONDS)) as peer:
                    said = b""
                    while not said.endswith(b"\n"):
                        more = peer.recv(200)
                        if not more:
                            raise ConnectionError("cut short")
                        said += more
                side, number, _, written = said.decode().rstrip(";\n").split()
                line = f"{asked:.3f} {side} {number} {written}\n"
            except OSError as e:
                line = f"{asked:.3f} - {type(e).__name__}\n"
            with guard:
                file.write(line)

        while True:
            threading.Thread(target=ask, daemon=True).start()
            time.sleep(EVERY_SECONDS)


if __name__ == "__main__":
    main(*sys.argv[1:])
