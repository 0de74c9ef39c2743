"""The control plane: etcd, the API server, the controllers, the scheduler and DNS, on a machine of their own."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from pathlib import Path

from tests.cluster.command import run, wait_for
from tests.cluster.errors import CommandFailed, TimedOut
from tests.cluster.layout import (
    API_PORT,
    CONTROL_PLANE,
    CONTROL_PLANE_IP,
    DNS_DOMAIN,
    SERVICE_CIDR,
    Layout,
)
from tests.cluster.pki import kubeconfig, read_tokens, users, write_pki, write_private
from tests.cluster.service import Services, own_module
from tests.cluster.tools import tool_path

LAN_SERVER = f"https://{CONTROL_PLANE_IP}:{API_PORT}"


def etcd_flags(data: Path) -> list[str]:
    """One member that never waits for the disk: a test cluster does not outlive its machine."""
    return [
        f"--data-dir={data}",
        "--listen-client-urls=http://127.0.0.1:2379",
        "--advertise-client-urls=http://127.0.0.1:2379",
        "--listen-peer-urls=http://127.0.0.1:2380",
        "--unsafe-no-fsync",
        "--log-level=warn",
    ]


def apiserver_flags(pki: Path) -> list[str]:
    """Node and RBAC authorisation; pods leave a dead node after 30 s instead of 300, so that tests need not wait."""
    return [
        "--etcd-servers=http://127.0.0.1:2379",
        f"--secure-port={API_PORT}",
        f"--advertise-address={CONTROL_PLANE_IP}",
        "--bind-address=0.0.0.0",
        f"--tls-cert-file={pki}/apiserver.crt",
        f"--tls-private-key-file={pki}/apiserver.key",
        f"--client-ca-file={pki}/ca.crt",
        f"--kubelet-client-certificate={pki}/kubelet-client.crt",
        f"--kubelet-client-key={pki}/kubelet-client.key",
        "--kubelet-preferred-address-types=InternalIP",
        f"--service-account-key-file={pki}/sa.pub",
        f"--service-account-signing-key-file={pki}/sa.key",
        f"--service-account-issuer=https://kubernetes.default.svc.{DNS_DOMAIN}",
        f"--service-cluster-ip-range={SERVICE_CIDR}",
        f"--token-auth-file={pki}/tokens.csv",
        "--authorization-mode=Node,RBAC",
        "--allow-privileged=true",
        "--enable-admission-plugins=NodeRestriction",
        "--default-not-ready-toleration-seconds=30",
        "--default-unreachable-toleration-seconds=30",
    ]


def controller_manager_flags(pki: Path, config: Path) -> list[str]:
    """A node counts as lost 20 s after its last word (40 is the default)."""
    return [
        f"--kubeconfig={config}",
        "--leader-elect=false",
        f"--service-account-private-key-file={pki}/sa.key",
        f"--root-ca-file={pki}/ca.crt",
        "--use-service-account-credentials=true",
        "--authentication-skip-lookup",
        f"--cluster-signing-cert-file={pki}/ca.crt",
        f"--cluster-signing-key-file={pki}/ca.key",
        "--node-monitor-grace-period=20s",
        "--node-monitor-period=2s",
        "--pvclaimbinder-sync-period=1s",  # 15 s is the default, and a claim that came before its volume waits for it
        f"--flex-volume-plugin-dir={pki.parent / 'volume-plugins'}",  # else it makes one below /usr of this machine
    ]


def corefile(config: Path) -> str:
    """DNS for the cluster's own names, and "no such name" at once for all others: there is no way out."""
    return f"""{DNS_DOMAIN}:53 in-addr.arpa:53 {{
    errors
    bind {CONTROL_PLANE_IP}
    kubernetes {DNS_DOMAIN} in-addr.arpa {{
        kubeconfig {config} cluster
        ttl 1
    }}
}}
.:53 {{
    errors
    bind {CONTROL_PLANE_IP}
    template ANY ANY {{
        rcode NXDOMAIN
    }}
}}
"""


BASICS: tuple[dict[str, object], ...] = (
    {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": "storagemirror-test-proxy"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:node-proxier"},
        "subjects": [{"kind": "User", "name": "system:kube-proxy"}],
    },
    {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": "storagemirror-test-coredns"},
        "rules": [
            {"apiGroups": [""], "resources": ["services", "pods", "namespaces"], "verbs": ["list", "watch"]},
            {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
        ],
    },
    {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": "storagemirror-test-coredns"},
        "roleRef": {
            "apiGroup": "rbac.authorization.k8s.io",
            "kind": "ClusterRole",
            "name": "storagemirror-test-coredns",
        },
        "subjects": [{"kind": "User", "name": "system:coredns"}],
    },
    {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": "local"},
        "provisioner": "kubernetes.io/no-provisioner",
        "volumeBindingMode": "WaitForFirstConsumer",
        "allowVolumeExpansion": True,
    },
    {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": "movable"},
        "provisioner": "kubernetes.io/no-provisioner",
        "volumeBindingMode": "Immediate",
        "allowVolumeExpansion": True,
    },
)


class ControlPlane:
    """The servers of one cluster. Starting what runs is no error."""

    def __init__(self, layout: Layout, services: Services) -> None:
        self._layout = layout
        self._services = services

    def prepare(self, api_port: int) -> None:
        """Certificates, and a kubeconfig for everyone."""
        pki = self._layout.pki
        write_pki(pki)
        tokens, ca = read_tokens(pki), (pki / "ca.crt").read_bytes()
        for short in users():
            write_private(self.config_of(short), kubeconfig(LAN_SERVER, ca, tokens[short]))
        write_private(self._layout.kubeconfig, kubeconfig(f"https://127.0.0.1:{api_port}", ca, tokens["admin"]))

    def config_of(self, short: str) -> Path:
        """The kubeconfig with which a user reaches the API server over the LAN."""
        return self._layout.pki / f"{short}.kubeconfig"

    def start(self, api_port: int) -> None:
        """Start everything and wait for the API server; the others come by themselves."""
        hyperkube = tool_path("hyperkube")
        handle = self._layout.netns(CONTROL_PLANE)
        forward = own_module("tests.cluster.forward", str(handle), str(api_port), str(API_PORT))
        self._services.start("etcd", [hyperkube, "etcd", *etcd_flags(self._layout.state / "etcd")])
        self._services.start("forward", forward, network=None)
        self.start_apiserver()
        self._start_controllers()
        self.apply_basics()
        config = self._layout.state / "Corefile"
        config.write_text(corefile(self.config_of("coredns")))
        self._services.start("coredns", [tool_path("coredns"), "-conf", config])

    def apply_basics(self) -> None:
        """Roles of the proxies and of DNS, and the storage classes."""
        listed = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(BASICS)})
        done = run(*self.kubectl("apply", "-f", "-"), stdin=listed, check=False)
        if done.returncode != 0:  # the API server may be ready a moment before its own roles are
            time.sleep(1)
            run(*self.kubectl("apply", "-f", "-"), stdin=listed)

    def kubectl(self, *words: str) -> list[str]:
        """The command of a kubectl that talks to this cluster."""
        return [str(tool_path("kubectl")), f"--kubeconfig={self._layout.kubeconfig}", *words]

    def ready(self) -> bool:
        """Whether the API server says so, through the forwarder."""
        done = run(*self.kubectl("get", "--raw", "/readyz", "--request-timeout=5s"), check=False)
        return done.returncode == 0 and done.stdout.strip() == "ok"

    def running(self) -> bool:
        """Whether every process of the control plane is alive, 503 off."""
        names = ("etcd", "forward", "apiserver", "controller-manager", "scheduler", "coredns")
        return all(self._services.running(name) for name in names) and not self._services.running("unavailable")

    def stop_apiserver(self) -> None:
        """End the API server the hard way: connections break, new ones are refused."""
        self._services.stop("apiserver")

    def restart_apiserver(self) -> None:
        """Start the API server after it was away. Controllers and scheduler are started anew: those that saw it go
        would come back only after a back-off of up to half a minute (as the kubelets do)."""
        self.start_apiserver()
        for name in ("controller-manager", "scheduler"):
            self._services.stop(name)
        self._start_controllers()

    def _start_controllers(self) -> None:
        hyperkube = tool_path("hyperkube")
        manager = controller_manager_flags(self._layout.pki, self.config_of("controller-manager"))
        self._services.start("controller-manager", [hyperkube, "kube-controller-manager", *manager])
        own = [f"--kubeconfig={self.config_of('scheduler')}", "--leader-elect=false", "--authentication-skip-lookup"]
        self._services.start("scheduler", [hyperkube, "kube-scheduler", *own])

    def start_apiserver(self, seconds: float = 90) -> None:
        """Start the API server (503 ends) and wait until it is ready."""
        self._services.stop("unavailable")
        flags = apiserver_flags(self._layout.pki)
        self._services.start("apiserver", [tool_path("hyperkube"), "kube-apiserver", *flags])
        try:
            wait_for("the API server to be ready", self.ready, seconds)
        except TimedOut as e:
            raise TimedOut(f"{e.message}; its log ends with:\n{self._services.log_tail('apiserver')}") from e

    def answer_503(self) -> None:
        """Put a server that answers 503 to everything at the API server's own address."""
        self.stop_apiserver()
        pki = self._layout.pki
        words = own_module("tests.cluster.unavailable", f"{pki}/apiserver.crt", f"{pki}/apiserver.key", str(API_PORT))
        self._services.start("unavailable", words)
        wait_for("the API server's address to answer 503", self._answers_503, 20)

    def _answers_503(self) -> bool:
        done = run(*self.kubectl("get", "--raw", "/readyz", "--request-timeout=5s"), check=False)
        if done.returncode == 0:
            raise CommandFailed(["kubectl", "get", "--raw", "/readyz"], 0, "the API server answers as if all were well")
        return "unable to handle the request" in done.stderr


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on now."""
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
