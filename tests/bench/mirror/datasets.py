"""The data sets that mirrors are timed with: seeded, so that everybody times the same.

=====  =================================================================  ==========
name   what                                                               full size
=====  =================================================================  ==========
D1     100,000 files of 0.5 to 16 KiB, small ones more often, in 4,655
       directories of three levels                                        407 MB
D2     one file                                                           4 GiB
D3     2,000 files of 0.1 to 20 MB, small ones more often                 5.6 GB
=====  =================================================================  ==========

At another `scale` there is that share of the files (D1, D3) or of the size (D2). The content is random: nobody gains by
compressing it or by looking for holes. Every time lies in 2024, with nanoseconds, so that no tool takes a file for one
that was just written.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

D1_FILES, D1_TOPS, D1_MIDDLES, D1_LEAVES = 100_000, 5, 30, 30
D2_BYTES = 4 << 30
D3_FILES, D3_A_DIRECTORY = 2_000, 50
BLOCK = 64 << 10
SCATTERED_BLOCKS = 65
RENAMED = 1_000
_PIECE = 8 << 20
_EPOCH_NS = 1_704_067_200 * 10**9
_YEAR_NS = 365 * 24 * 3600 * 10**9


@dataclass(frozen=True)
class DataSet:
    """How one is made below an empty directory, at a scale."""

    name: str
    make: Callable[[Path, float], None]


@dataclass(frozen=True)
class Change:
    """What happens to a data set between two mirrors; the number of the round makes each one another."""

    name: str
    make: Callable[[Path, float, int], None]


def d1_size(chance: random.Random) -> int:
    """Bytes of one file of D1: 512 to 16384, 4,071 in the mean (512 + 15872 / 4.46)."""
    return 512 + int(15872 * chance.random() ** 3.46)


def d3_size(chance: random.Random) -> int:
    """Bytes of one file of D3: 0.1 to 20 MB, 2.8 MB in the mean (0.1 + 19.9 / 7.37)."""
    return 100_000 + int(19_900_000 * chance.random() ** 6.37)


def d1_leaves(scale: float) -> list[str]:
    """The directories that hold files, as paths; with those above them 4,655 at full size."""
    middles = max(1, round(D1_MIDDLES * scale**0.5))
    leaves = max(1, round(D1_LEAVES * scale**0.5))
    return [f"t{t}/m{m:02}/l{n:02}" for t in range(D1_TOPS) for m in range(middles) for n in range(leaves)]


def d1_files(scale: float) -> list[str]:
    """Its files, as paths."""
    leaves = d1_leaves(scale)
    return [f"{leaves[i % len(leaves)]}/f{i:06}" for i in range(max(1, round(D1_FILES * scale)))]


def make_d1(root: Path, scale: float) -> None:
    """See the table above."""
    chance = random.Random("D1")
    for leaf in d1_leaves(scale):
        (root / leaf).mkdir(parents=True)
    for path in d1_files(scale):
        (root / path).write_bytes(chance.randbytes(d1_size(chance)))
    _age(root, chance)


def make_d2(root: Path, scale: float) -> None:
    """See the table above."""
    chance = random.Random("D2")
    left = round(D2_BYTES * scale) // BLOCK * BLOCK
    with (root / "large").open("wb") as file:
        while left:
            left -= file.write(chance.randbytes(min(left, _PIECE)))
    _age(root, chance)


def make_d3(root: Path, scale: float) -> None:
    """See the table above."""
    chance = random.Random("D3")
    for i in range(max(1, round(D3_FILES * scale))):
        directory = root / f"d{i // D3_A_DIRECTORY:02}"
        directory.mkdir(exist_ok=True)
        left = d3_size(chance)
        with (directory / f"f{i:04}").open("wb") as file:
            while left:
                left -= file.write(chance.randbytes(min(left, _PIECE)))
    _age(root, chance)


def nothing(root: Path, scale: float, number: int) -> None:
    """Leave it as it is."""


def one_percent(root: Path, scale: float, number: int) -> None:
    """Write another content of another size into one of a hundred files of D1, in place."""
    chance = random.Random(f"1 % {number}")
    for path in _present(root, chance, 0.01):
        path.write_bytes(chance.randbytes(d1_size(chance)))


def renamed(root: Path, scale: float, number: int) -> None:
    """Give 1,000 files of D1 (at full scale) another name, in another directory."""
    chance = random.Random(f"renamed {number}")
    leaves = d1_leaves(scale)
    for i, path in enumerate(_present(root, chance, RENAMED / D1_FILES)):
        path.rename(root / chance.choice(leaves) / f"r{number:02}-{i:04}")


def scattered(root: Path, scale: float, number: int) -> None:
    """Overwrite 65 blocks of 64 KiB (at full scale) of the large file, at multiples of 64 KiB, never one twice."""
    chance = random.Random(f"scattered {number}")
    large = root / "large"
    count = max(1, round(SCATTERED_BLOCKS * scale))
    fd = os.open(large, os.O_WRONLY)
    try:
        for block in chance.sample(range(large.stat().st_size // BLOCK), count):
            os.pwrite(fd, chance.randbytes(BLOCK), block * BLOCK)
    finally:
        os.close(fd)


D1 = DataSet("D1", make_d1)
D2 = DataSet("D2", make_d2)
D3 = DataSet("D3", make_d3)
NOTHING = Change("nothing changed", nothing)
ONE_PERCENT = Change("1 % changed", one_percent)
RENAMES = Change("1,000 renamed", renamed)
SCATTERED = Change("65 scattered 64 KiB blocks changed", scattered)


def files_of(root: Path) -> list[Path]:
    """All files below, in the order of their paths."""
    return sorted(Path(here) / name for here, _, names in os.walk(root) for name in names)


def _present(root: Path, chance: random.Random, share: float) -> list[Path]:
    files = files_of(root)
    return chance.sample(files, max(1, round(len(files) * share)))


def _age(root: Path, chance: random.Random) -> None:
    """Times of their own for all, those of directories last: what is made in one moves its time."""
    for path in files_of(root):
        _set_time(path, chance)
    for here in sorted((Path(here) for here, _, _ in os.walk(root)), reverse=True):
        _set_time(here, chance)


def _set_time(path: Path, chance: random.Random) -> None:
    when = _EPOCH_NS + chance.randrange(_YEAR_NS)
    os.utime(path, ns=(when, when))
