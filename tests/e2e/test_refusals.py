"""What cannot work is refused with its own reason, an event and a hint, and goes on by itself once it can."""

from __future__ import annotations

import pytest

from tests.support.case import Case

pytestmark = pytest.mark.e2e


def test_a_missing_source_claim_is_waited_for(case: Case) -> None:
    target = case.claim("dst", "n2")
    case.pair("src", "dst")
    condition = case.wait_reason("ClaimMissing")
    assert "src" in condition["message"]
    case.wait_event("ClaimMissing")
    source = case.claim("src", "n1")
    case.application("src")
    (source.path() / "a").write_text("a")
    case.replicating()
    case.equal(source, target)


def test_a_missing_target_claim_without_a_template_says_how_to_have_one_made(case: Case) -> None:
    case.claim("src", "n1")
    case.application("src")
    case.pair("src", "dst")
    condition = case.wait_reason("ClaimMissing")
    assert "dst" in condition["message"]
    assert "claimTemplate" in condition["message"]


def test_an_unbound_source_claim_is_waited_for(case: Case) -> None:
    case.claim("dst", "n2")
    case.apply(case.claim_object("src", "there-is-no-such-volume", "local", "64Mi", ("ReadWriteOnce",)))
    case.pair("src", "dst")
    condition = case.wait_reason("ClaimUnbound")
    assert "src" in condition["message"]
    case.wait_event("ClaimUnbound")


@pytest.mark.parametrize("side", ["source", "target"])
def test_a_read_write_once_pod_claim_is_refused_and_the_application_runs_on(case: Case, side: str) -> None:
    once = ("ReadWriteOncePod",)
    case.claim("src", "n1", modes=once if side == "source" else ("ReadWriteOnce",))
    case.claim("dst", "n2", modes=once if side == "target" else ("ReadWriteOnce",))
    case.application("src")
    case.pair("src", "dst")
    condition = case.wait_reason("AccessModeUnsupported")
    assert "ReadWriteOncePod" in condition["message"]
    case.wait("Stalled")
    case.wait_event("AccessModeUnsupported")
    assert not case.agent(side)
    assert case.get("deployment", "app")["status"].get("readyReplicas") == 1


def test_the_same_claim_on_both_sides_is_refused_at_once(case: Case) -> None:
    said = case.refused(case.pair_object("p", ("data", "one", "one")))
    assert "two different claims" in said


def test_of_two_pairs_that_write_one_target_the_older_goes_on(case: Case) -> None:
    first, second = case.claim("src-a", "n1"), case.claim("src-b", "n3")
    target = case.claim("dst", "n2")
    (first.path() / "mine").write_text("first")
    (second.path() / "other").write_text("second")
    case.application("src-a", "app-a")
    case.application("src-b", "app-b")
    case.pair("src-a", "dst", "first")
    case.replicating("first")
    case.pair("src-b", "dst", "second")
    condition = case.wait_reason("TargetClaimTaken", name="second")
    assert "first" in condition["message"]
    case.wait_event("TargetClaimTaken", "second")
    (first.path() / "late").write_text("still flows")
    case.equal(first, target)
    assert not (target.path() / "other").exists()


def test_a_target_that_is_not_empty_is_left_alone_until_adopt_is_said(case: Case) -> None:
    source, target = case.claim("src", "n1"), case.claim("dst", "n2")
    assert (target.path() / "lost+found").is_dir(), "lost+found does not count"
    (source.path() / "new").write_text("new")
    (target.path() / "precious").write_text("precious")
    case.application("src")
    case.pair("src", "dst")
    condition = case.wait_reason("TargetNotEmpty")
    assert "Adopt" in condition["message"]
    case.wait_event("TargetNotEmpty")
    assert (target.path() / "precious").read_text() == "precious"
    assert not (target.path() / "new").exists()
    case.patch({"mirror": {"target": "Adopt"}})
    case.replicating()
    case.equal(source, target)


def test_the_copy_of_another_pair_is_left_alone(case: Case) -> None:
    source, target, other = case.claim("src", "n1"), case.claim("dst", "n2"), case.claim("other", "n1")
    (source.path() / "first").write_text("first")
    (other.path() / "second").write_text("second")
    case.application("src")
    case.pair("src", "dst")
    case.replicating()
    case.equal(source, target)
    case.kubectl("delete", "mirrorpair", "p", "--timeout=30s")
    case.until("the agents to be gone", lambda: not case.agent("target") and not case.agent("source"))
    case.application("other", "app-other")
    case.pair("other", "dst", "q")
    case.wait_reason("TargetOwnedByAnother", name="q")
    case.wait_event("TargetOwnedByAnother", "q")
    assert (target.path() / "first").read_text() == "first"
    assert not (target.path() / "second").exists()
    case.patch({"mirror": {"target": "Adopt"}}, "q")
    case.replicating("q")
    case.equal(other, target)


def test_what_cannot_change_is_refused_with_the_way_to_do_it(case: Case) -> None:
    case.pair("src", "dst")
    changed = case.pair_object("p", ("data", "src", "another"))
    assert "cannot change" in case.refused(changed)
    unknown = case.pair_object("q", ("data", "a", "b"))
    unknown["spec"]["snapshots"] = {"retain": 24}
    assert "snapshots" in case.refused(unknown), "a field that does nothing yet must not be taken in silence"


@pytest.mark.parametrize(
    ("kind", "reason"),
    [("PodSecurity", "PodSecurityRefused"), ("ResourceQuota", "QuotaExceeded"), ("LimitRange", "LimitRangeRefused")],
)
def test_what_keeps_the_agents_out_is_named_and_gone_on_without(case: Case, kind: str, reason: str) -> None:
    source, target = case.claim("src", "n1"), case.claim("dst", "n2")
    case.application("src")
    (source.path() / "a").write_text("a")
    level = "pod-security.kubernetes.io/enforce"
    if kind == "PodSecurity":
        case.cluster.kubectl("label", "namespace", case.namespace, f"{level}=restricted", "--overwrite")
    elif kind == "ResourceQuota":
        case.apply(meta(case, "ResourceQuota", {"hard": {"pods": "1"}}))
    else:
        case.apply(meta(case, "LimitRange", {"limits": [{"type": "Container", "max": {"memory": "16Mi"}}]}))
    case.pair("src", "dst")
    condition = case.wait_reason(reason)
    assert condition["message"]
    case.wait_event(reason)
    assert case.get("deployment", "app")["status"].get("readyReplicas") == 1
    if kind == "PodSecurity":
        case.cluster.kubectl("label", "namespace", case.namespace, f"{level}=baseline", "--overwrite")
    else:
        case.kubectl("delete", kind.lower(), "limit")
    case.replicating(seconds=120)
    case.equal(source, target)


def meta(case: Case, kind: str, spec: dict[str, object]) -> dict[str, object]:
    """A namespaced object of the core API, named `limit`."""
    return {
        "apiVersion": "v1",
        "kind": kind,
        "metadata": {"name": "limit", "namespace": case.namespace},
        "spec": spec,
    }
