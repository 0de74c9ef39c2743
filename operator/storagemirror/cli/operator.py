"""`storagemirror operator`: reconcile MirrorPairs until told to stop."""

from __future__ import annotations

import argparse
import os

from storagemirror.clock import SystemClock
from storagemirror.errors import BadInput

LOG_LEVELS = ("debug", "info", "warning", "error")
PULL_POLICIES = ("Always", "IfNotPresent", "Never")


def configure(parser: argparse.ArgumentParser) -> None:
    """The arguments; each has an environment variable that the chart sets."""
    env = os.environ
    parser.add_argument(
        "--namespace",
        default=env.get("POD_NAMESPACE", ""),
        help="namespace of the operator, for its Lease and its CA (POD_NAMESPACE)",
    )
    parser.add_argument(
        "--identity",
        default=env.get("POD_NAME", "") or os.uname().nodename,
        help="name of this replica in the leader's Lease (POD_NAME, else the host's name)",
    )
    parser.add_argument(
        "--image", default=env.get("STORAGEMIRROR_IMAGE", ""), help="agents' image (STORAGEMIRROR_IMAGE)"
    )
    parser.add_argument(
        "--image-pull-policy",
        default=env.get("STORAGEMIRROR_IMAGE_PULL_POLICY", "IfNotPresent"),
        choices=PULL_POLICIES,
        help="when agents' nodes pull it (STORAGEMIRROR_IMAGE_PULL_POLICY, default %(default)s)",
    )
    parser.add_argument(
        "--health-port",
        type=int,
        default=int(env.get("STORAGEMIRROR_HEALTH_PORT", "8080")),
        help="port of /healthz and /readyz (STORAGEMIRROR_HEALTH_PORT, default %(default)s)",
    )
    parser.add_argument(
        "--metrics-port",
        type=int,
        default=int(env.get("STORAGEMIRROR_METRICS_PORT", "8081")),
        help="port of /metrics for Prometheus; 0: none (STORAGEMIRROR_METRICS_PORT, default %(default)s)",
    )
    parser.add_argument(
        "--resync",
        type=float,
        default=float(env.get("STORAGEMIRROR_RESYNC_SECONDS", "60")),
        metavar="SECONDS",
        help="look at every pair at least this often (STORAGEMIRROR_RESYNC_SECONDS, default %(default)s)",
    )
    parser.add_argument(
        "--lease",
        type=int,
        default=int(env.get("STORAGEMIRROR_LEASE_SECONDS", "8")),
        metavar="SECONDS",
        help="a replica follows a dead leader after so long (STORAGEMIRROR_LEASE_SECONDS, default %(default)s)",
    )
    parser.add_argument(
        "--probe-account",
        default=env.get("STORAGEMIRROR_PROBE_ACCOUNT", ""),
        metavar="USER",
        help="in whose name the admission gate is tried; empty: there is no gate (STORAGEMIRROR_PROBE_ACCOUNT)",
    )
    parser.add_argument(
        "--gate-policy",
        default=env.get("STORAGEMIRROR_GATE_POLICY", "storagemirror-gate"),
        metavar="NAME",
        help="the gate's ValidatingAdmissionPolicy (STORAGEMIRROR_GATE_POLICY, default %(default)s)",
    )
    parser.add_argument(
        "--log-level",
        default=env.get("STORAGEMIRROR_LOG_LEVEL", "info").lower(),
        choices=LOG_LEVELS,
        help="how much is told (STORAGEMIRROR_LOG_LEVEL, default %(default)s)",
    )


def run(args: argparse.Namespace) -> int:
    """Until SIGTERM."""
    if not args.namespace:
        raise BadInput("the operator's namespace is not known", hint="Set --namespace or POD_NAMESPACE.")
    if not args.image:
        raise BadInput("the agents' image is not known", hint="Set --image or STORAGEMIRROR_IMAGE.")
    if args.lease < 3:
        raise BadInput(f"--lease must be 3 seconds or more, got {args.lease}")
    if args.resync < 1:
        raise BadInput(f"--resync must be 1 second or more, got {args.resync}")
    # Here, not above: `--help` needs neither kopf nor a client.
    from storagemirror.handlers.logs import set_up
    from storagemirror.handlers.process import Operator, Options
    from storagemirror.kube.gate import Gate
    from storagemirror.resources.pod import Image

    clock = SystemClock()
    set_up(args.log_level, clock)
    options = Options(
        namespace=args.namespace,
        identity=args.identity,
        image=Image(args.image, args.image_pull_policy),
        gate=Gate(args.probe_account, args.gate_policy),
        health_port=args.health_port,
        metrics_port=args.metrics_port,
        resync_seconds=args.resync,
        lease_seconds=args.lease,
    )
    Operator(options, clock).run()
    return 0
