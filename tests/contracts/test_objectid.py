"""Which object an open file is, on each file system."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from storagemirror.fs import objectid
from storagemirror.fs.objectid import object_id
from tests.support.disks import disk


def object_of(path: Path) -> tuple[int, int]:
    fd = os.open(path, os.O_PATH | os.O_NOFOLLOW)
    try:
        return object_id(fd)
    finally:
        os.close(fd)


@pytest.mark.parametrize(("kind", "mebibytes"), [("ext4", 64), ("xfs", 320), ("btrfs", 128)])
def test_an_object_keeps_its_identity_and_a_number_given_out_again_is_another(
    kind: str, mebibytes: int, tmp_path: Path
) -> None:
    with disk(tmp_path, kind, mebibytes) as made:
        file, link = made.path / "f", made.path / "l"
        file.write_text("x")
        link.symlink_to("f")
        first = object_of(file)
        assert first[0] == file.stat().st_ino
        assert object_of(link)[0] == link.lstat().st_ino
        file.rename(made.path / "g")
        os.link(made.path / "g", made.path / "h")
        os.truncate(made.path / "h", 0)
        assert object_of(made.path / "g") == object_of(made.path / "h") == first
        seen = {first}
        for _ in range(20):
            for name in ("g", "h"):
                (made.path / name).unlink(missing_ok=True)
            (made.path / "g").write_text("y")
            assert object_of(made.path / "g") not in seen
            seen.add(object_of(made.path / "g"))
        if kind == "ext4":
            assert len({ino for ino, _ in seen}) < len(seen), "it gave no number out again"


@pytest.mark.parametrize(("kind", "mebibytes"), [("ext4", 64), ("xfs", 320), ("btrfs", 128)])
def test_where_no_handles_are_allowed_the_time_of_birth_tells_files_of_one_number_apart(
    kind: str, mebibytes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a container under the runtime's seccomp profile: seen on a real cluster."""
    monkeypatch.setattr(objectid._Ways, "handles", False)
    with disk(tmp_path, kind, mebibytes) as made:
        file = made.path / "f"
        seen: set[tuple[int, int]] = set()
        for _ in range(10):
            file.write_text("x")
            link = made.path / "l"
            link.symlink_to("f")
            known = object_of(file)
            assert known not in seen
            seen |= {known, object_of(link)}
            os.truncate(file, 5000)
            file.rename(made.path / "g")
            assert object_of(made.path / "g") == known
            (made.path / "g").unlink()
            link.unlink()
            time.sleep(0.02)  # a freeze takes longer


def test_a_file_system_without_generations_is_told_by_its_handles(tmp_path: Path) -> None:
    with disk(tmp_path, "tmpfs", 1) as made:
        for name in ("f", "g"):
            (made.path / name).touch()
        assert object_of(made.path / "f") == object_of(made.path / "f") != object_of(made.path / "g")
