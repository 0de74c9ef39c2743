"""`storagemirror release`: let go of every pod that the operator holds on to, before it is removed."""

from __future__ import annotations

import argparse
import os
import uuid

from storagemirror.clock import SystemClock
from storagemirror.errors import BadInput, Permanent

LEASE_SECONDS = 60
"""As long nobody leads when this process is killed in the midst of it."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    parser.description = (
        "Take the finalizer storagemirror.io/end-proof off every pod of the cluster that bears the label of the same "
        "name. The operator puts it on the pods of a side while it is fenced and takes it off by itself; without an "
        "operator such a pod could not be deleted. `helm uninstall` runs this. Safe to run at any time: at worst a "
        "failover or restore that goes on loses the proof that a pod has ended, and waits for another."
    )
    parser.add_argument(
        "--hold",
        metavar="SECONDS",
        type=int,
        default=0,
        help="first take the lead from the operator and wait until it does not act any more, so that it puts none on "
        "again; SECONDS after the last pod was let go of it leads again, if it is still there",
    )
    parser.add_argument(
        "--namespace",
        default=os.environ.get("POD_NAMESPACE", ""),
        help="namespace of the operator, with --hold (POD_NAMESPACE)",
    )


def run(args: argparse.Namespace) -> int:
    """Take the lead where asked to, release, and say what was released."""
    if args.hold and not args.namespace:
        raise BadInput("the operator's namespace is not known", hint="Set --namespace or POD_NAMESPACE.")
    if args.hold < 0:
        raise BadInput(f"--hold must be 0 or more seconds, got {args.hold}")
    # Here, not above: `--help` needs no client.
    from storagemirror.handlers.process import LEASE_NAME
    from storagemirror.kube.client import Api, connect
    from storagemirror.kube.release import release_writers
    from storagemirror.kube.takeover import let_run_out, take_lead
    from storagemirror.kube.throttle import Throttle

    clock = SystemClock()
    api = Api(connect(), Throttle(clock, per_second=50.0, burst=100))
    lease = {"namespace": args.namespace, "name": LEASE_NAME, "identity": f"release_{uuid.uuid4()}"}
    if args.hold:
        take_lead(api, clock, **lease, seconds=LEASE_SECONDS)
        print(f"no operator of {args.namespace} acts now", flush=True)
    try:
        released = release_writers(api, freed=lambda pod: print(f"released: pod {pod}", flush=True))
    finally:
        if args.hold:
            let_run_out(api, clock, **lease, seconds=args.hold)
    if released.failed:
        raise Permanent(
            f"{len(released.failed)} pods could not be released: {'; '.join(released.failed)}",
            hint="Try again; or take the finalizer storagemirror.io/end-proof off them by hand.",
        )
    if not released.pods:
        print("nothing to release: no pod has the finalizer")
    return 0
