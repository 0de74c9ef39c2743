"""The pure parts of the engine: what is done about an entry, what the guard lets through, what a link group knows."""

from __future__ import annotations

import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storagemirror.entry import Entry, Identity, NotKeptKind, is_path, join, printable, split, walk_key
from storagemirror.fs.marker import HoldRecord
from storagemirror.sync.decide import Verdict, decide, judge
from storagemirror.sync.groups import LinkGroups
from storagemirror.sync.guard import Allowance, mass_delete, path_hash, same_hold, source_replaced
from storagemirror.sync.observer import NotKeptTally
from storagemirror.wire.messages import HoldReason

REG, DIR, LNK, FIFO = stat.S_IFREG | 0o644, stat.S_IFDIR, stat.S_IFLNK | 0o777, stat.S_IFIFO | 0o644


def entry(**changes: object) -> Entry:
    fields: dict[str, object] = {"name": b"n", "mode": REG, "uid": 1, "gid": 1, "size": 5, "mtime_ns": 7}
    return Entry(**{**fields, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("source", "target", "verdict"),
    [
        (entry(), entry(), Verdict.SAME),
        (entry(), None, Verdict.WHOLE),
        (None, entry(), Verdict.DELETE),
        (entry(), entry(size=6), Verdict.WHOLE),
        (entry(), entry(mtime_ns=8), Verdict.WHOLE),
        (entry(), entry(mode=REG | 0o111), Verdict.TOUCH),
        (entry(), entry(uid=2), Verdict.TOUCH),
        (entry(), entry(gid=2), Verdict.TOUCH),
        (entry(), entry(xattrs=b"x"), Verdict.TOUCH),
        (entry(), entry(mode=FIFO), Verdict.WHOLE),
        (entry(), entry(mode=DIR), Verdict.MAKE_WAY),
        (entry(mode=DIR), entry(mode=DIR), Verdict.SAME),
        (entry(mode=DIR), entry(), Verdict.DIRECTORY),
        (entry(mode=DIR), None, Verdict.DIRECTORY),
        (entry(mode=LNK, content=b"a"), entry(mode=LNK, content=b"a", mtime_ns=8), Verdict.TOUCH),
        (entry(mode=LNK, content=b"a"), entry(mode=LNK, content=b"b"), Verdict.WHOLE),
        (entry(leader=b"l"), entry(leader=b"l"), Verdict.SAME),
        (entry(leader=b"l"), entry(leader=b"l", mode=REG | 0o111), Verdict.SAME),
        (entry(leader=b"l"), entry(leader=b""), Verdict.LINK),
        (entry(leader=b"l"), entry(leader=b"k"), Verdict.LINK),
        (entry(leader=b"l"), None, Verdict.LINK),
        (entry(leader=b""), entry(leader=b"l"), Verdict.WHOLE),
        (entry(leader=b"l"), entry(mode=DIR), Verdict.MAKE_WAY),
    ],
)
def test_each_pair_of_entries_has_its_verdict(source: Entry | None, target: Entry | None, verdict: Verdict) -> None:
    assert judge(source, target) is verdict


names = st.lists(st.binary(min_size=1, max_size=3), unique=True, max_size=8)


@given(names, names)
def test_every_name_of_either_side_is_decided_once(here: list[bytes], there: list[bytes]) -> None:
    decisions = list(decide([entry(name=name) for name in here], [entry(name=name) for name in there]))
    assert sorted(decision.name for decision in decisions) == sorted(set(here) | set(there))
    for decision in decisions:
        in_source, in_target = decision.name in here, decision.name in there
        assert (decision.verdict is Verdict.DELETE) == (not in_source)
        assert (decision.verdict is Verdict.SAME) == (in_source and in_target)


# -- the guard


@pytest.mark.parametrize(
    ("base", "percent", "deleted", "more", "allowed"),
    [
        (100, 50, 0, 50, True),
        (100, 50, 0, 51, False),
        (100, 50, 40, 10, True),
        (100, 50, 40, 11, False),
        (10, 50, 0, 5, True),
        (10, 50, 0, 6, False),
        (9, 50, 0, 9, True),
        (100, 0, 0, 0, True),
        (100, 0, 0, 1, False),
        (100, 100, 90, 1000, True),
        (None, 0, 0, 1000, True),
        (3, 0, 0, 3, True),
    ],
)
def test_no_more_than_the_share_is_deleted_from_ten_entries_up(
    base: int | None, percent: int, deleted: int, more: int, allowed: bool
) -> None:
    assert Allowance(base, percent, deleted).allows(more) is allowed


def hold(paths: range, entries: int | None = None) -> HoldRecord:
    return mass_delete({path_hash(b"%d" % n) for n in paths}, entries if entries is not None else len(paths), 1)


def hashes(paths: range) -> set[int]:
    return {path_hash(b"%d" % n) for n in paths}


def test_a_hold_is_the_same_as_long_as_hardly_more_is_to_go() -> None:
    held = hold(range(100))
    same = HoldReason.MASS_DELETE
    assert same_hold(held, same, hashes(range(100)), 100)
    assert same_hold(held, same, hashes(range(40)), 40)
    assert same_hold(held, same, hashes(range(110)), 110)
    assert not same_hold(held, same, hashes(range(111)), 111)
    assert not same_hold(held, same, hashes(range(100)), 5_000)
    assert not same_hold(held, same, hashes(range(200, 300)), 100)
    assert not same_hold(None, same, hashes(range(100)), 100)
    assert not same_hold(held, HoldReason.SOURCE_REPLACED, hashes(range(100)), 100)


def test_a_hold_of_more_than_is_remembered_by_name_can_be_confirmed() -> None:
    held = mass_delete(hashes(range(250_000)), 250_000, 1)
    assert same_hold(held, HoldReason.MASS_DELETE, hashes(range(250_000)), 250_000)
    assert not same_hold(held, HoldReason.MASS_DELETE, hashes(range(125_000, 375_000)), 250_000)


def test_a_token_is_never_given_twice() -> None:
    paths = hashes(range(5))
    tokens = {mass_delete(paths, 5, now).token for now in range(100)}
    tokens |= {source_replaced(Identity(n), 1).token for n in range(100)}
    assert len(tokens) == 200


# -- identities, paths, links


def test_an_identity_is_compared_by_what_both_know() -> None:
    whole = Identity(2, "aa", 5)
    assert whole.same_as(Identity(2))
    assert whole.same_as(Identity(2, None, 5))
    assert Identity(2).same_as(whole)
    assert not whole.same_as(Identity(3, "aa", 5))
    assert not whole.same_as(Identity(2, "ab", 5))
    assert not whole.same_as(Identity(2, "aa", 6))


@pytest.mark.parametrize("path", [b"", b"a", b"a/b", b"..a", b"a..", b"\xff\n", b"deeper/.storagemirror"])
def test_paths_within_the_volume_are_ours(path: bytes) -> None:
    assert is_path(path)
    assert join(*split(path)) == path


@given(st.lists(st.lists(st.sampled_from([b"a", b"b", b"a-", b"a\x01", b"ab"]), max_size=4), max_size=8))
def test_paths_sort_as_a_walk_meets_them(paths: list[list[bytes]]) -> None:
    assert sorted(map(b"/".join, paths), key=walk_key) == [b"/".join(path) for path in sorted(paths)]


def test_paths_are_printed_safely() -> None:
    assert printable(b"plain \xc3\xa9") == "plain é"
    assert printable(b"bell\x07\x1b[2J") == "bell\\x07\\x1b[2J"
    assert printable(b"\xff") == "\\xff"
    assert printable(b"") == "."


def test_a_group_of_links_keeps_its_leader_until_it_is_gone() -> None:
    groups = LinkGroups()
    assert groups.leader(1, b"a") == b""
    assert groups.leader(1, b"b") == b"a"
    assert groups.leader(1, b"c") == b"a"
    assert groups.leader(1, b"a") == b""
    groups.forget(1, b"b")
    assert groups.paths(1) == [b"a", b"c"]
    groups.forget(1, b"a")
    assert groups.paths(1) == [b"c"]
    groups.forget(1, b"c")
    assert groups.paths(1) == []


def test_what_could_not_be_kept_is_counted_once_with_the_first_names() -> None:
    tally = NotKeptTally()
    for number in range(25):
        tally.add(NotKeptKind.OWNER, b"%d" % number)
        tally.add(NotKeptKind.OWNER, b"%d" % number)
    tally.add(NotKeptKind.ACL, b"x")
    owner, acl = tally.counts()
    assert (owner.kind, owner.count, len(owner.first)) == (NotKeptKind.OWNER, 25, 10)
    assert acl.first == (b"x",)
    tally.clear()
    assert tally.counts() == ()
