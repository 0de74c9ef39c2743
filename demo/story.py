"""The demo itself: an application, a pair, its first mirror, its lag, and the proof that the copy is a copy."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial

from demo import manifests
from demo.compare import Tree, differences
from demo.kube import Kube
from demo.manifests import NAMESPACE, PAIR, TARGET_CLAIM
from demo.pair import Status, progress_line
from demo.place import CHECKOUT, Place, empty_volumes
from demo.pods.writer import COUNTER
from demo.screen import Failed, Screen, count, size
from demo.workload import available
from storagemirror.contract import REPORT_ANNOTATION

RELEASE = "storagemirror"
OPERATOR_NAMESPACE = "storagemirror-system"
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
    first_mirror(place, screen)
    live(place, screen)
    prove(place, screen)
    look_around(place, screen)


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
            *("--namespace", OPERATOR_NAMESPACE, "--create-namespace"),
            *("--set-string", f"image.repository={repository}", "--set-string", f"image.tag={tag}"),
            *("--set-string", f"image.pullPolicy={place.pull_policy}"),
        )
        there = replace(place.kube, namespace=OPERATOR_NAMESPACE)
        probe = partial(available, there, RELEASE, f"app.kubernetes.io/instance={RELEASE}")
        there.until("the operator to be ready", probe, limit=120, step=step)
        step.result = f"release {RELEASE} in {OPERATOR_NAMESPACE}"


def application(place: Place, screen: Screen) -> None:
    """nginx with Debian's documentation on its volume, and a writer."""
    kube = place.kube
    with screen.step("An application with a volume") as step:
        kube.apply(manifests.namespace())
        kube.apply(manifests.scripts(), *manifests.web(place.images, place.storage_class))
        probe = partial(available, kube, "web", "app=web")
        kube.until("nginx to serve Debian's documentation", probe, limit=300, step=step)
        state = json.loads(_writer(place, "state"))
        node = kube.get("pods", "-l", "app=web")["items"][0]["spec"]["nodeName"]
        step.result = f"nginx on {node} serves its volume, the writer is at line {count(state['line'])}"


def make_pair(place: Place, screen: Screen) -> None:
    """The one thing that a user does."""
    pair = manifests.pair(place.storage_class)
    screen.line()
    screen.block("kubectl apply -f - <<EOF")
    screen.block(manifests.text(pair))
    screen.block("EOF")
    screen.line()
    place.kube.apply(pair)


def first_mirror(place: Place, screen: Screen) -> None:
    """From the pair's creation until the first mirror is whole."""
    kube = place.kube
    stalled_since: float | None = None
    start = time.monotonic()
    with screen.step("First mirror, while it is written") as step:
        while not (status := _status(place)).holds("Replicating"):
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
        step.result = f"{count(files)} files, {size(blocks * 1024)} from {status.source_node} to {status.target_node}"


def live(place: Place, screen: Screen) -> None:
    """The lag while the writer writes: what the status says, and what a reader of the copy sees."""
    kube = place.kube
    with screen.step("A reader beside the copy") as step:
        node = _status(place).target_node
        if node is None:
            raise _pair_failed(place, _status(place), "the status does not say where the copy is")
        kube.run("delete", "pod", "compare", "--ignore-not-found", "--wait")
        kube.apply(manifests.compare(place.images, node))
        kube.run("wait", "pod/compare", "--for=condition=Ready", "--timeout=90s")
        step.result = f"mounts {TARGET_CLAIM} read-only on {node}"
    with screen.step(f"Live, for {WATCH_SECONDS} s, while the writer appends") as step, ThreadPoolExecutor(1) as pool:
        follow = ("exec", "compare", "--", "python3", "/demo/follow.py", f"/data/{COUNTER}", str(WATCH_SECONDS))
        followed = pool.submit(kube.run, *follow)
        while not followed.done():
            status = _status(place)
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


def prove(place: Place, screen: Screen) -> None:
    """Hold the copy against the source: the writer pauses, and every path of both sides is read."""
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
        copy = Tree.parse(kube.run("exec", "compare", *listing))
        if source.files < LEAST_FILES:
            raise Failed(f"the source holds only {source.files} files: the demo's data is not there")
        found = differences(source, copy)
        if found:
            shown = "\n".join(found[:SHOWN])
            raise Failed(
                f"the copy is not equal to the source in {count(len(found))} paths:\n{shown}",
                (kube.command("exec", "-it", "compare", "--", "bash"), kube.command("get", "mp", PAIR, "-o", "yaml")),
            )
        step.result = f"equal: {count(source.files)} files, {size(source.octets)}, {source.others()}"
    screen.block("path by path on both sides: contents, owners, modes, times, links, extended attributes")
    kube.run("delete", "pod", "compare", "--wait=false")
    _writer(place, "resume")


def look_around(place: Place, screen: Screen) -> None:
    """What to do next."""
    kube = place.kube
    screen.line()
    screen.block(kube.run("get", "mirrorpairs"))
    screen.line()
    screen.line("The writer writes on and the copy follows. Look around:")
    screen.line()
    screen.line(f"  export KUBECONFIG={kube.kubeconfig}")
    screen.line(f"  {kube.command('get', 'mirrorpairs', '--watch')}")
    screen.line(f"  {kube.command('describe', 'mirrorpair', PAIR)}")
    screen.line(f"  {kube.command('get', 'pods,pvc', '-o', 'wide')}")
    screen.line("  kubectl explain mirrorpair.spec")
    screen.line(f"  kubectl -n {OPERATOR_NAMESPACE} logs deploy/{RELEASE}")
    screen.line()
    how = "" if place.own else f"KUBECONFIG={kube.kubeconfig} "
    screen.line(f"Take it down:  {how}make demo-down")


def _status(place: Place) -> Status:
    return Status.of(place.kube.get("mirrorpair", PAIR))


def _passed(place: Place, moment: datetime) -> bool | None:
    """Whether everything up to `moment` is safe on the copy.

    The source agent's Lease tells it every few seconds, the pair's status less often: whichever says so first.
    """
    leases = place.kube.get("leases", "-l", "storagemirror.io/role=source")["items"]
    reports = [json.loads(lease["metadata"].get("annotations", {}).get(REPORT_ANNOTATION, "{}")) for lease in leases]
    said = [datetime.fromisoformat(r["syncedThrough"]) for r in reports if r.get("syncedThrough")]
    through = _status(place).synced_through
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
            f"kubectl -n {OPERATOR_NAMESPACE} logs deploy/{RELEASE} --tail=50",
        ),
    )


def take_down(kube: Kube) -> None:
    """On a given cluster: the demo's namespace and the operator; the definitions stay, as Helm keeps them."""
    kube.run("delete", "namespace", NAMESPACE, "--ignore-not-found", "--timeout=180s", limit=190)
    kube.run_helm("uninstall", RELEASE, "--namespace", OPERATOR_NAMESPACE, "--ignore-not-found", "--wait")
