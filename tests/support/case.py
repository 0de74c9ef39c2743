"""One end-to-end case: a namespace with volumes, an application, a MirrorPair, and what is seen of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.cluster.cluster import Cluster
from tests.cluster.command import wait_for
from tests.cluster.filesystems import FileSystem
from tests.support.product import SYSTEM, Product
from tests.support.reading_api import read

Json = dict[str, Any]
"""An object of the API: the tests read of it what a user reads."""

TESTBOX = "storagemirror.local/testbox:1"
RSYNC = ("rsync", "-anciHAX", "--delete", "--exclude=/.storagemirror", "--exclude=/lost+found")


@dataclass(frozen=True)
class Claim:
    """A claim and the volume behind it."""

    name: str
    volume: str
    cluster: Cluster

    def path(self, node: str | None = None) -> Path:
        """Where this machine sees its files."""
        return self.cluster.volume_path(self.volume, node)


@dataclass
class Case:
    """What a test does, in words of the test."""

    product: Product
    namespace: str
    volumes: list[str] = field(default_factory=list)

    @property
    def cluster(self) -> Cluster:
        return self.product.cluster

    # ------------------------------------------------------------ making

    def kubectl(self, *words: str, check: bool = True, stdin: str | None = None, timeout: float = 120) -> str:
        """kubectl in the case's namespace; what it printed (with `check=False` also what it complained of)."""
        done = self.cluster.kubectl("-n", self.namespace, *words, check=check, stdin=stdin, timeout=timeout)
        return done.stdout if check else done.stdout + done.stderr

    def apply(self, *objects: Json) -> str:
        """`kubectl apply`; what it said."""
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})
        return self.kubectl("apply", "-f", "-", stdin=text)

    def refused(self, *objects: Json) -> str:
        """Apply what must be refused; what kubectl said."""
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})
        done = self.cluster.kubectl("-n", self.namespace, "apply", "-f", "-", stdin=text, check=False)
        assert done.returncode != 0, f"was not refused: {done.stdout}"
        return done.stderr

    def claim(
        self,
        name: str,
        node: str | None = "n1",
        *,
        size: str = "64Mi",
        fs: FileSystem = FileSystem.EXT4,
        modes: tuple[str, ...] = ("ReadWriteOnce",),
        remount: bool = True,
    ) -> Claim:
        """A bound claim on a volume of its own; `node=None`: a volume that any node can use."""
        made = self.volume(name, node, size=size, fs=fs, remount=remount)
        self.apply(self.claim_object(name, made.volume, "movable" if node is None else "local", size, modes))
        self.until(f"claim {name} to be bound", lambda: self.get("pvc", name)["status"].get("phase") == "Bound")
        return made

    def volume(
        self, name: str, node: str | None, *, size: str, fs: FileSystem = FileSystem.EXT4, remount: bool = True
    ) -> Claim:
        """A volume for a claim of that name, which somebody else makes."""
        volume = f"{self.namespace}-{name}"[:42].rstrip("-.")
        held = f"{self.namespace}/{name}"
        if node is None:
            self.cluster.add_movable_volume(volume, size, fs, claim=held)
        else:
            self.cluster.add_volume(node, volume, size, fs, claim=held, remount=remount)
        self.volumes.append(volume)
        return Claim(name, volume, self.cluster)

    def claim_object(
        self, name: str, volume: str | None, storage_class: str, size: str, modes: tuple[str, ...]
    ) -> Json:
        """A PersistentVolumeClaim; `volume` binds it to that PersistentVolume."""
        spec: Json = {
            "accessModes": list(modes),
            "storageClassName": storage_class,
            "resources": {"requests": {"storage": size}},
        }
        if volume:
            spec["volumeName"] = volume
        return {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": spec,
        }

    def application(
        self,
        claim: str,
        name: str = "app",
        *,
        node: str | None = None,
        avoid: str | None = None,
        user: int | None = None,
    ) -> None:
        """A Deployment whose pod mounts the claim; waits until it is ready. `node` pins it, `avoid` keeps it away;
        `user`: it runs as that user, as the restricted Pod Security Standard wants it."""
        pod: Json = {
            "terminationGracePeriodSeconds": 1,
            "containers": [
                {
                    "name": "app",
                    "image": TESTBOX,
                    "imagePullPolicy": "Never",
                    "command": ["sleep", "infinity"],
                    "volumeMounts": [{"name": "data", "mountPath": "/data"}],
                }
            ],
            "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": claim}}],
        }
        if user is not None:
            pod["securityContext"] = {
                "runAsUser": user,
                "runAsNonRoot": True,
                "seccompProfile": {"type": "RuntimeDefault"},
            }
            pod["containers"][0]["securityContext"] = {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
            }
        if node:
            pod["nodeSelector"] = {"kubernetes.io/hostname": node}
        if avoid:
            elsewhere = {"key": "kubernetes.io/hostname", "operator": "NotIn", "values": [avoid]}
            terms = {"nodeSelectorTerms": [{"matchExpressions": [elsewhere]}]}
            pod["affinity"] = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}
        self.apply(
            {
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "metadata": {"name": name, "namespace": self.namespace},
                "spec": {
                    "replicas": 1,
                    "strategy": {"type": "Recreate"},
                    "selector": {"matchLabels": {"app": name}},
                    "template": {"metadata": {"labels": {"app": name}}, "spec": pod},
                },
            }
        )
        self.kubectl("rollout", "status", "deployment", name, "--timeout=90s")

    def pair_object(self, name: str, *volumes: tuple[str, str, str], **spec: Any) -> Json:
        """A MirrorPair; a volume is (name, source claim, target claim)."""
        listed = [
            {"name": volume, "source": {"claimName": source}, "target": {"claimName": target}}
            for volume, source, target in volumes
        ]
        return {
            "apiVersion": "storagemirror.io/v1alpha1",
            "kind": "MirrorPair",
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": {"volumes": listed, **spec},
        }

    def pair(self, source: str, target: str, name: str = "p", **spec: Any) -> None:
        """Apply a pair of one volume `data`."""
        self.apply(self.pair_object(name, ("data", source, target), **spec))

    def patch(self, spec: Json, name: str = "p") -> str:
        """Merge into the pair's spec."""
        return self.kubectl("patch", "mirrorpair", name, "--type=merge", "-p", json.dumps({"spec": spec}))

    # ------------------------------------------------------------ seeing

    def get(self, *words: str) -> Json:
        """One object (or list) of the API."""
        found = read(self.cluster, self.namespace, *words)
        if found is None:
            found = dict(json.loads(self.kubectl("get", *words, "-o", "json")))
        return found

    def status(self, name: str = "p") -> Json:
        """The pair's status; empty while there is none."""
        found: Json = self.get("mirrorpair", name).get("status") or {}
        return found

    def volume_status(self, name: str = "p") -> Json:
        """The status of the pair's first volume; empty while there is none."""
        found: list[Json] = self.status(name).get("volumes") or [{}]
        return found[0]

    def condition(self, kind: str, name: str = "p") -> Json:
        """One condition; empty while there is none."""
        conditions: list[Json] = self.status(name).get("conditions") or []
        return next((c for c in conditions if c["type"] == kind), {})

    def until(self, what: str, probe: Callable[[], bool], seconds: float = 60) -> None:
        """Wait; on failure tell what the pair, its pods and its events say."""
        try:
            wait_for(what, probe, seconds, every=0.3)
        except Exception as e:
            e.add_note(self.told())
            raise

    def wait(
        self, kind: str, status: str = "True", reason: str | None = None, *, name: str = "p", seconds: float = 60
    ) -> Json:
        """Until a condition has this status (and reason); the condition."""

        def holds() -> bool:
            c = self.condition(kind, name)
            return c.get("status") == status and (reason is None or c.get("reason") == reason)

        self.until(f"condition {kind}={status} {reason or ''} of {name}", holds, seconds)
        return self.condition(kind, name)

    def wait_reason(self, reason: str, *, name: str = "p", seconds: float = 60) -> Json:
        """Until a condition of this reason that is not the good one, with a message; the condition."""

        def found() -> Json:
            for c in self.status(name).get("conditions") or []:
                bad = "True" if c["type"] in ("Stalled", "Held") else "False"
                if c["reason"] == reason and c["status"] == bad:
                    return dict(c)
            return {}

        self.until(f"a condition of {name} with reason {reason}", lambda: bool(found()), seconds)
        return found()

    def replicating(self, name: str = "p", seconds: float = 90) -> None:
        """Until the first mirror is whole and live changes flow."""
        self.wait("Replicating", name=name, seconds=seconds)

    def synced_after(self, moment: float, name: str = "p", seconds: float = 60) -> None:
        """Until everything up to `moment` (Unix seconds) is safe on the target."""
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(moment + 1))
        self.until(
            f"syncedThrough of {name} to pass {stamp}",
            lambda: (self.status(name).get("syncedThrough") or "") >= stamp,
            seconds,
        )

    def event_reasons(self, name: str = "p") -> set[str]:
        """Reasons of the events about the pair."""
        items = self.get("events.events.k8s.io")["items"]
        return {e["reason"] for e in items if (e.get("regarding") or {}).get("name") == name}

    def wait_event(self, reason: str, name: str = "p", seconds: float = 20) -> None:
        """Until there was an event of this reason about the pair."""
        self.until(f"an event {reason} about {name}", lambda: reason in self.event_reasons(name), seconds)

    def agent(self, role: str, name: str = "p") -> Json:
        """The agent pod of a role (`source`, `target`) that is not being deleted; empty when there is none."""
        pods = self.get("pods", "-l", "app.kubernetes.io/component=agent")["items"]
        for pod in pods:
            mine = pod["metadata"]["name"].startswith(f"{name}-") and f"-{role}-" in pod["metadata"]["name"]
            if mine and "deletionTimestamp" not in pod["metadata"]:
                return dict(pod)
        return {}

    def kill_agent(self, role: str, name: str = "p") -> None:
        """kill -9 of the agent's process, from outside of its container."""
        pod = self.agent(role, name)
        assert pod, f"no {role} agent of {name}"
        os.kill(process_of(pod["metadata"]["name"], "agent"), signal.SIGKILL)

    def told(self) -> str:
        """What a person would look at: the pairs, the pods, the events, the agents' last words."""
        parts = []
        for words in (
            ("get", "mirrorpairs", "-o", "yaml"),
            ("get", "pods", "-o", "wide"),
            ("get", "events", "--sort-by=.lastTimestamp"),
        ):
            parts.append(f"$ kubectl {' '.join(words)}\n{self.kubectl(*words, check=False)[-6000:]}")
        for role in ("source", "target"):
            pod = self.agent(role)
            if pod:
                words = ("logs", pod["metadata"]["name"], "--tail=30")
                parts.append(f"$ kubectl {' '.join(words)}\n{self.kubectl(*words, check=False)[-4000:]}")
        return "\n".join(parts)

    # ------------------------------------------------------------ comparing

    def differences(self, source: Claim, target: Claim, *leave_out: str) -> str:
        """What rsync, which is not ours, says differs: contents by checksum, attributes, hard links, ACLs, xattrs.
        `leave_out`: names at the top that it does not look at."""
        # The receiving rsync follows no symbolic link, and another node's root is reached by one: so it is started in
        # that node's mount namespace. (`env` takes the name of the host, `ON=target`, as a variable.)
        theirs = target.path()
        namespace = Path(*theirs.parts[:3], "ns", "mnt")
        inside = Path("/", *theirs.parts[4:])
        left_out = [f"--exclude=/{name}" for name in leave_out]
        done = subprocess.run(
            [
                *RSYNC,
                *left_out,
                f"--rsh=nsenter --mount={namespace} -- env",
                f"{source.path()}/",
                f"ON=target:{inside}/",
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        return done.stdout + (done.stderr if done.returncode else "")

    def equal(self, source: Claim, target: Claim, seconds: float = 30) -> None:
        """Until both sides are equal."""
        try:
            self.until("both sides to be equal", lambda: not self.differences(source, target), seconds)
        except Exception as e:
            e.add_note(f"rsync says:\n{self.differences(source, target)[:3000]}")
            raise

    def without_operator(self) -> list[str]:
        """The nodes on which no operator runs: those that a test may take away and still be told of it."""
        pods = self.cluster.kubectl(
            "-n", SYSTEM, "get", "pods", "-l", "app.kubernetes.io/component=operator", "-o", "json"
        ).stdout
        taken = {pod["spec"].get("nodeName") for pod in json.loads(pods)["items"]}
        return [node for node in self.cluster.node_names if node not in taken]

    # ------------------------------------------------------------ ending

    def clean_up(self) -> None:
        """Make the cluster whole again, whatever the test broke; let the namespace go. The volumes: `sweep`, later."""
        self.cluster.up()
        self.kubectl("delete", "mirrorpairs", "--all", "--wait=false", check=False)
        self.cluster.kubectl("delete", "namespace", self.namespace, "--wait=false", check=False)

    def sweep(self) -> bool:
        """Remove the volumes that nobody holds any more (pods take some seconds to go); whether all are gone."""
        for volume in list(self.volumes):
            self.removed(volume)
        return not self.volumes

    def removed(self, volume: str) -> bool:
        """Take a volume away; False while somebody holds it."""
        from tests.cluster.errors import VolumeInUse

        try:
            self.cluster.remove_volume(volume)
        except VolumeInUse:
            return False
        self.volumes.remove(volume)
        return True


def process_of(pod: str, verb: str) -> int:
    """The process on this machine of a pod's container that runs `storagemirror VERB`; waited for while the kubelet
    starts it (again)."""
    found: list[int] = []

    def runs() -> bool:
        found[:] = processes_of(pod, verb)
        return bool(found)

    wait_for(f"pod {pod} to run `storagemirror {verb}`", runs, 60, every=0.3)
    return found[0]


def processes_of(pod: str, verb: str) -> list[int]:
    """All of them that there are now."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
            environment = (entry / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        named = f"POD_NAME={pod}".encode() in environment or f"HOSTNAME={pod}".encode() in environment
        if named and verb.encode() in words:
            found.append(int(entry.name))
    return found
