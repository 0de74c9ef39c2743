"""Cut the power of a target's disk at random moments of points: `make campaign-points`.

After each cut the volume must be exactly one point, and none before the last that was acknowledged (else the campaign
ends with an error). Printed in the end: how many cuts, how many writes the disk lost, and how often the point that was
found is the last acknowledged one or a later one.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

from tests.bench.campaign_powercut import FILE_SYSTEMS
from tests.support.power_disk import power_disk
from tests.support.powercut_points import cut_and_recover, tell_points

_CUTS = 10
"""Of one recorded session."""


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(description="cut the power of a target's disk at random moments of points")
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--seed", type=int, default=None, help="default: the time")
    arguments = parser.parse_args()
    seed = arguments.seed if arguments.seed is not None else int(time.time())
    print(f"seed {seed}", flush=True)
    rnd = random.Random(seed)
    cuts = later = lost = 0
    with tempfile.TemporaryDirectory(prefix="storagemirror-points-") as directory:
        while cuts < arguments.rounds:
            kind, mebibytes, options = FILE_SYSTEMS[cuts // _CUTS % len(FILE_SYSTEMS)]
            place = Path(directory) / f"story{cuts}"
            (place / "source").mkdir(parents=True)
            with power_disk(place / "disk", kind, mebibytes, options) as disk:
                story = tell_points(disk, place / "source", rnd)
            for _ in range(min(_CUTS, arguments.rounds - cuts)):
                found, promised, gone = cut_and_recover(story, place, rnd)
                cuts, later, lost = cuts + 1, later + (found > promised), lost + gone
            print(f"{kind} {options}: {cuts} cuts", flush=True)
    print(
        f"{cuts} cuts, {lost} writes lost: each time exactly one point, {later} times one beyond the last acknowledged"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
