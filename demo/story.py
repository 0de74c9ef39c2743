"""The demo itself: an application, a pair, its first mirror, its lag, the proof that the copy is one, the way there and
the way home."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial

from demo import home, manifests, moving
from demo.agents import SYSTEM, VOLUME, on_copy
from demo.compare import Tree, differences
from demo.course import status as pair_status
from demo.kube import Kube
from demo.manifests import NAMESPACE, PAIR, WEB
from demo.pair import Status, progress_line
from demo.place import CHECKOUT, Place, empty_volumes
from demo.pods.writer import COUNTER
from demo.screen import Failed, Screen, count, size
from demo.table import Way, table
from demo.workload import available
from storagemirror.contract import REPORT_ANNOTATION

RELEASE = "storagemirror"
WATCH_SECONDS = 10
LAG_LIMIT_SECONDS = 30
STALLED_SECONDS = 15
"""A pair that is stalled this long is shown as failed; it may be so for a moment, until its claims are there."""
COUNT = "find /data -type f | wc -l; du -sk /data | cut -f1"
BEGIN_SECONDS = 120
MIRROR_SECONDS = 600
LEAST_FILES = 1000
SHOWN = 10
"""Differences shown at most."""
OURS = (".storagemirror", "lost+found")
"""Left out of the comparison: the copy's own bookkeeping, and what mkfs made."""


def tell(place: Place, screen: Screen) -> None:
    """The whole demo; `Failed` when anything is not as it should be."""
    clean(place, screen)
    install(place, screen)
    application(place, screen)
    make_pair(place, screen)
    mirrored = first_mirror(place, screen)
    live(place, screen)
    prove(place, screen)
    node = moving.ready(place, screen)
    course = (moving.power_cut if place.own else moving.planned)(place, screen, node)
    there = Way(
        f"{'power cut' if place.own else 'planned'}, Failover {course.operation['name']}",
        mirrored,
        course,
        moving.count(place, screen, course),
    )
    moving.stays_closed(place, screen, node)
    back = come_home(place, screen, node, there)
    screen.line()
    for line in table(there, back):
        screen.block(line)
    look_around(place, screen, there, back)


def come_home(place: Place, screen: Screen, node: str, there: Way) -> Way:
    """The third part: back to where it came from, proven, and mirrored as before."""
    home.rid_of_old_pods(place, screen, node)
    course = home.restore(place, screen, node)
    found = moving.count(place, screen, course, home=True)
    home.mirrors_again(place, screen)
    held = prove(place, screen)
    home.kept_aside(place, screen, course, there.tally)
    sent = course.operation.get("sentBytes")
    mirrored = f"{held}, {'not known' if sent is None else size(sent)} of it sent"
    return Way(f"Restore {course.operation['name']}", mirrored, course, found)


def clean(place: Place, screen: Screen) -> None:
    """What an earlier run left goes; the demo's own cluster gets two empty volumes."""
    kube = place.kube
    if kube.find("namespace", NAMESPACE) or place.own:
        with screen.step("A clean start") as step:
            step.note("removing what an earlier run left")
            kube.run("delete", "namespace", NAMESPACE, "--ignore-not-found", "--timeout=120s", limit=130)
            if place.own:
                empty_volumes(place, step)
                step.result = "two empty volumes of 1 GiB, on two nodes"


def install(place: Place, screen: Screen) -> None:
    """The operator, by its chart."""
    repository, _, tag = place.images.product.rpartition(":")
    with screen.step("Operator, installed by Helm") as step:
        place.kube.run_helm(
            *("upgrade", "--install", RELEASE, str(CHECKOUT / "charts" / "storagemirror")),
            *("--namespace", SYSTEM, "--create-namespace"),
            *("--set-string", f"image.repository={repository}", "--set-string", f"image.tag={tag}"),
            *("--set-string", f"image.pullPolicy={place.pull_policy}"),
        )
        there = replace(place.kube, namespace=SYSTEM)
        probe = partial(available, there, RELEASE, f"app.kubernetes.io/instance={RELEASE}")
        there.until("the operator to be ready", probe, limit=120, step=step)
        step.result = f"release {RELEASE} in {SYSTEM}"


def application(place: Place, screen: Screen) -> None:
    """nginx with Debian's documentation on its volume, and a writer."""
    kube = place.kube
    with screen.step("An application with a volume") as step:
        kube.apply(manifests.namespace())
        kube.apply(manifests.scripts(), *manifests.web(place.images, place.storage_class))
        kube.apply(manifests.standby(place.images))
        probe = partial(available, kube, "web", "app=web")
        kube.until("nginx to serve Debian's documentation", probe, limit=300, step=step)
        state = json.loads(_writer(place, "state"))
        node = kube.get("pods", "-l", "app=web")["items"][0]["spec"]["nodeName"]
        step.result = (
            f"nginx on {node} serves its volume, the writer is at line {count(state['line'])}; a standby of 0 pods"
        )


def make_pair(place: Place, screen: Screen) -> None:
    """The one thing that a user does."""
    pair = manifests.pair(place.storage_class)
    screen.typed(manifests.text(pair))
    place.kube.apply(pair)


def first_mirror(place: Place, screen: Screen) -> str:
    """From the pair's creation until the first mirror is whole; what and how long, in words."""
    kube = place.kube
    stalled_since: float | None = None
    start = time.monotonic()
    with screen.step("First mirror, while it is written") as step:
        while not (status := pair_status(place)).holds("Replicating"):
            step.note(progress_line(status))
            stalled_since = (stalled_since or time.monotonic()) if status.holds("Stalled") else None
            if stalled_since and time.monotonic() - stalled_since > STALLED_SECONDS:
                raise _pair_failed(place, status, "the pair cannot go on")
            if status.phase == "Pending" and time.monotonic() - start > BEGIN_SECONDS:
                raise _pair_failed(place, status, f"the first mirror did not begin within {BEGIN_SECONDS} s")
            if time.monotonic() - start > MIRROR_SECONDS:
                raise _pair_failed(place, status, f"the first mirror is not whole after {MIRROR_SECONDS} s")
            time.sleep(0.3)
        counted = kube.run("exec", "deploy/web", "-c", "writer", "--", "sh", "-c", COUNT)
        files, blocks = (int(word) for word in counted.split())
        what = f"{count(files)} files, {size(blocks * 1024)}"
        step.result = f"{what} from {status.source_node} to {status.target_node}"
    return f"{what} in {time.monotonic() - start:.1f} s"


def live(place: Place, screen: Screen) -> None:
    """The lag while the writer writes: what the status says, and what is read on the copy."""
    kube = place.kube
    with screen.step(f"Live, for {WATCH_SECONDS} s, while the writer appends") as step, ThreadPoolExecutor(1) as pool:
        followed = pool.submit(on_copy, kube, "follow.py", f"{VOLUME}/{COUNTER}", str(WATCH_SECONDS))
        while not followed.done():
            status = pair_status(place)
            if status.lag_seconds is None or not status.holds("Replicating"):
                raise _pair_failed(place, status, "the pair stopped replicating")
            if status.lag_seconds > LAG_LIMIT_SECONDS:
                raise _pair_failed(place, status, f"the copy is {status.lag_seconds:g} s behind")
            line = json.loads(_writer(place, "state"))["line"]
            step.note(f"line {count(line)} written, the status says the copy is {status.lag_seconds:g} s behind")
            time.sleep(0.5)
        seen = json.loads(followed.result())
        late = (
            f"{seen['median']:.2f} s later (95 of 100 within {seen['p95']:.2f} s, all within {seen['longest']:.2f} s)"
        )
        step.result = f"{count(seen['lines'])} lines, readable on the copy {late}"


def prove(place: Place, screen: Screen) -> str:
    """Hold the copy against the source: the writer pauses, and every path of both sides is read. What both hold."""
    kube = place.kube
    with screen.step("The writer pauses") as step:
        state = json.loads(_writer(place, "pause"))
        paused = datetime.fromtimestamp(state["at_ns"] / 1e9, UTC)
        kube.until(
            "the source agent to report it safe on the copy", lambda: _passed(place, paused), limit=60, step=step
        )
        step.result = f"line {count(state['line'])} and all before it reported safe on the copy"
    with screen.step("Source and copy, compared") as step:
        step.note("reading every file on both sides")
        listing = ("--", "python3", "/demo/tree.py", "/data", *OURS)
        source = Tree.parse(kube.run("exec", "deploy/web", "-c", "writer", *listing))
        copy = Tree.parse(on_copy(kube, "tree.py", VOLUME, *OURS))
        if source.files < LEAST_FILES:
            raise Failed(f"the source holds only {source.files} files: the demo's data is not there")
        found = differences(source, copy)
        if found:
            shown = "\n".join(found[:SHOWN])
            raise Failed(
                f"the copy is not equal to the source in {count(len(found))} paths:\n{shown}",
                (kube.command("get", "pods", "-o", "wide"), kube.command("get", "mp", PAIR, "-o", "yaml")),
            )
        held = f"{count(source.files)} files, {size(source.octets)}"
        step.result = f"equal: {held}, {source.others()}"
    screen.block("path by path on both sides: contents, owners, modes, times, links, extended attributes")
    _writer(place, "resume")
    return held


def look_around(place: Place, screen: Screen, there: Way, back: Way) -> None:
    """What to do next."""
    kube = place.kube
    screen.line()
    screen.block(kube.run("get", "mirrorpairs"))
    screen.line()
    screen.block(kube.run("get", "failovers,restores"))
    screen.line()
    screen.line("The application is at home, writes on, and has a copy again. Look around:")
    screen.line()
    screen.line(f"  export KUBECONFIG={kube.kubeconfig}")
    screen.line(f"  {kube.command('describe', 'failover', there.course.operation['name'])}")
    screen.line(f"  {kube.command('describe', 'restore', back.course.operation['name'])}")
    screen.line(f"  {kube.command('describe', 'mirrorpair', PAIR)}")
    screen.line(f"  {kube.command('get', 'pods,pvc', '-o', 'wide')}")
    screen.line(f"  {kube.command('logs', f'deploy/{WEB}', '-c', 'writer')}")
    screen.line("  kubectl explain restore.spec")
    screen.line(f"  kubectl -n {SYSTEM} logs deploy/{RELEASE}")
    screen.line()
    how = "" if place.own else f"KUBECONFIG={kube.kubeconfig} "
    screen.line(f"Take it down:  {how}make demo-down")


def _passed(place: Place, moment: datetime) -> bool | None:
    """Whether everything up to `moment` is safe on the copy.

    The source agent's Lease tells it every few seconds, the pair's status less often: whichever says so first.
    """
    leases = place.kube.get("leases", "-l", "storagemirror.io/role=source")["items"]
    reports = [json.loads(lease["metadata"].get("annotations", {}).get(REPORT_ANNOTATION, "{}")) for lease in leases]
    said = [datetime.fromisoformat(r["syncedThrough"]) for r in reports if r.get("syncedThrough")]
    through = pair_status(place).synced_through
    return True if any(t > moment for t in [*said, *([through] if through else [])]) else None


def _writer(place: Place, verb: str) -> str:
    return place.kube.run("exec", "deploy/web", "-c", "writer", "--", "python3", "/demo/writer.py", verb)


def _pair_failed(place: Place, status: Status, message: str) -> Failed:
    """With what the pair's conditions say, and where to look."""
    kube = place.kube
    complaints = "".join(f"\n  {line}" for line in status.bad())
    return Failed(
        f"{message} (phase {status.phase}){complaints}",
        (
            kube.command("describe", "mirrorpair", PAIR),
            kube.command("get", "pods,pvc,events"),
            kube.command("logs", "-l", "app.kubernetes.io/component=agent", "--prefix", "--tail=30"),
            f"kubectl -n {SYSTEM} logs deploy/{RELEASE} --tail=50",
        ),
    )


def take_down(kube: Kube) -> None:
    """On a given cluster: the demo's namespace and the operator; the definitions stay, as Helm keeps them."""
    kube.run("delete", "namespace", NAMESPACE, "--ignore-not-found", "--timeout=180s", limit=190)
    kube.run_helm("uninstall", RELEASE, "--namespace", SYSTEM, "--ignore-not-found", "--wait")
