"""Writers that give no rest, in a process of their own: `python -m tests.support.unrest DIRECTORY SEED`.

A store through a map of a frozen file system waits in the page fault, and so does every other thread of its process
that wants Python's lock: whoever freezes must not be one of them.
"""

from __future__ import annotations

import errno
import mmap
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.writers import WRITERS, P, opened, prepare

_EXPECTED = (errno.EOPNOTSUPP, errno.ENOTTY, errno.EINVAL, errno.ENOENT, errno.EEXIST)
"""What this file system cannot do, and what a writer left as the next does not want it."""
_PAGES = 1024


def write(place: Path, chance: random.Random, stop: threading.Event) -> None:
    """Random writers, one after the other."""
    place.mkdir()
    prepare(place)
    while not stop.is_set():
        if chance.random() < 0.1:
            prepare(place)
        try:
            WRITERS[chance.choice(list(WRITERS))](place)
        except OSError as e:
            if e.errno not in _EXPECTED:
                raise
        except ValueError:  # a map of more than the file holds by now
            pass
        time.sleep(chance.random() / 100)


def overwrite(place: Path, chance: random.Random, stop: threading.Event) -> None:
    """Pages of a larger file: written, stored through a map, written directly."""
    place.mkdir()
    with opened(place / "large", os.O_RDWR | os.O_CREAT) as fd:
        os.ftruncate(fd, _PAGES * P)
        block = mmap.mmap(-1, P)
        with opened(place / "large", os.O_RDWR | os.O_DIRECT) as direct, mmap.mmap(fd, _PAGES * P) as memory:
            while not stop.is_set():
                page, byte, kind = chance.randrange(_PAGES), chance.randrange(256), chance.randrange(3)
                if kind == 0:
                    os.pwrite(fd, bytes([byte]) * P, page * P)
                elif kind == 1:
                    memory[page * P + 100] = byte
                else:
                    block[:] = bytes([byte]) * P
                    os.pwrite(direct, block, page * P)
                time.sleep(0.0005)


@contextmanager
def unrest(directory: Path, seed: int) -> Iterator[None]:
    """While entered they write in directories of their own below `directory`."""
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.support.unrest", str(directory), str(seed)],
        stdin=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    try:
        yield
    finally:
        child.communicate(timeout=30)
    assert child.returncode == 0


def _main() -> int:
    directory, seed = Path(sys.argv[1]), int(sys.argv[2])
    stop, failed = threading.Event(), []

    def guarded(job: Callable[[Path, random.Random, threading.Event], None], name: str, seed: int) -> None:
        try:
            job(directory / name, random.Random(seed), stop)
        except BaseException as e:
            failed.append(e)
            raise

    jobs = ((write, "one"), (write, "two"), (overwrite, "three"))
    threads = [threading.Thread(target=guarded, args=(*job, seed + number)) for number, job in enumerate(jobs)]
    for thread in threads:
        thread.start()
    sys.stdin.read()
    stop.set()
    for thread in threads:
        thread.join()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(_main())
