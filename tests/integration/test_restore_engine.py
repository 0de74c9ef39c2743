"""Who may write a volume that was the live side, and what a session keeps aside before it does."""

from __future__ import annotations

import os
import shutil
import stat
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from storagemirror.contract import RestoreOrder, TargetPolicy
from storagemirror.entry import STATE_DIRECTORY, Entry, Identity, NotKeptKind, Origin, View
from storagemirror.errors import Disconnected, Held, ProtocolError, Refused, StorageMirrorError, VolumeError, VolumeFull
from storagemirror.fs import manifest
from storagemirror.fs.manifest import Digest
from storagemirror.fs.source import SourceVolume
from storagemirror.fs.target import TargetVolume
from storagemirror.sync import handover
from storagemirror.sync.recalling import Recalling
from storagemirror.sync.requests import Expectation, TargetOptions
from storagemirror.sync.source import hello
from storagemirror.wire import messages as m
from storagemirror.wire.content import Child, Enter
from tests.integration.test_mirror_processes import Liar
from tests.support import trees
from tests.support.disks import disk
from tests.support.engine import PAIR, VOLUME, expectation, homeward, joined, mirror, promote
from tests.support.homecoming import Sides, parted

DIRECTORY = stat.S_IFDIR
ZERO = bytes(16)


@pytest.fixture
def sides(tmp_path: Path) -> Sides:
    home = tmp_path / "home"
    home.mkdir()
    trees.many(home, 300, directories=20, seed=5)
    trees.write(home / "d/one", "as it was")
    return parted(tmp_path)


def forth(sides: Sides, epoch: int = 3) -> None:
    """A session in the first direction."""
    with joined(sides.home, sides.live, expectation(epoch), epoch=epoch) as pair:
        pair.source.mark(pair.mirror().started_ns)
    assert not pair.failure, pair.failure


def come_home(sides: Sides, epoch: int = 3) -> None:
    """Restored, and home is the live side again."""
    sides.restore(epoch=epoch - 1)
    with TargetVolume.open(str(sides.home)) as volume:
        handover.promote(volume, homeward(epoch))


# -- what the live side does not know any more


def test_without_a_manifest_whatever_differs_from_the_live_side_is_kept(sides: Sides) -> None:
    (sides.live / ".storagemirror/manifest").unlink()
    trees.write(sides.home / "d/two", "by the old side")
    trees.write(sides.live / "d/one", "by the live side")
    (sides.live / "new").mkdir()
    record = sides.restore()
    assert (record.known, record.entries, record.first) == (False, 2, ("d/one", "d/two"))
    assert (sides.aside / "d/one").read_text() == "as it was"
    assert sides.differences() == []


def damage(manifest: Path) -> None:
    with manifest.open("r+b") as file:
        file.seek(manifest.stat().st_size // 2)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))


def cut_short(manifest: Path) -> None:
    os.truncate(manifest, manifest.stat().st_size - 100)


def nearly_empty(manifest: Path) -> None:
    os.truncate(manifest, 7)


def a_directory(manifest: Path) -> None:
    manifest.unlink()
    manifest.mkdir()


@pytest.mark.parametrize("harm", [damage, cut_short, nearly_empty])
def test_a_damaged_manifest_is_not_believed(sides: Sides, harm: Callable[[Path], None]) -> None:
    harm(sides.live / ".storagemirror/manifest")
    record = sides.restore()
    assert (record.known, record.entries, record.deleted) == (False, 0, 0)


def test_a_manifest_of_another_promotion_is_not_taken_for_this_one(sides: Sides) -> None:
    come_home(sides)
    forth(sides)
    trees.write(sides.home / "d/at-home", "x")
    forth(sides)
    kept = (sides.live / ".storagemirror/manifest").read_bytes()
    promote(sides.live, epoch=4)
    (sides.live / ".storagemirror/manifest").write_bytes(kept)
    record = sides.restore(epoch=4)
    assert (record.known, record.entries) == (False, 0)


def test_the_live_side_is_written_while_it_tells_what_it_holds(sides: Sides) -> None:
    """Without a manifest it is looked at as it is: directories that go meanwhile are told empty."""
    (sides.live / ".storagemirror/manifest").unlink()
    shutil.rmtree(sides.live / "d")
    assert sides.restore().first == ("d",)
    assert sides.differences() == []


# -- nothing before it


@pytest.mark.parametrize("first", [m.Mirror(View()), m.Look([b"d"]), m.Mark(1, 1), m.Delete([b"d"]), m.ManifestEnd()])
def test_nothing_else_is_taken_before_what_deviates_is_kept(sides: Sides, first: m.Message) -> None:
    before = trees.picture(sides.home)
    liar = impostor(sides)
    if isinstance(first, m.ManifestEnd):
        liar.say(liar.connection.send(m.Manifest(2, True, View())))
    liar.say(liar.connection.send(first))
    assert isinstance(liar.end(), ProtocolError)
    assert trees.picture(sides.home) == before


def test_a_pack_is_not_taken_either(sides: Sides) -> None:
    liar = impostor(sides)
    liar.say(b"".join(liar.connection.send_pack([Enter(b""), Child(b"made")], [])))
    assert isinstance(liar.end(), ProtocolError)
    assert not (sides.home / "made").exists()


def impostor(sides: Sides) -> Liar:
    """It says that it is the live side, and is let in."""
    liar = Liar(sides.home, homeward())
    with SourceVolume.open(str(sides.home)) as home, SourceVolume.open(str(sides.live)) as live:
        origin, identity = Origin(PAIR, VOLUME, 2, home.identity), live.identity
    welcome = liar.greet(hello(PAIR, VOLUME, 2, 1, identity, origin=origin))
    assert isinstance(welcome, m.Welcome)
    assert welcome.manifest == 2
    return liar


def told(*paths: bytes, last: bool = True) -> m.ManifestDigests:
    """Directories that differ from all that is here."""
    return m.ManifestDigests([m.ManifestDigest(path, ZERO, ZERO, 7) for path in paths], last)


def part(path: bytes, *names: bytes, last: bool = True) -> m.ManifestPart:
    return m.ManifestPart(path, [Entry(name, DIRECTORY) for name in names], last)


ROOT, ALL = told(b""), m.ManifestEnd()
LIES: list[tuple[str, list[m.Message]]] = [
    ("another epoch", [m.Manifest(1, True, View())]),
    ("not from the root", [told(b"d")]),
    ("no directory at all", [told()]),
    ("a path out of the volume", [told(b"", b"../outside")]),
    ("an absolute path", [told(b"", b"/outside")]),
    ("our own directory", [told(b"", STATE_DIRECTORY)]),
    ("within our own directory", [told(b"", STATE_DIRECTORY + b"/tmp")]),
    ("a directory twice", [told(b"", b"d", last=False), told(b"d")]),
    ("directories out of order", [told(b"", b"e", b"d")]),
    ("no digest", [m.ManifestDigests([m.ManifestDigest(b"", b"short", ZERO, 1)], last=True)]),
    ("a second last", [ROOT, ROOT]),
    ("an end before everything was told", [told(b"", last=False), ALL]),
    ("an end before what was asked for", [ROOT, ALL]),
    ("entries before everything was told", [told(b"", last=False), part(b"")]),
    ("entries of what was not asked for", [told(b"", b"nowhere"), part(b"nowhere")]),
    ("entries in another order", [told(b"", b"d"), part(b"d")]),
    ("entries of another before one is told to its end", [told(b"", b"d"), part(b"", last=False), part(b"d")]),
    ("an end in the middle of a directory", [ROOT, part(b"", last=False), ALL]),
    ("our own directory as an entry", [ROOT, part(b"", STATE_DIRECTORY)]),
    ("a name that is none", [ROOT, part(b"", b"a/b")]),
    ("names out of order", [ROOT, part(b"", b"b", b"a")]),
    ("a name twice", [ROOT, part(b"", b"a", last=False), part(b"", b"a")]),
    ("two beginnings", [ROOT, part(b""), ALL, m.Manifest(2, True, View())]),
]


@pytest.mark.parametrize("lies", [lies for _, lies in LIES], ids=[name for name, _ in LIES])
def test_a_live_side_that_lies_is_left_by_name_and_nothing_that_was_here_is_gone(
    sides: Sides, tmp_path: Path, lies: list[m.Message]
) -> None:
    trees.write(tmp_path / "outside/file", "stays")
    before = {p.relative_to(sides.home): p.read_bytes() for p in sides.home.rglob("*") if p.is_file()}
    before = {path: content for path, content in before.items() if path.parts[0] != ".storagemirror"}
    liar = impostor(sides)
    if not isinstance(lies[0], m.Manifest):
        liar.say(liar.connection.send(m.Manifest(2, True, View())))
    failed: StorageMirrorError | None
    try:
        for lie in lies:
            liar.say(liar.connection.send(lie))
    except BrokenPipeError:
        pass
    failed = liar.end()
    assert isinstance(failed, ProtocolError), failed
    for path, content in before.items():
        there = [at for at in (sides.home / path, sides.aside / path) if at.exists()]
        assert [at.read_bytes() for at in there] == [content]
    assert (tmp_path / "outside/file").read_text() == "stays"


def test_a_directory_that_is_passed_over_within_one_that_is_equal_ends_the_session(sides: Sides) -> None:
    liar = impostor(sides)
    with SourceVolume.open(str(sides.home)) as home:
        root = next(manifest.parts_of(manifest.scanner(home.tree, View())))
    digest = Digest()
    digest.add(root.entries)
    liar.say(liar.connection.send(m.Manifest(2, True, View())))
    equal = m.ManifestDigest(b"", root.attributes, digest.digest(), digest.entries)
    liar.say(liar.connection.send(m.ManifestDigests([equal], last=True)))
    failed = liar.end()
    assert isinstance(failed, ProtocolError)
    assert "not told to its end" in failed.message


def test_a_directory_that_is_not_told_within_one_that_differs_is_kept_whole(sides: Sides) -> None:
    liar = impostor(sides)
    liar.say(liar.connection.send(m.Manifest(2, True, View())))
    liar.say(liar.connection.send(ROOT))
    liar.hear()
    names = sorted(entry.name.encode() for entry in os.scandir(sides.home) if entry.is_dir() and entry.name[0] != ".")
    liar.say(liar.connection.send(part(b"", *names)))
    liar.say(liar.connection.send(ALL))
    assert isinstance(liar.hear(), m.Kept)
    assert isinstance(liar.end(), Disconnected)
    assert (sides.aside / "d/one").read_text() == "as it was"


@pytest.mark.parametrize("asks", [[b"nowhere"], [b"d", b""], [b"../outside"]], ids=["not told", "out of order", "out"])
def test_a_target_that_asks_for_what_was_not_told_is_left_by_name(sides: Sides, asks: list[bytes]) -> None:
    answers = iter([m.ManifestWant(asks, last=True)])
    with SourceVolume.open(str(sides.live)) as live:
        recalling = Recalling(live, 2, View(), lambda message: None)
        recalling.tell_all()
        with pytest.raises(ProtocolError):
            recalling.tell_wanted(lambda: next(answers))


def test_what_travels_to_find_what_deviates_is_little(sides: Sides) -> None:
    """So that a restore sends little more than what changed on the live side."""
    trees.write(sides.home / "d/one", "by the old side")
    with joined(sides.live, sides.home, homeward(), epoch=2) as pair:
        spent = pair.source.wire_bytes
    directories = sum(1 for path in sides.live.rglob("*") if path.is_dir())
    assert spent < 1000 + directories * 150


def test_a_directory_that_needs_several_frames_is_compared_to_its_end(tmp_path: Path) -> None:
    for number in range(12_000):
        trees.write(tmp_path / f"home/large/{number:05}", "x")
    sides = parted(tmp_path)
    for name in ("00000", "04999", "05000", "11999"):
        trees.write(sides.home / "large" / name, "changed")
    (sides.home / "large/09999").unlink()
    trees.write(sides.home / "large/~last", "new")
    record = sides.keep()
    assert (record.entries, record.deleted) == (5, 1)
    assert record.first == tuple(f"large/{name}" for name in ("00000", "04999", "05000", "11999", "~last"))


def test_a_live_side_that_breaks_off_leaves_nothing_done(sides: Sides) -> None:
    trees.write(sides.home / "a-new-one", "x")
    liar = impostor(sides)
    liar.say(liar.connection.send(m.Manifest(2, True, View())))
    liar.say(liar.connection.send(ROOT))
    assert liar.hear() == m.ManifestWant([b""], last=True)
    liar.say(liar.connection.send(m.ManifestPart(b"", [], last=False)))
    assert isinstance(liar.end(), Disconnected)
    record = sides.restore()
    assert (sides.aside / "a-new-one").read_text() == "x"
    assert record.deleted == 0
    assert sides.differences() == []


# -- who may restore


def test_a_source_of_an_older_release_is_refused_with_what_to_do(sides: Sides) -> None:
    liar = Liar(sides.home, homeward())
    who = hello(PAIR, VOLUME, 2, 1, Identity(1))
    old = m.Hello(who.version, who.role, PAIR, VOLUME, 2, 1, Identity(1), (m.FEATURE_SUMS,), "0.1")
    refused = liar.greet(old)
    assert isinstance(refused, m.Refuse)
    assert refused.reason is m.RefusalReason.VERSION_TOO_OLD
    assert "0.1" in refused.message
    assert refused.hint
    assert isinstance(liar.end(), Refused)


@pytest.mark.parametrize("what", ["a bare directory", "a copy that was never promoted", "another pair's"])
def test_from_anything_but_the_live_side_nothing_is_restored(sides: Sides, tmp_path: Path, what: str) -> None:
    other = tmp_path / "other"
    other.mkdir()
    if what != "a bare directory":
        mirror(sides.home, other)
    if what == "another pair's":
        marker = (sides.live / ".storagemirror/pair.json").read_text()
        (other / ".storagemirror/pair.json").write_text(marker.replace(PAIR, "another"))
    before = trees.picture(sides.home)
    with pytest.raises(Refused) as refused, joined(other, sides.home, homeward(), epoch=2):
        pass
    assert refused.value.reason == "SourceNotPromoted"
    assert trees.picture(sides.home) == before
    assert not (sides.home / ".storagemirror").exists()


def test_a_home_that_is_new_and_empty_is_seeded_and_has_deleted_nothing(sides: Sides, tmp_path: Path) -> None:
    new = Sides(tmp_path / "new", sides.live)
    new.home.mkdir()
    record = new.restore()
    assert (record.known, record.entries, record.deleted) == (True, 0, 0)
    assert new.differences() == []


def test_what_lies_on_another_volume_in_the_place_of_home_is_kept(sides: Sides, tmp_path: Path) -> None:
    new = Sides(tmp_path / "new", sides.live)
    trees.write(new.home / "somebody's", "x")
    record = new.restore()
    assert (record.entries, record.deleted, record.first) == (1, 0, ("somebody's",))
    assert (new.aside / "somebody's").read_text() == "x"


def test_without_an_order_to_restore_a_volume_that_was_live_is_not_touched(sides: Sides) -> None:
    before = trees.picture(sides.home)
    with pytest.raises(Refused, match="no pair put there"), joined(sides.live, sides.home, expectation(2), epoch=2):
        pass
    assert trees.picture(sides.home) == before


def test_home_full_says_so_and_what_was_there_is_there(tmp_path: Path) -> None:
    with disk(tmp_path, "ext4", 16) as made:
        home = made.path / "volume"
        home.mkdir()
        trees.many(home, 100, seed=2)
        live = tmp_path / "live"
        live.mkdir()
        mirror(home, live)
        promote(live)
        sides = Sides(home, live)
        trees.write(home / "kept", "by the old side")
        trees.write(live / "large", os.urandom(20 << 20))
        with pytest.raises(VolumeFull):
            sides.restore()
        assert (sides.aside / "kept").read_text() == "by the old side"
        (live / "large").unlink()
        assert sides.restore().entries == 1
        assert sides.differences() == []


# -- both directions of admission


def test_home_and_forth_and_home_again(sides: Sides) -> None:
    for epoch in (3, 5, 7):
        trees.write(sides.live / f"live-{epoch}", "x")
        come_home(sides, epoch)
        assert sides.differences() == []
        with pytest.raises(Refused) as refused:
            forth(sides, epoch - 1)
        assert refused.value.reason == "EpochTooOld"
        trees.write(sides.home / f"home-{epoch}", "y")
        forth(sides, epoch)
        promote(sides.live, epoch + 1)
        with pytest.raises(Refused) as refused:
            sides.keep(epoch=epoch)
        assert refused.value.reason == "EpochTooOld"
    assert (sides.home / "live-7").exists()
    assert (sides.live / "home-7").exists()


def test_the_live_side_is_guarded_by_what_it_holds_and_not_by_what_it_was_mirrored_with(sides: Sides) -> None:
    """It grew while it was live: all that the pair knew of before may go, it is little of what is there."""
    for i in range(3000):
        trees.write(sides.live / f"new/{i}", "")
    come_home(sides)
    old = [p for p in sides.home.iterdir() if p.name not in ("new", ".storagemirror")]
    for path in old:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    forth(sides)
    assert sides.differences() == []
    shutil.rmtree(sides.home / "new")
    with pytest.raises(Held) as held:
        forth(sides)
    assert held.value.reason == "MassDelete"


def test_a_live_side_that_was_emptied_does_not_empty_home(sides: Sides) -> None:
    for path in sides.live.iterdir():
        if path.name != ".storagemirror":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    for _ in range(2):
        with pytest.raises(Held) as held:
            sides.restore()
        assert held.value.reason == "MassDelete"
        assert (sides.home / "d/one").read_text() == "as it was"


def test_a_home_that_was_made_anew_and_restored_is_no_stranger_to_its_copy(sides: Sides, tmp_path: Path) -> None:
    new = Sides(tmp_path / "new", sides.live)
    new.home.mkdir()
    come_home(new)
    forth(new)
    trees.write(new.home / "d/later", "x")
    forth(new)
    assert new.differences() == []


def test_a_home_that_was_wiped_after_its_restore_is_a_stranger(sides: Sides, tmp_path: Path) -> None:
    new = Sides(tmp_path / "new", sides.live)
    new.home.mkdir()
    come_home(new)
    empty = Sides(tmp_path / "empty", sides.live)
    empty.home.mkdir()
    before = trees.picture(sides.live)
    with pytest.raises(Held) as held:
        forth(empty)
    assert held.value.reason == "SourceReplaced"
    assert trees.picture(sides.live) == before
    # Its own marker is not enough either, once the copy was written since.
    forth(new)
    trees.write(empty.home / "x", "x")
    shutil.copytree(new.home / ".storagemirror", empty.home / ".storagemirror")
    with pytest.raises(Held) as held:
        forth(empty)
    assert held.value.reason == "SourceReplaced"


def test_a_copy_that_was_made_anew_is_no_stranger_to_the_home_that_it_is_restored_to(
    sides: Sides, tmp_path: Path
) -> None:
    come_home(sides)
    again = Sides(sides.home, tmp_path / "another")
    again.live.mkdir()
    forth(again)
    promote(again.live, 4)
    trees.write(again.live / "live", "x")
    again.restore(epoch=4)
    assert again.differences() == []


def test_a_restore_that_was_given_up_leaves_home_a_copy_of_the_live_side(sides: Sides) -> None:
    sides.restore()
    record = sides.restore(attempt=2)
    assert record.entries == 0
    trees.write(sides.live / "later", "x")
    sides.restore(attempt=2)
    assert sides.differences() == []


def test_home_is_not_made_live_before_it_is_whole(sides: Sides) -> None:
    sides.keep()
    for order in (homeward(3), homeward(3, attempt=2)):
        with TargetVolume.open(str(sides.home)) as volume, pytest.raises(VolumeError) as refused:
            handover.promote(volume, order)
        assert refused.value.reason == "TargetNotMirrored"
    come_home(sides)
    forth(sides)
    promote(sides.live, 4)
    # Whole it was, under the restore before.
    with TargetVolume.open(str(sides.home)) as volume, pytest.raises(VolumeError) as refused:
        handover.promote(volume, homeward(5))
    assert refused.value.reason == "TargetNotMirrored"


def test_home_is_not_made_live_when_its_machine_failed_after_it_was_whole(sides: Sides) -> None:
    sides.restore()
    with TargetVolume.open(str(sides.home)) as volume:
        volume.claim()
        marker = volume.marker()
        assert marker is not None
        volume.write_marker(msgspec.structs.replace(marker, boot="another", open=True))
    with TargetVolume.open(str(sides.home)) as volume, pytest.raises(VolumeError) as refused:
        handover.promote(volume, homeward(3))
    assert refused.value.reason == "TargetInDoubt"
    come_home(sides)
    assert sides.differences() == []


def test_what_a_volume_knew_before_it_was_live_is_not_told_of_now(sides: Sides) -> None:
    with TargetVolume.open(str(sides.live)) as volume:
        assert handover.known(volume, expectation(2)).through_ns is not None
        assert handover.known(volume, expectation(3)) == handover.Settled()
        assert handover.drain(volume, expectation(3)).through_ns is None


def test_a_home_that_was_promoted_and_given_back_is_restored_again_and_keeps_what_is_younger(sides: Sides) -> None:
    """The cut-over failed: the live side serves on under another epoch, and the next attempt finds home promoted."""
    trees.write(sides.home / "d/old", "by the old side")
    come_home(sides)
    time.sleep(1.2)
    with TargetVolume.open(str(sides.home)) as volume:
        volume.claim()
        volume.sync(0, 0)
    time.sleep(0.05)
    trees.write(sides.home / "d/by-hand", "between the two attempts")
    trees.write(sides.live / "d/one", "by the live side")
    order = RestoreOrder(epoch=2, attempt=2)
    expect = Expectation(PAIR, VOLUME, 4, TargetOptions(TargetPolicy.ADOPT), restore=order)
    with joined(sides.live, sides.home, expect, epoch=4) as pair:
        pair.source.mark(pair.mirror().started_ns)
    record = sides.record()
    assert (record.known, record.attempt, record.entries) == (True, 2, 2)
    assert record.first == ("d/by-hand", "d/old")
    assert sides.differences() == []
    with TargetVolume.open(str(sides.home)) as volume:
        handover.promote(volume, Expectation(PAIR, VOLUME, 5, restore=order))
        marker = volume.marker()
    assert marker is not None
    assert (marker.epoch, marker.promoted) == (5, 5)


def test_where_there_is_no_room_what_is_kept_shares_its_content_with_the_name_that_stays(tmp_path: Path) -> None:
    with disk(tmp_path, "ext4", 16) as made:
        home, live = made.path / "volume", tmp_path / "live"
        trees.write(home / "large", os.urandom(8 << 20))
        live.mkdir()
        mirror(home, live)
        promote(live)
        os.link(home / "large", home / "snapshot")
        sides = Sides(home, live)
        record = sides.restore()
        assert (record.entries, record.bytes) == (1, 8 << 20)
        assert (sides.aside / "snapshot").samefile(home / "large")
        assert os.listdir(home / ".storagemirror/tmp") == []
        assert trees.rsync_differences(live, home) == ""


# -- what is ours at home


@pytest.mark.parametrize("copied", [False, True], ids=["compared", "sent whole"])
def test_our_own_directory_at_home_is_no_name_of_the_users_and_does_not_travel(sides: Sides, copied: bool) -> None:
    come_home(sides)
    if copied:
        shutil.rmtree(sides.live)
        sides.live.mkdir()
    with joined(sides.home, sides.live, expectation(3), epoch=3) as pair:
        result = pair.mirror()
    assert NotKeptKind.RESERVED_NAME not in [count.kind for count in result.not_kept]
    assert not (sides.live / ".storagemirror/diverged").exists()


@pytest.mark.parametrize("what", ["a file", "a directory", "a marker that is none"])
def test_a_users_own_entry_of_that_name_is_told(tmp_path: Path, what: str) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    own = source / ".storagemirror"
    if what == "a file":
        own.write_text("mine")
    else:
        trees.write(own / ("pair.json" if what == "a marker that is none" else "file"), "{}")
    for _ in range(2):
        with joined(source, target) as pair:
            result = pair.mirror()
        assert [count.kind for count in result.not_kept] == [NotKeptKind.RESERVED_NAME]


def test_a_promoted_copy_is_read_as_any_source_and_its_manifest_stays(sides: Sides, tmp_path: Path) -> None:
    """Elsewhere: from the live side to a new claim, with nothing to keep."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    before = (sides.live / ".storagemirror/manifest").read_bytes()
    with joined(sides.live, elsewhere, expectation(2, policy=TargetPolicy.EMPTY), epoch=2) as pair:
        assert pair.mirror().not_kept == ()
    assert trees.differences(sides.live, elsewhere) == []
    assert (sides.live / ".storagemirror/manifest").read_bytes() == before
    assert not (elsewhere / ".storagemirror/manifest").exists()
    with TargetVolume.open(str(elsewhere)) as volume, pytest.raises(VolumeError):
        handover.promote(volume, homeward(1))
