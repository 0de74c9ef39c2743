"""`storagemirror verify SRC DST`: are two sides equal, content and all?"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace

from storagemirror.cli import transfer
from storagemirror.cli.ends import add_ends, add_terms, opened, terms_of
from storagemirror.cli.progress import JsonLines, Terminal, add_output
from storagemirror.cli.selecting import add_selecting, compare_of, selecting_of
from storagemirror.cli.verdict import Verdict, report
from storagemirror.clock import SystemClock
from storagemirror.errors import StorageMirrorError
from storagemirror.fs.source import SourceVolume
from storagemirror.sync.requests import MirrorOptions
from storagemirror.sync.verifying import Verified, Verifying

DESCRIPTION = """\
Compare DST with SRC: names, types, sizes, times, owners, modes, extended attributes, links, and the content of every
file by checksum, read on both sides at once. Says which entries differ, and in what. Nothing is written, on either
side; DST may be any directory, whoever made it.

What differs is looked at once more at the end. Where SRC was changed meanwhile, that is told as `changing`, and is no
difference. Of a directory that only one side has, what is in it is not told.

Under the rules of a mirror (--exclude, --orphans ...) say the same rules: what is left out is not compared, and what
orphans are kept is counted apart.

--repair then mirrors what differs, and sends those files whose content alone differs: no mirror would find these, as
their size and time are equal. What may be deleted, and whose copy DST is, is as with `mirror`.
"""
EXAMPLES = """\
examples:
  storagemirror verify /srv/data /mnt/copy
  storagemirror verify /srv/data backup.example.org:7460 --keys source --repair
  storagemirror verify --json /srv/data /mnt/copy | jq 'select(.type == "result")'

"""
_LIST = 1_000
NAMES = 100


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    parser.description = DESCRIPTION
    parser.epilog = EXAMPLES + (parser.epilog or "")
    add_ends(parser, "directory that should be equal to SRC")
    parser.add_argument("--repair", action="store_true", help="make DST equal where it differs")
    parser.add_argument(
        "--names",
        type=_names,
        default=NAMES,
        metavar="N",
        help=f"tell the first N differences by name (default {NAMES}, at most 1000); all are counted",
    )
    add_terms(parser)
    add_selecting(parser)
    transfer.configure(parser)
    add_output(parser)


def _names(text: str) -> int:
    value = int(text)
    if not 0 <= value <= 1000:
        raise argparse.ArgumentTypeError(f"expected 0 to 1000, got {text}")
    return value


def run(args: argparse.Namespace) -> int:
    """0: equal, or repaired. 1: they differ."""
    output: JsonLines | Terminal
    output = JsonLines(sys.stdout) if args.json else Terminal(sys.stdout, sys.stderr, quiet=args.quiet)
    try:
        verdict = _verify(args, output)
    except StorageMirrorError as e:
        output.error(e)
        raise
    report(verdict, output, names=args.names, json=args.json, quiet=args.quiet)
    return 0 if verdict.equal else 1


def _verify(args: argparse.Namespace, output: JsonLines | Terminal) -> Verdict:
    terms = replace(terms_of(args), under=selecting_of(args))
    keeps = terms.under.keeps
    with SourceVolume.open(args.source) as source:
        with opened(source, args.target, terms, output, keys=args.keys, look=True) as session:
            session.govern(transfer.transfer_of(args))
            found = Verifying(session, source, SystemClock(), output.progress, keeps).run()
            not_kept = session.not_kept.counts()
        if not (args.repair and found.differing):
            return Verdict(found, not_kept)
        with opened(source, args.target, terms, output, keys=args.keys) as session:
            session.govern(transfer.transfer_of(args))
            mirrored = session.mirror(MirrorOptions(compare_of(args)))
            for at in range(0, len(found.damaged), _LIST):
                session.resend(list(found.damaged[at : at + _LIST]))
            session.mark(mirrored.started_ns)
            left = Verifying(session, source, SystemClock(), keeps_orphans=keeps).recheck(list(found.paths))
        return Verdict(found, mirrored.not_kept, repaired=_repaired(found, len(left)), left=tuple(left))


def _repaired(found: Verified, left: int) -> int:
    """Of those that were looked at again; what is beyond them the next run tells."""
    return len(found.paths) - left
