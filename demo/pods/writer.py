"""An application that appends numbered lines to some of the files it finds. Runs in a pod, standard library alone.

writer.py run DIRECTORY     append, until it is stopped
writer.py pause             stop appending; returns once nothing is being written, and prints the state
writer.py resume            go on
writer.py state             print the state: {"line": the last number written, "at_ns": when, "paused": bool}
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
from pathlib import Path

RUN = Path("/run/demo")
PAUSE = RUN / "pause"
STATE = RUN / "state.json"
LINES_A_SECOND = 20
EVERY = 40
"""One file in this many is written to."""
COUNTER = "lines.log"
"""Every line also goes here, so that the last number is easy to see on either side."""
ME = socket.gethostname()
"""The pod's name: each line says who wrote it."""


def say(line: int, paused: bool) -> None:
    """Make the state known, whole or not at all."""
    half = STATE.with_suffix(".half")
    half.write_text(json.dumps({"line": line, "at_ns": time.time_ns(), "paused": paused}))
    half.replace(STATE)


def chosen(top: Path) -> list[Path]:
    """Some of the text files below `top`, always the same ones."""
    # What storagemirror keeps on the volume is no page.
    pages = (p for p in top.rglob("*") if ".storagemirror" not in p.parts and p.suffix in {".txt", ".html"})
    found = sorted(p for p in pages if p.is_file() and not p.is_symlink())
    return found[::EVERY]


def last_line(counter: Path) -> int:
    """The number that an earlier writer came to."""
    try:
        lines = counter.read_text().split("\n")
    except FileNotFoundError:
        return 0
    return max((int(words[1]) for words in map(str.split, lines) if len(words) > 1), default=0)


def run(top: Path) -> None:
    """Append numbered lines to one file after the other."""
    files = chosen(top)
    counter = top / COUNTER
    line = last_line(counter)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # the first process of a container ignores it by itself
    print(f"appending to {len(files)} files, from line {line + 1}", flush=True)
    while True:
        if PAUSE.exists():
            say(line, paused=True)
            time.sleep(0.05)
            continue
        line += 1
        now = time.time()
        for path in [counter, *([files[line % len(files)]] if files else [])]:
            with path.open("a") as file:
                file.write(f"line {line} at {now:.3f} by {ME}\n")
        say(line, paused=False)
        time.sleep(1 / LINES_A_SECOND)


def wait_until(paused: bool) -> str:
    """The state, once it is so; the time in it is then that of this very moment or later."""
    since = time.time_ns()
    while True:
        if STATE.exists():
            text = STATE.read_text()
            state = json.loads(text)
            if state["paused"] == paused and state["at_ns"] > since:
                return text
        if time.time_ns() - since > 10_000_000_000:
            sys.exit("the writer does not answer")
        time.sleep(0.02)


def main(verb: str, top: str = "") -> None:
    """Do one verb."""
    match verb:
        case "run":
            run(Path(top))
        case "pause":
            PAUSE.touch()
            print(wait_until(paused=True))
        case "resume":
            PAUSE.unlink(missing_ok=True)
            print(wait_until(paused=False))
        case "state":
            print(STATE.read_text())
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    os.umask(0o022)
    main(*sys.argv[1:])
