"""A pass that keeps aside is killed and done again, and a later attempt finds what an earlier one restored."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from storagemirror.clock import SystemClock
from storagemirror.contract import RestoreOrder
from storagemirror.entry import View
from storagemirror.errors import VolumeError
from storagemirror.fs import manifest
from storagemirror.fs.kept import Record
from storagemirror.fs.manifest import Digest
from storagemirror.fs.target import TargetVolume
from storagemirror.sync.keeping import Keeping
from storagemirror.wire import messages as m
from tests.cluster.layout import checkout
from tests.support import trees
from tests.support.engine import PAIR, VOLUME
from tests.support.homecoming import Sides, parted
from tests.support.treemodel import Storm


@contextmanager
def keeping(home: Path, attempt: int = 1) -> Iterator[Keeping]:
    """As a session does it."""
    with TargetVolume.open(str(home)) as volume:
        volume.claim()
        made = Keeping(volume, RestoreOrder(epoch=2, attempt=attempt), SystemClock(), same_volume=True)
        try:
            yield made
        finally:
            made.close()


@dataclass(frozen=True)
class Told:
    """What the live side says of itself, one directory and one entry a frame."""

    view: View
    digests: list[m.ManifestDigests]
    parts: dict[bytes, list[m.ManifestPart]]

    @property
    def most(self) -> int:
        """More frames than there can be."""
        return len(self.digests) + sum(map(len, self.parts.values()))


def told(live: Path) -> Told:
    state = os.open(live / ".storagemirror", os.O_RDONLY)
    found = manifest.find(state, PAIR, VOLUME, 2)
    os.close(state)
    assert found is not None
    digests, parts = [], {}
    for part in found.parts():
        assert part.last
        digest = Digest()
        digest.add(part.entries)
        digests.append(m.ManifestDigest(part.path, part.attributes, digest.digest(), digest.entries))
        entries = [m.ManifestPart(part.path, [entry], last=False) for entry in part.entries]
        parts[part.path] = [*entries, m.ManifestPart(part.path, [])]
    found.close()
    return Told(found.header.view, [m.ManifestDigests([d], d is digests[-1]) for d in digests], parts)


def keep(home: Path, says: Told, stop: int | None = None) -> Record | None:
    """All of it; or dead after so many frames."""
    wanted: list[bytes] = []

    def send(message: m.Message) -> None:
        assert isinstance(message, m.ManifestWant)
        wanted.extend(message.directories)

    with keeping(home) as work:
        work.begin(m.Manifest(2, True, says.view))
        for digests in says.digests[:stop]:
            work.digests(digests, send)
        frames = [part for path in wanted for part in says.parts[path]]
        for part in frames if stop is None else frames[: max(0, stop - len(says.digests))]:
            work.part(part)
        return None if stop is not None else work.end()


def diverge(home: Path, seed: int) -> None:
    """An application that writes on, and makes a few hard links."""
    storm = Storm(os.fsencode(home), seed)
    storm.run(120)
    storm.close()
    files = [p for p in sorted(home.rglob("*")) if p.is_file() and not p.is_symlink()]
    files = [p for p in files if ".storagemirror" not in p.parts]
    for number, path in enumerate(random.Random(seed).sample(files, min(3, len(files)))):
        os.link(path, home / f"link-{number}")


def copy(tree: Path, to: Path) -> None:
    """With all attributes and all links."""
    subprocess.run(["cp", "-a", str(tree), str(to)], check=True)


def without_times_of_directories(tree: Path) -> dict[bytes, tuple[object, ...]]:
    """They change with every entry that goes."""
    seen = trees.picture(tree)
    return {path: v if v[6] is not None or v[4] else (*v[:3], 0, *v[4:]) for path, v in seen.items()}


@pytest.mark.parametrize("seed", range(12))
def test_killed_anywhere_and_done_again_it_comes_to_the_same_end_and_nothing_is_lost(tmp_path: Path, seed: int) -> None:
    home = tmp_path / "home"
    home.mkdir()
    storm = Storm(os.fsencode(home), 1000 + seed)
    storm.run(400)
    storm.close()
    sides = parted(tmp_path)
    diverge(home, seed)
    before = trees.picture(home)
    says = told(sides.live)
    copy(home, tmp_path / "twin")
    wanted = keep(tmp_path / "twin", says)
    assert wanted is not None
    pick = random.Random(seed)
    for stop in sorted(pick.sample(range(says.most), min(6, says.most))):
        keep(home, says, stop)
    record = keep(home, says)
    assert record is not None
    assert (record.entries, record.bytes, record.deleted, record.first) == (
        wanted.entries,
        wanted.bytes,
        wanted.deleted,
        wanted.first,
    )
    aside = sides.aside if sides.aside.exists() else home / ".storagemirror/tmp"
    twin = tmp_path / "twin/.storagemirror/diverged/2"
    assert without_times_of_directories(home) == without_times_of_directories(tmp_path / "twin")
    if twin.exists():
        assert without_times_of_directories(aside) == without_times_of_directories(twin)
    here, kept, live = trees.picture(home), trees.picture(aside), trees.picture(sides.live)
    for path, entry in before.items():
        if path in here and here[path][6] is not None:
            assert (here[path][:7], here[path][8]) == (entry[:7], entry[8])
            assert here[path][:7] == live[path][:7], f"{path!r} stays, and the live side had another"
        elif entry[6] is not None:
            assert (kept[path][:7], kept[path][8]) == (entry[:7], entry[8])
        else:
            assert path in here or path in kept


# -- later attempts


def settled(sides: Sides) -> None:
    """So much later that the clocks of the file system and ours agree on what was before."""
    time.sleep(1.2)
    with TargetVolume.open(str(sides.home)) as volume:
        volume.claim()
        last = volume.synced()
        assert last is not None
        volume.sync(last.through_ns, last.deleted, last.base)
    time.sleep(0.05)


@pytest.fixture
def half_restored(tmp_path: Path) -> Sides:
    """One attempt has kept and mirrored; the live side had written before that."""
    (tmp_path / "home").mkdir()
    trees.many(tmp_path / "home", 200, directories=10, seed=3)
    trees.write(tmp_path / "home/d/file", "of before")
    sides = parted(tmp_path)
    trees.write(sides.home / "d/lost", "by the old side")
    trees.write(sides.live / "d/file", "by the live side")
    trees.write(sides.live / "new/directory/with", "more of the live side")
    assert sides.restore().entries == 1
    settled(sides)
    return sides


def test_what_we_restored_ourselves_is_not_kept_by_a_later_attempt(half_restored: Sides) -> None:
    before = trees.picture(half_restored.aside)
    record = half_restored.restore(attempt=2)
    assert (record.attempt, record.entries, record.first) == (2, 1, ("d/lost",))
    assert trees.picture(half_restored.aside) == before
    assert half_restored.differences() == []


def test_what_was_changed_by_hand_between_two_attempts_is_kept(half_restored: Sides) -> None:
    home = half_restored.home
    trees.write(home / "d/file", "by hand")
    trees.write(home / "d/lost", "by hand again")
    trees.write(home / "new/directory/by-hand", "within what we restored")
    (home / "new/empty").mkdir()
    trees.write(home / "top/deep", "a directory of its own")
    record = half_restored.restore(attempt=2)
    aside = half_restored.aside
    assert (aside / "d/lost").read_text() == "by the old side", "never overwritten"
    assert (aside / "d/lost.1").read_text() == "by hand again"
    assert (aside / "d/file").read_text() == "by hand"
    assert (aside / "new/directory/by-hand").read_text() == "within what we restored"
    assert (aside / "new/empty").is_dir()
    assert (aside / "top/deep").read_text() == "a directory of its own"
    assert record.entries == 6
    assert record.bytes == sum(len(p.read_bytes()) for p in aside.rglob("*") if p.is_file())
    assert half_restored.differences() == []
    assert not (aside / "new/directory/with").exists()


def test_the_same_attempt_is_not_repeated(half_restored: Sides) -> None:
    trees.write(half_restored.home / "d/by-hand", "x")
    before = half_restored.record()
    assert half_restored.restore(attempt=1) == before
    assert not (half_restored.aside / "d/by-hand").exists()


def test_where_a_file_is_kept_a_directory_of_its_name_is_kept_beside_it(half_restored: Sides) -> None:
    """Kept as a file by the first attempt; a directory by now, in which something is written by hand."""
    trees.write(half_restored.live / "d/lost/by-the-live-side", "x")
    half_restored.restore(attempt=2)
    settled(half_restored)
    trees.write(half_restored.home / "d/lost/by-hand", "y")
    half_restored.restore(attempt=3)
    aside = half_restored.aside
    assert (aside / "d/lost").read_text() == "by the old side"
    assert (aside / "d/lost.1/by-hand").read_text() == "y"
    assert half_restored.differences() == []


def test_attributes_of_a_directory_that_were_changed_twice_are_kept_twice(half_restored: Sides) -> None:
    for attempt, mode in ((2, 0o711), (3, 0o700)):
        os.chmod(half_restored.home / "d", mode)
        half_restored.restore(attempt=attempt)
        settled(half_restored)
    modes = sorted((half_restored.aside / name).stat().st_mode & 0o777 for name in ("d", "d.1"))
    assert 0o700 in modes
    assert len(modes) == 2


def test_another_epoch_has_a_place_of_its_own(half_restored: Sides) -> None:
    record = half_restored.restore(epoch=5)
    assert not record.known, "the live side was promoted at another"
    assert (half_restored.home / ".storagemirror/diverged/2.json").exists()
    assert (half_restored.home / ".storagemirror/diverged/5.json").exists()


# -- a hand in the way


def test_what_lies_where_we_keep_is_never_followed(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    trees.write(tmp_path / "home/d/sub/file", "x")
    sides = parted(tmp_path)
    outside = tmp_path / "outside"
    outside.mkdir()
    trees.write(sides.home / "d/sub/new", "kept")
    sides.aside.mkdir(parents=True)
    os.symlink(outside, sides.aside / "d")
    sides.keep()
    assert list(outside.iterdir()) == []
    assert (sides.aside / "d.1/sub/new").read_text() == "kept"


def test_a_directory_that_became_a_link_out_of_the_volume_is_kept_as_that_link(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    trees.write(tmp_path / "home/d/sub/file", "x")
    sides = parted(tmp_path)
    outside = tmp_path / "outside"
    trees.write(outside / "file", "not ours")
    shutil.rmtree(sides.home / "d/sub")
    os.symlink(outside, sides.home / "d/sub")
    record = sides.restore()
    assert (record.entries, record.deleted) == (1, 1)
    assert os.readlink(sides.aside / "d/sub") == str(outside)
    assert (outside / "file").read_text() == "not ours"


def test_what_cannot_be_moved_stops_the_restore_and_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    trees.write(tmp_path / "home/file", "x")
    sides = parted(tmp_path)
    trees.write(sides.home / "file", "by the old side")
    subprocess.run(["chattr", "+i", str(sides.home / "file")], check=True)
    try:
        with pytest.raises(VolumeError, match="cannot keep aside file"):
            sides.restore()
    finally:
        subprocess.run(["chattr", "-i", str(sides.home / "file")], check=True)
    assert (sides.home / "file").read_text() == "by the old side"
    assert sides.restore().entries == 1


# -- without privilege

BY_USER = """
import os, sys
from pathlib import Path
from tests.support import trees
from tests.support.homecoming import parted
first, place = Path(sys.argv[1]) / "first", Path(sys.argv[1]) / "place"
trees.write(first / "home/file", "all modules are loaded while we may")
parted(first).keep()
os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)
home = place / "home"
trees.write(home / "closed/inner/file", "x")
trees.write(home / "closed/other", "y")
os.chmod(home / "closed/inner", 0o555)
os.chmod(home / "closed", 0o555)
sides = parted(place)
os.chmod(home / "closed", 0o755)
trees.write(home / "closed/new/deep/file", "new")
os.chmod(home / "closed/new", 0o555)
os.chmod(home / "closed/other", 0o600)
os.chmod(home / "closed", 0o555)
before = trees.picture(home)
record = sides.keep()
assert (record.entries, record.first) == (4, ("closed/other", "closed/new")), record
aside = trees.picture(sides.aside)
for path in (b"closed/new", b"closed/new/deep", b"closed/new/deep/file", b"closed/other"):
    assert aside[path][:7] == before[path][:7], path
assert os.stat(home / "closed").st_mode & 0o777 == 0o555
sides.restore()
assert sides.differences() == []
if len(sys.argv) > 2:
    os.chmod(home / "closed", 0)
    sides.keep(attempt=2)
"""


def by_user(*words: str) -> subprocess.CompletedProcess[str]:
    """In a directory that any user can get to (pytest's own lets only its user in)."""
    root = checkout()
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o777)
        return subprocess.run(
            [sys.executable, "-c", BY_USER, name, *words],
            env={**os.environ, "PYTHONPATH": f"{root}/operator:{root}"},
            capture_output=True,
            text=True,
            check=False,
        )


def test_a_user_without_privilege_keeps_what_is_in_directories_that_are_closed_to_him() -> None:
    done = by_user()
    assert done.returncode == 0, done.stderr


def test_what_may_not_be_looked_into_stops_the_restore_by_name() -> None:
    done = by_user("closed")
    assert done.returncode != 0
    assert "cannot look into closed" in done.stderr
