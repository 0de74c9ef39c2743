"""What a watch promises, on real file systems: every name that differs is told."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from storagemirror.contract import Capture
from storagemirror.errors import VolumeError
from storagemirror.fs.tree import Tree
from storagemirror.sync.changes import Drained
from storagemirror.sync.watch import TreeWatch, WatchOptions
from tests.support.treemodel import Copy, Storm

FAST = WatchOptions(quiet=0.005, latency=0.05)


def _mount(kind: str, at: Path, image: Path) -> None:
    if kind == "tmpfs":
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(at)], check=True)
        return
    with image.open("wb") as f:
        f.truncate(64 << 20)
    subprocess.run(["mkfs.ext4", "-q", str(image)], check=True)
    subprocess.run(["mount", "-o", "loop", str(image), str(at)], check=True)


@pytest.fixture(scope="module", params=["tmpfs", "ext4"])
def volume(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    base = tmp_path_factory.mktemp("watch")
    at = base / "volume"
    at.mkdir()
    _mount(request.param, at, base / "image")
    yield at
    subprocess.run(["umount", "--lazy", str(at)], check=True)


@pytest.fixture
def tree(volume: Path, tmp_path: Path) -> Path:
    """A directory of its own on the volume, as a root."""
    root = volume / tmp_path.name
    root.mkdir()
    return root


class Watched:
    """A watch and the model of a copy that follows it."""

    def __init__(self, root: Path, options: WatchOptions = FAST) -> None:
        self.root = os.path.realpath(os.fsencode(root))
        self.volume = Tree(self.root)
        self.watch = TreeWatch(self.volume, options)
        self.copy = Copy(self.root)
        self.watch.start()
        self.copy.scan()

    def follow(self, timeout: float = 0.0) -> Drained:
        changes = self.watch.drain(timeout)
        self.copy.apply(changes)
        return changes

    def truth(self) -> Copy:
        now = Copy(self.root)
        now.scan()
        return now

    def close(self) -> None:
        self.watch.close()
        self.volume.close()


@pytest.fixture
def watched(tree: Path) -> Iterator[Watched]:
    (tree / "before").mkdir()
    (tree / "before/file").write_text("old")
    w = Watched(tree)
    yield w
    w.close()


@pytest.mark.parametrize("seed", range(40))
def test_after_a_storm_of_operations_the_copy_is_the_tree(tree: Path, seed: int) -> None:
    Storm(os.fsencode(tree), seed + 1000).run(200)
    w = Watched(tree)
    storm = Storm(w.root, seed)
    for _ in range(8):
        storm.run(60)
        w.follow()
    assert w.copy.entries == w.truth().entries
    storm.close()
    w.close()


@pytest.mark.parametrize("seed", range(12))
def test_a_storm_that_goes_on_while_it_is_followed_ends_equal(tree: Path, seed: int) -> None:
    w = Watched(tree)
    storm = Storm(w.root, seed)
    thread = threading.Thread(target=storm.run, args=(3000,))
    thread.start()
    while thread.is_alive():
        w.follow(0.05)
    thread.join()
    w.follow()
    assert w.copy.entries == w.truth().entries
    storm.close()
    w.close()


def test_files_made_at_once_in_new_directories_are_told(watched: Watched, tree: Path) -> None:
    deep = tree / "n1/n2/n3/n4"
    deep.mkdir(parents=True)
    (deep / "file").write_text("x")
    changes = watched.follow()
    assert changes.trees == {b"n1"}
    (deep / "file").write_text("yy")
    assert b"n1/n2/n3/n4/file" in watched.follow().paths


def test_a_moved_directory_is_followed_with_all_below(watched: Watched, tree: Path) -> None:
    (tree / "d/e/f").mkdir(parents=True)
    watched.follow()
    (tree / "d").rename(tree / "before/moved")
    changes = watched.follow()
    assert (b"d", b"before/moved") in changes.renames
    (tree / "before/moved/e/f/new").write_text("x")
    assert b"before/moved/e/f/new" in watched.follow().paths


def test_directories_that_swap_names_are_told_apart(watched: Watched, tree: Path) -> None:
    for name in ("x", "y"):
        (tree / name / "in").mkdir(parents=True)
        (tree / name / "in/file").write_text(name)
    watched.follow()
    (tree / "x").rename(tree / "t")
    (tree / "y").rename(tree / "x")
    (tree / "t").rename(tree / "y")
    assert watched.follow().renames == ((b"x", b"t"), (b"y", b"x"), (b"t", b"y"))
    (tree / "x/in/file").write_text("now in x")
    changes = watched.follow()
    assert b"x/in/file" in changes.paths
    assert b"y/in/file" not in changes.paths
    assert watched.copy.entries == watched.truth().entries


def test_a_directory_moved_below_its_own_old_name_is_found_there(watched: Watched, tree: Path) -> None:
    (tree / "a/b").mkdir(parents=True)
    watched.follow()
    with watched.watch._ready:  # all of it happens before the first event is read
        (tree / "a/b/a").mkdir()
        (tree / "a/b/a").rmdir()
        (tree / "a").rename(tree / "t")
        (tree / "a/b").mkdir(parents=True)
        (tree / "t").rename(tree / "a/b/a")
    watched.follow()
    (tree / "a/b/a/b/file").write_text("x")
    assert b"a/b/a/b/file" in watched.follow().paths
    assert watched.copy.entries == watched.truth().entries


def test_a_directory_moved_out_is_gone_and_says_no_more(watched: Watched, tree: Path, volume: Path) -> None:
    (tree / "d/e").mkdir(parents=True)
    watched.follow()
    before = watched.watch.watches
    away = volume / (tree.name + "-away")
    (tree / "d").rename(away)
    assert b"d" in watched.follow().paths
    assert watched.watch.watches == before - 2
    (away / "e/file").write_text("x")
    assert not watched.follow()
    away.rename(tree / "back")
    assert watched.follow().trees == {b"back"}
    (tree / "back/e/file").write_text("y")
    assert b"back/e/file" in watched.follow().paths


def test_attributes_alone_are_told_also_of_the_root(watched: Watched, tree: Path) -> None:
    os.chmod(tree / "before/file", 0o600)
    os.setxattr(tree / "before", "user.colour", b"blue")
    os.chmod(tree, 0o711)
    assert {b"before/file", b"before", b""} <= watched.follow().paths


def test_a_file_that_stays_open_is_told_at_each_write(watched: Watched, tree: Path) -> None:
    with open(tree / "before/file", "r+b", buffering=0) as f:
        for _ in range(3):
            f.write(b"x")
            assert b"before/file" in watched.follow().paths


def test_a_write_through_a_mapping_is_told_at_close(watched: Watched, tree: Path) -> None:
    import mmap

    with open(tree / "before/file", "r+b") as f, mmap.mmap(f.fileno(), 3) as m:
        watched.follow()
        m[0:3] = b"new"
        assert not watched.follow()
    assert b"before/file" in watched.follow().paths


def test_a_new_name_of_a_file_and_a_write_through_one_name_are_told(watched: Watched, tree: Path) -> None:
    os.link(tree / "before/file", tree / "second")
    assert b"second" in watched.follow().paths
    (tree / "second").write_text("through the second name")
    assert watched.follow().paths == {b"second"}


def test_what_is_the_volumes_own_is_not_told(watched: Watched, tree: Path) -> None:
    for name in (".storagemirror", "lost+found"):
        (tree / name).mkdir()
        (tree / name / "file").write_text("x")
    changes = watched.follow()
    assert changes.paths <= {b""}
    assert not changes.trees


def test_a_kernel_queue_that_overflows_means_compare_everything(tree: Path) -> None:
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    w = Watched(tree)
    paths = [os.path.join(w.root, b"%d" % i) for i in range(2)]
    with w.watch._ready:  # the reading thread is kept from reading, as a stopped machine would
        for i in range(limit // 2 + 100):
            with open(paths[i % 2], "ab", buffering=0) as f:
                f.write(b"x")
        os.makedirs(os.path.join(w.root, b"lost/in/overflow"))
    assert w.follow().whole
    with open(os.path.join(w.root, b"lost/in/overflow/file"), "wb") as f:
        f.write(b"x")
    assert b"lost/in/overflow/file" in w.follow().paths
    assert w.copy.entries == w.truth().entries
    w.close()


def test_more_names_than_are_kept_mean_compare_everything(tree: Path) -> None:
    w = Watched(tree, WatchOptions(quiet=0.005, latency=0.01, names=100))
    for i in range(300):
        (tree / str(i)).write_text("x")
    changes = w.follow()
    assert changes.whole
    assert not changes.renames
    w.close()


def _under_limits(kind: str, tree: Path) -> dict[str, object]:
    words = [
        "unshare",
        "--user",
        "--map-root-user",
        sys.executable,
        "-m",
        "tests.support.watch_limits",
        kind,
        str(tree),
    ]
    checkout = Path(__file__).parents[2]
    env = {**os.environ, "PYTHONPATH": f"{checkout / 'operator'}:{checkout}"}
    ended = subprocess.run(words, env=env, cwd=checkout, capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == 0, ended.stderr
    found: dict[str, object] = json.loads(ended.stdout)
    return found


@pytest.mark.parametrize(("kind", "before"), [("instances", Capture.SCAN), ("watches", Capture.WATCH)])
def test_no_more_watches_means_scanning_and_says_what_to_do(tree: Path, kind: str, before: Capture) -> None:
    found = _under_limits(kind, tree)
    assert f"fs.inotify.max_user_{kind}" in str(found.pop("reason"))
    assert found == {
        "before": before,
        "nothing_yet": True,
        "after": Capture.SCAN,
        "whole": True,
        "equal": True,
        "time_stands": True,
    }


@pytest.mark.parametrize("away", ["removed", "moved"])
def test_a_root_that_goes_away_is_an_error_and_not_a_deletion(tree: Path, away: str) -> None:
    w = Watched(tree)
    if away == "removed":
        tree.rmdir()
    else:
        tree.rename(tree.parent / (tree.name + "-elsewhere"))
    with pytest.raises(VolumeError, match="root directory") as e:
        w.watch.drain(1.0)
    assert e.value.reason == "SourceReplaced"
    w.close()


def test_other_file_systems_below_are_left_alone(tree: Path) -> None:
    below = tree / "mounted"
    below.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(below)], check=True)
    try:
        (below / "d").mkdir()
        w = Watched(tree)
        assert w.watch.watches == 1
        w.close()
    finally:
        subprocess.run(["umount", str(below)], check=True)


def test_through_is_a_time_before_which_nothing_is_missing(watched: Watched, tree: Path) -> None:
    from time import time_ns

    (tree / "a").write_text("x")
    done = time_ns()
    changes = watched.watch.drain(0.0)
    assert changes.through_ns >= done
    assert b"a" in changes.paths


def test_what_was_put_back_comes_again(watched: Watched, tree: Path) -> None:
    (tree / "a").write_text("x")
    changes = watched.watch.drain(0.0)
    watched.watch.put_back(changes)
    assert watched.watch.drain(0.0).paths == changes.paths


def test_closing_ends_a_drain_that_waits(tree: Path) -> None:
    w = Watched(tree)
    done: list[Drained] = []
    thread = threading.Thread(target=lambda: done.append(w.watch.drain(60.0)))
    thread.start()
    w.close()
    thread.join(10)
    assert done
    assert not done[0]
