"""How late lines become readable in a file that somebody else appends to. Runs in a pod, standard library alone.

    follow.py FILE SECONDS

Prints {"lines": how many were seen, "median", "p95", "longest": seconds}. Each line begins `line NUMBER at TIME`,
TIME being the writer's clock in seconds since 1970 just before it wrote; lines that were there at the start count not.
"""

from __future__ import annotations

import json
import sys
import time


def delay(line: str, now: float) -> float | None:
    """Seconds between the time in a line and `now`; None for what is no such line."""
    words = line.split()
    if len(words) < 4 or words[0] != "line" or words[2] != "at":
        return None
    return now - float(words[3])


class Follower:
    """Knows which lines of a file it has seen. The file may be replaced as a whole at any time."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._seen = len(self._whole_lines())

    def fresh(self) -> list[str]:
        """The lines that came since the last call."""
        lines = self._whole_lines()
        new = lines[self._seen :]
        self._seen = max(self._seen, len(lines))
        return new

    def _whole_lines(self) -> list[str]:
        try:
            with open(self._path) as file:
                return file.read().split("\n")[:-1]
        except FileNotFoundError:
            return []


def main(path: str, seconds: str) -> None:
    """Follow, then print."""
    follower = Follower(path)
    delays: list[float] = []
    end = time.monotonic() + float(seconds)
    while time.monotonic() < end:
        now = time.time()
        found = [delay(line, now) for line in follower.fresh()]
        delays += [late for late in found if late is not None]
        time.sleep(0.01)
    delays.sort()
    if not delays:
        sys.exit(f"no line appeared in {path} within {seconds} s")
    figures = {
        "lines": len(delays),
        "median": delays[len(delays) // 2],
        "p95": delays[max(0, int(len(delays) * 0.95) - 1)],
        "longest": delays[-1],
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main(*sys.argv[1:])
