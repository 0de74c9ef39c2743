"""Whether the gate works, as the operator finds out: a dry run in the name of an account that is not exempt."""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from storagemirror.api.agents import Agents
from storagemirror.api.mirrorpair import MirrorPair
from storagemirror.api.sides import Side
from storagemirror.kube.gate import NOT_INSTALLED, Gate, try_gate
from storagemirror.plan.observed import GateSeen
from tests.support.apiserver import ApiServer
from tests.support.chart import CRDS, HOME, OPERATOR, PROBE, RELEASE, apply, bare_server
from tests.support.fragile import FragileApi
from tests.support.gate import GATE, SOURCE, TARGET, Place
from tests.support.pairs import CORE, PAIRS
from tests.support.policies import wait_for_the_gate

pytestmark = pytest.mark.apiserver


@pytest.fixture(scope="module")
def apiserver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """A server of its own with the chart's gate and rights."""
    with bare_server(tmp_path_factory.mktemp("gate")) as server:
        server.namespace(HOME)
        server.apply(CRDS)
        apply(server, "serviceaccount", "rbac", "gate")
        wait_for_the_gate(server)
        yield server


@pytest.fixture
def place(apiserver: ApiServer, namespace: str) -> Place:
    """A namespace with the pair `orders`, and its administrator."""
    found = Place(apiserver, namespace, apiserver.client())
    found.pair()
    return found


PROBE_POD: dict[str, Any] = {
    "metadata": {"name": "storagemirror-gate-probe"},
    "spec": {
        "automountServiceAccountToken": False,
        "securityContext": {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [
            {
                "name": "probe",
                "image": "storagemirror:test",
                "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
            }
        ],
        "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": TARGET}}],
    },
}


def _asking(resources: dict[str, Any]) -> dict[str, Any]:
    body = copy.deepcopy(PROBE_POD)
    body["spec"]["containers"][0]["resources"] = resources
    return body


class TestTheProbe:
    """As the operator tries it: with its own rights, in the name of the probe's account, and as a dry run."""

    @pytest.fixture
    def probe(self, place: Place, apiserver: ApiServer) -> Place:
        operator = apiserver.client(apiserver.service_account_token(HOME, RELEASE))
        return replace(place, client=operator.acting_as(PROBE))

    @pytest.mark.parametrize("level", ["privileged", "restricted"])
    def test_it_is_refused_by_name_where_the_side_is_closed_and_else_admitted(
        self, place: Place, probe: Place, level: str
    ) -> None:
        place.server.kubectl("label", "namespace", place.namespace, f"pod-security.kubernetes.io/enforce={level}")
        assert probe.make(body=PROBE_POD, dry_run=True).status == 201
        place.close("Source", "Target")
        answer = probe.make(body=PROBE_POD, dry_run=True)
        assert (answer.status, "storagemirror-gate" in answer.message) == (403, True), answer.message
        assert place.client.get(CORE.format(place.namespace, "pods")).value["items"] == []

    def test_neither_a_quota_nor_a_limit_range_that_lets_agents_in_answers_first(
        self, place: Place, probe: Place
    ) -> None:
        """A quota is asked after the gate, a LimitRange before it: so the probe asks for what agents ask for."""
        place.close("Target")
        limits = [{"type": kind, "min": {"cpu": "10m", "memory": "32Mi"}} for kind in ("Container", "Pod")]
        ranges, quotas = (CORE.format(place.namespace, plural) for plural in ("limitranges", "resourcequotas"))
        place.client.post(ranges, {"metadata": {"name": "l"}, "spec": {"limits": limits}})
        full = {"hard": {"pods": "0"}}
        place.client.post(quotas, {"metadata": {"name": "q"}, "spec": full})
        place.client.merge(f"{quotas}/q/status", {"status": {**full, "used": {"pods": "0"}}})
        body = _asking(Agents().resources.dump())
        body["spec"]["volumes"] = []
        place.until(lambda: "exceeded quota" in probe.make(body=body, dry_run=True).message, "the quota")
        tiny = {"requests": {"cpu": "1m", "memory": "1Mi"}, "limits": {"cpu": "1m", "memory": "1Mi"}}
        place.until(lambda: "minimum" in probe.make(body=_asking(tiny), dry_run=True).message, "the LimitRange")
        answer = probe.make(body=_asking(Agents().resources.dump()), dry_run=True)
        assert (answer.status, GATE in answer.message) == (403, True), answer.message

    def test_where_the_gate_is_taken_away_it_is_admitted(self, place: Place, probe: Place) -> None:
        place.close("Target")
        binding = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings/storagemirror-gate"
        kept = place.client.get(binding).value
        place.client.delete(binding)
        try:
            place.until(lambda: probe.make(body=PROBE_POD, dry_run=True).status == 201, "the gate is gone")
        finally:
            again = {"metadata": {"name": kept["metadata"]["name"]}, "spec": kept["spec"]}
            place.client.post(binding.rsplit("/", 1)[0], again)
        place.until(lambda: probe.make(body=PROBE_POD, dry_run=True).status == 403, "the gate is back")

    @pytest.mark.parametrize("user", ["admin", f"system:serviceaccount:{HOME}:default", OPERATOR])
    def test_the_operator_may_speak_for_nobody_else(self, place: Place, apiserver: ApiServer, user: str) -> None:
        operator = apiserver.client(apiserver.service_account_token(HOME, RELEASE))
        answer = replace(place, client=operator.acting_as(user)).make(SOURCE, dry_run=True)
        assert (answer.status, "cannot impersonate" in answer.message) == (403, True), answer.message

    def test_the_probes_account_can_only_make_pods(self, probe: Place) -> None:
        answers = [
            probe.client.get(CORE.format(probe.namespace, "pods"), check=False),
            probe.client.delete(CORE.format(probe.namespace, "pods") + "/app", check=False),
            probe.client.get(CORE.format(probe.namespace, "secrets"), check=False),
        ]
        assert [a.status for a in answers] == [403, 403, 403]


def test_the_operator_s_own_look_tells_closed_from_open_and_from_no_gate(place: Place, apiserver: ApiServer) -> None:
    """The code that a failover rests on, with the operator's rights alone."""
    token = apiserver.service_account_token(HOME, RELEASE)
    api = FragileApi(apiserver.kubeconfig("gate-operator", token))
    raw = place.client.get(f"{PAIRS.format(place.namespace)}/orders").value
    pair, gate = MirrorPair.read(raw), Gate(PROBE)
    place.close("Source", "Target")
    assert try_gate(api, gate, pair, tuple(Side)) == {side: GateSeen(True) for side in Side}
    place.close("Target")
    seen = try_gate(api, gate, pair, tuple(Side))
    assert seen[Side.TARGET] == GateSeen(True)
    assert seen[Side.SOURCE] == GateSeen(False, "a pod that mounts orders-data would be let in")
    assert try_gate(api, Gate(""), pair, (Side.TARGET,)) == {Side.TARGET: GateSeen(False, NOT_INSTALLED)}
    elsewhere = try_gate(api, Gate(PROBE, "another-policy"), pair, (Side.TARGET,))[Side.TARGET]
    assert isinstance(elsewhere, GateSeen)
    assert not elsewhere.refused


def test_it_turns_within_a_second_of_the_status(place: Place) -> None:
    took: dict[str, list[float]] = {"closes": [], "opens": []}
    for _ in range(10):
        for word, sides in (("closes", ["Target"]), ("opens", [])):
            place.status(closedSides=sides)
            took[word].append(place.until_admits(TARGET, not sides))
    for word, times in took.items():
        print(f"the gate {word}: median {statistics.median(times) * 1e3:.0f} ms, most {max(times) * 1e3:.0f} ms")
    assert max(took["closes"] + took["opens"]) < 1.0


@pytest.mark.timeout(400)
def test_a_server_that_starts_lets_nobody_slip_through(place: Place, apiserver: ApiServer) -> None:
    """Until it knows our kind it refuses all pods, whoever makes them, but for those of the cluster itself."""
    accounts = CORE.format("kube-system", "serviceaccounts")
    place.client.post(accounts, {"metadata": {"name": "default"}}, check=False)
    place.close("Target")
    system = replace(place, namespace="kube-system")
    blind: list[float] = []
    for _ in range(3):
        apiserver.stop_server()
        apiserver.start_server()
        began = time.monotonic()
        while (answer := place.make(SOURCE, dry_run=True)).status != 201:
            assert "failed to configure" in answer.message, answer.message
            assert place.make(TARGET, dry_run=True).status != 201
            assert system.make(SOURCE, dry_run=True).status == 201
            assert time.monotonic() - began < 60, answer.message
            time.sleep(0.2)
        blind.append(time.monotonic() - began)
        assert "Target side is closed" in place.make(TARGET, dry_run=True).message
    print(f"a server that has just started refuses all pods for {', '.join(f'{s:.1f}' for s in blind)} s")
