"""Each full comparison looks whether something was changed on the source that nothing had named: it is counted, named
and sent. What was named, or is found by its ctime, is never taken for that."""

from __future__ import annotations

import mmap
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from storagemirror.contract import BeatOrder, MirrorOrder, Missed, Phase
from tests.support.agents import AgentPair, equal_soon, wait_for
from tests.support.blindagent import PROGRAM
from tests.support.disks import disk
from tests.support.pointrun import storm

QUICK = BeatOrder(interval_seconds=0.5, missed=4)
ANYTHING_GOES = MirrorOrder(max_delete_percent=100)
SECONDS = 6
"""Between two comparisons: a tenth of it a change may be under way."""


@contextmanager
def followed(pair: AgentPair, directory: Path, *, blind: bool) -> Iterator[Path]:
    """A source that is compared every few seconds; `blind`: its agent does not look at ctimes."""
    with disk(directory, "ext4", 200) as made:
        root = made.path / "here"
        root.mkdir()
        for number in range(100):
            (root / f"f{number}").write_bytes(b"x" * number)
        (root / "mapped").write_bytes(os.urandom(4096))
        pair.source.volume = made.path
        pair.source.settings["STORAGEMIRROR_COMPARE_SECONDS"] = str(SECONDS)
        pair.start_as(source=PROGRAM if blind else None, beat=QUICK, mirror=ANYTHING_GOES)
        pair.until(Phase.REPLICATING, 30)
        try:
            yield root
        finally:
            pair.close()


def missed(pair: AgentPair) -> Missed | None:
    report = pair.source.report()
    return report.missed if report is not None else None


def until_judged(pair: AgentPair) -> None:
    wait_for(lambda: missed(pair) is not None, "a comparison that can tell", 4 * SECONDS, pair.tell)


@contextmanager
def mapped(path: Path) -> Iterator[mmap.mmap]:
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
        yield memory


def test_what_nothing_named_is_counted_named_and_sent(pair: AgentPair, tmp_path: Path) -> None:
    with followed(pair, tmp_path, blind=True) as root:
        until_judged(pair)
        assert missed(pair) == Missed()
        with mapped(root / "mapped") as memory:
            memory[:5] = b"quiet"
            (root / "f1").write_bytes(b"loud")

            def told() -> Missed | None:
                found = missed(pair)
                return found if found is not None and found.count else None

            found = wait_for(told, "a word of it", 4 * SECONDS, pair.tell)
            assert found is not None
            assert (found.count, found.first) == (1, ("here/mapped",))
            assert "changed without a word" in pair.source.log()
            equal_soon(pair, 10)
        wait_for(lambda: missed(pair) == Missed(), "another word", 4 * SECONDS, pair.tell)


def test_what_is_found_by_its_ctime_was_not_missed(pair: AgentPair, tmp_path: Path) -> None:
    with followed(pair, tmp_path, blind=False) as root, mapped(root / "mapped") as memory:
        until_judged(pair)
        end = time.monotonic() + 2 * SECONDS
        number = 0
        while time.monotonic() < end:
            number += 1
            memory[:8] = b"%08d" % number
            time.sleep(2.9)
            assert missed(pair) == Missed(), pair.tell()
        equal_soon(pair, 20)


def test_a_source_that_changes_everything_raises_no_false_alarm(pair: AgentPair, tmp_path: Path) -> None:
    with followed(pair, tmp_path, blind=False) as root:
        busy = root / "busy"
        busy.mkdir()
        until_judged(pair)
        alarms: list[Missed] = []
        stop = threading.Event()

        def look() -> None:
            while not stop.wait(0.3):
                found = missed(pair)
                if found is not None and found.count:
                    alarms.append(found)

        looking = threading.Thread(target=look)
        looking.start()
        try:
            with storm(busy, "all"):
                time.sleep(3 * SECONDS)
            equal_soon(pair, 60)
            time.sleep(SECONDS + 1)
        finally:
            stop.set()
            looking.join()
        assert not alarms
