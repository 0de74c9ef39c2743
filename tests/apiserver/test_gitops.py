"""What Argo CD makes of pairs and failovers: the health script, run by the Lua that Argo CD's own is a port of; and
the other words of docs/gitops.md, by the API server."""

from __future__ import annotations

import json
import re
import shutil
import textwrap
from pathlib import Path
from typing import Any

import pytest
import yaml

from storagemirror.api.crd import KINDS
from tests.cluster.command import run
from tests.cluster.errors import CommandFailed
from tests.cluster.layout import checkout
from tests.cluster.packages import ensure_packages
from tests.support import manifests
from tests.support.apiserver import ApiServer
from tests.support.json_schemas import checking, write_schemas

pytestmark = pytest.mark.apiserver

SCRIPT = "charts/storagemirror/files/argocd-health.lua"


def lua_value(value: object) -> str:
    """A JSON value as Lua writes it."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"[{json.dumps(k)}] = {lua_value(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "{" + ", ".join(lua_value(v) for v in value) + "}"
    return "nil" if value is None else json.dumps(value)


@pytest.fixture(scope="module")
def lua() -> str:
    ensure_packages({"lua5.1": "lua5.1"})
    return str(shutil.which("lua5.1"))


def judged(lua: str, pair: dict[str, Any], directory: Path) -> tuple[str, str]:
    """Status and message."""
    script = (checkout() / SCRIPT).read_text()
    program = directory / "health.lua"
    program.write_text(
        f"obj = {lua_value(pair)}\nlocal function judge()\n{script}\nend\n"
        "local h = judge()\nio.write(h.status, '\\n', h.message or '', '\\n')\n"
    )
    status, message = run(lua, program).stdout.splitlines()
    return status, message


def pair(generation: int = 1, observed: int | None = 1, *, paused: bool = False, **conditions: str) -> dict[str, Any]:
    listed = [{"type": k, "status": v, "reason": "R", "message": f"{k} is {v}."} for k, v in conditions.items()]
    status = {"observedGeneration": observed, "conditions": listed}
    return {"metadata": {"name": "orders", "generation": generation}, "spec": {"paused": paused}, "status": status}


def failover(phase: str, generation: int = 1, *, ended: bool = False, **conditions: str) -> dict[str, Any]:
    found = pair(generation, 1, paused=False, **conditions)
    found["status"] |= {"phase": phase} | ({"endedAt": "2026-01-02T03:04:05Z"} if ended else {})
    return {"kind": "Failover", **found}


def restore(phase: str, generation: int = 1, *, ended: bool = False, **conditions: str) -> dict[str, Any]:
    return {**failover(phase, generation, ended=ended, **conditions), "kind": "Restore"}


def failed_over() -> dict[str, Any]:
    found = pair(Ready="False", Reconciling="False", Stalled="False")
    found["status"]["conditions"][0]["reason"] = "FailedOver"
    return found


@pytest.mark.parametrize(
    ("given", "status", "message"),
    [
        (pair(Ready="True", Stalled="False"), "Healthy", "Ready is True."),
        (pair(Ready="False", Reconciling="True"), "Progressing", "Ready is False."),
        (pair(Ready="False", Stalled="True"), "Degraded", "Stalled is True."),
        (pair(Ready="False", Stalled="True", Held="True"), "Degraded", "Held is True."),
        (pair(Ready="Unknown"), "Progressing", "Ready is Unknown."),
        (pair(paused=True, Ready="False"), "Suspended", "Ready is False."),
        (pair(2, 1, Ready="True"), "Progressing", "Waiting for the operator to take up the change"),
        (pair(2, 1, Ready="False", Stalled="True"), "Progressing", "Waiting for the operator to take up the change"),
        ({"metadata": {"generation": 1}, "spec": {}}, "Progressing", "Waiting for the operator"),
        ({"metadata": {"generation": 1}, "spec": {}, "status": {}}, "Progressing", "Waiting for the operator"),
        (pair(Ready="False", Reconciling="True", Stalled="False"), "Progressing", "Ready is False."),
        (failed_over(), "Degraded", "Ready is False."),
        (failover("Fencing", Ready="False", Reconciling="True"), "Progressing", "Ready is False."),
        (failover("AwaitingApproval", Ready="False", Stalled="True"), "Suspended", "Ready is False."),
        (failover("Validating", Ready="False", Stalled="True"), "Degraded", "Stalled is True."),
        (failover("Completed", Ready="True", ended=True), "Healthy", "Ready is True."),
        (failover("Completed", 2, Ready="True", ended=True), "Healthy", "Ready is True."),
        (failover("RolledBack", Ready="False", Stalled="True", ended=True), "Degraded", "Stalled is True."),
        (
            failover("AwaitingApproval", 2, Stalled="True"),
            "Progressing",
            "Waiting for the operator to take up the change",
        ),
        (restore("Mirroring", Ready="False", Reconciling="True"), "Progressing", "Ready is False."),
        (restore("AwaitingCutOver", Ready="False", Stalled="True"), "Suspended", "Ready is False."),
        (
            restore("AwaitingCutOver", 2, Stalled="True"),
            "Progressing",
            "Waiting for the operator to take up the change",
        ),
        (restore("Validating", Ready="False", Stalled="True"), "Degraded", "Stalled is True."),
        (restore("Completed", 2, Ready="True", ended=True), "Healthy", "Ready is True."),
        (restore("RolledBack", Ready="False", Stalled="True", ended=True), "Degraded", "Stalled is True."),
        (restore("Superseded", Ready="False", Stalled="True", ended=True), "Degraded", "Stalled is True."),
    ],
    ids=[
        "following",
        "on the way",
        "stalled",
        "held",
        "not known",
        "paused",
        "ready by an older spec",
        "stalled by an older spec",
        "without a status",
        "with an empty status",
        "failing over",
        "failed over",
        "a failover that goes on",
        "a failover that waits for its approval",
        "a failover that waits for somebody",
        "a failover that completed",
        "a failover that completed and was touched afterwards",
        "a failover that was rolled back",
        "a failover whose approval was just given",
        "a restore that copies back",
        "a restore that waits for its cut-over",
        "a restore whose cut-over was just approved",
        "a restore that waits for somebody",
        "a restore that completed and was touched afterwards",
        "a restore that was rolled back",
        "a restore for another epoch",
    ],
)
def test_argo_cd_judges_rightly(lua: str, tmp_path: Path, given: dict[str, Any], status: str, message: str) -> None:
    assert judged(lua, given, tmp_path) == (status, message)


def blocks(language: str) -> list[str]:
    """The examples of the page."""
    page = (checkout() / "docs" / "gitops.md").read_text()
    return [textwrap.dedent(b) for b in re.findall(rf"^ *```{language}\n(.*?)^ *```$", page, re.M | re.S)]


def test_the_page_shows_the_script_that_is_shipped_for_every_kind() -> None:
    (text,) = [b for b in blocks("yaml") if "resource.customizations" in b]
    script = (checkout() / SCRIPT).read_text()
    keys = [f"resource.customizations.health.storagemirror.io_{kind.name}" for kind in KINDS]
    assert yaml.safe_load(text)["data"] == dict.fromkeys(keys, script)


def test_the_objects_of_the_page_fit_the_schemas_that_a_pipeline_checks_them_by(
    apiserver: ApiServer, tmp_path: Path
) -> None:
    assert write_schemas(apiserver.client().get("/openapi/v2").value, tmp_path) > 100
    (asked,) = [b for b in blocks("yaml") if "kind: Restore" in b]
    away = json.dumps(manifests.elsewhere(cutOver="Manual", approved=True, approvedBy="alice"))
    summary = json.loads(run(*checking(tmp_path), stdin=f"{asked}\n---\n{away}").stdout)["summary"]
    assert summary == {"valid": 2, "invalid": 0, "errors": 0, "skipped": 0}
    for good, typo in (("fromEpoch:", "fromEpok:"), ("cutOver: Manual", "cutOver: Later")):
        assert good in asked
        with pytest.raises(CommandFailed, match=typo.split()[0].rstrip(":")):
            run(*checking(tmp_path), stdin=asked.replace(good, typo))


@pytest.mark.parametrize("kind", ["Failover", "Restore"])
def test_the_examples_of_the_page_are_accepted(apiserver: ApiServer, namespace: str, kind: str) -> None:
    (text,) = [b for b in blocks("yaml") if f"kind: {kind}" in b]
    for document in yaml.safe_load_all(text):
        document["metadata"]["namespace"] = namespace
        answer = apiserver.kubectl("apply", "-f", "-", stdin=json.dumps(document))
        assert "created" in answer.text, answer.text


@pytest.mark.parametrize(
    "asked", [manifests.failover("orders-move-1"), manifests.restore("orders-home-2", cutOver="Manual")]
)
def test_the_approval_of_the_page_works_and_git_leaves_it_alone(
    apiserver: ApiServer, namespace: str, asked: dict[str, Any]
) -> None:
    body = json.dumps(asked)
    apiserver.kubectl("apply", "--server-side", "-n", namespace, "-f", "-", stdin=body)
    (command,) = [b for b in blocks("sh") if f"kubectl patch {asked['kind'].lower()}" in b]
    kubectl = f"{apiserver.kubectl_command()} "
    run("bash", "-euc", command.replace("kubectl ", kubectl).replace("-n shop", f"-n {namespace}"))
    apiserver.kubectl("apply", "--server-side", "-n", namespace, "-f", "-", stdin=body)
    where = f"{manifests.endpoint(namespace, asked)}/{asked['metadata']['name']}"
    spec = apiserver.client().get(where).value["spec"]
    assert (spec["approved"], spec["approvedBy"]) == (True, "admin")
