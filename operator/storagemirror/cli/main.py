"""`storagemirror VERB ...`: finds the verb and imports nothing else, so that an agent stays lean.

A verb is a module `storagemirror.cli.<verb>` with `configure(parser)`, which adds its arguments, and
`run(args) -> int`, which does the work and returns the exit status.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import sys
from collections.abc import Sequence

from storagemirror import __version__
from storagemirror.errors import COMMAND_LINE, Held, StorageMirrorError

VERBS = {
    "mirror": "copy a tree to another directory or host, and keep what is equal",
    "serve": "be the target of mirrors from other hosts",
    "verify": "compare two sides by checksum, and say what differs",
    "keys": "make the certificates with which two hosts know each other",
    "size": "what a mirror would cost: files, bytes, time; nothing is sent or written",
    "agent": "the process in a sync pod (started by the operator)",
    "guard": "freeze and thaw a volume for the agent beside it (started by the operator)",
    "tracer": "open the kernel's trace of a volume for the agent beside it (started by the operator)",
    "operator": "reconcile MirrorPairs (started by the chart)",
    "release": "let go of every pod that the operator holds on to (run by helm uninstall)",
    "crds": "print the CustomResourceDefinitions",
}

EXIT_STATUS = """exit status:
  0    done; of verify: both sides are equal
  1    failed, or some entries did (each is named, with what to do); of verify: they differ
  2    the command line cannot be meant
  3    held on purpose: the message names a token that lets it through
  130  interrupted (Ctrl-C, SIGTERM): the next run goes on from there
"""


def build_parser(verb: str | None) -> argparse.ArgumentParser:
    """The parser with every verb's name and the arguments of `verb` alone."""
    parser = argparse.ArgumentParser(
        prog="storagemirror",
        description="A live copy of a volume, and an application that comes back by itself when its node dies.",
        epilog=EXIT_STATUS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"storagemirror {__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    for name, text in VERBS.items():
        sub = verbs.add_parser(
            name, help=text, description=text, epilog=EXIT_STATUS, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        if name == verb:
            importlib.import_module(f"storagemirror.cli.{name}").configure(sub)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; returns its exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    verb = next((w for w in words if w in VERBS), None)
    args = build_parser(verb).parse_args(words)
    try:
        status = importlib.import_module(f"storagemirror.cli.{args.verb}").run(args)
    except StorageMirrorError as e:
        print(f"storagemirror {args.verb}: {e.reason}: {e.message}", file=sys.stderr)
        if e.hint:
            print(f"  {e.hint}", file=sys.stderr)
        return 3 if isinstance(e, Held) else 2 if e.reason == COMMAND_LINE else 1
    except KeyboardInterrupt:
        print(f"storagemirror {args.verb}: interrupted; the next run goes on from here", file=sys.stderr)
        return 130
    return int(status)


if __name__ == "__main__":
    sys.exit(main())
