"""The engine, both ends of it: what a mirror keeps, what it sends, what it refuses."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from storagemirror.contract import TargetPolicy
from storagemirror.errors import Held, Passing, Refused, VolumeError
from storagemirror.fs.marker import Synced, read_synced, write_synced
from storagemirror.sync.observer import EventKind
from tests.support import trees
from tests.support.disks import disk
from tests.support.engine import expectation, joined, mirror


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.mkdir()
    return path


@pytest.fixture
def target(tmp_path: Path) -> Path:
    path = tmp_path / "target"
    path.mkdir()
    return path


def equal(source: Path, target: Path) -> None:
    assert trees.differences(source, target) == []
    assert trees.rsync_differences(source, target) == ""


def test_a_first_mirror_keeps_everything(source: Path, target: Path) -> None:
    trees.everything(source)
    result = mirror(source, target)
    equal(source, target)
    assert result.not_kept == ()
    assert result.failed == 0


def test_what_is_equal_is_not_sent_again(source: Path, target: Path) -> None:
    trees.everything(source)
    trees.many(source / "many", 500)
    first = mirror(source, target)
    again = mirror(source, target)
    assert (again.files_sent, again.metadata_sent, again.links_sent, again.deleted) == (0, 0, 0, 0)
    assert again.entries == first.entries
    assert again.bytes_total == first.bytes_total
    assert again.wire_bytes < 1000


def test_only_what_changed_is_sent(source: Path, target: Path) -> None:
    trees.many(source, 500)
    trees.write(source / "here/grown", "a")
    trees.write(source / "here/same size", "aaaa")
    trees.write(source / "here/chmodded", "a")
    trees.write(source / "here/gone", "a")
    mirror(source, target)
    trees.write(source / "here/grown", "ab")
    trees.write(source / "here/same size", "bbbb")
    os.chmod(source / "here/chmodded", 0o600)
    os.unlink(source / "here/gone")
    trees.write(source / "here/new", "n")
    result = mirror(source, target)
    assert (result.files_sent, result.metadata_sent, result.deleted) == (3, 1, 1)
    equal(source, target)


def test_every_type_may_become_every_other(source: Path, target: Path) -> None:
    makers: dict[str, Callable[[Path], object]] = {
        "file": lambda path: trees.write(path, "content"),
        "other file": lambda path: trees.write(path, "else"),
        "directory": lambda path: trees.write(path / "inner/file", "x"),
        "symlink": lambda path: os.symlink("somewhere", path),
        "fifo": os.mkfifo,
        "large": lambda path: trees.write(path, b"l" * 400_000),
    }
    for before, make in makers.items():
        for after in makers:
            make(source / f"{before} to {after}")
    mirror(source, target)
    os.system(f"rm -rf '{source}'/*")
    for before in makers:
        for after, make in makers.items():
            make(source / f"{before} to {after}")
    mirror(source, target, expectation(max_delete_percent=100))
    equal(source, target)


def test_hard_links_are_followed_when_they_move(source: Path, target: Path) -> None:
    trees.write(source / "a/leader", "1")
    (source / "b").mkdir()
    os.link(source / "a/leader", source / "b/follower")
    trees.write(source / "c/alone", "1")
    mirror(source, target)
    equal(source, target)
    trees.write(source / "a/leader", "changed through one name")
    os.link(source / "c/alone", source / "c/no longer alone")
    mirror(source, target)
    equal(source, target)
    os.unlink(source / "b/follower")
    trees.write(source / "b/follower", "a file of its own")
    os.unlink(source / "a/leader")
    os.link(source / "c/alone", source / "a/leader")
    mirror(source, target)
    equal(source, target)


def test_links_that_were_one_file_on_the_target_only_are_parted(source: Path, target: Path) -> None:
    for name in ("x", "y"):
        trees.write(source / name, "same", mtime_ns=10**18)
    mirror(source, target)
    os.unlink(target / "y")
    os.link(target / "x", target / "y")
    mirror(source, target)
    equal(source, target)


def test_a_path_beyond_path_max_is_copied_and_deleted(source: Path, target: Path) -> None:
    trees.deep(source)
    mirror(source, target)
    assert trees.differences(source, target) == []
    os.system(f"rm -rf '{source}'/*")
    mirror(source, target, expectation(max_delete_percent=100))
    assert trees.differences(source, target) == []


def test_holes_stay_holes(source: Path, target: Path) -> None:
    trees.sparse(source / "sparse", 100_000_000, 50_000_000)
    with open(source / "tail", "wb") as file:
        file.write(b"x" * 300_000)
        file.truncate(50_000_000)
    mirror(source, target)
    equal(source, target)
    for name in ("sparse", "tail"):
        assert (target / name).stat().st_blocks <= (source / name).stat().st_blocks + 16


def test_what_is_ours_or_the_file_systems_is_left_out(source: Path, target: Path) -> None:
    trees.write(source / ".storagemirror/users own", "x")
    trees.write(source / "lost+found/inode", "x")
    trees.write(source / "deeper/lost+found/kept", "x")
    (target / "lost+found").mkdir()
    result = mirror(source, target)
    equal(source, target)
    assert (target / "deeper/lost+found/kept").exists()
    assert not (target / ".storagemirror/users own").exists()
    assert os.listdir(target / "lost+found") == []
    assert [(kept.kind.value, kept.first) for kept in result.not_kept] == [("ReservedName", (b".storagemirror",))]


def test_a_directory_with_a_default_acl_gives_nothing_to_what_is_copied_into_it(source: Path, target: Path) -> None:
    trees.write(source / "acl/inner/file", "x")
    mirror(source, target)
    os.setxattr(target / "acl", "system.posix_acl_default", trees.ACL_FOR_USER_1)
    os.setxattr(target, "system.posix_acl_default", trees.ACL_FOR_USER_1)
    trees.write(source / "acl/new", "x")
    trees.write(source / "acl/newer/file", "x")
    trees.write(source / "top/file", "x")
    mirror(source, target)
    equal(source, target)


# -- whose target it is


def test_a_target_with_files_of_others_is_refused_and_left_alone(source: Path, target: Path) -> None:
    trees.write(source / "mine", "x")
    trees.write(target / "theirs", "x")
    with pytest.raises(Refused) as refused, joined(source, target):
        pass
    assert refused.value.reason == "TargetNotEmpty"
    assert "Adopt" in refused.value.hint
    assert os.listdir(target) == ["theirs"]


def test_a_target_with_files_of_others_is_adopted_where_that_is_said(source: Path, target: Path) -> None:
    trees.many(source, 30)
    trees.many(target, 50, seed=2)
    mirror(source, target, expectation(policy=TargetPolicy.ADOPT))
    equal(source, target)


def test_an_empty_source_does_not_wipe_an_adopted_target(source: Path, target: Path) -> None:
    trees.many(target, 50)
    before = trees.picture(target)
    with joined(source, target, expectation(policy=TargetPolicy.ADOPT)) as pair, pytest.raises(Held) as held:
        pair.mirror()
    assert held.value.reason == "MassDelete"
    assert {path: value for path, value in trees.picture(target).items() if path} == {
        path: value for path, value in before.items() if path
    }


def test_a_copy_of_another_pair_is_refused(source: Path, target: Path) -> None:
    trees.write(source / "mine", "x")
    mirror(source, target)
    marker = target / ".storagemirror/pair.json"
    marker.write_text(marker.read_text().replace("pair-1", "pair-2"))
    with pytest.raises(Refused) as refused, joined(source, target):
        pass
    assert refused.value.reason == "TargetOwnedByAnother"


def test_a_copy_of_another_pair_is_taken_over_where_adopt_is_said(source: Path, target: Path) -> None:
    trees.many(source, 30)
    mirror(source, target)
    marker = target / ".storagemirror/pair.json"
    marker.write_text(marker.read_text().replace("pair-1", "pair-2"))
    (source / "later").write_text("later")
    mirror(source, target, expectation(policy=TargetPolicy.ADOPT))
    equal(source, target)
    assert "pair-1" in marker.read_text()


def test_a_later_epoch_of_another_pair_is_refused_even_where_adopt_is_said(source: Path, target: Path) -> None:
    trees.write(source / "mine", "x")
    with joined(source, target, expectation(epoch=3), epoch=3) as pair:
        pair.mirror()
    marker = target / ".storagemirror/pair.json"
    marker.write_text(marker.read_text().replace("pair-1", "pair-2"))
    with pytest.raises(Refused) as refused, joined(source, target, expectation(policy=TargetPolicy.ADOPT)):
        pass
    assert refused.value.reason == "EpochTooOld"


def test_a_marker_that_cannot_be_read_stops_everything(source: Path, target: Path) -> None:
    trees.write(source / "mine", "x")
    mirror(source, target)
    (target / ".storagemirror/pair.json").write_text("{")
    with pytest.raises(Refused) as refused, joined(source, target):
        pass
    assert refused.value.reason == "TargetUnusable"


def test_an_older_epoch_is_refused_by_the_peer_and_by_the_volume(source: Path, target: Path) -> None:
    trees.write(source / "mine", "x")
    mirror(source, target)
    with joined(source, target, expectation(epoch=3), epoch=3) as pair:
        pair.mirror()
    with pytest.raises(Refused) as by_peer, joined(source, target, expectation(epoch=3), epoch=2):
        pass
    assert by_peer.value.reason == "EpochTooOld"
    with pytest.raises(Refused) as by_volume, joined(source, target, expectation(epoch=2), epoch=2):
        pass
    assert by_volume.value.reason == "EpochTooOld"
    with pytest.raises(Passing) as not_yet, joined(source, target, expectation(epoch=3), epoch=4):
        pass
    assert not_yet.value.reason == "EpochTooNew"


def test_two_sessions_do_not_write_one_target(source: Path, target: Path) -> None:
    trees.write(source / "mine", "x")
    with joined(source, target) as pair:
        pair.mirror()
        with pytest.raises(Passing) as busy, joined(source, target):
            pass
    assert busy.value.reason == "TargetBusy"


# -- the guard


def test_an_emptied_source_is_held_and_the_token_lets_exactly_that_through(source: Path, target: Path) -> None:
    trees.many(source / "kept", 5, directories=1)
    trees.many(source / "wiped", 50)
    mirror(source, target)
    os.system(f"rm -rf '{source}/wiped'")
    trees.write(source / "kept/new", "sent although it is held")
    with joined(source, target) as pair, pytest.raises(Held) as held:
        pair.mirror()
    assert held.value.reason == "MassDelete"
    assert pair.failure[0].reason == "MassDelete"
    assert EventKind.HELD in pair.seen_by_target.kinds()
    assert (target / "wiped").exists()
    assert (target / "kept/new").exists()
    with joined(source, target) as pair, pytest.raises(Held) as again:
        pair.mirror()
    assert again.value.token == held.value.token
    with joined(source, target, expectation(confirm="wrong")) as pair, pytest.raises(Held):
        pair.mirror()
    mirror(source, target, expectation(confirm=held.value.token))
    equal(source, target)


def test_a_confirmed_token_is_worth_nothing_for_a_later_hold(source: Path, target: Path) -> None:
    for _ in range(2):
        trees.many(source / "wiped", 50)
        mirror(source, target)
        os.system(f"rm -rf '{source}'/*")
        with joined(source, target) as pair, pytest.raises(Held) as held:
            pair.mirror()
        mirror(source, target, expectation(confirm=held.value.token))
        equal(source, target)
        confirmed = held.value.token
    trees.many(source / "wiped", 50)
    mirror(source, target, expectation(confirm=confirmed))
    os.system(f"rm -rf '{source}'/*")
    with joined(source, target, expectation(confirm=confirmed)) as pair, pytest.raises(Held) as later:
        pair.mirror()
    assert later.value.token != confirmed


def test_a_hold_that_has_grown_has_another_token(source: Path, target: Path) -> None:
    for number in range(100):
        trees.write(source / f"{number:03}", "x")
    mirror(source, target)
    for number in range(60):
        os.unlink(source / f"{number:03}")
    with joined(source, target) as pair, pytest.raises(Held) as held:
        pair.mirror()
    for number in range(60, 90):
        os.unlink(source / f"{number:03}")
    with joined(source, target, expectation(confirm=held.value.token)) as pair, pytest.raises(Held) as grown:
        pair.mirror()
    assert grown.value.token != held.value.token
    assert len(os.listdir(target)) == 101


def test_a_directory_that_became_a_file_counts_with_all_that_was_in_it(source: Path, target: Path) -> None:
    trees.many(source / "big", 50)
    trees.write(source / "small", "x")
    mirror(source, target)
    os.system(f"rm -rf '{source}/big'")
    trees.write(source / "big", "a file now")
    with joined(source, target) as pair, pytest.raises(Held):
        pair.mirror()
    assert (target / "big").is_dir()


def test_up_to_the_limit_everything_goes_without_asking(source: Path, target: Path) -> None:
    for number in range(100):
        trees.write(source / f"{number:03}", "x")
    mirror(source, target)
    for number in range(50):
        os.unlink(source / f"{number:03}")
    result = mirror(source, target)
    assert result.deleted == 50
    equal(source, target)


def test_small_volumes_are_not_guarded(source: Path, target: Path) -> None:
    for number in range(9):
        trees.write(source / f"{number}", "x")
    mirror(source, target)
    os.system(f"rm -rf '{source}'/*")
    mirror(source, target)
    equal(source, target)


def test_a_source_of_another_identity_is_held_before_anything_is_changed(
    source: Path, target: Path, tmp_path: Path
) -> None:
    trees.many(source, 20)
    mirror(source, target)
    before = trees.picture(target)
    other = tmp_path / "other"
    trees.many(other / "elsewhere", 25, seed=9)
    with pytest.raises(Held) as held, joined(other, target):
        pass
    assert held.value.reason == "SourceReplaced"
    assert trees.picture(target) == before
    with pytest.raises(Held) as again, joined(other, target):
        pass
    assert again.value.token == held.value.token
    with joined(other, target, expectation(confirm=held.value.token)) as pair, pytest.raises(Held) as mass:
        pair.mirror()
    assert mass.value.reason == "MassDelete"
    mirror(other, target, expectation(confirm=mass.value.token))
    equal(other, target)
    with pytest.raises(Held), joined(source, target, expectation(confirm=held.value.token)):
        pass


# -- files that move while they are read


def test_a_file_within_the_grain_is_sent_with_a_wrong_time_until_it_was_read_again(source: Path, target: Path) -> None:
    trees.many(source, 30)
    trees.write(source / "large", b"l" * 500_000)
    with joined(source, target, grain_ns=200_000_000) as pair:
        result = pair.mirror()
        assert result.metadata_sent >= 31
        pair.source.mark(0)
    equal(source, target)


def test_a_source_that_is_unmounted_deletes_nothing(source: Path, target: Path, tmp_path: Path) -> None:
    trees.many(source, 30)
    with joined(source, target) as pair:
        pair.mirror()
        source.rename(tmp_path / "away")
        source.mkdir()
        with pytest.raises(VolumeError) as gone:
            pair.mirror()
    assert gone.value.reason == "SourceUnmounted"
    assert trees.differences(tmp_path / "away", target) == []


# -- a crash of the target's machine


def test_after_a_crash_what_was_not_synced_is_sent_again(source: Path, tmp_path: Path) -> None:
    trees.many(source, 30)
    with disk(tmp_path, "ext4", 32) as made:
        mirror(source, made.path)
        _age(made.path)
        trees.many(source / "later", 20, seed=8)
        with joined(source, made.path, sync_at_end=False) as pair:
            assert pair.mirror().files_sent == 20
        # What a crash does: the file looks whole, and is not.
        lost = next(path for path in (made.path / "later").rglob("*") if path.is_file() and path.stat().st_size > 10)
        time_ = lost.stat().st_mtime_ns
        lost.write_bytes(bytes(lost.stat().st_size))
        os.utime(lost, ns=(time_, time_))
        assert mirror(source, made.path).files_sent == 0, "the same mount: the page cache is believed"
        with joined(source, made.path, sync_at_end=False) as pair:
            trees.write(source / "one more", "x")
            pair.mirror()
        made.mount_again()
        with joined(source, made.path) as pair:
            pair.mirror()
        equal(source, made.path)


def _age(target: Path) -> None:
    """As if all that is there had been synced long ago."""
    time.sleep(1.1)
    fd = os.open(target / ".storagemirror", os.O_RDONLY)
    last = read_synced(fd)
    assert last is not None
    write_synced(fd, Synced(last.sequence + 1, time.time_ns(), last.through_ns))
    os.close(fd)


def test_after_a_clean_end_everything_is_believed_on_another_mount(source: Path, tmp_path: Path) -> None:
    trees.many(source, 30)
    with disk(tmp_path, "ext4", 32) as made:
        mirror(source, made.path)
        made.mount_again()
        assert mirror(source, made.path).files_sent == 0
        equal(source, made.path)


def test_a_root_with_a_default_acl_gives_nothing_to_a_first_mirror(source: Path, target: Path) -> None:
    os.setxattr(target, "system.posix_acl_default", trees.ACL_FOR_USER_1)
    trees.write(source / "file", "x")
    trees.write(source / "directory/file", "x")
    mirror(source, target)
    equal(source, target)


def test_what_the_targets_file_system_cannot_hold_is_counted(tmp_path: Path) -> None:
    with disk(tmp_path, "tmpfs", 64, "source") as roomy, disk(tmp_path, "ext4", 64, "target") as narrow:
        source, target = roomy.path, narrow.path
        trees.write(source / "a", "many names")
        for number in range(65_002):
            os.link(source / "a", source / f"name {number:05}")
        trees.write(source / "b", "y")
        os.setxattr(source / "b", "user.large", b"v" * 60_000)
        counted = {"HardLink": 3, "ExtendedAttribute": 1}
        assert {item.kind.value: item.count for item in mirror(source, target).not_kept} == counted
        again = mirror(source, target)
        assert {item.kind.value: item.count for item in again.not_kept} == counted
        assert (again.files_sent, again.metadata_sent, again.links_sent) == (0, 0, 0), "it is known what came of it"
        assert (target / "a").stat().st_nlink == 65_000
        assert {(target / f"name {number:05}").read_text() for number in range(65_002)} == {"many names"}
