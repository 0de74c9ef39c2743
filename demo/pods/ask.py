"""A client of the application, which asks its Service for the log of lines. Runs in a pod, standard library alone.

ask.py run URL     ask ten times a second, one question after the other, until it is stopped
ask.py heard       what was heard so far: an entry for each pod that answered, in the order in which they came
ask.py kept URL    what the whole log holds now: an entry for each pod that wrote lines, in their order
ask.py log FILE    the same of a log that lies there; nothing where none does

Prints JSON. An entry: {"pod", "first_line", "line": number of the first and the last line, "at": the writer's clock at
the last one, "first_heard", "last_heard": this pod's clock at the first and the last answer (0 in `kept`, `log`)}.
"""

from __future__ import annotations

import json
import sys
import time
import urllib.request
from collections.abc import Iterable
from pathlib import Path

HEARD = Path("/run/demo/heard.json")
EVERY = 0.1
PATIENCE = 0.5
"""Seconds for which it waits for an answer."""
TAIL = "bytes=-300"
Entry = dict[str, object]


def parsed(line: str) -> tuple[int, float, str] | None:
    """Number, time and writer of one line of the log; None for what is no such line."""
    words = line.split()
    if len(words) != 6 or (words[0], words[2], words[4]) != ("line", "at", "by"):
        return None
    return int(words[1]), float(words[3]), words[5]


def add(entries: list[Entry], pod: str, number: int, at: float, now: float) -> None:
    """Take in one line."""
    if not entries or entries[-1]["pod"] != pod:
        entries.append({"pod": pod, "first_line": number, "first_heard": now})
    entries[-1] |= {"line": number, "at": at, "last_heard": now}


def fetch(url: str, *, tail: bool) -> tuple[str, list[str]]:
    """Who answered, and the log's last whole lines, or all; over a connection of its own."""
    asked = urllib.request.Request(url, headers={"Range": TAIL} if tail else {})
    with urllib.request.urlopen(asked, timeout=PATIENCE if tail else 30) as answer:
        return answer.headers.get("X-Pod") or "", answer.read().decode(errors="replace").split("\n")[:-1]


def run(url: str) -> None:
    """Ask for ever."""
    entries: list[Entry] = []
    while True:
        asked = time.time()
        try:
            pod, lines = fetch(url, tail=True)
        except OSError:
            pod, lines = "", []
        found = parsed(lines[-1]) if lines else None
        if found is not None:
            add(entries, pod, found[0], found[1], time.time())
            half = HEARD.with_suffix(".half")
            half.write_text(json.dumps(entries))
            half.replace(HEARD)
        time.sleep(max(0.0, asked + EVERY - time.time()))


def kept(lines: Iterable[str]) -> list[Entry]:
    """What a log holds."""
    entries: list[Entry] = []
    for number, at, pod in filter(None, map(parsed, lines)):
        add(entries, pod, number, at, 0.0)
    return entries


def lines_of(path: str) -> list[str]:
    """The whole lines of a file; none where there is none."""
    try:
        return Path(path).read_text(errors="replace").split("\n")[:-1]
    except FileNotFoundError:
        return []


def main(verb: str, where: str = "") -> None:
    """Do one verb."""
    match verb:
        case "run":
            run(where)
        case "heard":
            print(HEARD.read_text() if HEARD.exists() else "[]")
        case "kept":
            print(json.dumps(kept(fetch(where, tail=False)[1])))
        case "log":
            print(json.dumps(kept(lines_of(where))))
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main(*sys.argv[1:])
