"""An uninstall leaves no pod that cannot be deleted: `storagemirror release`, and `helm uninstall`, which runs it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.command import wait_for
from tests.cluster.errors import CommandFailed
from tests.support.api_client import ApiClient
from tests.support.apiserver import ApiServer
from tests.support.chart import CHART, HOME, RELEASE, bare_server, helm
from tests.support.operator_process import OperatorProcess
from tests.support.pairs import CORE, Playground
from tests.support.policies import wait_for_the_gate

pytestmark = pytest.mark.apiserver

PROOF = "storagemirror.io/end-proof"
PODS = CORE.format(HOME, "pods")
SCALE = f"/apis/apps/v1/namespaces/{HOME}/deployments/{RELEASE}/scale"
LEASE_SECONDS = 4
"""Of the tests' operators."""
LEASE = f"/apis/coordination.k8s.io/v1/namespaces/{HOME}/leases"


@pytest.fixture(scope="module")
def apiserver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """A server of its own, with the controllers that run Jobs and remove what belongs to them."""
    with bare_server(tmp_path_factory.mktemp("uninstall"), "job-controller,garbage-collector-controller") as server:
        server.namespace(HOME, {"pod-security.kubernetes.io/enforce": "restricted"})
        yield server


@pytest.fixture
def installed(apiserver: ApiServer) -> Iterator[None]:
    """The release is installed, and gone afterwards."""
    helm(apiserver, "install", RELEASE, CHART)
    wait_for_the_gate(apiserver)
    yield
    helm(apiserver, "uninstall", RELEASE, "--no-hooks", "--ignore-not-found")
    apiserver.client().delete(f"{LEASE}/storagemirror-operator", check=False)


def held(server: ApiServer, namespace: str, name: str, *finalizers: str, marked: bool = True) -> str:
    """A pod that runs and has these finalizers; returns where it is."""
    Playground(server, namespace).writer(name, "orders-data")
    where = f"{CORE.format(namespace, 'pods')}/{name}"
    labels = {"app": "orders"} | ({PROOF: "uid-of-a-pair"} if marked else {})
    server.client().merge(where, {"metadata": {"finalizers": list(finalizers), "labels": labels}})
    return where


def metadata(server: ApiServer, where: str) -> dict[str, Any]:
    found: dict[str, Any] = server.client().get(where).value["metadata"]
    return found


def gone(client: ApiClient, where: str) -> bool:
    return client.get(where, check=False).status == 404


def release(server: ApiServer, *words: str) -> subprocess.CompletedProcess[str]:
    """`storagemirror release` with the rights of the operator, and no others."""
    kubeconfig = server.kubeconfig("released", server.service_account_token(HOME, RELEASE))
    kept = {k: v for k, v in os.environ.items() if not k.startswith("KUBERNETES_")}
    return subprocess.run(
        [sys.executable, "-m", "storagemirror.cli.main", "release", *words],
        env=kept | {"KUBECONFIG": str(kubeconfig), "PYTHONPATH": "operator", "POD_NAMESPACE": HOME},
        check=False,
        text=True,
        capture_output=True,
        timeout=120,
    )


@pytest.mark.usefixtures("installed")
class TestRelease:
    def test_it_frees_the_pods_of_all_namespaces_and_leaves_all_else_of_them(
        self, apiserver: ApiServer, namespace: str
    ) -> None:
        elsewhere = apiserver.namespace(f"{namespace}-other")
        one = held(apiserver, namespace, "orders-0", "example.com/a", PROOF, "example.com/b")
        two = held(apiserver, elsewhere, "bills-0", PROOF)
        theirs = held(apiserver, namespace, "theirs", "example.com/a", marked=False)
        version = metadata(apiserver, theirs)["resourceVersion"]
        done = release(apiserver)
        assert (done.returncode, done.stderr) == (0, "")
        assert sorted(done.stdout.splitlines()) == sorted(
            [f"released: pod {namespace}/orders-0", f"released: pod {elsewhere}/bills-0"]
        )
        assert metadata(apiserver, one)["finalizers"] == ["example.com/a", "example.com/b"]
        assert metadata(apiserver, one)["labels"] == {"app": "orders"}
        assert "finalizers" not in metadata(apiserver, two)
        assert metadata(apiserver, theirs)["resourceVersion"] == version
        again = release(apiserver)
        assert (again.returncode, again.stdout) == (0, "nothing to release: no pod has the finalizer\n")

    def test_a_pod_that_was_deleted_already_goes(self, apiserver: ApiServer, namespace: str) -> None:
        where = held(apiserver, namespace, "orders-0", PROOF)
        apiserver.client().delete(f"{where}?gracePeriodSeconds=0")
        assert "deletionTimestamp" in metadata(apiserver, where)
        assert release(apiserver).returncode == 0
        assert gone(apiserver.client(), where)

    def test_a_pod_that_others_write_all_the_time_is_freed_and_their_writes_stay(
        self, apiserver: ApiServer, namespace: str
    ) -> None:
        wheres = [held(apiserver, namespace, f"orders-{i}", PROOF) for i in range(10)]
        stop, writes = threading.Event(), dict.fromkeys(wheres, 0)

        def write() -> None:
            client = apiserver.client()
            while not stop.is_set():
                for where in wheres:
                    writes[where] += 1
                    client.merge(where, {"metadata": {"annotations": {"n": str(writes[where])}}})

        writer = threading.Thread(target=write, daemon=True)
        writer.start()
        try:
            done = release(apiserver)
        finally:
            stop.set()
            writer.join(10)
        assert (done.returncode, done.stderr) == (0, "")
        for where in wheres:
            found = metadata(apiserver, where)
            assert ("finalizers" not in found, found["annotations"]["n"]) == (True, str(writes[where]))

    def test_what_could_not_be_freed_is_named_and_the_rest_is_free(self, apiserver: ApiServer, namespace: str) -> None:
        stuck, free = held(apiserver, namespace, "stuck", PROOF), held(apiserver, namespace, "free", PROOF)
        expression = "object.metadata.name != 'stuck' || object.metadata.namespace != '" + namespace + "'"
        rules = [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["UPDATE"], "resources": ["pods"]}]
        policies = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolic"
        client = apiserver.client()
        spec = {"matchConstraints": {"resourceRules": rules}, "validations": [{"expression": expression}]}
        client.post(f"{policies}ies", {"metadata": {"name": "stuck"}, "spec": spec})
        binding = {"policyName": "stuck", "validationActions": ["Deny"]}
        client.post(f"{policies}ybindings", {"metadata": {"name": "stuck"}, "spec": binding})
        patch = {"metadata": {"annotations": {"a": "b"}}}
        try:
            wait_for("the policy", lambda: client.merge(stuck, patch, check=False).status >= 400, 10)
            done = release(apiserver)
        finally:
            client.delete(f"{policies}ybindings/stuck")
            client.delete(f"{policies}ies/stuck")
        assert (done.returncode, "1 pods could not be released" in done.stderr) == (1, True), done.stderr
        assert f"{namespace}/stuck" in done.stderr
        assert "finalizers" not in metadata(apiserver, free)
        wait_for("the policy to be gone", lambda: client.merge(stuck, patch, check=False).status == 200, 10)
        assert release(apiserver).returncode == 0


@pytest.mark.usefixtures("installed")
class TestTakingTheLead:
    HOLD = 6

    def test_no_operator_acts_while_the_pods_are_freed_and_for_some_time_after(
        self, apiserver: ApiServer, namespace: str, tmp_path: Path
    ) -> None:
        account = apiserver.service_account_token(HOME, RELEASE)
        kubeconfig = apiserver.kubeconfig("leader", account)
        (tmp_path / "next").mkdir()
        leader = OperatorProcess(tmp_path, kubeconfig, namespace=HOME)
        following = OperatorProcess(tmp_path / "next", kubeconfig, namespace=HOME)
        leader.start()
        try:
            wait_for("it to lead", lambda: "leading: " in leader.log, 30)
            taken = threading.Thread(target=release, args=(apiserver, "--hold", str(self.HOLD)), daemon=True)
            taken.start()
            wait_for("its Lease to be taken", lambda: holder(apiserver).startswith("release_"), 30)
            began = time.monotonic()
            wait_for("it to find out", lambda: not leader.alive, 10)
            where = held(apiserver, namespace, "orders-0", PROOF)  # a living operator would free it itself: no pair
            following.start()
            wait_for("the pod to be freed", lambda: "finalizers" not in metadata(apiserver, where), 20)
            freed = time.monotonic() - began
            print(f"freed {freed:.1f} s after the lead was taken")
            assert freed > LEASE_SECONDS - 1, "so long the operator that led may act"
            while time.monotonic() - began - freed < self.HOLD - 1:
                assert "leading: " not in following.log
                time.sleep(0.2)
            wait_for("an operator that is still there to lead again", lambda: "leading: " in following.log, 6)
            taken.join(10)
        finally:
            leader.kill()
            following.kill()

    @pytest.mark.parametrize("dead", [True, False], ids=["died without a word", "never ran"])
    def test_an_operator_that_is_not_there_is_not_needed(
        self, apiserver: ApiServer, namespace: str, dead: bool
    ) -> None:
        if dead:
            now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
            spec = {"holderIdentity": "gone", "leaseDurationSeconds": 4, "renewTime": now, "acquireTime": now}
            apiserver.client().post(LEASE, {"metadata": {"name": "storagemirror-operator"}, "spec": spec})
        where = held(apiserver, namespace, "orders-0", PROOF)
        began = time.monotonic()
        done = release(apiserver, "--hold", "15")
        took = time.monotonic() - began
        print(f"released without an operator (dead: {dead}) after {took:.1f} s")
        assert (done.returncode, done.stderr) == (0, "")
        assert "finalizers" not in metadata(apiserver, where)
        assert (4 if dead else 0) < took < 15


def holder(server: ApiServer) -> str:
    """Who leads."""
    return str(server.client().get(f"{LEASE}/storagemirror-operator").value["spec"]["holderIdentity"])


class Kubelet(threading.Thread):
    """Runs the pod of the uninstall's Job: its words, with the rights of its account; says how it ended."""

    def __init__(self, server: ApiServer, *, works: bool = True) -> None:
        super().__init__(daemon=True)
        self._server = server
        self._works = works
        self.ran: list[subprocess.CompletedProcess[str]] = []
        self.stop = threading.Event()

    def run(self) -> None:
        client = self._server.client()
        done: set[str] = set()
        while not self.stop.wait(0.1):
            pods = client.get(f"{PODS}?labelSelector=app.kubernetes.io/component=release").value["items"]
            for pod in pods:
                if pod["metadata"]["uid"] not in done:
                    done.add(pod["metadata"]["uid"])
                    self._run(client, pod)

    def _run(self, client: ApiClient, pod: dict[str, Any]) -> None:
        (container,) = pod["spec"]["containers"]
        assert pod["spec"]["serviceAccountName"] == RELEASE
        ended = release(self._server, *container["args"][1:]) if self._works else None
        if ended is not None:
            self.ran.append(ended)
        code = 1 if ended is None else ended.returncode
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        terminated = {"exitCode": code, "startedAt": now, "finishedAt": now, "containerID": "c://1"}
        state = {"name": "release", "image": "i", "imageID": "i", "ready": False, "restartCount": 0}
        status = {
            "phase": "Failed" if code else "Succeeded",
            "containerStatuses": [state | {"state": {"terminated": terminated}}],
        }
        client.merge(f"{PODS}/{pod['metadata']['name']}/status", {"status": status})


@pytest.mark.usefixtures("installed")
class TestHelmUninstall:
    @pytest.fixture
    def kubelet(self, apiserver: ApiServer) -> Iterator[Kubelet]:
        found = Kubelet(apiserver)
        found.start()
        yield found
        found.stop.set()
        found.join(60)

    def test_it_frees_the_pods_and_leaves_nothing(self, apiserver: ApiServer, namespace: str, kubelet: Kubelet) -> None:
        client = apiserver.client()
        running, going = held(apiserver, namespace, "orders-0", PROOF), held(apiserver, namespace, "orders-1", PROOF)
        client.delete(f"{going}?gracePeriodSeconds=0")
        began = time.monotonic()
        helm(apiserver, "uninstall", RELEASE, "--timeout", "60s")
        print(f"helm uninstall took {time.monotonic() - began:.1f} s")
        assert [r.returncode for r in kubelet.ran] == [0], kubelet.ran
        assert gone(client, going)
        assert "finalizers" not in metadata(apiserver, running)
        assert apiserver.kubectl("get", "jobs", "-n", HOME, "-o", "name").text == ""
        wait_for("the Job's pod to go", lambda: client.get(PODS).value["items"] == [], 20)
        left = apiserver.kubectl(
            *("get", "deploy,sa,role,rolebinding,networkpolicy,pdb", "-n", HOME, "-o", "name"),
            *("-l", "app.kubernetes.io/name=storagemirror"),
        ).text
        assert left == ""

    def test_where_the_job_cannot_run_it_says_so_removes_nothing_and_there_is_a_way_on(
        self, apiserver: ApiServer
    ) -> None:
        nobody = Kubelet(apiserver, works=False)
        nobody.start()
        try:
            with pytest.raises(CommandFailed, match="Job Failed"):
                helm(apiserver, "uninstall", RELEASE, "--timeout", "90s")
        finally:
            nobody.stop.set()
            nobody.join(10)
        assert apiserver.client().get(SCALE).status == 200
        helm(apiserver, "uninstall", RELEASE, "--no-hooks")
        assert apiserver.client().get(SCALE, check=False).status == 404
