"""What is said of nodes in the API, true or not, and taken back."""

from __future__ import annotations

from tests.cluster.cluster import Cluster

OUT_OF_SERVICE = "node.kubernetes.io/out-of-service"


def attest(cluster: Cluster, node: str) -> None:
    """The word of a person or a fencing controller: this node is off."""
    cluster.kubectl("taint", "node", node, f"{OUT_OF_SERVICE}=nodeshutdown:NoExecute", "--overwrite")


def unattest(cluster: Cluster, node: str) -> None:
    """Take that word back; no error where it was never given."""
    cluster.kubectl("taint", "node", node, f"{OUT_OF_SERVICE}-", check=False)


def delete_node(cluster: Cluster, node: str) -> None:
    """Remove the node from the API, whatever it does."""
    cluster.kubectl("delete", "node", node, "--wait=false")


def mend_nodes(cluster: Cluster) -> None:
    """Every node is registered, bears no taint of a test, takes pods, has power and cable, and is Ready."""
    known = cluster.kubectl("get", "nodes", "-o", "name").stdout.split()
    present = [node for node in cluster.node_names if f"node/{node}" in known]
    for node in present:
        unattest(cluster, node)
    cluster.kubectl("uncordon", *present)
    if len(present) < len(cluster.node_names):
        cluster.restart_kubelets()
    cluster.up()
