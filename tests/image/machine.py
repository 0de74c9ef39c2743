"""What building an image needs of this machine: programs, a cache, and one builder at a time."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]

PACKAGES = {"buildah": "buildah", "mmdebstrap": "mmdebstrap", "runc": "runc"}
"""Debian package by program."""


class BuildFailed(Exception):
    """A step of a build failed; the message ends with what the program said."""


def cache() -> Path:
    """Where images, layers and wheels are kept between builds, outside every checkout."""
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    path = Path(home) / "storagemirror" / "image"
    path.mkdir(parents=True, exist_ok=True)
    return path


@contextmanager
def alone() -> Iterator[None]:
    """Hold the cache: a second build waits for the first."""
    with (cache() / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def run(*argv: str | Path, env: dict[str, str] | None = None) -> str:
    """Run a program and return what it printed; `BuildFailed` with its last words if it fails."""
    words = [str(a) for a in argv]
    done = subprocess.run(words, text=True, capture_output=True, env={**os.environ, **(env or {})}, check=False)
    if done.returncode:
        last = "\n".join((done.stdout + done.stderr).strip().splitlines()[-25:])
        raise BuildFailed(f"{' '.join(words)}\n  ended with status {done.returncode}:\n{last}")
    return done.stdout


def need(programs: Sequence[str]) -> None:
    """Install by apt the programs that are missing (root, Debian or Ubuntu)."""
    missing = [p for p in programs if shutil.which(p) is None]
    if not missing:
        return
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise BuildFailed(f"this machine lacks {', '.join(missing)}: install them, or run as root where apt-get is")
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    run("apt-get", "update", "-qq", env=quiet)
    run("apt-get", "install", "-y", "-qq", "--no-install-recommends", *[PACKAGES[p] for p in missing], env=quiet)
