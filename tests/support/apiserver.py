"""A real etcd and kube-apiserver on loopback, for tests that need the API's own judgement and no nodes.

No controller manager and no kubelets: nothing makes service accounts, collects children of deleted objects or starts
pods. `ApiServer.namespace` makes the service account that pods ask for; `start_controllers` and `start_scheduler` bring
the rest.
"""

from __future__ import annotations

import contextlib
import json
import shlex
import signal
import socket
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.cluster.command import wait_for
from tests.cluster.errors import ClusterError
from tests.cluster.pki import kubeconfig, read_tokens, write_pki
from tests.support.api_client import ApiAnswer, ApiClient
from tests.support.unavailable import Unavailable

READY_SECONDS = 90

AUDIT_POLICY = """\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules: [{level: Metadata, userGroups: ["system:serviceaccounts"]}, {level: None}]
"""


class ServerDied(ClusterError):
    """etcd or kube-apiserver ended by itself; the message carries the end of its log."""


def free_ports(count: int) -> list[int]:
    """TCP ports of 127.0.0.1 that nobody listens on just now."""
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [int(s.getsockname()[1]) for s in held]


class ApiServer:
    """One control plane of etcd and kube-apiserver with its state in `directory`; `hyperkube` holds both servers."""

    def __init__(self, directory: Path, hyperkube: Path, kubectl: Sequence[str | Path]) -> None:
        self._dir = directory
        self._hyperkube = hyperkube
        self._kubectl = [str(word) for word in kubectl]
        self._pki = directory / "pki"
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._port, self._etcd_port, self._peer_port, self._controllers_port, self._scheduler_port = free_ports(5)

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"https://127.0.0.1:{self._port}"

    @property
    def ca_file(self) -> Path:
        """PEM file of the CA that its certificate is from."""
        return self._pki / "ca.crt"

    def start(self) -> None:
        """Start both servers and wait until the API answers; `ServerDied` or `TimedOut` tell why it does not."""
        self._dir.mkdir(parents=True, exist_ok=True)
        write_pki(self._pki)
        peer = f"http://127.0.0.1:{self._peer_port}"
        self._spawn(
            "etcd",
            f"--data-dir={self._dir / 'etcd'}",
            f"--listen-client-urls={self._etcd_url}",
            f"--advertise-client-urls={self._etcd_url}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            "--unsafe-no-fsync=true",
        )
        self.start_server()

    def start_server(self) -> None:
        """Start kube-apiserver (again, on what etcd holds) and wait until it answers."""
        policy = self._dir / "audit-policy.yaml"
        policy.write_text(AUDIT_POLICY)
        self._spawn(
            "kube-apiserver",
            f"--etcd-servers={self._etcd_url}",
            f"--secure-port={self._port}",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            "--endpoint-reconciler-type=none",
            f"--tls-cert-file={self._pki / 'apiserver.crt'}",
            f"--tls-private-key-file={self._pki / 'apiserver.key'}",
            f"--client-ca-file={self._pki / 'ca.crt'}",
            f"--service-account-key-file={self._pki / 'sa.pub'}",
            f"--service-account-signing-key-file={self._pki / 'sa.key'}",
            "--service-account-issuer=https://kubernetes.default.svc",
            "--service-cluster-ip-range=10.96.0.0/16",
            f"--token-auth-file={self._pki / 'tokens.csv'}",
            "--authorization-mode=Node,RBAC",
            "--allow-privileged=true",
            f"--audit-policy-file={policy}",
            f"--audit-log-path={self._audit}",
        )
        wait_for("the API server to be ready", self._ready, READY_SECONDS)

    def start_controllers(self, controllers: str = "*") -> None:
        """Start kube-controller-manager: garbage collection, namespace deletion, service accounts, quotas."""
        self._spawn(
            "kube-controller-manager",
            f"--kubeconfig={self.kubeconfig('controller-manager')}",
            f"--controllers={controllers}",
            "--leader-elect=false",
            "--bind-address=127.0.0.1",
            f"--secure-port={self._controllers_port}",
            f"--service-account-private-key-file={self._pki / 'sa.key'}",
            f"--root-ca-file={self._pki / 'ca.crt'}",
            "--use-service-account-credentials=true",
            "--authentication-skip-lookup",
        )

    def start_scheduler(self) -> None:
        """Start kube-scheduler: pods get nodes (that are objects alone: nothing runs on them)."""
        self._spawn(
            "kube-scheduler",
            f"--kubeconfig={self.kubeconfig('scheduler')}",
            "--leader-elect=false",
            "--bind-address=127.0.0.1",
            f"--secure-port={self._scheduler_port}",
            "--authentication-skip-lookup",
        )

    def stop_server(self) -> None:
        """Kill kube-apiserver; its port refuses connections, etcd keeps the data."""
        self._end("kube-apiserver")

    def stop(self) -> None:
        """End everything that was started."""
        for name in list(self._processes)[::-1]:
            self._end(name)

    @contextlib.contextmanager
    def unavailable(self) -> Iterator[Unavailable]:
        """At the same address, every request is answered with 503; the real server is back afterwards."""
        self.stop_server()
        try:
            with Unavailable(self._port, self._pki / "apiserver.crt", self._pki / "apiserver.key") as answering:
                yield answering
        finally:
            self.start_server()

    def kubeconfig(self, user: str = "admin", token: str | None = None) -> Path:
        """A kubeconfig file of one of `tests.cluster.pki.users`, or of `token` under the name `user`."""
        path = self._dir / f"{user}.kubeconfig"
        path.write_text(kubeconfig(self.url, self.ca_file.read_bytes(), token or read_tokens(self._pki)[user]))
        path.chmod(0o600)
        return path

    def client(self, token: str | None = None) -> ApiClient:
        """REST calls as cluster administrator, or as the owner of `token`."""
        return ApiClient("127.0.0.1", self._port, self.ca_file, token or read_tokens(self._pki)["admin"])

    def service_account_token(self, namespace: str, name: str) -> str:
        """A token of that service account, as the kubelet would mount it."""
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token"
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 3600}}
        return str(self.client().post(path, body).value["status"]["token"])

    def requests_of(self, namespace: str, name: str) -> list[tuple[str, int]]:
        """Every request of that service account so far: `verb path`, and the status code."""
        user = f"system:serviceaccount:{namespace}:{name}"
        # The last line may be half written.
        lines = self._audit.read_text().split("\n")[:-1] if self._audit.exists() else []
        seen = [json.loads(line) for line in lines]
        mine = [e for e in seen if e["user"]["username"] == user]
        return [(f"{e['verb']} {e['requestURI']}", int(e.get("responseStatus", {}).get("code", 0))) for e in mine]

    def namespace(self, name: str, labels: dict[str, str] | None = None) -> str:
        """Make a namespace with the service account that pods get by default; returns its name."""
        client = self.client()
        client.post("/api/v1/namespaces", {"metadata": {"name": name, "labels": labels or {}}})
        client.post(f"/api/v1/namespaces/{name}/serviceaccounts", {"metadata": {"name": "default"}})
        return name

    def kubectl(self, *words: str | Path, check: bool = True, stdin: str | None = None) -> ApiAnswer:
        """Run kubectl as administrator; its standard output is the answer's text. `CommandFailed` when it fails."""
        return ApiAnswer.of_command([*self._kubectl_words(), *[str(w) for w in words]], check, stdin)

    def kubectl_command(self) -> str:
        """The same kubectl as words of a shell."""
        return shlex.join(self._kubectl_words())

    def _kubectl_words(self) -> list[str]:
        # A cache of its own: ports come again, and kubectl keeps what it learned by port.
        flags = ["--kubeconfig", str(self.kubeconfig()), "--cache-dir", str(self._dir / "kubectl-cache")]
        return [*self._kubectl, *flags]

    def apply(self, *files: Path) -> None:
        """kubectl apply of these files or directories, by the server; waits until every CRD there is served."""
        for file in files:
            self.kubectl("apply", "--server-side", "--force-conflicts", "-f", file)
        wait_for("the CRDs to be served and published", self._crds_served, 30)

    def _crds_served(self) -> bool:
        listed = self.client().get("/apis/apiextensions.k8s.io/v1/customresourcedefinitions").value["items"]
        wanted = {f"apis/{c['spec']['group']}/{v['name']}" for c in listed for v in c["spec"]["versions"]}
        return wanted <= set(self.client().get("/openapi/v3").value["paths"])

    @property
    def _audit(self) -> Path:
        return self._dir / "audit.log"

    @property
    def _etcd_url(self) -> str:
        return f"http://127.0.0.1:{self._etcd_port}"

    def _ready(self) -> bool:
        for name, process in self._processes.items():
            if process.poll() is not None:
                raise ServerDied(f"{name} ended with {process.returncode}: {self._log_end(name)}")
        try:
            return self.client().get("/readyz", check=False).status == 200
        except OSError:
            return False

    def _spawn(self, name: str, *flags: str) -> None:
        # The servers end with the test process, even when that is killed: nothing is left behind.
        words = ["setpriv", "--pdeathsig", "KILL", "--", str(self._hyperkube), name, *flags]
        with (self._dir / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def _end(self, name: str) -> None:
        process = self._processes.pop(name, None)
        if process is not None:
            process.send_signal(signal.SIGKILL)
            process.wait(10)

    def _log_end(self, name: str) -> str:
        return (self._dir / f"{name}.log").read_text(errors="replace")[-2000:]
