"""`storagemirror size SRC DST`: what would a mirror cost?"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import replace

from storagemirror.cli.ends import Address, add_ends, opened, terms_of
from storagemirror.cli.progress import JsonLines, Terminal, add_output, duration, left_lines, size
from storagemirror.cli.selecting import add_selecting, compare_of, selecting_of
from storagemirror.entry import printable
from storagemirror.errors import COMMAND_LINE, BadInput, StorageMirrorError
from storagemirror.fs.source import SourceVolume
from storagemirror.sync.sizing import Size

DESCRIPTION = """\
Say what `mirror` with the same options would do: files and bytes that would be sent, attributes that would be set,
entries that would be deleted. Both sides are looked at as a mirror does, and nothing is sent or written on either; DST
may be any directory, or none yet.

Bytes are the files' lengths: holes are not sent, and of a large file that both have only what differs in it. With
--compare checksum only what size and time show is counted: nobody reads the files.

The time is an estimate: what the comparison took, and reading what is to be sent, judged by a sample of at most a
second. DST's disk and the link are not tried: where they are slower it takes longer. With --rate at least as long as
so many bytes a second take.
"""
EXAMPLES = """\
examples:
  storagemirror size /srv/data /mnt/copy
  storagemirror size --exclude 'cache/' --orphans keep /srv/data /mnt/copy
  storagemirror size --rate 100M --json /srv/data backup.example.org:7460 --keys source | jq .

"""
_UNITS = {"": 1, "K": 1000, "M": 1000**2, "G": 1000**3, "Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30}


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    parser.description = DESCRIPTION
    parser.epilog = EXAMPLES + (parser.epilog or "")
    add_ends(parser, "directory that would become equal to SRC")
    add_selecting(parser)
    parser.add_argument(
        "--rate", type=_rate, default=0, metavar="BYTES", help="bytes a second that the link carries, such as 100M"
    )
    add_output(parser)
    parser.set_defaults(adopt=False, max_delete_percent=None, confirm=None, no_sync=True)


def _rate(text: str) -> int:
    number = text.rstrip("KMGi")
    if not (number.isascii() and number.isdigit() and text[len(number) :] in _UNITS and int(number)):
        raise argparse.ArgumentTypeError(f"expected bytes a second, such as 100M or 20Mi, got {text!r}")
    return int(number) * _UNITS[text[len(number) :]]


def run(args: argparse.Namespace) -> int:
    """0: it was found out."""
    output: JsonLines | Terminal
    output = JsonLines(sys.stdout) if args.json else Terminal(sys.stdout, sys.stderr, quiet=args.quiet)
    try:
        found = _size(args, output)
    except StorageMirrorError as e:
        output.error(e)
        raise
    if isinstance(output, JsonLines):
        output.say(_json(found))
    else:
        output.summary(left_lines(found.left_alone), _sentence(found), found.not_kept)
    return 0


def _size(args: argparse.Namespace, output: JsonLines | Terminal) -> Size:
    terms = replace(terms_of(args), under=selecting_of(args))
    with SourceVolume.open(args.source) as source, ExitStack() as stack:
        target = args.target
        if not isinstance(target, Address) and not os.path.lexists(target):
            if not os.path.isdir(os.path.dirname(os.path.abspath(target))):
                raise BadInput(f"expected a directory in which {target} can be made", reason=COMMAND_LINE)
            target = stack.enter_context(tempfile.TemporaryDirectory())  # as empty as that would be
        session = stack.enter_context(opened(source, target, terms, output, keys=args.keys, look=True))
        found = session.size(compare_of(args))
    if not args.rate:
        return found
    carried = (found.new_bytes + found.changed_bytes) / args.rate
    return replace(found, estimated_seconds=max(found.estimated_seconds, found.compare_seconds + carried))


def _sentence(found: Size) -> str:
    return (
        f"{found.entries:,} entries, {size(found.bytes_total)}. A mirror would send {found.new_files:,} new files "
        f"({size(found.new_bytes)}), {found.changed_files:,} that changed (at most {size(found.changed_bytes)}), "
        f"{found.others:,} other entries, attributes of {found.metadata:,}, and delete {found.deleted:,}; "
        f"about {duration(found.estimated_seconds)}, as far as this side can tell"
    )


def _json(found: Size) -> dict[str, object]:
    return {
        "type": "result",
        "entries": found.entries,
        "bytesTotal": found.bytes_total,
        "newFiles": found.new_files,
        "newBytes": found.new_bytes,
        "changedFiles": found.changed_files,
        "changedBytes": found.changed_bytes,
        "others": found.others,
        "metadata": found.metadata,
        "deleted": found.deleted,
        "leftAlone": [
            {"kind": left.kind.value, "count": left.count, "first": [printable(path) for path in left.first]}
            for left in found.left_alone
        ],
        "notKept": [
            {"kind": kept.kind.value, "count": kept.count, "first": [printable(path) for path in kept.first]}
            for kept in found.not_kept
        ],
        "compareSeconds": round(found.compare_seconds, 3),
        "estimatedSeconds": round(found.estimated_seconds, 3),
    }
