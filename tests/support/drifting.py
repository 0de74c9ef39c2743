"""Somebody changes a copy in each way there is, and what its agent tells of that."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from storagemirror.contract import Action, Drifted, Phase, Problem
from tests.support.agents import AgentPair, wait_for

_LIMITED = f"echo 0 > /proc/sys/user/max_inotify_instances && exec {sys.executable} -m storagemirror.cli.main agent"
UNWATCHED = ["unshare", "--user", "--map-root-user", "sh", "-c", _LIMITED]
"""An agent that gets no watches from its node."""


def start_unwatched(pair: AgentPair, **order: Any) -> None:
    """As `AgentPair.start`; the target cannot watch its copy."""
    pair.start_as(target=UNWATCHED, **order)


def drifted(pair: AgentPair) -> Drifted | None:
    report = pair.target.report()
    return report.drifted if report is not None else None


def until_drifted(pair: AgentPair, *names: str, seconds: float = 5.0) -> Drifted:
    def told() -> Drifted | None:
        found = drifted(pair)
        return found if found is not None and set(names) <= set(found.first) else None

    found = wait_for(told, f"a word of {names}", seconds, pair.tell)
    assert found is not None
    return found


def write(root: Path) -> None:
    with (root / "d1/f1").open("r+b") as file:
        file.write(b"by somebody")


def write_unseen(root: Path) -> None:
    """An equal size and time: no comparison by these finds it."""
    file = root / "d1/f5"
    found = file.stat()
    write_to = os.open(file, os.O_WRONLY)
    os.pwrite(write_to, b"by somebody", 100)
    os.close(write_to)
    os.utime(file, ns=(found.st_atime_ns, found.st_mtime_ns))


def make(root: Path) -> None:
    (root / "d2/mine").write_text("by somebody")


def delete(root: Path) -> None:
    (root / "d2/f2").unlink()


def rename(root: Path) -> None:
    (root / "d3").rename(root / "d0/away")


def chmod(root: Path) -> None:
    (root / "d0/f4").chmod(0o600)


def chmod_directory(root: Path) -> None:
    (root / "d0").chmod(0o700)


CHANGES: dict[Callable[[Path], None], tuple[str, ...]] = {
    write: ("d1/f1",),
    write_unseen: ("d1/f5",),
    make: ("d2/mine",),
    delete: ("d2/f2",),
    rename: ("d3", "d0/away"),
    chmod: ("d0/f4",),
    chmod_directory: ("d0",),
}


def same(source: Path, target: Path) -> bool:
    """By content of each file."""
    words = ["rsync", "-acniHAX", "--delete", "--exclude=/.storagemirror", "--exclude=/lost+found"]
    done = subprocess.run([*words, f"{source}/", f"{target}/"], check=False, capture_output=True)
    return not done.returncode and not done.stdout


def promoted_in_doubt(pair: AgentPair) -> Problem:
    """Somebody changes the copy of a source that has died, and at once it is promoted: what its agent says of that."""
    pair.source.kill()
    write_unseen(pair.target.volume)
    pair.target.give(action=Action.PROMOTE, epoch=2)

    def promoted() -> Problem | None:
        report = pair.target.report()
        return report.problem if report is not None and report.phase is Phase.PROMOTED else None

    problem = wait_for(promoted, "it to be promoted in doubt", 10, pair.tell)
    assert problem is not None
    assert problem.reason == "TargetInDoubt"
    return problem


def write_everywhere(root: Path) -> set[bytes]:
    """A file in each directory that is mirrored; their paths."""
    places = [Path(where) for where, _, _ in os.walk(root) if ".storagemirror" not in where]
    places = [place for place in places if place.name != "lost+found"]
    for place in places:
        (place / "by somebody").write_text("x")
    return {os.fsencode(place.relative_to(root) / "by somebody") for place in places}
