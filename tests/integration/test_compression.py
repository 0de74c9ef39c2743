"""Compression between two processes, over TLS: what `Auto` decides on which link, and what the others do."""

from __future__ import annotations

import random
from functools import cache
from pathlib import Path

import pytest

from tests.support import trees
from tests.support.served import narrow_link, serving

MIB = 1 << 20


@cache
def log_lines(size: int, seed: int = 1) -> bytes:
    """As servers write them."""
    rnd = random.Random(seed)
    paths = [f"/api/v1/orders/{rnd.randrange(10**6)}/items" for _ in range(300)]
    lines = [
        f"2026-11-26T23:{number // 60 % 60:02}:{number % 60:02}.{rnd.randrange(1000):03} INFO worker-{number % 8} "
        f"GET {rnd.choice(paths)} 200 {rnd.randrange(5000)} ms\n"
        for number in range(20_000)
    ]
    text = "".join(lines).encode()
    return (text * (size // len(text) + 1))[:size]


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    """One large file, and small ones."""
    source = tmp_path / "logs"
    trees.write(source / "large", log_lines(24 * MIB))
    text = log_lines(4 * MIB, 2)
    for number in range(200):
        trees.write(source / f"small/{number}", text[number * 20_000 :][:20_000])
    return source


@pytest.fixture
def noise(tmp_path: Path) -> Path:
    source = tmp_path / "noise"
    trees.write(source / "large", random.Random(1).randbytes(24 * MIB))
    return source


def test_on_a_fast_link_auto_leaves_everything_as_it_is(logs: Path, tmp_path: Path) -> None:
    with serving(tmp_path / "target", tmp_path) as served:
        result = served.mirror(logs)
    assert result["wireBytes"] == result["wireBytesUncompressed"]
    assert trees.rsync_differences(logs, tmp_path / "target") == ""


def test_on_a_narrow_link_auto_compresses_what_shrinks(logs: Path, tmp_path: Path) -> None:
    """3 MB a second, by the kernel's own shaper: so narrow that a busy machine is no narrower."""
    with (
        narrow_link("24mbit") as link,
        serving(tmp_path / "target", tmp_path, within=link.within, host=link.host) as served,
    ):
        result = served.mirror(logs)
    assert result["wireBytesUncompressed"] > 24 * MIB
    assert result["wireBytes"] < result["wireBytesUncompressed"] / 2
    assert result["seconds"] < 24 * MIB / 3e6, "no faster than without"
    assert trees.rsync_differences(logs, tmp_path / "target") == ""


def test_on_a_narrow_link_auto_leaves_alone_what_does_not_shrink(noise: Path, tmp_path: Path) -> None:
    with (
        narrow_link("160mbit") as link,
        serving(tmp_path / "target", tmp_path, within=link.within, host=link.host) as served,
    ):
        result = served.mirror(noise)
    assert result["wireBytes"] == result["wireBytesUncompressed"]
    assert trees.rsync_differences(noise, tmp_path / "target") == ""


def test_a_limit_counts_as_a_narrow_link(logs: Path, tmp_path: Path) -> None:
    with serving(tmp_path / "target", tmp_path) as served:
        result = served.mirror(logs, "--bwlimit", "10M")
    assert result["wireBytes"] < result["wireBytesUncompressed"] / 2


@pytest.mark.parametrize(("how", "share"), [("off", 1.0), ("lz4", 0.5), ("zstd:9", 0.25)])
def test_what_is_asked_for_is_done(logs: Path, tmp_path: Path, how: str, share: float) -> None:
    with serving(tmp_path / "target", tmp_path) as served:
        result = served.mirror(logs, "--compress", how)
    assert result["wireBytes"] <= share * result["wireBytesUncompressed"]
    assert (result["wireBytes"] == result["wireBytesUncompressed"]) is (how == "off")
    assert trees.rsync_differences(logs, tmp_path / "target") == ""


def test_noise_goes_as_it_is_whatever_is_asked_for(noise: Path, tmp_path: Path) -> None:
    with serving(tmp_path / "target", tmp_path) as served:
        result = served.mirror(noise, "--compress", "zstd:19")
    assert result["wireBytes"] == result["wireBytesUncompressed"]
