"""`storagemirror mirror SRC DST`: the engine without a cluster.

Two processes, over the real protocol: this one reads SRC, the other writes DST.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import sys

from storagemirror.cli.progress import JsonLines, Terminal
from storagemirror.contract import FIRST_EPOCH, TargetPolicy
from storagemirror.errors import BadInput, StorageMirrorError, VolumeError
from storagemirror.fs.source import SourceVolume
from storagemirror.fs.target import TargetVolume
from storagemirror.sync.observer import SilentObserver
from storagemirror.sync.requests import Expectation, MirrorOptions, MirrorResult, TargetOptions
from storagemirror.sync.source import SourceSession, hello
from storagemirror.sync.stream import SocketStream
from storagemirror.sync.target import TargetSession

PAIR = "by-hand"
"""The pair of copies that are made without a cluster: a target of a MirrorPair is never mistaken for one."""
VOLUME = "data"

DESCRIPTION = """\
Make DST equal to SRC: owner, mode, times, links, extended attributes, ACLs, holes, everything; and delete there what
SRC does not have. What is equal is not sent again, so a mirror that was stopped goes on where it was.

DST must be empty or a copy that this command made (it keeps a directory .storagemirror there), else say --adopt.
It is made when it does not exist. Nothing outside of DST is written, and nothing on SRC.

Two things stop it on purpose, with a token that lets exactly that through (--confirm TOKEN): more than
--max-delete-percent of the entries of the last full mirror would be deleted; SRC is another file system, or another
directory, than the one that was copied.
"""

EXAMPLES = """\
examples:
  storagemirror mirror /srv/data /mnt/copy
  storagemirror mirror --json /srv/data /mnt/copy | jq .
  rsync -anciHAX --delete --exclude=/.storagemirror --exclude=/lost+found /srv/data/ /mnt/copy/   # prove it: no output

"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    parser.description = DESCRIPTION
    parser.epilog = EXAMPLES + (parser.epilog or "")
    parser.add_argument("source", metavar="SRC", help="directory to copy; only read")
    parser.add_argument("target", metavar="DST", help="directory that becomes equal to SRC")
    parser.add_argument("--adopt", action="store_true", help="DST may hold anything: it is made equal to SRC")
    parser.add_argument(
        "--max-delete-percent",
        type=_percent,
        default=50,
        metavar="N",
        help="stop before more than N %% of the entries of the last full mirror are deleted (default 50; from 10 "
        "entries up; 100: never stop)",
    )
    parser.add_argument("--confirm", metavar="TOKEN", help="let through the one hold that named this token")
    parser.add_argument(
        "--no-sync",
        action="store_true",
        help="do not wait until all is on DST's disk (after a power cut the next run sends again what may be lost)",
    )
    output = parser.add_mutually_exclusive_group()
    output.add_argument(
        "--json",
        action="store_true",
        help='one JSON object a line on stdout: {"type": "progress"}, {"type": "failed"}, and at the end '
        '{"type": "result"} or {"type": "error"}',
    )
    output.add_argument("--quiet", "-q", action="store_true", help="say nothing unless something goes wrong")


def _percent(text: str) -> int:
    value = int(text)
    if not 0 <= value <= 100:
        raise argparse.ArgumentTypeError(f"expected 0 to 100, got {text}")
    return value


def run(args: argparse.Namespace) -> int:
    """0: equal now. 1: some entries could not be written (each was named)."""
    output: JsonLines | Terminal
    output = JsonLines(sys.stdout) if args.json else Terminal(sys.stdout, sys.stderr, quiet=args.quiet)
    try:
        result = _mirror(args, output)
    except StorageMirrorError as e:
        output.error(e)
        raise
    output.result(result)
    return 1 if result.failed else 0


def _mirror(args: argparse.Namespace, output: JsonLines | Terminal) -> MirrorResult:
    with SourceVolume.open(args.source) as source:
        _make_target(args.target)
        _refuse_nested(source, args.target)
        ours, theirs = socket.socketpair()
        sys.stdout.flush()
        child = os.fork()
        if child == 0:
            ours.close()
            _serve(args, theirs)
        theirs.close()
        session = SourceSession(
            source,
            SocketStream(ours),
            hello(PAIR, VOLUME, FIRST_EPOCH, 1, source.identity),
            output,
        )
        try:
            session.handshake()
            result = session.mirror(MirrorOptions())
            if not args.no_sync:
                output.syncing()
                session.mark(result.started_ns)
        finally:
            session.close()
            _, status = os.waitpid(child, 0)
        if os.waitstatus_to_exitcode(status) != 0:
            raise VolumeError("the process that writes DST ended with an error", reason="TargetFailing")
        return result


def _serve(args: argparse.Namespace, connection: socket.socket) -> None:
    """The writing process; does not return. What goes wrong here the reading process hears over the wire."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C: the reader ends the session, we finish in order
    status = 0
    try:
        policy = TargetPolicy.ADOPT if args.adopt else TargetPolicy.EMPTY
        expect = Expectation(
            PAIR, VOLUME, FIRST_EPOCH, TargetOptions(policy, args.max_delete_percent), confirm=args.confirm
        )
        with TargetVolume.open(args.target) as target:
            session = TargetSession(
                target, SocketStream(connection), expect, SilentObserver(), sync_at_end=not args.no_sync
            )
            session.serve()
    except StorageMirrorError:
        status = 1
    except Exception as e:
        print(f"storagemirror mirror: the writing process failed: {e!r}", file=sys.stderr)
        status = 1
    finally:
        os._exit(status)


def _make_target(path: str) -> None:
    try:
        os.mkdir(path, 0o755)
    except FileExistsError:
        return
    except OSError as e:
        raise VolumeError(f"cannot make the directory {path}: {e.strerror}", reason="TargetNotWritable") from e


def _refuse_nested(source: SourceVolume, target: str) -> None:
    """One within the other: the copy would copy itself."""
    root = os.fstat(source.tree.root)
    here, there = os.path.realpath(os.fsdecode(source.tree.path)), os.path.realpath(target)
    found = os.stat(there)
    if (root.st_dev, root.st_ino) == (found.st_dev, found.st_ino):
        raise BadInput(f"expected two directories, got {here} twice")
    for inner, outer in ((here, there), (there, here)):
        if os.path.commonpath((inner, outer)) == outer:
            raise BadInput(f"expected two directories apart from each other, but {inner} is in {outer}")
