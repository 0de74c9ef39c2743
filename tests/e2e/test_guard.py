"""The guard on a real cluster: who gets one, and what each kill of its pod leaves of a frozen volume."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.case import Case, process_of, processes_of
from tests.support.guards import Writer, until, writer

pytestmark = pytest.mark.e2e

ALLOWED = "storagemirror.io/privileged-agents"
HOLD = """
import sys, time
from storagemirror.sync.freezing import GuardFreezer
with GuardFreezer("/guard/guard.sock").freeze(10):
    print("frozen", flush=True)
    time.sleep(60)
"""


def test_a_guarded_volume_is_never_left_frozen(case: Case) -> None:
    source = case.claim("src", "n1")
    case.claim("dst", "n2")
    (source.path() / "file").write_text("x")
    case.application("src")
    case.pair("src", "dst", agents={"privilege": "Freeze"})
    case.replicating()

    # Asking is not enough: the namespace must allow it. It replicates all the same.
    found = case.wait("CrashConsistent", "False", "NamespaceDoesNotAllow")
    assert ALLOWED in found["message"]
    assert containers(case) == ["agent"]
    case.cluster.kubectl("annotate", "namespace", case.namespace, f"{ALLOWED}=true")
    case.wait("CrashConsistent", "False", "NoPoints", seconds=90)  # each guard has frozen it once, to be sure
    case.replicating()
    assert containers(case) == ["agent", "guard-1", "guard-2", "tracer"]
    for number in guards(case):
        print(f"a guard: {status(number, 'VmRSS')} kB resident, {status(number, 'VmLck')} kB locked")
        assert 0 < status(number, "VmRSS") < 20_000
        assert status(number, "VmLck") > 0
        assert status(number, "CapEff") == 1 << 21 | 1 << 14 | 1 << 2  # SYS_ADMIN, IPC_LOCK, DAC_READ_SEARCH
    assert status(process_of(pod_name(case), "agent"), "CapEff") & 1 << 21 == 0

    with writer(source.path()) as application:
        # The guard is killed while the volume is frozen: the other is the guard then, and thaws. And once more.
        for _ in range(2):
            with held(case, application):
                os.kill(guards(case)[0], signal.SIGKILL)
                took = application.goes_on(2)
                print(f"guard killed: writes went on after {took:.3f} s")
                assert took < 1
            until(lambda: running(case) == {"agent", "guard-1", "guard-2", "tracer"} and len(guards(case)) == 2, 30)

        # The engine is killed.
        with held(case, application):
            case.kill_agent("source")
            assert application.goes_on(2) < 1
        until(lambda: running(case) == {"agent", "guard-1", "guard-2", "tracer"}, 30)

        # The pod is deleted by force. It says goodbye before it is killed.
        with held(case, application):
            case.kubectl("delete", "pod", pod_name(case), "--force", "--grace-period=0")
            assert application.goes_on(12) < 5
        case.wait("CrashConsistent", "False", "NoPoints", seconds=60)

        # All of it is killed at once, and nobody says goodbye: the next guard of the pod thaws.
        with held(case, application):
            for number in (*reversed(guards(case)), process_of(pod_name(case), "agent")):
                os.kill(number, signal.SIGKILL)
            print(f"all killed: writes went on after {application.goes_on(60):.2f} s")

    # An application, pair and volume go as they would without a guard.
    case.kubectl("delete", "mirrorpair", "p")
    case.until("the agent to go", lambda: not case.agent("source"), 30)


@contextmanager
def held(case: Case, application: Writer) -> Iterator[None]:
    """The volume is frozen by the guard for ten seconds, on the wish of a process beside the agent."""
    words = case.cluster.kubectl_command("-n", case.namespace, "exec", pod_name(case), "-c", "agent", "--")
    begun = None
    for _ in range(40):  # the guard may be about to begin
        begun = subprocess.Popen([*words, "python3", "-c", HOLD], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert begun.stdout is not None
        if begun.stdout.readline() == b"frozen\n":
            break
        begun.wait(10)
    else:
        raise AssertionError(f"never frozen: {begun.stderr.read()!r}" if begun and begun.stderr else "never frozen")
    try:
        assert application.stands_still()
        yield
    finally:
        begun.kill()
        begun.wait()


def pod_name(case: Case) -> str:
    name: str = case.agent("source")["metadata"]["name"]
    return name


def containers(case: Case) -> list[str]:
    return [c["name"] for c in case.agent("source")["spec"]["containers"]]


def running(case: Case) -> set[str]:
    """Names of the containers that run."""
    statuses = case.agent("source").get("status", {}).get("containerStatuses", [])
    return {s["name"] for s in statuses if "running" in s["state"]}


def guards(case: Case) -> list[int]:
    """Their processes, as this machine numbers them: the guard first, then the second, which waits for its lock."""
    found = processes_of(pod_name(case), "guard")
    holders = {int(line.split()[4]) for line in Path("/proc/locks").read_text().splitlines() if "->" not in line}
    return sorted(found, key=lambda number: number not in holders)


def status(number: int, field: str) -> int:
    """Of /proc/PID/status: kB, or a set of capabilities."""
    text = next(
        line.split()[1]
        for line in Path(f"/proc/{number}/status").read_text().splitlines()
        if line.startswith(f"{field}:")
    )
    return int(text, 16 if field.startswith("Cap") else 10)
