"""Two volumes of one application on a real cluster: their points are of one moment, whichever node they are on."""

from __future__ import annotations

import time

import pytest

from storagemirror.fs.journal.journal import Promotable
from tests.support.case import Case, Claim
from tests.support.grouped import Grouped, at_point
from tests.support.inorder import number
from tests.support.running import running

pytestmark = pytest.mark.e2e


def seen(copies: list[Claim]) -> tuple[int, int, int] | None:
    """At which point of the group both copies are, and what they hold; None while they are at none, or not at one."""
    paths = [copy.path() for copy in copies]
    before = [at_point(path) for path in paths]
    first, second = map(number, paths)
    group = Grouped.group_of(before)
    return (group, first, second) if group and before == [at_point(path) for path in paths] else None


def test_copies_of_two_volumes_on_two_nodes_are_of_one_moment(case: Case) -> None:
    sources = [case.claim("data", "n1"), case.claim("wal", "n2")]
    copies = [case.claim("data-copy", "n3"), case.claim("wal-copy", "n3")]
    case.kubectl("annotate", "namespace", case.namespace, "storagemirror.io/privileged-agents=true", "--overwrite")
    case.application("data", "first", node="n1")
    case.application("wal", "second", node="n2")
    case.apply(
        case.pair_object(
            "p",
            ("data", "data", "data-copy"),
            ("wal", "wal", "wal-copy"),
            agents={"privilege": "Freeze"},
            replication={"consistency": "Point", "pointInterval": "1s", "maxStall": "2s"},
        )
    )
    with running("-m", "tests.support.inorder", *(source.path() for source in sources)):
        case.wait("CrashConsistent", "True", seconds=120)
        found: dict[int, tuple[int, int]] = {}
        end = time.monotonic() + 60
        while len(found) < 8 and time.monotonic() < end:
            if (now := seen(copies)) is not None:
                found[now[0]] = now[1:]
            time.sleep(0.02)
        volumes = case.status()["volumes"]
        print(f"{found}\n{[volume['points'] for volume in volumes]}")
        assert len(found) >= 8, "the group makes no points"
        wrong = {group: held for group, held in found.items() if not held[1] <= held[0] <= held[1] + 1}
        assert wrong == {}
        assert len(set(found.values())) > 4, "nothing was written between: the test proves nothing"
        assert all(volume["points"]["group"] for volume in volumes)
        assert all(isinstance(at_point(copy.path()), Promotable) for copy in copies)
        print(case.kubectl("get", "mirrorpair", "p", "-o", "wide"))
