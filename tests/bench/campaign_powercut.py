"""Cut the power of a target's disk at random moments of a session, and look at what is there: `make campaign-powercut`.

Each round is one cut; a new session is recorded for every ten. Printed in the end: how many cuts, how many writes the
disk lost, how many files had to be there and were, and how many had the right size and time with a wrong content before
the next run, which found and repaired them (else the campaign ends with an error).
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.support.power_disk import power_disk
from tests.support.powercut import Outcome, cut_and_repair, cut_while_repairing, tell

FILE_SYSTEMS = (("ext4", 96, "defaults"), ("xfs", 320, "defaults"), ("ext4", 96, "data=writeback,commit=1"))
"""Kind, MiB, mount options. With data=writeback ext4 lets a file's size and time go before its content."""
_CUTS = 10
"""Of one recorded session."""
_TWICE = 3
"""Each third: the power is cut again while the next run repairs."""


def rounds(count: int, seed: int, directory: Path) -> Iterator[tuple[str, Outcome]]:
    """So many cuts, shared out among the file systems."""
    rnd = random.Random(seed)
    number = 0
    while number < count:
        kind, mebibytes, options = FILE_SYSTEMS[number // _CUTS % len(FILE_SYSTEMS)]
        place = directory / f"story{number}"
        (place / "source").mkdir(parents=True)
        with power_disk(place / "disk", kind, mebibytes, options) as disk:
            story = tell(disk, place / "source", rnd)
        for cuts in range(1, min(_CUTS, count - number) + 1):
            twice = cuts % _TWICE == 0
            outcome = (cut_while_repairing if twice else cut_and_repair)(story, place, rnd)
            yield f"{kind} {options}{', twice' if twice else ''}", outcome
            number += 1


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(description="cut the power of a target's disk at random moments")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=None, help="default: the time")
    arguments = parser.parse_args()
    seed = arguments.seed if arguments.seed is not None else int(time.time())
    print(f"seed {seed}", flush=True)
    outcomes = []
    with tempfile.TemporaryDirectory(prefix="storagemirror-powercut-") as directory:
        for name, outcome in rounds(arguments.rounds, seed, Path(directory)):
            outcomes.append(outcome)
            print(
                f"{name}: {outcome.written} writes, {outcome.lost} lost, {outcome.marked} files had to be there, "
                f"{len(outcome.lying)} looked right and were not; equal after the next run",
                flush=True,
            )
    print(
        f"{len(outcomes)} cuts: {sum(o.lost for o in outcomes)} of {sum(o.written for o in outcomes)} writes lost, "
        f"{sum(o.marked for o in outcomes)} marked files there, {sum(len(o.lying) for o in outcomes)} files repaired "
        "that looked right, every tree equal (rsync -c)"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
