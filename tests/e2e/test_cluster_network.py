"""The cluster's network, and its bad luck: cables, slow links, and an API server that is away."""

from __future__ import annotations

import sys

import pytest

from tests.cluster.cluster import Cluster
from tests.cluster.command import run
from tests.cluster.faults import Slowness
from tests.support.cluster_kubectl import Kubectl, condition, wait_for
from tests.support.cluster_objects import pod

pytestmark = pytest.mark.e2e

CONNECT = "import socket,sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), float(sys.argv[3]))"
SERVE = """
import socket
s = socket.create_server(("", 7000))
while True:
    c, _ = s.accept()
    while c.recv(1 << 16): pass
    c.sendall(b"got it")
    c.close()
"""
ASK_DNS = """
import socket
labels = b"kubernetes", b"default", b"svc", b"cluster", b"local", b""
name = b"".join(bytes([len(label)]) + label for label in labels)
query = bytes.fromhex("000101000001000000000000") + name + bytes.fromhex("00010001")
answers = 0
for _ in range(40):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.settimeout(0.1)
        s.sendto(query, ("10.89.0.10", 53))
        try:
            answers += len(s.recv(512)) > 0
        except TimeoutError:
            pass
print(answers)
"""
GET = """
import ssl, sys, urllib.error, urllib.request
try:
    print(urllib.request.urlopen(sys.argv[1], timeout=10, context=ssl._create_unverified_context()).status)
except urllib.error.HTTPError as e:
    print(e.code)
"""
SEND = """
import socket, sys, time
c = socket.create_connection((sys.argv[1], 7000), 30)
started = time.monotonic()
c.sendall(b"x" * int(sys.argv[2]))
c.shutdown(socket.SHUT_WR)
assert c.recv(10) == b"got it"
print(time.monotonic() - started)
"""


def test_pods_find_the_cluster_and_nothing_outside_of_it(kubectl: Kubectl) -> None:
    kubectl.apply(pod("asker"))
    kubectl.wait_ready("asker")
    assert "10.96.0.1" in kubectl.exec("asker", "getent", "hosts", "kubernetes.default.svc")
    kubectl.exec("asker", "python3", "-c", CONNECT, "kubernetes.default.svc", "443", "5")
    refused = kubectl.run("exec", "asker", "--", "python3", "-c", CONNECT, "192.0.2.1", "443", "5", check=False)
    assert "No route to host" in refused.stderr
    assert kubectl.exec("asker", "getent", "hosts", "example.org", check=False) == ""


def test_a_cut_node_is_lost_runs_on_and_is_ready_again_when_healed(cluster: Cluster, kubectl: Kubectl) -> None:
    kubectl.apply(pod("counter", node="n2", command=["sh", "-c", "while date > /tmp/t; do sleep 0.2; done"]))
    kubectl.wait_ready("counter")
    cluster.cut("n2")
    wait_for("n2 to count as lost", lambda: condition(Kubectl(cluster).get("node", "n2"), "Ready") == "Unknown", 60)
    assert cluster.exec("n2", "ctr", "-n", "k8s.io", "task", "ls").stdout.count("RUNNING") >= 2
    cluster.heal("n2")
    wait_for("n2 to be Ready", lambda: condition(Kubectl(cluster).get("node", "n2"), "Ready") == "True", 60)


def test_a_slow_link_has_its_rate_and_a_good_one_is_fast(cluster: Cluster, kubectl: Kubectl) -> None:
    kubectl.apply(pod("server", node="n1", command=["python3", "-c", SERVE]), pod("client", node="n2"))
    kubectl.wait_ready("server", "client")
    address = kubectl.get("pod", "server")["status"]["podIP"]

    def seconds_for(size: int) -> float:
        return float(kubectl.exec("client", "python3", "-c", SEND, address, str(size)))

    wait_for("the server to listen", lambda: seconds_for(1) >= 0, 20)
    cluster.slow("n1", Slowness(rate="8mbit"))
    slow = seconds_for(2_000_000)
    cluster.slow("n1", Slowness())
    fast = seconds_for(2_000_000)
    assert 1.5 < slow < 10, "2 MB at 8 Mbit/s take 2 s"
    assert fast < 0.5


def test_a_lossy_link_loses_packets(cluster: Cluster) -> None:
    def answered() -> int:
        """How many of 40 questions to the cluster's DNS, sent from n3, are answered."""
        return int(run(*cluster.network_command("n3", sys.executable, "-c", ASK_DNS)).stdout)

    try:
        assert answered() == 40
        cluster.slow("n3", Slowness(loss=0.5))
        assert 1 <= answered() <= 25, "a question and its answer both arrive in one of four cases"
    finally:
        cluster.slow("n3", Slowness())
    assert answered() == 40


def test_a_long_link_takes_its_time_each_way_and_up_makes_it_good_again(cluster: Cluster, kubectl: Kubectl) -> None:
    kubectl.apply(pod("server", node="n1", command=["python3", "-c", SERVE]), pod("client", node="n2"))
    kubectl.wait_ready("server", "client")
    address = kubectl.get("pod", "server")["status"]["podIP"]

    def seconds() -> float:
        """One byte there and the answer back: one round trip after that of the connection."""
        return float(kubectl.exec("client", "python3", "-c", SEND, address, "1"))

    wait_for("the server to listen", lambda: seconds() >= 0, 20)
    cluster.slow("n1", Slowness(delay=0.1))
    assert 0.2 <= seconds() < 1.0
    assert float(kubectl.exec("client", "python3", "-c", SEND, address, str(20 << 20))) < 30, "and it is not narrow"
    cluster.up()
    assert seconds() < 0.15


def test_the_api_server_goes_answers_503_and_is_back_and_the_pods_run_on(cluster: Cluster, kubectl: Kubectl) -> None:
    kubectl.apply(pod("app"))
    kubectl.wait_ready("app")

    cluster.stop_apiserver()
    assert kubectl.run("get", "--raw", "/readyz", check=False).returncode != 0

    cluster.answer_503()
    assert "unable to handle the request" in kubectl.run("get", "pods", check=False).stderr
    for address in ("10.89.0.10:6443", "10.96.0.1"):
        seen = cluster.exec("n1", sys.executable, "-c", GET, f"https://{address}/api")
        assert seen.stdout.strip() == "503", "at its own address, and at that of its Service"

    cluster.start_apiserver()
    cluster.restart_kubelets()
    kubectl.apply(pod("another"))
    kubectl.wait_ready("app", "another")
    assert kubectl.get("pod", "app")["status"]["containerStatuses"][0]["restartCount"] == 0
