"""Databases with a standby that is kept by points, on nodes that lose their power: what a test does with them.

A `Database` is a stage whose workload is one. Each transaction that it acknowledges is written down by a client on a
third node; after a power cut the standby starts on the copy, and `judge` holds what it has against that.
"""

from __future__ import annotations

import json
import shlex
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.image import build
from tests.support.asker import Client
from tests.support.case import Json
from tests.support.failover_case import Stage
from tests.support.failover_objects import PORT, Shape
from tests.support.operations import ENDED, seconds_of

BOX = Path(__file__).parent / "testbox"
SHAPE = Shape(size="400Mi")
POINT_INTERVAL = "1s"
SETTLED = 8.0
"""In which there are some points."""
BANK_RATE = 50
PGBENCH_SCALE, PGBENCH_CLIENTS, PGBENCH_RATE = 1, 4, 100


@dataclass(frozen=True)
class Acknowledged:
    """One transaction whose commit came back: who wrote it, its number there (from 1, without gaps), and when its
    client knew, in seconds since 1970."""

    writer: str
    number: int
    at: float


@dataclass(frozen=True)
class Outcome:
    """What a power cut came to."""

    promised: int
    """Transactions acknowledged before the moment of the promoted point."""
    lost: int
    """Acknowledged ones that are not there; all of them are younger than that moment."""
    lost_seconds: float
    """From the youngest acknowledged one that is there to the youngest one that is not; 0 where none is lost."""


def account(acknowledged: Iterable[Acknowledged], there: Mapping[str, int], moment: float) -> Outcome:
    """Hold what was acknowledged against what is there: of each writer all numbers up to `there[writer]`.
    AssertionError when something is missing that was acknowledged before `moment`, or when nothing was."""
    known = list(acknowledged)
    promised = [one for one in known if one.at < moment]
    missing = [one for one in known if one.number > there.get(one.writer, 0)]
    broken = [one for one in missing if one.at < moment]
    assert promised, f"of {len(known)} transactions none was acknowledged before {moment}: nothing was tried"
    assert not broken, f"{len(broken)} transactions acknowledged before {moment} are not there, as {broken[:5]}"
    kept = max(one.at for one in known if one.number <= there.get(one.writer, 0))
    return Outcome(len(promised), len(missing), max((one.at - kept for one in missing), default=0.0))


class Database(Stage, ABC):
    """A stage whose application is a database, replicated by points."""

    def pair(self) -> Json:
        made = super().pair()
        made["spec"] |= {
            "agents": {"privilege": "Freeze"},
            "replication": {"consistency": "Point", "pointInterval": POINT_INTERVAL},
        }
        return made

    def workload(self, side: str) -> Json:
        made = super().workload(side)
        (container,) = made["spec"]["template"]["spec"]["containers"]
        container |= self.container(side)
        return made

    @abstractmethod
    def container(self, side: str) -> Json:
        """What its container has of its own."""

    @abstractmethod
    def write(self) -> None:
        """Let the client write; do not wait for it."""

    @abstractmethod
    def acknowledged(self) -> list[Acknowledged]:
        """Every transaction of the source that the client knows of; complete once the standby answered."""

    @abstractmethod
    def until_written(self) -> None:
        """Until the client writes."""

    @abstractmethod
    def until_back(self) -> float:
        """Until the standby answers the client; when it first did, in seconds since 1970."""

    @abstractmethod
    def there(self) -> dict[str, int]:
        """Up to which number each writer's transactions are on the standby. AssertionError when the database is
        damaged, when one is there in part, or when there is a gap."""

    def make_volumes(self) -> list[Json]:
        """Its two volumes; their claims, which are not applied yet."""
        ends = (("source", "src", self.nodes.source), ("target", "dst", self.nodes.target))
        claims = []
        for side, end, node in ends:
            name = f"{self.name}-{end}"
            made = self.case.volume(name, node, size=self.shape.size, fs=self.shape.fs)
            setattr(self, side, made)
            claims.append(self.case.claim_object(name, made.volume, "local", self.shape.size, ("ReadWriteOnce",)))
        return claims

    def seen(self) -> Json:
        """The pair's status as the watch told it last. (A look with kubectl takes half a second of a processor.)"""
        history = self.watches[0].history if self.watches else []
        found: Json = history[-1].object.get("status") or {} if history else {}
        return found

    def follows(self) -> bool:
        """Whether everything was mirrored, and the source could be fenced; points come from then on."""
        held = {c["type"] for c in self.seen().get("conditions") or [] if c["status"] == "True"}
        return {"Replicating", "Fenceable"} <= held

    def is_point(self) -> bool:
        """Whether the copy is a point, and could be promoted. Promotable is so too while the first one is applied; the
        status says which one it is. (CrashConsistent is not asked for: on a busy machine points may lack
        changes through memory maps, as SQLite makes them in its `-shm`, and it turns False then.)"""
        seen = self.seen()
        held = {c["type"] for c in seen.get("conditions") or [] if c["status"] == "True"}
        points = [(volume.get("copyPoint") or {}).get("promotable") for volume in seen.get("volumes") or []]
        return {"Replicating", "Fenceable", "Promotable"} <= held and bool(points) and all(points)

    def ready(self, seconds: float = 120) -> None:
        """Until the copy is a point of a time at which a client had written."""
        self.until_written()
        self.until_point(time.time(), seconds)

    def until_point(self, after: float, seconds: float) -> None:
        """Until the copy is a point of a later time than this, as the status has it, which is told each 30 s."""
        self.until("a point of what was written", lambda: self.is_point() and self.promised() > after, seconds)

    def promised(self) -> float:
        """Up to when everything is on the copy, as the pair told it so far: the latest, in seconds since 1970; 0: it
        told nothing."""
        told = []
        for seen in self.watches[0].history if self.watches else ():
            for volume in (seen.object.get("status") or {}).get("volumes") or []:
                found = [(volume.get("copyPoint") or {}).get("syncedThrough"), (volume.get("points") or {}).get("at")]
                told += [seconds_of(str(when)) for when in found if when]
        return max(told, default=0.0)

    def until_completed(self, seconds: float = 180) -> Json:
        """Until a Failover of the pair has ended, and well; its status. By a watch, as `seen`."""
        watch = self.watch("failovers")

        def ended() -> Json:
            for seen in reversed(watch.history):
                found: Json = seen.object.get("status") or {}
                if seen.object["spec"]["pairName"] == self.name and found.get("phase") in ENDED:
                    return found
            return {}

        self.until("its failover to end", lambda: bool(ended()), seconds)
        assert ended()["phase"] == "Completed", ended()
        return ended()

    def judge(self, failover: Json) -> Outcome:
        """After the failover, whose status is given."""
        return account(self.acknowledged(), self.there(), self.moment(failover))

    def moment(self, failover: Json) -> float:
        """Up to when everything was promised: by the failover, and by whatever the pair told before; the latest, in
        seconds since 1970."""
        return max(self.promised(), seconds_of(str(failover["syncedThrough"])))

    def standby_pod(self) -> str:
        """The name of the pod that runs on the copy."""
        (pod,) = (pod for pod in self.pods("target") if "deletionTimestamp" not in pod["metadata"])
        return str(pod["metadata"]["name"])

    def in_standby(self, *words: str) -> str:
        """Run something there; what it printed. CommandFailed when it fails."""
        return self.case.kubectl("exec", self.standby_pod(), "--", *words)


class SqliteBank(Database):
    """SQLite in WAL mode, every commit durable."""

    def container(self, side: str) -> Json:
        program = (BOX / "bank.py").read_text()
        return {"command": ["python3", "-u", "-c", program, side, "/data", str(PORT), str(BANK_RATE)]}

    def client(self) -> Client:
        if not self.clients:
            address = str(self.case.get("service", self.name)["spec"]["clusterIP"])
            log = self.scratch / f"{self.case.namespace}-{self.name}.heard"
            made = Client(self.case.cluster, self.nodes.witness, address, 80, log, "tests.support.heard")
            self.clients.append(made)
        return self.clients[0]

    def write(self) -> None:
        words = ("wait", "--for=create", f"service/{self.name}", "--timeout=60s")
        self.case.kubectl(*words)
        self.client()

    def acknowledged(self) -> list[Acknowledged]:
        # By when the bank knew, which is before the client did: the sooner, the more is promised.
        written = {a.number: a.written for a in self.client().answers() if a.side == "source" and a.number}
        return [Acknowledged("bank", number, at) for number, at in written.items()]

    def until_written(self) -> None:
        self.until("the client to hear of a transaction", lambda: bool(self.acknowledged()), 60)

    def until_back(self) -> float:
        return self.until_answers("target", since=0.0)

    def there(self) -> dict[str, int]:
        program = (BOX / "bank_judge.py").read_text()
        return bank_there(json.loads(self.in_standby("python3", "-c", program, "/data/bank.sqlite")))


def bank_there(found: Mapping[str, Any]) -> dict[str, int]:
    """What the bank's judge found, judged."""
    assert found["integrity"] == ["ok"], f"integrity_check: {found['integrity'][:5]}"
    assert found["mode"] == "wal"
    assert not found["torn"], f"accounts that do not hold what the entries say: {found['torn'][:5]}"
    assert found["entries"] == found["source"], f"{found['entries']} entries up to number {found['source']}"
    return {"bank": int(found["source"])}


@dataclass
class Postgres(Database):
    """Debian's PostgreSQL with data checksums, under pgbench."""

    image: str = field(default_factory=lambda: build.postgres().reference)
    tuning: str = "-c shared_buffers=64MB -c max_wal_size=48MB -c min_wal_size=32MB -c checkpoint_timeout=30s"

    def container(self, side: str) -> Json:
        asked = ["pg_isready", "-q", "-h", "/tmp", "-p", str(PORT)]
        return {
            "image": self.image,
            "command": ["sh", "-c", (BOX / "postgres.sh").read_text()],
            "env": environment(SIDE=side, PORT=str(PORT), SCALE=str(PGBENCH_SCALE), TUNING=self.tuning),
            "readinessProbe": {"exec": {"command": asked}, "periodSeconds": 1, "timeoutSeconds": 5},
        }

    @property
    def bench(self) -> str:
        """The pod of pgbench."""
        return f"{self.name}-bench"

    def write(self) -> None:
        server = {"PGHOST": self.name, "PGPORT": "80", "PGUSER": "postgres", "PGDATABASE": "postgres"}
        load = {"SCALE": PGBENCH_SCALE, "CLIENTS": PGBENCH_CLIENTS, "RATE": PGBENCH_RATE}
        given = {name: str(value) for name, value in load.items()} | {"SCRIPT": (BOX / "pgbench.sql").read_text()}
        container = {
            "name": "bench",
            "image": self.image,
            "imagePullPolicy": "Never",
            "command": ["bash", "-c", (BOX / "pgbench.sh").read_text()],
            "env": environment(**server, PGCONNECT_TIMEOUT="2", **given),
        }
        spec = {
            "terminationGracePeriodSeconds": 0,
            "automountServiceAccountToken": False,
            "nodeSelector": {"kubernetes.io/hostname": self.nodes.witness},
            "containers": [container],
        }
        self.case.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": self.bench}, "spec": spec})

    def acknowledged(self) -> list[Acknowledged]:
        return pgbench_log(self._in_bench("cat /tmp/acked.*"))

    def until_written(self) -> None:
        self.case.kubectl("wait", "--for=condition=Ready", f"pod/{self.bench}", "--timeout=110s")
        enough = "[ $(psql -qAtX -c 'SELECT count(*) FROM promised' || echo 0) -gt 50 ]"
        self._in_bench(f"for i in $(seq 300); do if {enough}; then exit 0; fi; sleep 0.3; done; exit 1")

    def until_back(self) -> float:
        return float(self._in_bench("timeout 60 sh -c 'until [ -s /tmp/back ]; do sleep 0.1; done'; cat /tmp/back"))

    def there(self) -> dict[str, int]:
        server = shlex.join(["-h", "/tmp", "-p", str(PORT), "-U", "postgres"])
        checks = "--all --install-missing --heapallindexed --parent-check"
        self.in_standby("sh", "-c", f"pg_amcheck {server} {checks}")
        question = (BOX / "postgres_judge.sql").read_text()
        words = ("psql", "-h", "/tmp", "-p", str(PORT), "-U", "postgres", "-qAtX", "-c", question)
        return postgres_there(json.loads(self.in_standby(*words)))

    def recovered(self) -> bool:
        """Whether the standby says that it recovered from a crash."""
        return "was not properly shut down" in self.case.kubectl("logs", self.standby_pod())

    def _in_bench(self, script: str) -> str:
        return self.case.kubectl("exec", self.bench, "--", "sh", "-c", script)


def postgres_there(found: Mapping[str, Any]) -> dict[str, int]:
    """What the question to PostgreSQL found, judged."""
    assert found["checksums"] == "on"
    assert not found["damaged"], f"{found['damaged']} pages whose checksum is wrong"
    assert found["torn"] == 0, f"{found['torn']} rows that are not what the transactions did"
    assert found["gaps"] == 0, f"{found['gaps']} clients lack a transaction before one that is there"
    return {str(client): int(number) for client, number in found["there"].items()}


def pgbench_log(text: str) -> list[Acknowledged]:
    """Of pgbench's own log, a line for each transaction: `CLIENT COUNT LATENCY FILE SECONDS MICROSECONDS ...`. Its n-th
    line of a client is that client's transaction n."""
    found: list[Acknowledged] = []
    numbers: dict[str, int] = {}
    for line in text.splitlines():
        client, _, latency, _, seconds, microseconds, *_ = line.split()
        assert latency.isdigit(), f"a transaction that failed: {line}"
        numbers[client] = numbers.get(client, 0) + 1
        found.append(Acknowledged(client, numbers[client], int(seconds) + int(microseconds) / 1e6))
    return found


def environment(**values: str) -> list[Json]:
    """A container's environment."""
    return [{"name": name, "value": value} for name, value in values.items()]


def start(databases: Iterable[Database], seconds: float = 120, *, told: bool = True) -> None:
    """Make them beside each other, on nodes that they share, and let them be written; until the status tells of a point
    of each that is younger than that. It tells each 30 s: `told=False` waits `SETTLED` seconds instead."""
    made = list(databases)
    case = made[0].case
    case.kubectl("annotate", "namespace", case.namespace, "storagemirror.io/privileged-agents=true", "--overwrite")
    claims = [claim for database in made for claim in database.make_volumes()]
    case.apply(*claims, *(database.workload("source") for database in made))
    case.kubectl("wait", "--for=condition=Available", "deployments", "--all", "--timeout=110s")
    case.apply(*(wanted for database in made for wanted in (database.pair(), database.workload("target"))))
    for database in made:
        database.watch_pair()
        database.write()
    for database in made:
        database.until_written()
    written = time.time()
    for database in made:
        if told:
            database.until_point(written, seconds)
        else:
            database.until("its copy to follow", database.follows, seconds)
    if not told:
        time.sleep(SETTLED)


def cut(databases: Iterable[Database]) -> float:
    """Their source's node loses its power and is called out-of-service; when, in seconds since 1970."""
    made = list(databases)
    at = time.time()
    made[0].case.cluster.power_off(made[0].nodes.source)
    made[0].attest()
    return at
