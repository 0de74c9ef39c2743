"""`storagemirror mirror SRC DST`: the engine without a cluster.

Two processes, over the real protocol: this one reads SRC, the other writes DST (`storagemirror.cli.ends`).
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace

from storagemirror.cli import transfer
from storagemirror.cli.ends import Address, add_ends, add_keep, add_terms, make_target, opened, terms_of
from storagemirror.cli.progress import JsonLines, Terminal, add_output
from storagemirror.cli.selecting import add_selecting, compare_of, selecting_of
from storagemirror.errors import StorageMirrorError
from storagemirror.fs.source import SourceVolume
from storagemirror.sync.requests import MirrorOptions, MirrorResult

DESCRIPTION = """\
Make DST equal to SRC: owner, mode, times, links, extended attributes, ACLs, holes, everything; and delete there what
SRC does not have. What is equal is not sent again, so a mirror that was stopped goes on where it was.

DST must be empty or a copy that this command made (it keeps a directory .storagemirror there), else say --adopt.
It is made when it does not exist. Nothing outside of DST is written, and nothing on SRC.

DST may be on another host, where `storagemirror serve` writes it: HOST:PORT, over TLS with certificates on both sides
(`storagemirror keys`). What DST may hold, and how much may be deleted, is said there.

Two things stop it on purpose, with a token that lets exactly that through (--confirm TOKEN): more than
--max-delete-percent of the entries of the last full mirror would be deleted; SRC is another file system, or another
directory, than the one that was copied.
"""

EXAMPLES = """\
examples:
  storagemirror mirror /srv/data /mnt/copy
  storagemirror mirror /srv/data backup.example.org:7460 --keys source
  storagemirror mirror --json /srv/data /mnt/copy | jq .
  storagemirror mirror --bwlimit 20Mi --compress zstd:6 /srv/data /mnt/copy
  storagemirror mirror --exclude 'cache/' --exclude '*.tmp' --include keep.tmp /srv/data /mnt/copy
  storagemirror mirror --orphans move --older-than 30d /srv/data /mnt/copy
  rsync -anciHAX --delete --exclude=/.storagemirror --exclude=/lost+found /srv/data/ /mnt/copy/   # prove it: no output

"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    parser.description = DESCRIPTION
    parser.epilog = EXAMPLES + (parser.epilog or "")
    add_ends(parser, "directory that becomes equal to SRC")
    add_terms(parser)
    add_selecting(parser)
    add_keep(parser)
    transfer.configure(parser)
    add_output(parser)


def run(args: argparse.Namespace) -> int:
    """0: equal now. 1: some entries could not be read or written (each was named)."""
    output: JsonLines | Terminal
    output = JsonLines(sys.stdout) if args.json else Terminal(sys.stdout, sys.stderr, quiet=args.quiet)
    try:
        result = _mirror(args, output)
    except StorageMirrorError as e:
        output.error(e)
        raise
    output.result(result)
    return 1 if result.failed or result.unread else 0


def _mirror(args: argparse.Namespace, output: JsonLines | Terminal) -> MirrorResult:
    terms = replace(terms_of(args), under=selecting_of(args))
    with SourceVolume.open(args.source) as source:
        if not isinstance(args.target, Address):
            make_target(args.target)
        with opened(source, args.target, terms, output, keys=args.keys) as session:
            session.govern(transfer.transfer_of(args))
            result = session.mirror(MirrorOptions(compare_of(args)))
            if terms.sync:
                output.syncing()
                session.mark(result.started_ns)
            return result
