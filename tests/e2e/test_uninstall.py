"""`helm uninstall` and `helm upgrade`: nobody's data and nobody's application depend on the chart."""

from __future__ import annotations

import pytest

from tests.support.case import Case

pytestmark = pytest.mark.e2e


def test_after_an_uninstall_volumes_work_replication_goes_on_and_nothing_is_stuck(case: Case) -> None:
    source, target = case.claim("src", "n1"), case.claim("dst", "n2")
    case.application("src")
    case.pair("src", "dst")
    case.replicating()
    case.product.uninstall()
    try:
        (source.path() / "after-the-uninstall").write_text("x")
        case.equal(source, target)
        assert case.get("mirrorpair", "p")["spec"], "the CRD and its pairs stay"
        assert not case.get("mirrorpair", "p")["metadata"].get("finalizers")
    finally:
        case.product.install()
    case.wait("Ready", seconds=90)
    (source.path() / "after-the-install").write_text("y")
    case.equal(source, target)


def test_an_upgrade_replaces_the_agents_without_a_full_copy(case: Case) -> None:
    source, target = case.claim("src", "n1"), case.claim("dst", "n2")
    for i in range(50):
        (source.path() / f"f{i}").write_bytes(bytes(20_000))
    case.application("src")
    case.pair("src", "dst")
    case.replicating()
    inodes = {path.name: path.stat().st_ino for path in target.path().glob("f*")}
    case.product.install("--set", "podLabels.again=yes")
    case.product.install()
    case.wait("Ready", seconds=90)
    (source.path() / "after").write_text("y")
    case.equal(source, target)
    assert {path.name: path.stat().st_ino for path in target.path().glob("f*")} == inodes, "files were sent again"
