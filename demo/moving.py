"""The demo's second half: the application moves to its copy. By itself when its node dies, or planned."""

from __future__ import annotations

import textwrap
import time
from dataclasses import dataclass

from demo import manifests
from demo.agents import SYSTEM, leader_node
from demo.kube import Json
from demo.manifests import CLIENT, MOVE, PAIR, WEB
from demo.pair import Status
from demo.place import Place, boot, call_in_service, call_off, power_off
from demo.screen import MARGIN, Failed, Screen, Step
from demo.tally import Tally, tally, wrong

LOG_URL = f"http://{WEB}/lines.log"
CONDITIONS = ("Replicating", "Fenceable", "Promotable", "ServicesReady")
POLL_SECONDS = 0.25
MOVE_SECONDS = 180
ENDED = ("Completed", "RolledBack", "Failed", "Superseded")
WIDTH = 100


@dataclass(frozen=True)
class Course:
    """How a failover went: what began when, in seconds since `start`, and the pair's operation at its end."""

    phases: tuple[tuple[str, float], ...]
    operation: Json

    def durations(self) -> str:
        """Such as `5.4 s until Validating, Validating 0.3 s, ...`."""
        named = [f"{self.phases[0][1]:.1f} s until {self.phases[0][0]}"]
        for (phase, begun), (_, ended) in zip(self.phases, self.phases[1:], strict=False):
            named.append(f"{phase} {ended - begun:.1f} s")
        return ", ".join(named)


def ready(place: Place, screen: Screen) -> str:
    """Somebody asks the application by its Service, and the pair could fail over. The application's node."""
    kube = place.kube
    with screen.step("A client, and everything ready to fail over") as step:
        status = _status(place)
        source = str(kube.get("pods", "-l", f"app={WEB}")["items"][0]["spec"]["nodeName"])
        kube.run("delete", "pod", CLIENT, "--ignore-not-found", "--wait")
        kube.apply(manifests.client(place.images, source=source, target=status.target_node or "", apart=place.own))
        kube.run("wait", f"pod/{CLIENT}", "--for=condition=Ready", "--timeout=90s", limit=100)
        kube.until(f"a first answer of http://{WEB}", lambda: _heard(place) != "[]" or None, limit=60, step=step)
        kube.until(f"conditions {', '.join(CONDITIONS)}", lambda: _can_move(place), limit=120, step=step)
        node = kube.get("pod", CLIENT)["spec"]["nodeName"]
        step.result = f"a pod on {node} asks http://{WEB} 10 times a second; {', '.join(CONDITIONS[1:])}"
    return source


def power_cut(place: Place, screen: Screen, node: str) -> Course:
    """The source's node dies, somebody says so, and the rest happens by itself."""
    leader = leader_node(place.kube)
    with screen.step("Power cut") as step:
        start = power_off(node)
        said = call_off(place.kube, node)
        leads = "and the operator that leads" if leader == node else f"(the operator that leads is on {leader})"
        step.result = f"{node} is off, with the application, its volume {leads}"
    screen.block(f"as a fencing controller would: {said}")
    with screen.step("It fails over by itself") as step:
        course = _follow(place, screen, step, None, start)
        step.result = f"Failover {course.operation['name']}, made by the operator"
    return course


def planned(place: Place, screen: Screen, node: str) -> Course:
    """A person moves the application off `node`."""
    kube = place.kube
    user = kube.run("auth", "whoami", "-o", "jsonpath={.status.userInfo.username}").strip()
    failover = manifests.move(_status(place).epoch, user)
    screen.line()
    screen.block("kubectl apply -f - <<EOF")
    screen.block(manifests.text(failover))
    screen.block("EOF")
    screen.line()
    start = time.time()
    kube.apply(failover)
    with screen.step(f"A planned failover, off {node}") as step:
        course = _follow(place, screen, step, MOVE, start)
        equal = course.operation.get("equality") or []
        final = next((e for e in equal if e["stage"] == "Final"), None)
        if final is None:
            raise Failed("the Failover completed without a proof that both sides were equal", _look(place))
        step.result = f"both sides proven equal, digest {final['digest']}"
    return course


def count(place: Place, screen: Screen, course: Course) -> Tally:
    """What the client saw of it."""
    kube = place.kube
    with screen.step("The page, by the same name") as step:
        found = kube.until("an answer and a line of the standby", lambda: _tally(place), limit=60, step=step)
        node = kube.get("pod", found.new)["spec"]["nodeName"]
        step.result = f"http://{WEB} answers from {found.new} on {node}, which writes on from line {found.kept + 1}"
        if (why := wrong(found, course.operation)) is not None:
            raise Failed(why, _look(place))
    return found


def stays_closed(place: Place, screen: Screen, node: str) -> None:
    """Who starts the old side again is refused."""
    kube = place.kube
    title = f"{node} has power again, and somebody starts the old side" if place.own else "Somebody starts the old side"
    with screen.step(title) as step:
        if place.own:
            boot(node)
            call_in_service(kube, node)
        kube.run("scale", "deployment", WEB, "--replicas=1")
        why = kube.until("the gate to refuse its pod", lambda: _refusal(place), limit=60, step=step)
        kube.run("scale", "deployment", WEB, "--replicas=0")
        step.result = "its pod is refused"
    screen.block("\n".join(textwrap.wrap(why, WIDTH, break_on_hyphens=False)))


def cost(screen: Screen, mirrored: str, course: Course, found: Tally) -> None:
    """The last lines."""
    operation = course.operation
    lost = "nothing"
    if found.lost:
        lost = f"{found.lost} lines, {found.lost_seconds:.2f} s of writing"
    last = f"the client had seen line {found.heard:,}, the copy holds line {found.kept:,}"
    lines = (
        ("mirrored", mirrored),
        ("lost", f"{lost}: {last}; the Failover says rpoSeconds: {operation.get('rpoSeconds', 'not known')}"),
        ("away", f"{found.away:.1f} s without an answer; the Failover says rtoSeconds: {operation['rtoSeconds']}"),
        ("in detail", course.durations()),
        ("proof", ", ".join(sorted({f"{p['grade']}: {p['evidence']}" for p in operation.get("proofs") or []}))),
    )
    screen.line()
    for name, text in lines:
        wrapped = textwrap.wrap(text, WIDTH, break_on_hyphens=False)
        screen.line(f"{MARGIN}{name:<10}{wrapped[0]}")
        for more in wrapped[1:]:
            screen.line(f"{MARGIN}{'':<10}{more}")


def _follow(place: Place, screen: Screen, step: Step, name: str | None, start: float) -> Course:
    """Print each phase as it comes, until the end. `name`: of the Failover; None: the one that the operator makes."""
    phases: list[tuple[str, float]] = []
    while time.time() - start < MOVE_SECONDS:
        operation = _status(place).operation
        now = time.time() - start
        if operation is None or (name is not None and operation["name"] != name):
            step.note(f"{now:.0f} s, nothing yet")
        else:
            for begun in (operation.get("timeline") or [])[len(phases) :]:
                phases.append((begun["phase"], now))
                _phase(screen, now, begun)
            if operation["phase"] in ENDED:
                if operation["phase"] == "Completed":
                    return Course(tuple(phases), operation)
                raise Failed(f"the failover ended in {operation['phase']}: {operation['message']}", _look(place))
            step.note(f"{now:.0f} s, {operation['phase']}: {operation.get('message', '')}")
        time.sleep(POLL_SECONDS)
    raise Failed(f"the failover is not done after {MOVE_SECONDS} s", _look(place))


def _phase(screen: Screen, now: float, begun: Json) -> None:
    lines = textwrap.wrap(begun.get("message", ""), WIDTH - 22) or [""]
    screen.line(f"{MARGIN}{now:+6.1f} s  {begun['phase']:<12}  {lines[0]}".rstrip())
    for more in lines[1:]:
        screen.line(f"{MARGIN}{'':24}{more}")


def _status(place: Place) -> Status:
    return Status.of(place.kube.get("mirrorpair", PAIR))


def _can_move(place: Place) -> bool | None:
    status = _status(place)
    return all(status.holds(kind) for kind in CONDITIONS) or None


def _heard(place: Place) -> str:
    return place.kube.run("exec", CLIENT, "--", "python3", "/demo/ask.py", "heard").strip()


def _tally(place: Place) -> Tally | None:
    kept = place.kube.run("exec", CLIENT, "--", "python3", "/demo/ask.py", "kept", LOG_URL)
    return tally(_heard(place), kept)


def _refusal(place: Place) -> str | None:
    """Why the old side's Deployment gets no pod."""
    conditions = place.kube.get("deployment", WEB)["status"].get("conditions") or []
    told = (str(c["message"]) for c in conditions if c["type"] == "ReplicaFailure" and c["status"] == "True")
    return next((text for text in told if "storagemirror-gate" in text), None)


def _look(place: Place) -> tuple[str, ...]:
    kube = place.kube
    return (
        kube.command("describe", "failovers"),
        kube.command("describe", "mirrorpair", PAIR),
        kube.command("get", "pods,events", "-o", "wide"),
        f"kubectl -n {SYSTEM} logs -l app.kubernetes.io/component=operator --prefix --tail=100",
    )
