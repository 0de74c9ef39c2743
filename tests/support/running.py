"""A Python program beside the test, until the end of a `with`."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.cluster.layout import checkout


@contextmanager
def running(*words: str | Path, said: Path | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """Python with these words (`-m` and a module, `-c` and a text), killed in the end; what it says is in `said`."""
    env = {**os.environ, "PYTHONPATH": f"{checkout() / 'operator'}:{checkout()}"}
    with (said or Path(os.devnull)).open("wb") as to:
        process = subprocess.Popen([sys.executable, *map(str, words)], cwd=checkout(), env=env, stdout=to)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
