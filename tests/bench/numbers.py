"""`python -m tests.bench.numbers`: the promised figures, measured on the real cluster, printed beside their limits.

The product runs from its image and chart. Each figure is measured once from the outside: times by this machine's
clock and the volumes' own paths, memory and processor time from /proc. Ends with 1 when a limit is missed.
"""

from __future__ import annotations

import os
import random
import statistics
import sys
import time
import uuid
from pathlib import Path

from demo.compare import Tree, differences
from demo.pods import tree
from tests.bench.bench import Bench, Figure, measure
from tests.bench.process import Ended, watch
from tests.cluster.command import wait_for
from tests.support.case import TESTBOX, Case, process_of
from tests.support.product import SYSTEM, Product

SMALL_FILES = 10_000
FILES_A_DIRECTORY = 100
CHANGES = 100
IDLE_PAIRS = 20
SETTLE_SECONDS = 30
WATCH_SECONDS = 60
GIVE_UP_SECONDS = 30.0
"""A changed file that is not on the target by then counts as this late."""


def fill(root: Path, files: int, largest: int = 4096) -> int:
    """Files of 0 to `largest` bytes (by default small ones) in directories of a hundred; how many bytes."""
    chance = random.Random(1)
    octets = 0
    for number in range(files):
        directory = root / f"d{number // FILES_A_DIRECTORY:03}"
        directory.mkdir(exist_ok=True)
        data = chance.randbytes(chance.randrange(largest + 1))
        (directory / f"f{number:05}").write_bytes(data)
        octets += len(data)
    os.sync()
    return octets


def first_mirror_and_changes(bench: Bench) -> list[Figure]:
    """10,000 small files from `kubectl apply` to Replicating, then one changed file after the other."""
    with bench.case("small-files") as case:
        source, target = case.claim("src", "n1", size="400Mi"), case.claim("dst", "n2", size="400Mi")
        octets = fill(source.path(), SMALL_FILES)
        case.application("src")
        start = time.monotonic()
        case.pair("src", "dst")
        case.replicating(seconds=180)
        took = time.monotonic() - start
        found = differences(listing(source.path()), listing(target.path()))
        if found:
            raise SystemExit("the copy is not equal to the source:\n" + "\n".join(found[:20]))
        mirrored = Figure(f"{SMALL_FILES} files of {octets / 1e6:.0f} MB: kubectl apply to Replicating", took, 30, "s")
        delays = sorted(changed_file(source.path(), target.path(), number) for number in range(CHANGES))
        p95 = delays[int(len(delays) * 0.95) - 1]
        note = f"p50 {statistics.median(delays):.2f} s, longest {delays[-1]:.2f} s"
        return [mirrored, Figure(f"a changed small file readable on the target, p95 of {CHANGES}", p95, 1, "s", note)]


def listing(top: Path) -> Tree:
    """Everything below a directory, with checksums; the pair's own bookkeeping left out."""
    seen: dict[tuple[int, int], str] = {}
    root = os.fsencode(top)
    entries = [tree.entry(path, root, seen) for path in tree.paths(root, {b".storagemirror", b"lost+found"})]
    return Tree({str(entry["path"]): entry for entry in entries})


def changed_file(source: Path, target: Path, number: int) -> float:
    """Change one file and wait until the target reads the same; seconds."""
    time.sleep(random.uniform(0.05, 0.4))  # so that changes meet every moment of the agents' cycles
    name = Path(f"d{number % (SMALL_FILES // FILES_A_DIRECTORY):03}") / f"f{number % 100 * FILES_A_DIRECTORY + 7:05}"
    data = f"change {number} {uuid.uuid4()}\n".encode()
    (source / name).write_bytes(data)
    start = time.monotonic()
    while time.monotonic() - start < GIVE_UP_SECONDS:
        try:
            if (target / name).read_bytes() == data:
                return time.monotonic() - start
        except FileNotFoundError:
            pass
        time.sleep(0.005)
    return GIVE_UP_SECONDS


def idle(bench: Bench) -> list[Figure]:
    """What the operator and the agents cost while nothing changes."""
    with bench.case("idle") as case:
        names = [f"s{number:02}" for number in range(IDLE_PAIRS)]
        for name in names:
            case.claim(name, "n1", size="24Mi")
            case.claim(f"{name}-copy", "n2", size="24Mi")
        case.apply(application(names))
        case.kubectl("rollout", "status", "deployment", "app", "--timeout=120s")
        for name in names:
            case.pair(name, f"{name}-copy", name=name)
        everyone = f"{IDLE_PAIRS} pairs to replicate"
        wait_for(everyone, lambda: all_replicate(case), 300, every=1.0)
        time.sleep(SETTLE_SECONDS)
        pods = case.get("pods", "-l", "app.kubernetes.io/component=agent")["items"]
        processes = {pod["metadata"]["name"]: process_of(pod["metadata"]["name"], "agent") for pod in pods}
        if len(processes) != 2 * IDLE_PAIRS:
            raise SystemExit(f"expected {2 * IDLE_PAIRS} agents, found {len(processes)}")
        try:
            costs = watch({**processes, "operator": operator_process(bench.product)}, WATCH_SECONDS)
        except Ended as e:
            raise SystemExit(f"{e}\n{case.told()}\n{operator_told(bench.product)}") from e
        operator = costs.pop("operator")
        largest = max(cost.resident for cost in costs.values())
        busiest = max(cost.core for cost in costs.values())
        return [
            Figure(f"operator with {IDLE_PAIRS} idle pairs: resident memory", operator.resident / 1e6, 150, "MB"),
            Figure(f"operator with {IDLE_PAIRS} idle pairs: of a core", operator.core * 100, 2, "%"),
            Figure(
                f"the largest of {len(costs)} idle agents: resident memory",
                largest / 1e6,
                45,
                "MB",
                f"the busiest takes {busiest * 100:.2f} % of a core",
            ),
        ]


def all_replicate(case: Case) -> bool:
    """Whether every pair of the case replicates."""
    pairs = case.get("mirrorpairs")["items"]
    return len(pairs) == IDLE_PAIRS and all(
        any(c["type"] == "Replicating" and c["status"] == "True" for c in (p.get("status") or {}).get("conditions", []))
        for p in pairs
    )


def application(claims: list[str]) -> dict[str, object]:
    """One pod that mounts all the claims."""
    container = {
        "name": "app",
        "image": TESTBOX,
        "imagePullPolicy": "Never",
        "command": ["sleep", "infinity"],
        "volumeMounts": [{"name": c, "mountPath": f"/data/{c}"} for c in claims],
    }
    volumes = [{"name": c, "persistentVolumeClaim": {"claimName": c}} for c in claims]
    pod = {"terminationGracePeriodSeconds": 1, "containers": [container], "volumes": volumes}
    template = {"metadata": {"labels": {"app": "app"}}, "spec": pod}
    spec = {"replicas": 1, "selector": {"matchLabels": {"app": "app"}}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "app"}, "spec": spec}


def operator_told(product: Product) -> str:
    """The operator's pod and its last words, those of an earlier container too."""
    said = []
    for words in (("describe", "pod"), ("logs", "--previous", "--tail=30"), ("logs", "--tail=30")):
        command = ("-n", SYSTEM, *words, "-l", "app.kubernetes.io/component=operator")
        said.append(product.cluster.kubectl(*command, check=False).stdout[-4000:])
    return "\n".join(said)


def operator_process(product: Product) -> int:
    """The operator's process on this machine."""
    listed = product.cluster.kubectl(
        *("-n", SYSTEM, "get", "pods", "-l", "app.kubernetes.io/component=operator"),
        *("--field-selector=status.phase=Running", "-o", "jsonpath={.items[*].metadata.name}"),
    )
    (pod,) = listed.stdout.split()
    return process_of(pod, "operator")


def main() -> int:
    """Measure, print, judge."""
    return measure("tests.bench.numbers", __doc__, {"mirror": first_mirror_and_changes, "idle": idle})


if __name__ == "__main__":
    sys.exit(main())
