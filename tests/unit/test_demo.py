"""The demo proves the copy only if it sees every difference, and a move only if it sees every line that is lost."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from demo import manifests, place
from demo.compare import Tree, differences
from demo.course import Course
from demo.home import Aside, lost_and_found
from demo.pair import Status, progress_line
from demo.pods import ask, tree
from demo.screen import Failed, Screen, bar, size
from demo.table import Way, table
from demo.tally import Tally, tally, wrong
from storagemirror.api.failover import FailoverSpec
from storagemirror.api.mirrorpair import MirrorPairSpec
from storagemirror.api.operation import Diverged
from storagemirror.api.restore import RestoreSpec

T0 = 1_700_000_000_123_456_789
AT = "2026-01-02T03:04:05Z"


def listing(top: Path, *leave_out: str) -> Tree:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        tree.main(str(top), *leave_out)
    return Tree.parse(out.getvalue())


def grow(top: Path) -> Path:
    """The same small tree each time."""
    (top / "d").mkdir(parents=True)
    (top / "d" / "file").write_text("content")
    (top / "d" / "other").write_text("other")
    os.link(top / "d" / "file", top / "hard")
    (top / "soft").symlink_to("d/file")
    os.mkfifo(top / "fifo")
    (top / os.fsdecode(b"caf\xe9 %")).write_text("a name that is no UTF-8")
    for path in [*top.rglob("*"), top]:
        os.utime(path, ns=(T0, T0), follow_symlinks=False)
    return top


def retouch(path: Path) -> None:
    """Put the time back, so that the change alone is left."""
    os.utime(path, ns=(T0, T0), follow_symlinks=False)


def rewrite(top: Path) -> None:
    (top / "d" / "other").write_text("OTHER")
    retouch(top / "d" / "other")


def unlink_and_write(top: Path) -> None:
    (top / "hard").unlink()
    (top / "hard").write_text("content")
    retouch(top / "hard")


def relink(top: Path) -> None:
    (top / "soft").unlink()
    (top / "soft").symlink_to("d/other")
    retouch(top / "soft")


def remove(top: Path) -> None:
    (top / "d" / "other").unlink()
    retouch(top / "d")


def add(top: Path) -> None:
    (top / "d" / "new").touch()
    retouch(top / "d")


CHANGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "content of the same size and time": (rewrite, "d/other: sha256"),
    "mode": (lambda top: (top / "d" / "other").chmod(0o600), "d/other: mode 0644 → 0600"),
    "setgid of a directory": (lambda top: (top / "d").chmod(0o2755), "d: mode 0755 → 2755"),
    "a nanosecond": (lambda top: os.utime(top / "d" / "other", ns=(T0, T0 + 1)), "d/other: mtime_ns"),
    "time of a directory": (lambda top: os.utime(top / "d", ns=(T0, T0 + 1)), "d: mtime_ns"),
    "target of a symbolic link": (relink, "soft: target d/file → d/other"),
    "a hard link that became a file": (unlink_and_write, "hard: same_as d/file → None"),
    "a file missing": (remove, "d/other: missing on the copy"),
    "a file too many": (add, "d/new: only on the copy"),
    "an extended attribute": (lambda top: os.setxattr(top / "d" / "other", "user.a", b"1"), "d/other: xattrs None"),
}


@pytest.fixture
def pair_of_trees(tmp_path: Path) -> tuple[Path, Path]:
    os.umask(0o022)
    return grow(tmp_path / "source"), grow(tmp_path / "copy")


def test_equal_trees_have_no_differences(pair_of_trees: tuple[Path, Path]) -> None:
    source, copy = map(listing, pair_of_trees)
    assert differences(source, copy) == []
    assert source.files == 4
    assert source.others() == "2 directories, 1 fifos, 1 symlinks"
    assert "caf%E9 %25" in source.entries


@pytest.mark.parametrize("change", CHANGES)
def test_a_difference_is_seen_and_named(pair_of_trees: tuple[Path, Path], change: str) -> None:
    source, copy = pair_of_trees
    act, said = CHANGES[change]
    before = listing(source)
    act(copy)
    found = differences(before, listing(copy))
    assert len(found) == 1
    assert found[0].startswith(said)


def test_what_is_left_out_is_left_out_at_the_top_alone(pair_of_trees: tuple[Path, Path]) -> None:
    source, copy = pair_of_trees
    before = listing(source)
    (copy / "lost+found").mkdir()
    retouch(copy)
    assert differences(before, listing(copy, "lost+found")) == []
    (copy / "d" / "lost+found").mkdir()
    retouch(copy / "d")
    assert differences(before, listing(copy, "lost+found")) == ["d/lost+found: only on the copy"]


def test_owner_is_compared_where_it_can_be_changed(pair_of_trees: tuple[Path, Path]) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root gives files away")
    source, copy = pair_of_trees
    os.chown(copy / "d" / "other", 1234, 0)
    assert differences(listing(source), listing(copy)) == ["d/other: uid 0 → 1234"]


def test_the_pair_that_the_demo_shows_is_one_that_the_product_takes() -> None:
    shown = manifests.pair("fast")
    spec = MirrorPairSpec.model_validate(shown["spec"])
    (volume,) = spec.volumes
    assert (volume.source.claim_name, volume.target.claim_name) == (manifests.SOURCE_CLAIM, manifests.TARGET_CLAIM)
    assert volume.target.claim_template is not None
    assert volume.target.claim_template.storage_class_name == "fast"
    assert "storageClassName" not in manifests.text(manifests.pair(None))
    failover = FailoverSpec.model_validate(manifests.move(7, "alice")["spec"])
    assert (failover.from_epoch, failover.approved, failover.approved_by) == (7, True, "alice")
    restore = RestoreSpec.model_validate(manifests.home(8)["spec"])
    assert (restore.pair_name, restore.from_epoch, restore.to) == (manifests.PAIR, 8, None)


def test_every_container_of_the_demo_gets_its_image() -> None:
    images = manifests.Images("product:1", "web:1", "docs:1")
    (deployment,) = (o for o in manifests.web(images, None) if o["kind"] == "Deployment")
    pod = deployment["spec"]["template"]["spec"]
    found = {c["name"]: c["image"] for c in [*pod["initContainers"], *pod["containers"]]}
    assert found == {"fill": "docs:1", "nginx": "web:1", "writer": "product:1"}


def test_the_standby_is_the_application_on_the_copy_with_no_pods_and_labels_of_its_own() -> None:
    images = manifests.Images("product:1", "web:1", "docs:1")
    (one,) = (o for o in manifests.web(images, None) if o["kind"] == "Deployment")
    two = manifests.standby(images)
    pair = MirrorPairSpec.model_validate(manifests.pair(None)["spec"])
    assert pair.sides is not None
    assert [w.name for w in pair.sides.source.workloads] == [one["metadata"]["name"]]
    assert [w.name for w in pair.sides.target.workloads] == [two["metadata"]["name"]]
    assert two["spec"]["replicas"] == 0
    assert two["spec"]["selector"]["matchLabels"] == two["spec"]["template"]["metadata"]["labels"]
    assert two["spec"]["selector"] != one["spec"]["selector"]
    claims = [
        [
            v["persistentVolumeClaim"]["claimName"]
            for v in o["spec"]["template"]["spec"]["volumes"]
            if "persistentVolumeClaim" in v
        ]
        for o in (one, two)
    ]
    assert claims == [[manifests.SOURCE_CLAIM], [manifests.TARGET_CLAIM]]
    assert two["spec"]["template"]["spec"]["containers"] == one["spec"]["template"]["spec"]["containers"]


def entry(pod: str, line: int, at: float, first: float = 0.0, last: float = 0.0) -> dict[str, object]:
    return {"pod": pod, "first_line": 1, "line": line, "at": at, "first_heard": first, "last_heard": last}


OLD, NEW = "web-1-a", "web-standby-2-b"


def counted(heard: list[dict[str, object]], kept: list[dict[str, object]]) -> Tally | None:
    return tally(json.dumps(heard), json.dumps(kept))


def test_lines_that_a_client_had_seen_and_the_copy_lacks_are_lost() -> None:
    found = counted(
        [entry(OLD, 90, 4.5, 1.0, 4.6), entry(NEW, 99, 16.0, 13.1, 16.1)], [entry(OLD, 87, 4.35), entry(NEW, 99, 16.0)]
    )
    assert found is not None
    assert (found.heard, found.kept, found.lost, found.old, found.new) == (90, 87, 3, OLD, NEW)
    assert found.lost_seconds == pytest.approx(0.15)
    assert found.away == pytest.approx(8.5)


def test_what_came_after_the_client_s_last_answer_is_no_loss() -> None:
    found = counted([entry(OLD, 90, 4.5), entry(NEW, 99, 16.0)], [entry(OLD, 93, 4.65), entry(NEW, 99, 16.0)])
    assert found is not None
    assert (found.lost, found.lost_seconds) == (0, 0.0)
    assert wrong(found, {"mode": "Planned"}) is None


@pytest.mark.parametrize(
    ("heard", "kept"),
    [
        ([entry(OLD, 90, 4.5)], [entry(OLD, 90, 4.5)]),
        ([entry(OLD, 90, 4.5), entry(NEW, 90, 4.5)], [entry(OLD, 90, 4.5)]),
        ([entry(NEW, 90, 4.5)], [entry(OLD, 90, 4.5), entry(NEW, 91, 9.0)]),
    ],
)
def test_nothing_is_counted_before_the_standby_has_answered_and_written(
    heard: list[dict[str, object]], kept: list[dict[str, object]]
) -> None:
    assert counted(heard, kept) is None


HOME = "web-3-c"


def test_the_way_home_is_counted_from_the_standby_s_last_line_to_the_first_at_home() -> None:
    there = [entry(OLD, 90, 4.5, 1.0, 4.6), entry(NEW, 120, 16.0, 13.1, 16.1)]
    assert tally(json.dumps(there), json.dumps(there), home=True) is None
    back = [*there, entry(HOME, 125, 19.0, 18.1, 19.1)]
    found = tally(json.dumps(back), json.dumps(back), home=True)
    assert found is not None
    assert (found.heard, found.kept, found.lost, found.old, found.new) == (120, 120, 0, NEW, HOME)
    assert found.away == pytest.approx(2.0)
    short = [*there[:1], entry(NEW, 118, 15.9), entry(HOME, 125, 19.0)]
    found = tally(json.dumps(back), json.dumps(short), home=True)
    assert found is not None
    assert "2 lines were lost" in str(wrong(found, {"kind": "Restore", "mode": "Unplanned", "rpoSeconds": 9}))


def test_what_the_old_side_wrote_is_told_from_the_status_and_its_lost_lines_are_looked_for() -> None:
    lost = counted([entry(OLD, 90, 4.5), entry(NEW, 99, 16.0)], [entry(OLD, 87, 4.35), entry(NEW, 99, 16.0)])
    assert lost is not None
    assert lost_and_found(lost, [entry(OLD, 95, 4.8)]) == (
        "the 3 lines that the client had seen and the copy lacked are there"
    )
    assert "1 are there; 2 were on no disk" in lost_and_found(lost, [entry(OLD, 88, 4.4)])
    assert "0 are there; 3 were on no disk" in lost_and_found(lost, [])

    told = {"volume": "docs", "epoch": 2, "path": "p", "entries": 2, "bytes": 1500, "first": ["a", "b"], "at": AT}
    assert Diverged.model_validate({**told, "deleted": 1}).deleted == 1
    assert str(Aside.of({"diverged": [{**told, "deleted": 1}]})) == "2 entries, 1.5 kB, and 1 that it had deleted"
    assert Aside.of({"diverged": [{**told, "entries": 0}]}) is None
    assert Aside.of({}) is None


def test_the_table_sets_both_ways_beside_each_other() -> None:
    lost = counted([entry(OLD, 90, 4.5, 1, 5), entry(NEW, 99, 16.0, 9)], [entry(OLD, 87, 4.35), entry(NEW, 99, 16.0)])
    none = counted([entry(OLD, 90, 4.5, 1, 5), entry(NEW, 99, 16.0, 7)], [entry(OLD, 90, 4.5), entry(NEW, 99, 16.0)])
    assert lost is not None
    assert none is not None
    there = Course((("Validating", 5.0), ("Fencing", 5.5), ("Completed", 9.0)), {"rpoSeconds": 1, "rtoSeconds": 5})
    phases = (("Validating", 0.2), ("Mirroring", 2.0), ("Fencing", 6.0), ("Completed", 8.0))
    back = Course(phases, {"rpoSeconds": 0, "rtoSeconds": 2})
    lines = table(Way("power cut", "9 files", there, lost), Way("Restore", "9 files, 1 kB sent", back, none))
    assert [line.split("  ", 1)[0] for line in lines[2:]] == [
        *("by", "mirrored", "until it began", "Validating", "Mirroring", "Fencing"),
        *("all of it", "lost (RPO)", "away (RTO)"),
    ]
    cells = {line.split("  ", 1)[0]: re.split(" {2,}", line)[1:] for line in lines[2:]}
    assert cells["Mirroring"] == ["–", "4.0 s"]
    assert cells["Fencing"] == ["3.5 s", "2.0 s"]
    assert cells["lost (RPO)"] == ["3 lines, 0.15 s of writing (rpoSeconds: 1)", "nothing (rpoSeconds: 0)"]
    assert cells["away (RTO)"] == ["4.0 s (rtoSeconds: 5)", "2.0 s (rtoSeconds: 2)"]


def test_a_failover_that_says_less_than_was_lost_is_found_out() -> None:
    found = counted([entry(OLD, 90, 4.5), entry(NEW, 99, 16.0)], [entry(OLD, 30, 1.5), entry(NEW, 99, 16.0)])
    assert found is not None
    assert wrong(found, {"mode": "Unplanned", "rpoSeconds": 2}) is None
    assert "3.0 s of lines were lost" in str(wrong(found, {"mode": "Unplanned", "rpoSeconds": 1}))
    assert "60 lines were lost" in str(wrong(found, {"mode": "Planned", "rpoSeconds": 0}))


def test_the_client_is_on_the_source_s_node_only_where_nobody_cuts_its_power() -> None:
    images = manifests.Images("product:1", "web:1", "docs:1")
    for apart in (True, False):
        pod = manifests.client(images, source="n1", target="n2", apart=apart)
        affinity = pod["spec"]["affinity"]["nodeAffinity"]
        assert ("requiredDuringSchedulingIgnoredDuringExecution" in affinity) is apart
        first, second = affinity["preferredDuringSchedulingIgnoredDuringExecution"]
        assert first["weight"] > second["weight"]
        assert first["preference"]["matchFields"][0] == {"key": "metadata.name", "operator": "NotIn", "values": ["n1"]}


def test_each_phase_is_told_with_how_long_it_took() -> None:
    course = Course((("Validating", 7.0), ("Fencing", 7.5), ("Validating", 9.0), ("Completed", 9.25)), {})
    assert course.durations() == {"Validating": 0.75, "Fencing": 1.5}
    assert (course.until_it_began, course.took) == (7.0, 9.25)


def test_the_log_is_told_apart_by_who_wrote_its_lines() -> None:
    text = [f"line 1 at 1.5 by {OLD}", f"line 2 at 1.6 by {OLD}", "half a li", f"line 3 at 9.0 by {NEW}"]
    assert [(e["pod"], e["first_line"], e["line"], e["at"]) for e in ask.kept(text)] == [
        (OLD, 1, 2, 1.6),
        (NEW, 3, 3, 9.0),
    ]


def test_a_log_that_was_kept_aside_is_read_where_there_is_one(tmp_path: Path) -> None:
    log = tmp_path / "lines.log"
    assert ask.lines_of(str(log)) == []
    log.write_text(f"line 7 at 1.5 by {OLD}\nline 8 at 1.6 by")
    assert [e["line"] for e in ask.kept(ask.lines_of(str(log)))] == [7]


def test_progress_is_told_from_what_the_status_says_and_no_more() -> None:
    known = {"filesDone": 500, "filesTotal": 1000, "bytesDone": 10**6, "bytesTotal": 4 * 10**6, "bytesPerSecond": 10**6}

    def told(progress: dict[str, int]) -> str:
        return progress_line(Status.of({"status": {"phase": "Mirroring", "volumes": [{"progress": progress}]}}))

    assert told(known).endswith("500/1,000 files  1.0 MB of 4.0 MB  1.0 MB/s  3 s left")
    assert told({"filesDone": 7, "bytesDone": 12}) == "7 files, 12 B so far"
    assert progress_line(Status.of({})) == "Pending"


def test_what_conditions_complain_of_is_said_with_its_reason() -> None:
    conditions = [
        {"type": "Ready", "status": "False", "reason": "ClaimMissing", "message": "no claim"},
        {"type": "Stalled", "status": "True", "reason": "ClaimMissing", "message": "make it"},
        {"type": "Connected", "status": "True", "reason": "Connected", "message": ""},
        {"type": "Held", "status": "False", "reason": "NothingHeld", "message": ""},
        {"type": "EverythingKept", "status": "Unknown", "reason": "Unknown", "message": "not known yet"},
        {"type": "ClaimsReady", "status": "False", "reason": "ClaimMissing", "message": "no claim"},
    ]
    bad = Status.of({"status": {"conditions": conditions}}).bad()
    assert bad == ["ClaimMissing: no claim (Ready=False, ClaimsReady=False)", "ClaimMissing: make it (Stalled=True)"]


def test_a_cluster_of_yours_needs_an_image_it_can_pull(tmp_path: Path) -> None:
    kubeconfig = tmp_path / "config"
    kubeconfig.touch()
    with pytest.raises(Failed, match="IMAGE=registry/name:tag"):
        place.wish({"KUBECONFIG": str(kubeconfig)}, needs_image=True)
    with pytest.raises(Failed, match="is no file"):
        place.wish({"KUBECONFIG": "/nowhere", "IMAGE": "a:b"}, needs_image=True)
    asked = place.wish({"KUBECONFIG": str(kubeconfig), "IMAGE": "a:b"}, needs_image=True)
    assert (asked.kubeconfig, asked.image, asked.storage_class) == (kubeconfig, "a:b", None)
    assert place.wish({}, needs_image=True).kubeconfig is None


def test_a_terminal_redraws_and_a_file_keeps_whole_lines() -> None:
    for tty, wanted in ((True, "\r\033[K"), (False, "")):
        out = io.StringIO()
        screen = Screen(out, tty=tty)
        with screen.step("Work") as step:
            step.note("half way")
            step.result = "done"
        said = out.getvalue()
        assert (wanted in said) if wanted else ("\033" not in said)
        assert re.search(r"✓  1 +\d+\.\d s  Work: done\n", said)


def test_a_failed_step_is_not_ticked() -> None:
    out = io.StringIO()
    with pytest.raises(Failed), Screen(out, tty=False).step("Work"):
        raise Failed("no")
    assert "✗" in out.getvalue()
    assert "✓" not in out.getvalue()


def test_sizes_and_bars_for_people() -> None:
    assert [size(n) for n in (0, 999, 1000, 1_234_567, 5e12)] == ["0 B", "999 B", "1.0 kB", "1.2 MB", "5000.0 GB"]
    assert bar(0.5, 4) == "██░░"
    assert bar(7.0, 4) == "████"


def test_the_modes_of_the_listing_are_octal_without_the_kind(tmp_path: Path) -> None:
    (tmp_path / "s").touch()
    (tmp_path / "s").chmod(0o4751)
    assert listing(tmp_path).entries["s"]["mode"] == "4751"
