"""`storagemirror guard`: the process that freezes and thaws a volume for the engine beside it."""

from __future__ import annotations

import argparse
import os

from storagemirror.errors import BadInput

_MORE = """
Started by the operator, twice in the pod of a source agent with spec.agents.privilege: Freeze. It needs CAP_SYS_ADMIN,
and CAP_IPC_LOCK to stay in memory. See docs/guard.md.
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
        default=os.environ.get("STORAGEMIRROR_GUARD_PATH", "/guard"),
        help="directory that both guards and the engine share (default /guard) [STORAGEMIRROR_GUARD_PATH]",
    )
    parser.add_argument(
        "--stranger-seconds",
        type=float,
        default=10.0,
        help="how long a volume that is found frozen at the start, by nobody known, is left so (default 10)",
    )


def run(args: argparse.Namespace) -> int:
    """Guard until told to end."""
    from storagemirror.agent.guard_parts import Volume
    from storagemirror.agent.guard_process import end, guard

    try:
        volume = Volume(args.volume)
        status = guard(volume, args.shared, args.stranger_seconds)
    except OSError as e:
        raise BadInput(f"cannot guard {args.volume}: {e}") from e
    end(status)
    return status
