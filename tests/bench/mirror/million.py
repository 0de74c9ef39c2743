"""`python -m tests.bench.mirror.million`: 1,000,000 files of 1 KB, mirrored by two agents; their peak memory.

Needs root, 18 GB of room and some ten minutes. Ends with 1 when an agent had more
than 400 MB.
"""

from __future__ import annotations

import argparse
import random
import sys
from pathlib import Path

from tests.bench.mirror import memory, room

FILES, FILES_A_DIRECTORY, BYTES = 1_000_000, 1_000, 1_000
LIMIT = 400_000_000
ROOM = 18e9
"""Bytes: twice 4 KiB a file; and two million inodes."""


def make(root: Path, files: int, a_directory: int) -> None:
    """So many files of 1 KB, in directories of so many."""
    chance = random.Random("million")
    for number in range(files):
        directory = root / f"d{number // a_directory:06}"
        if number % a_directory == 0:
            directory.mkdir()
        (directory / f"f{number:07}").write_bytes(chance.randbytes(BYTES))


def main() -> int:
    """See above."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.mirror.million", description=__doc__)
    parser.add_argument("--files", type=int, default=FILES, help=f"(default: {FILES})")
    parser.add_argument("--in-one-directory", action="store_true", help="all of them")
    parser.add_argument("--dir", default="/var/tmp", help="where (default: /var/tmp)")
    args = parser.parse_args()
    a_directory = args.files if args.in_one_directory else FILES_A_DIRECTORY
    what = f"{args.files} files of 1 KB, {a_directory} in a directory"
    room.enter()
    with room.workplace(args.dir, ROOM) as base:
        room.run(["ip", "link", "set", "lo", "up"])
        found = memory.of_agents(base, what, lambda root: make(root, args.files, a_directory), LIMIT)
    print(f"{found.what}: source agent {found.source / 1e6:.0f} MB, target agent {found.target / 1e6:.0f} MB")
    print(f"limit {found.limit / 1e6:.0f} MB: {'met' if found.holds else 'MISSED'}")
    return 0 if found.holds else 1


if __name__ == "__main__":
    sys.exit(main())
