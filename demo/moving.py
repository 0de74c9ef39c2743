"""The demo's second half: the application moves to its copy. By itself when its node dies, or planned."""

from __future__ import annotations

import textwrap
import time

from demo import manifests
from demo.agents import leader_node
from demo.course import WIDTH, Awaited, Course, final_digest, follow, look, status
from demo.manifests import CLIENT, MOVE, WEB
from demo.place import Place, boot, call_in_service, call_off, power_off
from demo.screen import Failed, Screen
from demo.tally import Tally, tally, wrong

LOG_URL = f"http://{WEB}/lines.log"
CONDITIONS = ("Replicating", "Fenceable", "Promotable", "ServicesReady")
MOVE_SECONDS = 180


def ready(place: Place, screen: Screen) -> str:
    """Somebody asks the application by its Service, and the pair could fail over. The application's node."""
    kube = place.kube
    with screen.step("A client, and everything ready to fail over") as step:
        target = status(place).target_node or ""
        source = str(kube.get("pods", "-l", f"app={WEB}")["items"][0]["spec"]["nodeName"])
        kube.run("delete", "pod", CLIENT, "--ignore-not-found", "--wait")
        kube.apply(manifests.client(place.images, source=source, target=target, apart=place.own))
        kube.run("wait", f"pod/{CLIENT}", "--for=condition=Ready", "--timeout=90s", limit=100)
        kube.until(f"a first answer of http://{WEB}", lambda: _heard(place) != "[]" or None, limit=60, step=step)
        kube.until(f"conditions {', '.join(CONDITIONS)}", lambda: can_move(place), limit=120, step=step)
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
        course = follow(place, screen, step, Awaited(None, start, MOVE_SECONDS))
        step.result = f"Failover {course.operation['name']}, made by the operator"
    _proofs(screen, course)
    return course


def planned(place: Place, screen: Screen, node: str) -> Course:
    """A person moves the application off `node`."""
    kube = place.kube
    user = kube.run("auth", "whoami", "-o", "jsonpath={.status.userInfo.username}").strip()
    failover = manifests.move(status(place).epoch, user)
    screen.typed(manifests.text(failover))
    start = time.time()
    kube.apply(failover)
    with screen.step(f"A planned failover, off {node}") as step:
        course = follow(place, screen, step, Awaited(MOVE, start, MOVE_SECONDS))
        step.result = f"both sides proven equal, digest {final_digest(place, course.operation)}"
    _proofs(screen, course)
    return course


def count(place: Place, screen: Screen, course: Course, *, home: bool = False) -> Tally:
    """What the client saw of it; `home`: of the way back."""
    kube = place.kube
    with screen.step("The page, from home" if home else "The page, by the same name") as step:
        found = kube.until("an answer and a line of the new side", lambda: _tally(place, home), limit=60, step=step)
        node = kube.get("pod", found.new)["spec"]["nodeName"]
        step.result = f"http://{WEB} answers from {found.new} on {node}, which writes on from line {found.kept + 1}"
        if (why := wrong(found, course.operation)) is not None:
            raise Failed(why, look(place))
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


def can_move(place: Place) -> bool | None:
    """True once the pair could fail over, None before."""
    now = status(place)
    return all(now.holds(kind) for kind in CONDITIONS) or None


def _proofs(screen: Screen, course: Course) -> None:
    """Why nobody writes the old side any more."""
    told = sorted({f"{p['grade']}: {p['evidence']}" for p in course.operation.get("proofs") or []})
    for line in told:
        screen.block("\n".join(textwrap.wrap(line, WIDTH, break_on_hyphens=False)))


def _heard(place: Place) -> str:
    return place.kube.run("exec", CLIENT, "--", "python3", "/demo/ask.py", "heard").strip()


def _tally(place: Place, home: bool) -> Tally | None:
    kept = place.kube.run("exec", CLIENT, "--", "python3", "/demo/ask.py", "kept", LOG_URL)
    return tally(_heard(place), kept, home=home)


def _refusal(place: Place) -> str | None:
    """Why the old side's Deployment gets no pod."""
    conditions = place.kube.get("deployment", WEB)["status"].get("conditions") or []
    told = (str(c["message"]) for c in conditions if c["type"] == "ReplicaFailure" and c["status"] == "True")
    return next((text for text in told if "storagemirror-gate" in text), None)
