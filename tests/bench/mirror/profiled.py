"""`python -m tests.bench.mirror.profiled OUT storagemirror-arguments ...`: a verb with every thread under cProfile.

The profiler makes calls of Python dearer than they are; what it says is where time goes, not how much.
"""

from __future__ import annotations

import cProfile
import os
import pstats
import signal
import sys
import threading

from storagemirror.cli.main import main

_profiles: list[cProfile.Profile] = []


def _begin(*_: object) -> None:
    """The first call in a new thread: its own profiler takes over."""
    sys.setprofile(None)
    profile = cProfile.Profile()
    _profiles.append(profile)
    profile.enable()


def _run(out: str, words: list[str]) -> int:
    threading.setprofile(_begin)
    _begin()
    try:
        return main(words)
    finally:
        _profiles[0].disable()
        for profile in _profiles:
            profile.create_stats()
        stats = pstats.Stats(_profiles[0])
        for profile in _profiles[1:]:
            stats.add(profile)
        stats.dump_stats(out)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    status = _run(sys.argv[1], sys.argv[2:])
    sys.stdout.flush()
    os._exit(status)
