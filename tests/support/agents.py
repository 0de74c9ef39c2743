"""Two agents as processes, over loopback TLS; the test stands in the operator's place."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from storagemirror.contract import Action, Order, Peer, Phase, Report, RestoreOrder, Role
from tests.cluster.layout import checkout
from tests.support.agent_api_contract import Api
from tests.support.agentcerts import Authority

_T = TypeVar("_T")

PAIR, VOLUME = "11111111-2222-3333-4444-555555555555", "data"


@dataclass
class Agent:
    """One agent: its order, its process, its log."""

    role: Role
    api: Api
    namespace: str
    volume: Path
    tls: Path
    directory: Path
    settings: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    order: Order | None = None
    mirrored: str = VOLUME
    """Name of the volume in the pair."""

    @property
    def name(self) -> str:
        """Of order and Lease."""
        return name_of(self.role, self.mirrored)

    def give(self, **changes: Any) -> Order:
        """Write the order, changed so, under the next revision."""
        old = self.order or Order(
            pair_uid=PAIR,
            pair_name="orders",
            namespace=self.namespace,
            volume=self.mirrored,
            role=self.role,
            revision=0,
            instance=1,
            epoch=1,
        )
        fields = {name: getattr(old, name) for name in old.__struct_fields__}
        self.order = Order(**{**fields, **changes, "revision": old.revision + 1})
        self.api.put_order(self.namespace, self.name, self.order)
        return self.order

    def start(self, instance: int = 1, program: list[str] | None = None, **settings: str) -> None:
        """Start the process (another `program` in its place); its log is one file for all its lives."""
        at = self.api.settings()
        env = {
            **os.environ,
            "PYTHONPATH": f"{checkout() / 'operator'}:{checkout()}",
            "STORAGEMIRROR_NAMESPACE": self.namespace,
            "STORAGEMIRROR_ORDER": self.name,
            "STORAGEMIRROR_LEASE": self.name,
            "STORAGEMIRROR_INSTANCE": str(instance),
            "STORAGEMIRROR_ROLE": self.role.value,
            "STORAGEMIRROR_VOLUME_PATH": str(self.volume),
            "STORAGEMIRROR_TLS_PATH": str(self.tls),
            "STORAGEMIRROR_PORT": "0",
            "STORAGEMIRROR_API_CA": at.ca_file,
            "STORAGEMIRROR_API_TOKEN": at.token_file,
            "KUBERNETES_SERVICE_HOST": at.host,
            "KUBERNETES_SERVICE_PORT": str(at.port),
            "POD_NAME": f"{self.name}-{instance}",
            "POD_UID": f"uid-{self.role.value}-{instance}",
            **self.settings,
            **settings,
        }
        agent = [sys.executable, "-m", "storagemirror.cli.main", "agent"]
        words = ["setpriv", "--pdeathsig", "KILL", "--", *(program or agent)]
        with self.log_file.open("ab") as log:
            # Its own directory: that of the tests' process may be any by now (the engine goes to `/` for a moment).
            self.process = subprocess.Popen(
                words, env=env, cwd=checkout(), stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    @property
    def log_file(self) -> Path:
        """What the processes said."""
        return self.directory / f"{self.name}.log"

    def log(self) -> str:
        """All of it."""
        return self.log_file.read_text() if self.log_file.exists() else ""

    def report(self) -> Report | None:
        """What the agent told last."""
        return self.api.report(self.namespace, self.name)

    def phase(self) -> Phase | None:
        """The phase that it told last."""
        report = self.report()
        return report.phase if report else None

    def port(self) -> int:
        """Where the running target listens."""
        return wait_for(lambda: self._ports()[-1:], f"{self.name} to listen", 60.0)[0]

    def _ports(self) -> list[int]:
        pid = self.running().pid
        inodes, link = set(), ""
        for fd in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                link = os.readlink(fd)
            if link.startswith("socket:["):
                inodes.add(link[8:-1])
        ports = []
        for table in ("tcp", "tcp6"):
            for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
                words = line.split()
                if words[3] == "0A" and words[9] in inodes:
                    ports.append(int(words[1].split(":")[1], 16))
        return ports

    def running(self) -> subprocess.Popen[bytes]:
        """The process, which must live."""
        assert self.process is not None
        assert self.process.poll() is None, self.log()
        return self.process

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal; wait for the end where it ends it."""
        process = self.running()
        process.send_signal(number)
        if number in (signal.SIGKILL, signal.SIGTERM):
            process.wait(10)

    def close(self) -> None:
        """End it."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            self.process.wait(10)

    def resident(self) -> int:
        """Its resident memory in bytes."""
        for line in Path(f"/proc/{self.running().pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise ValueError("no VmRSS")

    def cpu_seconds(self) -> float:
        """CPU time it has used."""
        words = Path(f"/proc/{self.running().pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def name_of(role: Role, volume: str = VOLUME) -> str:
    """Name of an agent's order and Lease."""
    return f"orders-{volume}-{role.value.lower()}"


class AgentPair:
    """Both agents of one volume. Nothing runs until `start`."""

    def __init__(
        self,
        directory: Path,
        namespace: str,
        api_of: Callable[[Role], Api],
        *,
        mirrored: str = VOLUME,
        authority: Authority | None = None,
    ) -> None:
        """`api_of` gives the API server as the agent of each role sees it."""
        self.authority = authority or Authority()
        agents = []
        for role in (Role.SOURCE, Role.TARGET):
            name, api = role.value.lower(), api_of(role)
            volume = directory / f"{name}-volume"
            volume.mkdir()
            tls = self.authority.write(directory / f"{name}-tls", role, mirrored, PAIR)
            agents.append(Agent(role, api, namespace, volume, tls, directory, mirrored=mirrored))
            api.make_lease(namespace, name_of(role, mirrored))
        self.source, self.target = agents

    def start(self, **order: Any) -> None:
        """Orders and processes; the source is told where the target listens."""
        self.start_as(**order)

    def start_as(self, *, source: list[str] | None = None, target: list[str] | None = None, **order: Any) -> None:
        """As `start`, with these programs in the place of the agents."""
        self.target.give(**order)
        self.target.start(program=target)
        self.source.give(**order)
        self.source.start(program=source)
        self.introduce()

    def introduce(self) -> None:
        """Tell the source where the target listens now."""
        self.source.give(peer=Peer(address="127.0.0.1", port=self.target.port()), action=Action.RUN)

    def turn(self, restore: RestoreOrder | None = None, **order: Any) -> None:
        """The other direction: each agent ends, and one of its role begins on the other's volume. `restore` is for the
        target."""
        self.close()
        self.source.volume, self.target.volume = self.target.volume, self.source.volume
        self.target.give(action=Action.RUN, restore=restore, **order)
        self.target.start()
        self.source.give(action=Action.RUN, prove=None, **order)
        self.source.start()
        self.introduce()

    def until(self, phase: Phase, seconds: float = 30.0) -> Report:
        """Wait for the source to tell this phase; returns its report."""
        wait_for(lambda: self.source.phase() is phase, f"the source to be {phase}", seconds, self.tell)
        report = self.source.report()
        assert report is not None
        return report

    def tell(self) -> str:
        """What both said, for a failed test."""
        return (
            f"{self.source.report()}\n{self.source.log()[-3000:]}\n{self.target.report()}\n{self.target.log()[-3000:]}"
        )

    def equal(self) -> bool:
        """Are both trees the same? Judged by rsync; one whose files vanish while it looks (24) is not yet."""
        words = ["rsync", "-anciHAX", "--delete", "--exclude=/.storagemirror", "--exclude=/lost+found"]
        ends = [f"{self.source.volume}/", f"{self.target.volume}/"]
        done = subprocess.run([*words, *ends], check=False, capture_output=True)
        assert done.returncode in (0, 24), f"rsync ended with {done.returncode}: {done.stderr!r}"
        return not done.returncode and not done.stdout

    def close(self) -> None:
        """End both."""
        self.source.close()
        self.target.close()


def told(pair: AgentPair, phase: Phase, seconds: float) -> Report:
    """Wait for the target to report the phase, under the order it was given."""

    def there() -> Report | None:
        report, order = pair.target.report(), pair.target.order
        assert order is not None
        return report if report and report.phase is phase and report.revision == order.revision else None

    found = wait_for(there, f"the target to be {phase}", seconds, pair.tell)
    assert found is not None
    return found


def wait_for(look: Callable[[], _T], what: str, seconds: float = 20.0, tell: Callable[[], str] = str) -> _T:
    """The first true value of `look`."""
    end = time.monotonic() + seconds
    while True:
        if found := look():
            return found
        assert time.monotonic() < end, f"waited {seconds} s for {what}\n{tell()}"
        time.sleep(0.02)


def fill(root: Path, files: int, directories: int = 10) -> None:
    """Small files of different content, evenly spread."""
    for d in range(directories):
        (root / f"d{d}/sub").mkdir(parents=True, exist_ok=True)
    for i in range(files):
        (root / f"d{i % directories}/sub/f{i}").write_text(f"{i}\n" * (i % 50 + 1))


def equal_soon(pair: AgentPair, seconds: float = 15.0) -> None:
    """Fail unless both trees become the same in time."""
    wait_for(pair.equal, "both trees to be equal", seconds, pair.tell)


def problem(pair: AgentPair) -> str:
    """Reason of what the source tells to be in the way; empty when nothing is."""
    report = pair.source.report()
    return report.problem.reason if report and report.problem else ""


def reads(path: Path, text: str) -> bool:
    """Is this the file's content?"""
    try:
        return path.read_text() == text
    except FileNotFoundError:
        return False


def files_in(root: Path) -> int:
    """How many there are, without our own."""
    return sum(len(files) for here, _, files in os.walk(root) if ".storagemirror" not in here)
