"""A release of the chart: installed, upgraded and removed without harm; its notes can be followed."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.cluster.command import run
from tests.cluster.errors import CommandFailed
from tests.support.apiserver import ApiServer
from tests.support.chart import CHART, HOME, RELEASE, bare_server, helm, install
from tests.support.manifests import created, endpoint, failover, pair, restore

pytestmark = pytest.mark.apiserver


@pytest.fixture(scope="module")
def apiserver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """A server of its own with a release that Helm installed."""
    with bare_server(tmp_path_factory.mktemp("release")) as server:
        install(server)
        yield server


CRD = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/mirrorpairs.storagemirror.io"
OTHERS = [CRD.replace("mirrorpairs", plural) for plural in ("failovers", "restores")]
DEPLOYMENT = f"/apis/apps/v1/namespaces/{HOME}/deployments/{RELEASE}"


class TestARelease:
    def test_it_says_the_next_step(self, apiserver: ApiServer) -> None:
        notes = helm(apiserver, "get", "notes", RELEASE)
        wanted = ["kind: MirrorPair", "kubectl get mirrorpairs", "rollout status deployment/storagemirror"]
        assert [w for w in wanted if w not in notes] == []

    def test_what_its_notes_say_to_do_can_be_done(self, apiserver: ApiServer, namespace: str) -> None:
        notes = helm(apiserver, "get", "notes", RELEASE)
        asked, sides, away, home = [textwrap.dedent(t.split("END\n", 1)[0]) for t in notes.split("<<END\n")[1:]]
        apiserver.kubectl("apply", "-n", namespace, "-f", "-", stdin=asked)
        patch = ("patch", "mirrorpair", "-n", namespace, "orders", "--type=merge", "--patch-file=/dev/stdin")
        apiserver.kubectl(*patch, stdin=sides)
        assert "orders" in apiserver.kubectl("get", "mp", "-n", namespace).text
        mine = away.replace("YOUR USER NAME", "admin")
        assert "created" in apiserver.kubectl("create", "-n", namespace, "-f", "-", stdin=mine).text
        with pytest.raises(CommandFailed, match="expected admin, got YOUR USER NAME"):
            apiserver.kubectl("create", "-n", namespace, "-f", "-", stdin=away)
        assert "created" in apiserver.kubectl("create", "-n", namespace, "-f", "-", stdin=home).text
        assert "orders-home-" in apiserver.kubectl("get", "restores", "-n", namespace).text

    def test_the_approvals_that_its_notes_tell_can_be_given(self, apiserver: ApiServer, namespace: str) -> None:
        notes = helm(apiserver, "get", "notes", RELEASE)
        told = [part.split("# kubectl", 1)[0] for part in notes.split("     kubectl patch ")[1:] if "NAME --" in part]
        assert [words.split()[0] for words in told] == ["failover", "restore"]
        for words, asked in zip(told, (failover("now"), restore("now", cutOver="Manual")), strict=True):
            created(apiserver, namespace, asked)
            given = words.replace("YOUR USER NAME", "admin").replace("-n NAMESPACE NAME", f"-n {namespace} now")
            run("bash", "-euc", f"{apiserver.kubectl_command()} patch {given}")
            found = apiserver.client().get(f"{endpoint(namespace, asked)}/now").value["spec"]
            assert (found["approved"], found["approvedBy"]) == (True, "admin")

    @pytest.mark.parametrize(
        ("flags", "said", "unsaid"),
        [
            ((), "2 replicas run on different nodes", "nothing is failed over"),
            (("--set=replicas=1",), "One replica runs", "replicas run on different nodes"),
            (("--set=gate.enabled=false",), "nothing is failed over", "One replica runs"),
        ],
        ids=["defaults", "one replica", "no gate"],
    )
    def test_its_notes_tell_what_the_values_mean(
        self, apiserver: ApiServer, flags: tuple[str, ...], said: str, unsaid: str
    ) -> None:
        notes = helm(apiserver, "upgrade", RELEASE, CHART, "--dry-run=client", *flags).split("NOTES:", 1)[1]
        assert (said in notes, unsaid in notes) == (True, False)

    def test_a_second_release_is_refused_two_operators_would_fight(self, apiserver: ApiServer) -> None:
        with pytest.raises(CommandFailed, match="storagemirror"):
            helm(apiserver, "install", "second", CHART, "--namespace", "second", "--create-namespace")

    def test_an_upgrade_brings_a_newer_crd(self, apiserver: ApiServer, tmp_path: Path) -> None:
        newer = tmp_path / "storagemirror"
        shutil.copytree(CHART, newer)
        file = newer / "files" / "crds" / "storagemirror.io_mirrorpairs.yaml"
        crd = yaml.safe_load(file.read_text())
        crd["spec"]["names"]["shortNames"].append("mpair")
        file.write_text(yaml.safe_dump(crd))
        helm(apiserver, "upgrade", RELEASE, newer)
        assert apiserver.client().get(CRD).value["spec"]["names"]["shortNames"] == ["mp", "mpair"]
        helm(apiserver, "upgrade", RELEASE, CHART)
        assert apiserver.client().get(CRD).value["spec"]["names"]["shortNames"] == ["mp"]

    def test_after_uninstall_the_pairs_are_there_and_nothing_is_stuck(
        self, apiserver: ApiServer, namespace: str
    ) -> None:
        for body in (pair(), restore()):
            created(apiserver, namespace, body)
        # Nobody runs the Job of its hook here: test_uninstall.py.
        helm(apiserver, "uninstall", RELEASE, "--no-hooks")
        for where in (f"{endpoint(namespace, pair())}/orders", f"{endpoint(namespace, restore())}/home"):
            assert "finalizers" not in apiserver.client().get(where).value["metadata"]
        for kind in (CRD, *OTHERS):
            assert "deletionTimestamp" not in apiserver.client().get(kind).value["metadata"]
        left = apiserver.kubectl(
            "get", "deploy,sa,role,rolebinding,networkpolicy", "-n", HOME, "-l", "app.kubernetes.io/name", "-o", "name"
        ).text
        clusterwide = apiserver.kubectl(
            *("get", "clusterrole,clusterrolebinding,validatingadmissionpolicy,validatingadmissionpolicybinding"),
            *("-l", "app.kubernetes.io/name=storagemirror", "-o", "name"),
        ).text
        assert (left.strip(), clusterwide.strip()) == ("", "")
        apiserver.kubectl("delete", "mp", "orders", "-n", namespace, "--timeout=10s")

        helm(apiserver, "install", RELEASE, CHART)
        assert apiserver.client().get(DEPLOYMENT, check=False).status == 200
