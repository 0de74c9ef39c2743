"""`storagemirror tracer`: the process that opens the kernel's trace of a volume for the engine beside it."""

from __future__ import annotations

import argparse
import os

from storagemirror.errors import BadInput

_MORE = """
Started by the operator in the pod of a source agent with spec.agents.privilege: Freeze. It needs CAP_SYS_ADMIN, and no
AppArmor profile that forbids mounting. See docs/capture.md.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.description = f"{parser.description}.\n{_MORE}"
    parser.add_argument(
        "--volume",
        default=os.environ.get("STORAGEMIRROR_VOLUME_PATH", "/volume"),
        help="where the volume is mounted (default /volume) [STORAGEMIRROR_VOLUME_PATH]",
    )
    parser.add_argument(
        "--shared",
        default=os.environ.get("STORAGEMIRROR_TRACER_PATH", "/tracer"),
        help="directory that the tracer and the engine share (default /tracer) [STORAGEMIRROR_TRACER_PATH]",
    )
    parser.add_argument(
        "--uid",
        default=os.environ.get("POD_UID", f"pid-{os.getpid()}"),
        help="the pod's UID, which the trace in the kernel is named after [POD_UID]",
    )


def run(args: argparse.Namespace) -> int:
    """Serve engines until told to end."""
    from storagemirror.agent.guard_parts import Wake
    from storagemirror.agent.tracer import Tracer

    wake = Wake()
    wake.on_signals()
    try:
        return Tracer(args.volume, args.shared, args.uid, wake).run()
    except OSError as e:
        raise BadInput(f"cannot trace {args.volume}: {e}") from e
