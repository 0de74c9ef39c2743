"""A failover or restore while it goes on: each phase as it comes, and how long it took."""

from __future__ import annotations

import textwrap
import time
from dataclasses import dataclass

from demo.agents import SYSTEM
from demo.kube import Json
from demo.manifests import PAIR
from demo.pair import Status
from demo.place import Place
from demo.screen import MARGIN, Failed, Screen, Step

POLL_SECONDS = 0.25
ENDED = ("Completed", "RolledBack", "Failed", "Superseded")
WIDTH = 100


@dataclass(frozen=True)
class Course:
    """How it went: what began when, in seconds since it was asked for (or since the power cut), and the pair's
    operation at its end."""

    phases: tuple[tuple[str, float], ...]
    operation: Json

    @property
    def until_it_began(self) -> float:
        """Seconds until its first phase."""
        return self.phases[0][1]

    @property
    def took(self) -> float:
        """Seconds until its last phase, which is its end."""
        return self.phases[-1][1]

    def durations(self) -> dict[str, float]:
        """Seconds in each phase but the last, in their order; a phase that came twice has both together."""
        found: dict[str, float] = {}
        for (phase, begun), (_, ended) in zip(self.phases, self.phases[1:], strict=False):
            found[phase] = found.get(phase, 0.0) + ended - begun
        return found


@dataclass(frozen=True)
class Awaited:
    """What is followed. `name`: of the Failover or Restore; None: the one that the operator makes. `start`: since when
    it is counted, seconds since 1970. `limit`: seconds after which it counts as failed."""

    name: str | None
    start: float
    limit: float


def follow(place: Place, screen: Screen, step: Step, awaited: Awaited) -> Course:
    """Print each phase as it comes, until it is completed; `Failed` when it ends otherwise."""
    phases: list[tuple[str, float]] = []
    while (now := time.time() - awaited.start) < awaited.limit:
        operation = status(place).operation
        if operation is None or (awaited.name is not None and operation["name"] != awaited.name):
            step.note(f"{now:.0f} s, nothing yet")
        else:
            for begun in (operation.get("timeline") or [])[len(phases) :]:
                phases.append((begun["phase"], now))
                _phase(screen, now, begun)
            if operation["phase"] in ENDED:
                if operation["phase"] == "Completed":
                    return Course(tuple(phases), operation)
                raise Failed(f"it ended in {operation['phase']}: {operation['message']}", look(place))
            step.note(f"{now:.0f} s, {operation['phase']}: {operation.get('message', '')}")
        time.sleep(POLL_SECONDS)
    raise Failed(f"it is not done after {awaited.limit:.0f} s", look(place))


def final_digest(place: Place, operation: Json) -> str:
    """The digest of the proof that both sides were equal when nobody wrote; `Failed` where there is none."""
    final = next((e for e in operation.get("equality") or [] if e["stage"] == "Final"), None)
    if final is None:
        raise Failed(f"{operation['name']} completed without a proof that both sides were equal", look(place))
    return str(final["digest"])


def status(place: Place) -> Status:
    """The pair's, as it is now."""
    return Status.of(place.kube.get("mirrorpair", PAIR))


def look(place: Place) -> tuple[str, ...]:
    """Commands that show more where it went wrong."""
    kube = place.kube
    return (
        kube.command("describe", "failovers,restores"),
        kube.command("describe", "mirrorpair", PAIR),
        kube.command("get", "pods,events", "-o", "wide"),
        f"kubectl -n {SYSTEM} logs -l app.kubernetes.io/component=operator --prefix --tail=100",
    )


def _phase(screen: Screen, now: float, begun: Json) -> None:
    lines = textwrap.wrap(begun.get("message", ""), WIDTH - 22) or [""]
    screen.line(f"{MARGIN}{now:+6.1f} s  {begun['phase']:<12}  {lines[0]}".rstrip())
    for more in lines[1:]:
        screen.line(f"{MARGIN}{'':24}{more}")
