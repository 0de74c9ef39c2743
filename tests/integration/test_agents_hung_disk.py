"""A source whose disk takes no writes for a while: the lag says so, and points go on by themselves afterwards."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.agents import AgentPair, equal_soon, wait_for
from tests.support.disks import disk
from tests.support.pointpair import POINTS, pointing, points, until_point

HUNG_SECONDS = 15.0


@contextmanager
def hung(lower: Path) -> Iterator[None]:
    """What lies below takes no writes: whoever waits for the disk waits."""
    subprocess.run(["fsfreeze", "--freeze", str(lower)], check=True)
    try:
        yield
    finally:
        subprocess.run(["fsfreeze", "--unfreeze", str(lower)], check=True)


def lag(pair: AgentPair) -> float:
    report = pair.source.report()
    assert report is not None
    assert report.lag_seconds is not None
    return report.lag_seconds


def test_the_lag_grows_while_the_disk_hangs_and_points_go_on_afterwards(pair: AgentPair, tmp_path: Path) -> None:
    with disk(tmp_path, "ext4", 700, "lower") as below, pointing(pair, tmp_path, "ext4", on=below.path) as (made, _):
        (made.path / "a").write_bytes(os.urandom(1 << 20))
        pair.start(replication=POINTS)
        first = until_point(pair, seconds=60)
        with hung(below.path):
            (made.path / "a").write_bytes(b"while it hangs")  # into the page cache: no disk is asked
            began = time.monotonic()
            most = 0.0
            while time.monotonic() < began + HUNG_SECONDS:
                time.sleep(0.5)
                most = max(most, lag(pair))
            stuck, report = points(pair), pair.source.report()
            print(f"most lag {most:.1f} s; {stuck}; {report}")
            assert stuck is not None
            assert report is not None
            assert report.lag_bytes != 0, "nothing is known to wait, and something does"
            assert stuck.number == first.number
            assert most > HUNG_SECONDS - 6, "the lag is not told"
            assert (pair.target.volume / "a").read_bytes() != b"while it hangs"
        until_point(pair, first.number or 0, 60)
        equal_soon(pair, 30)
        wait_for(lambda: lag(pair) < 3, "the lag to be small again", 20, pair.tell)
        later = points(pair)
        assert later is not None
        assert later.missed == 0
