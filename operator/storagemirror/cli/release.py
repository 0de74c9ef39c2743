"""`storagemirror release`: let go of every pod that the operator holds on to, before it is removed."""

from __future__ import annotations

import argparse
import os
import uuid

from storagemirror.clock import SystemClock
from storagemirror.errors import BadInput, Permanent

LEASE_SECONDS = 60
"""As long nobody leads when this process is killed in the midst of it."""
WAIT_SECONDS = 60.0


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    parser.description = (
        "Take the finalizer storagemirror.io/end-proof off every pod of the cluster that bears the label of the same "
        "name. The operator puts it on the pods of a side while it is fenced and takes it off by itself; without an "
        "operator such a pod could not be deleted. `helm uninstall` runs this. Safe to run at any time: at worst a "
        "failover that goes on loses the proof that a pod has ended, and waits for another."
    )
    parser.add_argument(
        "--operator",
        metavar="NAME",
        default="",
        help="first scale this Deployment to zero and wait until no operator works, so that none puts it on again",
    )
    parser.add_argument(
        "--namespace",
        default=os.environ.get("POD_NAMESPACE", ""),
        help="namespace of the operator, with --operator (POD_NAMESPACE)",
    )


def run(args: argparse.Namespace) -> int:
    """Stop the operator where asked to, release, and say what was released."""
    if args.operator and not args.namespace:
        raise BadInput("the operator's namespace is not known", hint="Set --namespace or POD_NAMESPACE.")
    # Here, not above: `--help` needs no client.
    from storagemirror.handlers.process import LEASE_NAME
    from storagemirror.kube.client import Api, connect
    from storagemirror.kube.election import Election
    from storagemirror.kube.release import release_writers, stop_operator
    from storagemirror.kube.throttle import Throttle

    clock = SystemClock()
    api = Api(connect(), Throttle(clock, per_second=50.0, burst=100))
    identity = f"release_{uuid.uuid4()}"
    election = Election(api, clock, namespace=args.namespace, name=LEASE_NAME, identity=identity, seconds=LEASE_SECONDS)
    try:
        if args.operator:
            stop_operator(api, election, clock, namespace=args.namespace, name=args.operator, seconds=WAIT_SECONDS)
            print(f"stopped: no operator of {args.namespace} works", flush=True)
        released = release_writers(api, freed=lambda pod: print(f"released: pod {pod}", flush=True))
    finally:
        election.release()
    if released.failed:
        raise Permanent(
            f"{len(released.failed)} pods could not be released: {'; '.join(released.failed)}",
            hint="Try again; or take the finalizer storagemirror.io/end-proof off them by hand.",
        )
    if not released.pods:
        print("nothing to release: no pod has the finalizer")
    return 0
