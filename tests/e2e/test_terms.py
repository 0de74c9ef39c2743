"""What a person says of a mirror in its spec (left out, kept, how fast, verified when) is what happens."""

from __future__ import annotations

import os
import time

import pytest

from tests.support.case import Case

pytestmark = pytest.mark.e2e

BIG = 24 << 20
OF_LATE = 3.0
RULES = [{"exclude": "cache/"}, {"exclude": "*.tmp"}, {"include": "kept.tmp"}]


def test_rules_orphans_a_limit_and_a_verification_on_request(case: Case) -> None:
    source, target = case.claim("src", "n1", size="96Mi"), case.claim("dst", "n2", size="96Mi")
    root, copy = source.path(), target.path()
    (root / "cache").mkdir()
    (root / "cache" / "thing").write_text("nobody needs it")
    (root / "scratch.tmp").write_text("nor this")
    (root / "kept.tmp").write_text("but this")
    (root / "data").write_bytes(b"content " * 1000)
    (root / "big").write_bytes(os.urandom(BIG))
    case.application("src")
    began = time.monotonic()
    case.pair(
        "src",
        "dst",
        mirror={
            "rules": RULES,
            "orphans": {"policy": "Report"},
        },
        transfer={"compression": "Zstd", "level": 1, "bandwidth": [{"limit": "4Mi"}]},
        verify={"request": "first"},
    )
    case.replicating()
    took = time.monotonic() - began
    assert took >= 0.9 * BIG / (4 << 20), f"{BIG} bytes that do not shrink came in {took:.1f} s, at 4 MiB a second"
    assert sorted(p.name for p in copy.iterdir() if p.name not in (".storagemirror", "lost+found")) == [
        "big",
        "data",
        "kept.tmp",
    ]
    assert (copy / "big").read_bytes() == (root / "big").read_bytes()
    case.patch({"transfer": {"bandwidth": None}})

    case.until("the first verification", lambda: verified(case).get("request") == "first")
    assert verified(case)["differing"] == 0
    assert verified(case)["files"] == 3
    case.wait("Verified", "True")

    # What is left out of a mirror may come and go without a word; what is deleted stays, and is told.
    (root / "scratch.tmp").write_text("again")
    (root / "data").rename(root / "data2")
    case.until("the new name", (copy / "data2").exists)
    (root / "kept.tmp").unlink()
    # Orphans are counted by a full comparison: rules that change make one.
    case.patch({"mirror": {"rules": [*RULES, {"exclude": "*.bak"}]}})
    case.until("orphans to be told of", lambda: left_alone(case) == {"Orphan": 2})
    assert (copy / "kept.tmp").read_text() == "but this"
    assert not (copy / "scratch.tmp").exists()

    # Damage that nothing shows but the content. A file whose own times are of the last two seconds is not judged.
    while time.time() - (root / "data2").stat().st_ctime < OF_LATE:
        time.sleep(0.1)
    before = (copy / "data2").stat()
    with (copy / "data2").open("r+b") as f:
        f.write(b"C")
    os.utime(copy / "data2", ns=(before.st_atime_ns, before.st_mtime_ns))
    case.patch({"verify": {"request": "second"}})
    case.until("the second verification", lambda: verified(case).get("request") == "second")
    found = verified(case)
    assert (found["differing"], found.get("repaired", 0), found["first"]) == (1, 0, ["data2"]), found
    case.wait("Verified", "False", "DifferencesFound")
    case.wait_event("DifferencesFound")
    assert (copy / "data2").read_bytes()[:1] == b"C", "it was only to be reported"

    case.patch({"verify": {"request": "third", "repair": True}})
    case.until("the third verification", lambda: verified(case).get("request") == "third")
    assert verified(case)["repaired"] == 1
    assert (copy / "data2").read_bytes() == (root / "data2").read_bytes()
    case.wait("Verified", "True")


def verified(case: Case) -> dict[str, object]:
    """What the status says of the last verification."""
    found: dict[str, object] = case.volume_status().get("verify") or {}
    return found


def left_alone(case: Case) -> dict[str, int]:
    """What the target holds otherwise on purpose: kind and count."""
    return {item["kind"]: item["count"] for item in case.volume_status().get("leftAlone") or ()}
