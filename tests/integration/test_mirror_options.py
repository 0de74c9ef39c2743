"""Rules, orphans and ways to compare on the command line; to another host, too."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from storagemirror.cli.main import main
from tests.support import trees
from tests.support.hosts import serving


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    for name in ("file", "a.tmp", "keep.tmp", "cache/x", "deep/cache/y"):
        trees.write(path / name, name, mtime_ns=10**18)
    trees.write(os.fsencode(path) + b"/odd\xff", "odd")
    return path


@pytest.fixture
def target(tmp_path: Path) -> Path:
    path = tmp_path / "target"
    path.mkdir()
    return path


def mirror(source: Path, target: Path | str, *options: str, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """The result of a mirror that ends well."""
    assert main(["mirror", "--json", *options, str(source), str(target)]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return found


def names(target: Path) -> set[str]:
    return {os.fsdecode(path.relative_to(target)) for path in target.rglob("*") if ".storagemirror" not in path.parts}


def test_the_order_of_include_and_exclude_counts(
    source: Path, target: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = os.fsdecode(b"od?\xff")
    mirror(source, target, "--exclude", "*.tmp", "--include", "keep.tmp", "--exclude", odd, capsys=capsys)
    assert names(target) == {"file", "keep.tmp", "cache", "cache/x", "deep", "deep/cache", "deep/cache/y"}
    mirror(source, target, "--include", "a.tmp", "--exclude", "*.tmp", "--exclude", "*", capsys=capsys)
    assert "a.tmp" not in names(target)


def test_what_is_left_alone_and_moved_aside_stands_in_the_result(
    source: Path, target: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mirror(source, target, capsys=capsys)
    trees.write(target / "orphan", "x")
    trees.write(target / "file", "theirs", mtime_ns=2 * 10**18)
    told = mirror(source, target, "--orphans", "report", "--compare", "newer", capsys=capsys)
    assert told["leftAlone"] == [
        {"kind": "Newer", "count": 1, "first": ["file"]},
        {"kind": "Orphan", "count": 1, "first": ["orphan"]},
    ]
    told = mirror(source, target, "--orphans", "move", "--older-than", "1h", capsys=capsys)
    assert (told["movedAside"], told["leftAlone"]) == (0, [{"kind": "Orphan", "count": 1, "first": []}])
    told = mirror(source, target, "--orphans", "move", capsys=capsys)
    assert (told["movedAside"], told["deleted"], told["leftAlone"]) == (1, 0, [])
    before = (target / "file").stat()
    (target / "file").write_text("FILE")
    os.utime(target / "file", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert mirror(source, target, "--compare", "checksum", capsys=capsys)["differing"] == 1
    assert (target / "file").read_text() == "file"


def test_rules_and_orphans_hold_on_another_host(
    source: Path, target: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["keys", str(tmp_path / "keys")]) == 0
    with serving(target, tmp_path / "keys/target") as there:
        options = ("--keys", str(tmp_path / "keys/source"), "--exclude", "cache/", "--orphans", "keep")
        mirror(source, there.address, *options, capsys=capsys)
        assert "cache" not in names(target)
        trees.write(target / "orphan", "x")
        told = mirror(source, there.address, *options, capsys=capsys)
        assert told["leftAlone"] == [{"kind": "Orphan", "count": 1, "first": []}]
        assert main(["size", "--json", str(source), there.address, *options]) == 0
        cost = json.loads(capsys.readouterr().out)
        assert (cost["newFiles"], cost["deleted"]) == (0, 0)
    assert (target / "orphan").exists()
