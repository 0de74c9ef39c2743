"""A short run of the fuzzer, and what it once found. `make campaign-fuzz` runs it for long."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from storagemirror.wire.envelope import ENVELOPES
from storagemirror.wire.messages import FrameType
from tests.fuzz.campaign import Case, Fuzzer
from tests.fuzz.frames import TYPES
from tests.fuzz.trial import remove

CORPUS = sorted((Path(__file__).parent / "corpus").glob("*.bin"))
SECONDS = 10
FINDING = Path("fuzz-finding.bin").absolute()
"""Named while we still stand where we were started: the engine goes elsewhere."""


@pytest.fixture(scope="module")
def fuzzer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fuzzer]:
    mask = os.umask(0o022)
    directory = tmp_path_factory.mktemp("fuzz")
    yield Fuzzer(directory)
    os.umask(mask)
    remove(directory)


def test_hostile_peers_made_of_chance_get_nothing_but_named_errors_and_stay_in_the_volume(fuzzer: Fuzzer) -> None:
    seed, end = int(time.time()) * 1_000_000, time.monotonic() + SECONDS
    while time.monotonic() < end and not fuzzer.tally.findings:
        fuzzer.trial(seed)
        seed += 1
    for case, text in fuzzer.tally.findings.values():
        FINDING.write_bytes(msgspec.msgpack.encode(case))
        pytest.fail(f"written to {FINDING.name} (python -m tests.fuzz.campaign --replay it):\n{text}")
    assert sum(fuzzer.tally.trials.values()) > 5


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
def test_what_was_found_once_is_not_found_again(fuzzer: Fuzzer, path: Path) -> None:
    fuzzer.play(msgspec.msgpack.decode(path.read_bytes(), type=Case))


def test_the_recorded_sessions_say_most_of_what_can_be_said(fuzzer: Fuzzer) -> None:
    said = {frame.kind for session in fuzzer.sessions.values() for frames in session.said.values() for frame in frames}
    assert said >= {FrameType.HELLO, FrameType.WELCOME, FrameType.PACK, FrameType.BEGIN, FrameType.DATA, FrameType.SUM}
    assert said >= {FrameType.DELETE, FrameType.RENAME, FrameType.LISTING, FrameType.LOOKED, FrameType.MANIFEST_PART}


def test_every_frame_is_fuzzed_those_of_tomorrow_too() -> None:
    assert set(TYPES) | {FrameType.PACK, FrameType.DATA} | ENVELOPES == set(FrameType)
