"""`storagemirror agent`: the process in a sync pod."""

from __future__ import annotations

import argparse
import os

from storagemirror.contract import AGENT_PORT

_FLAGS = (
    ("namespace", "STORAGEMIRROR_NAMESPACE", "namespace of order and Lease"),
    ("order", "STORAGEMIRROR_ORDER", "ConfigMap with the order (order.json), which is read and watched"),
    ("lease", "STORAGEMIRROR_LEASE", "Lease for the heartbeat and, in an annotation, the report"),
    ("instance", "STORAGEMIRROR_INSTANCE", "number of this pod: an agent ends when its order names a higher one"),
    ("role", "STORAGEMIRROR_ROLE", "Source or Target"),
    ("volume", "STORAGEMIRROR_VOLUME_PATH", "where the volume is mounted (default /volume)"),
    ("tls", "STORAGEMIRROR_TLS_PATH", "directory with tls.crt, tls.key, ca.crt (default /tls)"),
    ("port", "STORAGEMIRROR_PORT", f"target: TCP port to listen on (default {AGENT_PORT})"),
    ("guard", "STORAGEMIRROR_GUARD_PATH", "source: directory shared with the guards (none: no guards)"),
    ("tracer", "STORAGEMIRROR_TRACER_PATH", "source: directory shared with the tracer (none: no tracer)"),
    ("queue", "STORAGEMIRROR_QUEUE_PATH", "source: directory for the disk queue of points (default: TMPDIR)"),
    ("compare-seconds", "STORAGEMIRROR_COMPARE_SECONDS", "source: time between full comparisons (default 600)"),
    ("api-ca", "STORAGEMIRROR_API_CA", "CA of the API server (default: the service account's)"),
    ("api-token", "STORAGEMIRROR_API_TOKEN", "file with the token for it (default: the service account's)"),
    ("log", "STORAGEMIRROR_LOG", "least level that is logged: DEBUG, INFO (default), WARNING, ERROR"),
)

_MORE = """
Every option can be given by the environment variable named with it; the operator sets those. The API server is found
by KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT. The agent ends with status 0 when it is told to (SIGTERM, an
order that says Stop or names a later agent), and with 1 on a fault.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.description = f"{parser.description}.\n{_MORE}"
    for flag, variable, text in _FLAGS:
        choices = ("DEBUG", "INFO", "WARNING", "ERROR") if flag == "log" else None
        parser.add_argument(f"--{flag}", dest=variable, help=f"{text} [{variable}]", choices=choices)


def run(args: argparse.Namespace) -> int:
    """Work until stopped."""
    from storagemirror.agent.process import Process, set_up_log
    from storagemirror.agent.settings import from_environment

    given = {variable: value for _, variable, _ in _FLAGS if (value := getattr(args, variable)) is not None}
    os.environ.update(given)
    set_up_log()
    return Process(from_environment(os.environ)).run()
