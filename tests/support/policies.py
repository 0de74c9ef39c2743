"""The chart's admission policies: in effect some time after they were written, seconds later on a machine at work."""

from __future__ import annotations

from typing import Any

from tests.cluster.command import wait_for
from tests.support.api_client import ApiAnswer, ApiClient
from tests.support.apiserver import ApiServer
from tests.support.gate import GATE, TARGET, pod
from tests.support.manifests import endpoint, failover, pair, restore, sides
from tests.support.pairs import CORE

SECONDS = 60
SCRATCH = "policies-are-tried-here"


def wait_for_the_gate(server: ApiServer) -> None:
    """Until it refuses a pod for the claim of a side that is closed from the beginning."""
    client = server.client()
    if client.get(f"/api/v1/namespaces/{SCRATCH}", check=False).status == 404:
        server.namespace(SCRATCH)
    client.post(endpoint(SCRATCH, pair()), pair(sides=sides()))
    pods = CORE.format(SCRATCH, "pods") + "?dryRun=All"
    wait_for("the gate to be in effect", lambda: _refused(client.post(pods, pod(TARGET), check=False), GATE), SECONDS)
    client.delete(f"{endpoint(SCRATCH, pair())}/orders")


def wait_for_the_signatures(server: ApiServer) -> None:
    """Until an approval in the name of another is refused: for servers where only an administrator has any rights."""
    client = server.client()
    other: dict[str, Any] = {"approved": True, "approvedBy": "another"}
    signed = {"storagemirror-approve": failover(**other), "storagemirror-approve-restore": restore(**other)}
    for policy, body in signed.items():
        _wait(client, SCRATCH, policy, body, 422)


def wait_for_the_approvals(editor: ApiClient, namespace: str) -> None:
    """Until each of their policies refuses somebody who may edit the namespace, and approve nothing."""
    decided = {
        "storagemirror-approve": failover(acceptSplitBrain=True),
        "storagemirror-approve-restore": restore(),
        "storagemirror-approve-standing": pair(sides=sides(), failover={"approval": "Automatic"}),
    }
    for policy, body in decided.items():
        _wait(editor, namespace, policy, body, 403)


def _wait(client: ApiClient, namespace: str, policy: str, body: dict[str, Any], status: int) -> None:
    where, by = endpoint(namespace, body) + "?dryRun=All", f"ValidatingAdmissionPolicy '{policy}'"
    wait_for(f"{policy} to be in effect", lambda: _refused(client.post(where, body, check=False), by, status), SECONDS)


def _refused(answer: ApiAnswer, by: str, status: int = 403) -> bool:
    return answer.status == status and by in answer.message
