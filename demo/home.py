"""The demo's last part: the application comes home, with what it wrote while it was away."""

from __future__ import annotations

import json
import textwrap
import time
from dataclasses import dataclass

from demo import manifests, moving
from demo.course import WIDTH, Awaited, Course, final_digest, follow, look, status
from demo.kube import Json
from demo.manifests import HOME, SOURCE_CLAIM, WEB
from demo.place import Place
from demo.pods.writer import COUNTER
from demo.screen import Failed, Screen, count, size
from demo.tally import Tally

HOME_SECONDS = 480
"""A writer whose end nobody has seen is waited for until its node was Ready for 120 s."""
FIRST_NAMES = 5


@dataclass(frozen=True)
class Aside:
    """What the old volume held and the copy did not, and where it lies now: an entry of status.operation.diverged."""

    entries: int
    octets: int
    deleted: int
    path: str
    first: tuple[str, ...]

    @staticmethod
    def of(operation: Json) -> Aside | None:
        """Of the demo's one volume; None where nothing had been written."""
        found = next((d for d in operation.get("diverged") or [] if d["entries"] or d.get("deleted")), None)
        if found is None:
            return None
        return Aside(
            found["entries"], found["bytes"], found.get("deleted", 0), found["path"], tuple(found.get("first") or ())
        )

    def __str__(self) -> str:
        gone = f", and {count(self.deleted)} that it had deleted" if self.deleted else ""
        return f"{count(self.entries)} entries, {size(self.octets)}{gone}"


def rid_of_old_pods(place: Place, screen: Screen, node: str) -> None:
    """The node that was off is Ready, and nothing of the old side runs there."""
    kube = place.kube
    with screen.step(f"{node} is back" if place.own else f"Nothing of the old side runs on {node}") as step:
        kube.until(f"{node} to be Ready", lambda: _ready(kube.get("node", node)), limit=120, step=step)
        kube.until("the old pods to be gone", lambda: _no_pods(place), limit=120, step=step)
        step.result = "Ready, and the application's old pods are gone"


def restore(place: Place, screen: Screen, node: str) -> Course:
    """A person brings the application back to `node`."""
    wish = manifests.home(status(place).epoch)
    screen.typed(manifests.text(wish))
    start = time.time()
    place.kube.apply(wish)
    with screen.step(f"A Restore, home to {node}") as step:
        course = follow(place, screen, step, Awaited(HOME, start, HOME_SECONDS))
        operation = course.operation
        sent = f"{size(operation.get('sentBytes', 0))} sent back"
        step.result = f"{sent}; both sides proven equal, digest {final_digest(place, operation)}"
    return course


def mirrors_again(place: Place, screen: Screen) -> None:
    """By itself, in the first direction."""
    with screen.step("The pair, in its first direction again") as step:
        place.kube.until(
            f"conditions {', '.join(moving.CONDITIONS)}", lambda: moving.can_move(place), limit=120, step=step
        )
        now = status(place)
        if now.active_side != "Source":
            raise Failed(f"the live side is {now.active_side}, and the application is at home", look(place))
        step.result = f"from {now.source_node} to {now.target_node}, epoch {now.epoch}; it could fail over at once"


def kept_aside(place: Place, screen: Screen, course: Course, there: Tally) -> None:
    """What was found on the old volume and kept (written after the cut; or older, where the power took what came last),
    and what became of the lines that were lost then."""
    with screen.step("What the old volume held and the copy did not") as step:
        found = Aside.of(course.operation)
        if found is None:
            step.result = "nothing"
        else:
            step.result = f"{found}; kept in /{found.path} of claim {SOURCE_CLAIM}"
    if found is not None:
        shown = ", ".join(found.first[:FIRST_NAMES])
        more = ", ..." if found.entries > FIRST_NAMES else ""
        if shown:
            screen.block("\n".join(textwrap.wrap(f"{shown}{more}", WIDTH, break_on_hyphens=False)))
    if there.lost:
        lines = _lines_aside(place, found) if found else []
        screen.block("\n".join(textwrap.wrap(lost_and_found(there, lines), WIDTH)))


def lost_and_found(there: Tally, log: list[Json]) -> str:
    """Which of the lines that the client had seen, and that the copy lacked, are in the old side's log that was kept
    aside: entries of `pods/ask.py log`."""
    last = max((entry["line"] for entry in log if entry["pod"] == there.old), default=0)
    found = max(0, min(last, there.heard) - there.kept)
    if found == there.lost:
        return f"the {count(found)} lines that the client had seen and the copy lacked are there"
    gone = f"{count(there.lost - found)} were on no disk when the power went"
    return (
        f"of {count(there.lost)} lines that the client had seen and the copy lacked, {count(found)} are there; {gone}"
    )


def _lines_aside(place: Place, found: Aside) -> list[Json]:
    path = f"/data/{found.path}/{COUNTER}"
    log = place.kube.run("exec", f"deploy/{WEB}", "-c", "writer", "--", "python3", "/demo/ask.py", "log", path)
    entries: list[Json] = json.loads(log)
    return entries


def _ready(node: Json) -> bool | None:
    conditions = node["status"].get("conditions") or []
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions) or None


def _no_pods(place: Place) -> bool | None:
    return True if not place.kube.get("pods", "-l", f"app={WEB}")["items"] else None
