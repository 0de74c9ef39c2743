"""The fuzzer: `python -m tests.fuzz.campaign --seconds 600`.

Trials of three kinds, each from a seed of its own: bytes against the protocol, a hostile source against a target's
session, a hostile target against a source's. All of it is made of chance and of real sessions that are recorded first;
there is no feedback from coverage: payloads are decoded in C, where a tracer of Python sees nothing, and what matters
beyond that is order and values, which the generator knows.

A finding is written to a file (`--findings`), which `--replay` plays again exactly; once it is fixed the file goes to
`tests/fuzz/corpus/`, which the tests replay. Exit code 1 when there were findings.
"""

from __future__ import annotations

import argparse
import faulthandler
import gc
import os
import random
import re
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from storagemirror.contract import Role
from tests.fuzz.frames import Frame
from tests.fuzz.recorded import Session, record, scenarios
from tests.fuzz.trial import Found, Ground, Hang, against_source, against_target, against_wire, remove, script

WIRE, TARGET, SOURCE = "wire", "target", "source"
_WEIGHTS = {WIRE: 30, TARGET: 45, SOURCE: 25}
MEMORY_LIMIT = 256 << 20
"""Bytes by which the process may have grown, at most, after any trial."""


class Case(msgspec.Struct, frozen=True, array_like=True):
    """A trial that can be played again. `frames`: (type, payload, after so many frames of the other side)."""

    kind: str
    session: str
    frames: list[tuple[int, bytes, int]]
    step: int = 0
    role: str = ""

    def said(self) -> list[Frame]:
        """The script."""
        return [Frame(kind, payload, after) for kind, payload, after in self.frames]


@dataclass
class Tally:
    """What came of a run."""

    trials: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    findings: dict[str, tuple[Case, str]] = field(default_factory=dict)
    grown: int = 0
    """Bytes, at most."""

    def lines(self) -> list[str]:
        """For people."""
        lines = [f"trials: {sum(self.trials.values())} ({', '.join(f'{k} {v}' for k, v in self.trials.items())})"]
        lines += [f"  {name}: {count}" for name, count in self.outcomes.most_common()]
        lines.append(f"memory: grew by {self.grown >> 20} MiB at most")
        lines.append(f"findings: {len(self.findings)}")
        return lines


class Fuzzer:
    """Plays trials in `directory`, which ought to be on a file system in memory."""

    def __init__(self, directory: Path) -> None:
        """Records the sessions."""
        os.umask(0o022)
        self.sessions: dict[str, Session] = {}
        for session in scenarios(directory / "recorded"):
            # What the volumes were before is the templates of the trials.
            before = Session(**{**vars(session), "source": _kept(session.source), "target": _kept(session.target)})
            before.said = record(session).said
            self.sessions[session.name] = before
        self._ground = Ground(directory / "ground")
        self.tally = Tally()
        self.stopped = False

    def draw(self, seed: int) -> Case:
        """The trial of that seed."""
        rnd = random.Random(seed)
        kind = rnd.choices(list(_WEIGHTS), list(_WEIGHTS.values()))[0]
        session = rnd.choice(list(self.sessions.values()))
        role = rnd.choice(list(Role)) if kind == WIRE else Role.SOURCE if kind == TARGET else Role.TARGET
        frames = script(rnd, session, role)
        step = rnd.choice((1, 7, 1000, 1 << 20))
        return Case(kind, session.name, [(f.kind, f.payload, f.after) for f in frames], step, role.value)

    def play(self, case: Case) -> str:
        """What came of it; `Found`."""
        session = self.sessions[case.session]
        if case.kind == WIRE:
            role = Role(case.role)
            step = case.step if sum(len(frame[1]) for frame in case.frames) < 1 << 16 else 1 << 16
            return against_wire(role.peer, case.said(), step, random.Random(case.step))
        template = session.target if case.kind == TARGET else session.source
        self._ground.set_up(template, anew=case.session in ("live", "home") and case.kind == SOURCE)
        against = against_target if case.kind == TARGET else against_source
        return against(self._ground, session, case.said())

    def trial(self, seed: int) -> None:
        """One, counted."""
        case = self.draw(seed)
        before = _resident()
        try:
            outcome = self.play(case)
        except Found as found:
            self._note(case, str(found), f"seed {seed}")
            outcome = "FOUND"
            self.stopped = isinstance(found, Hang)
        grown = _resident() - before
        if grown > self.tally.grown:
            self.tally.grown = grown
            if grown > MEMORY_LIMIT:
                self._note(case, f"memory grew by {grown >> 20} MiB", f"seed {seed}")
        self.tally.trials[case.kind] += 1
        self.tally.outcomes[f"{case.kind}: {outcome}"] += 1

    def _note(self, case: Case, text: str, seed: str) -> None:
        places = re.findall(r'File "[^"]*/(\w+\.py)", line (\d+)', text)
        key = f"{text.strip().splitlines()[-1][:80]} at {places[-1] if places else ''}"
        self.tally.findings.setdefault(key, (case, f"{seed}, {case.kind} of {case.session}:\n{text}"))


def _kept(volume: Path) -> Path:
    kept = volume.with_name(volume.name + ".before")
    import subprocess

    subprocess.run(["cp", "-a", "--", str(volume), str(kept)], check=True)
    return kept


def _resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(description="fuzz both roles of the protocol and of the sessions")
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=None, help="of the first trial; default: the time")
    parser.add_argument("--trials", type=int, default=None, help="stop after so many")
    parser.add_argument("--findings", type=Path, default=Path("fuzz-findings"))
    parser.add_argument("--replay", type=Path, nargs="*", help="play these files instead")
    arguments = parser.parse_args()
    faulthandler.enable()
    # The engine changes the working directory.
    arguments.findings = arguments.findings.absolute()
    arguments.replay = [path.absolute() for path in arguments.replay or []]
    shm = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    directory = Path(tempfile.mkdtemp(prefix="storagemirror-fuzz-", dir=shm))
    try:
        fuzzer = Fuzzer(directory)
        if arguments.replay:
            for path in arguments.replay:
                print(path.name, fuzzer.play(msgspec.msgpack.decode(path.read_bytes(), type=Case)))
            return 0
        return _run(fuzzer, arguments)
    finally:
        remove(directory)


def _run(fuzzer: Fuzzer, arguments: argparse.Namespace) -> int:
    seed = arguments.seed if arguments.seed is not None else int(time.time()) * 1_000_000
    print(f"seed {seed}, {arguments.seconds} s", flush=True)
    began, first = time.monotonic(), _resident()
    end = began + arguments.seconds
    number = shown = 0
    while not fuzzer.stopped and time.monotonic() < end and (arguments.trials is None or number < arguments.trials):
        fuzzer.trial(seed + number)
        number += 1
        if len(fuzzer.tally.findings) > shown:
            shown = len(fuzzer.tally.findings)
            case, text = list(fuzzer.tally.findings.values())[-1]
            arguments.findings.mkdir(exist_ok=True)
            path = arguments.findings / f"{case.kind}-{seed + number - 1}.bin"
            path.write_bytes(msgspec.msgpack.encode(case))
            print(f"FOUND by {text}\nwritten to {path}", flush=True)
    gc.collect()
    took = time.monotonic() - began
    print("\n".join(fuzzer.tally.lines()))
    print(f"{number / took:.0f} trials a second; resident {first >> 20} MiB before, {_resident() >> 20} MiB after")
    return 1 if fuzzer.tally.findings else 0


if __name__ == "__main__":
    sys.exit(main())
