"""Running programs, and waiting for things to become true."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from tests.cluster.errors import ClusterError, CommandFailed, TimedOut


def run(
    *words: str | Path, check: bool = True, stdin: str | None = None, timeout: float = 300
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end. Raises CommandFailed (with what it said) unless `check` is off, TimedOut after
    `timeout` seconds."""
    argv = [str(word) for word in words]
    try:
        done = subprocess.run(argv, check=False, text=True, capture_output=True, input=stdin, timeout=timeout)
    except FileNotFoundError as e:
        raise CommandFailed(argv, 127, str(e)) from e
    except subprocess.TimeoutExpired as e:
        raise TimedOut(f"`{' '.join(argv)[:400]}` did not end within {timeout:.0f} s") from e
    if check and done.returncode != 0:
        raise CommandFailed(argv, done.returncode, done.stderr or done.stdout)
    return done


def wait_for(what: str, true: Callable[[], bool], seconds: float, *, every: float = 0.2) -> float:
    """Look until `true()` holds; returns the seconds it took. A ClusterError while looking counts as "not yet" and is
    told in the TimedOut that is raised after `seconds`."""
    started = time.monotonic()
    last = "it was simply not so"
    while True:
        try:
            if true():
                return time.monotonic() - started
            last = "it was simply not so"
        except ClusterError as e:
            last = e.message
        if time.monotonic() - started > seconds:
            raise TimedOut(f"waited {seconds:.0f} s for {what}; last seen: {last}")
        time.sleep(every)


def say(text: str) -> None:
    """One line of progress for a person."""
    print(text, flush=True)
