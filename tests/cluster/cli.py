"""The command line: `python -m tests.cluster [--prefix sm] VERB ...`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.cluster.cluster import Cluster
from tests.cluster.errors import ClusterError
from tests.cluster.faults import Slowness
from tests.cluster.filesystems import FileSystem
from tests.cluster.images import ensure_pause, ensure_testbox
from tests.cluster.tools import ensure_tools

Run = Callable[[Cluster, argparse.Namespace], None]
Verbs = Any  # argparse keeps the type of what add_subparsers returns to itself


def build_parser() -> argparse.ArgumentParser:
    """The parser with every verb; a chosen verb leaves its function in `run`."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.cluster",
        description="A real Kubernetes cluster of several nodes on this machine, and bad luck on order.",
        epilog="The README beside this package says how it is made and what it cannot do.",
    )
    parser.add_argument("--prefix", default="sm", help="whose cluster; two prefixes run side by side (default: sm)")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    _add_whole(verbs)
    _add_volumes(verbs)
    _add_faults(verbs)
    return parser


def split_foreign(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Our own words, and those that are another program's: all after `kubectl`, all after the node of `exec`."""
    at = 0
    while at < len(argv) and argv[at].startswith("-"):
        at += 1 if "=" in argv[at] or argv[at] in ("-h", "--help") else 2
    own = at + {"kubectl": 1, "exec": 2}.get(argv[at] if at < len(argv) else "", len(argv))
    return list(argv[:own]), list(argv[own:])


def _verb(verbs: Verbs, name: str, text: str, run: Run, *, add_help: bool = True) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = verbs.add_parser(name, help=text, description=text, add_help=add_help)
    parser.set_defaults(run=run)
    return parser


def _add_whole(verbs: Verbs) -> None:
    up = _verb(verbs, "up", "bring it up, or back to a good state", lambda c, a: c.up(a.nodes))
    up.add_argument(
        "--nodes", type=int, choices=range(1, 17), metavar="N", help="1 to 16 (default: 3, or as many as run)"
    )
    _verb(verbs, "down", "take it down, leave nothing", lambda c, a: c.down())
    _verb(verbs, "status", "what runs", _status)
    _verb(verbs, "kubeconfig", "print the path of the kubeconfig", lambda c, a: print(c.kubeconfig))
    _verb(verbs, "kubectl", "run kubectl on it: kubectl ARGS...", _kubectl, add_help=False)
    load = _verb(verbs, "load", "import an image archive on every node's disk, once", _load)
    load.add_argument("archive", type=Path, help="docker-archive file, or `testbox` for the image of the tests' pods")
    execute = _verb(verbs, "exec", "run a command on a node", _exec)
    execute.add_argument("node", help="and then the command, with its own options (default: bash)")
    tools = _verb(verbs, "tools", "build hyperkube, kubectl, coredns, helm, kubeconform; print their paths", _tools)
    tools.add_argument("names", nargs="*", help="only these")


def _add_volumes(verbs: Verbs) -> None:
    volume = verbs.add_parser("volume", help="add, grow, remove, mount, unmount, reformat, list volumes")
    subs = volume.add_subparsers(dest="subverb", metavar="WHAT", required=True)
    add = _verb(subs, "add", "a volume on one node, offered as a PersistentVolume of class `local`", _volume_add)
    add.add_argument("node")
    movable = _verb(subs, "add-movable", "a volume for any node, offered as one of class `movable`", _volume_movable)
    for parser in (add, movable):
        parser.add_argument("name", help="also the PersistentVolume's name")
        parser.add_argument("--size", default="400Mi", help="such as 300Mi or 2Gi (default: 400Mi)")
        parser.add_argument("--fs", type=FileSystem, choices=list(FileSystem), default=FileSystem.EXT4)
        parser.add_argument("--claim", default="", metavar="NAMESPACE/NAME", help="reserve it for this claim")
    add.add_argument("--no-remount", action="store_true", help="after a boot its place is a bare directory")
    grow = _verb(subs, "grow", "make it larger, in use or not", _grown)
    grow.add_argument("name")
    grow.add_argument("size")
    for name, text, run in (
        ("remove", "take it away, with its PersistentVolume", lambda c, a: c.remove_volume(a.name)),
        ("unmount", "take it from its place", lambda c, a: c.unmount_volume(a.name)),
        ("mount", "mount it in its place again", lambda c, a: c.mount_volume(a.name)),
        ("reformat", "put another, empty file system in its place", lambda c, a: c.reformat_volume(a.name)),
        ("path", "where this machine sees its files", lambda c, a: print(c.volume_path(a.name))),
    ):
        _verb(subs, name, text, run).add_argument("name")
    _verb(subs, "list", "all volumes", _volume_list)


def _add_faults(verbs: Verbs) -> None:
    off = _verb(verbs, "poweroff", "take a node's power; unsynced data is lost", lambda c, a: c.power_off(a.node))
    off.add_argument("node")
    boot = _verb(verbs, "boot", "give it back, wait until the node is Ready", lambda c, a: c.boot(a.node, bare=a.bare))
    boot.add_argument("node")
    boot.add_argument("--bare", action="store_true", help="mount none of its volumes")
    for name, text, run in (
        ("cut", "pull the cable of a node or of cp", lambda c, a: c.cut(a.who)),
        ("heal", "plug it in again", lambda c, a: c.heal(a.who)),
    ):
        _verb(verbs, name, text, run).add_argument("who", metavar="NODE|cp")
    slow = _verb(verbs, "slow", "make a link slow, lossy or long; without options, good again", _slow)
    slow.add_argument("who", metavar="NODE|cp")
    slow.add_argument("--rate", default="", help="such as 10mbit, each way")
    slow.add_argument("--loss", default=0.0, type=float, metavar="PERCENT", help="of the packets, each way")
    slow.add_argument("--delay", default=0.0, type=float, metavar="MS", help="each way")
    _verb(verbs, "restart-kubelets", "every kubelet starts anew; pods run on", lambda c, a: c.restart_kubelets())
    api = _verb(verbs, "apiserver", "stop it, start it, or let its address answer 503", _apiserver)
    api.add_argument("what", choices=["stop", "start", "503"])
    api.add_argument("switch", nargs="?", choices=["on", "off"], default="on", help="for 503")


def _status(cluster: Cluster, args: argparse.Namespace) -> None:
    for node in cluster.status():
        words = (
            "on" if node.power else "off",
            "plugged" if node.cable else "cut",
            "Ready" if node.ready else "NotReady",
        )
        print(f"{node.name}: power {words[0]}, cable {words[1]}, {words[2]}")
    print(f"KUBECONFIG={cluster.kubeconfig}")


def _kubectl(cluster: Cluster, args: argparse.Namespace) -> None:
    cluster.kubeconfig  # noqa: B018  (raises NotUp)
    words = cluster.kubectl_command(*args.words)
    sys.stdout.flush()
    os.execv(words[0], words)


def _exec(cluster: Cluster, args: argparse.Namespace) -> None:
    words = cluster.exec_command(args.node, *(args.words or ["bash"]))
    sys.stdout.flush()
    os.execvp(words[0], words)


def _load(cluster: Cluster, args: argparse.Namespace) -> None:
    archive = ensure_testbox() if str(args.archive) == "testbox" else args.archive
    for name in cluster.load(archive):
        print(f"loaded {name}")


def _tools(cluster: Cluster, args: argparse.Namespace) -> None:
    found = ensure_tools(args.names) if args.names else ensure_tools()
    for name, path in found.items():
        print(f"{name} {path}")
    if not args.names:
        print(f"pause-image {ensure_pause()}")


def _volume_add(cluster: Cluster, args: argparse.Namespace) -> None:
    volume = cluster.add_volume(args.node, args.name, args.size, args.fs, claim=args.claim, remount=not args.no_remount)
    print(f"PersistentVolume {volume.name}: {volume.fs} of {volume.size >> 20} MiB on {volume.node}")


def _volume_movable(cluster: Cluster, args: argparse.Namespace) -> None:
    volume = cluster.add_movable_volume(args.name, args.size, args.fs, claim=args.claim)
    print(f"PersistentVolume {volume.name}: {volume.fs} of {volume.size >> 20} MiB on any node")


def _grown(cluster: Cluster, args: argparse.Namespace) -> None:
    print(f"{args.name} has {cluster.grow_volume(args.name, args.size).size >> 20} MiB now")


def _volume_list(cluster: Cluster, args: argparse.Namespace) -> None:
    for volume in cluster.volumes():
        print(f"{volume.name} {volume.fs} {volume.size >> 20}Mi {volume.node or 'any node'}")


def _slow(cluster: Cluster, args: argparse.Namespace) -> None:
    cluster.slow(args.who, Slowness(args.rate, args.loss / 100, args.delay / 1000))


def _apiserver(cluster: Cluster, args: argparse.Namespace) -> None:
    if args.what == "stop":
        cluster.stop_apiserver()
    elif args.what == "503" and args.switch == "on":
        cluster.answer_503()
    else:
        cluster.start_apiserver()


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; 0 done, 1 failed (the message says why), 2 not understood."""
    own, foreign = split_foreign(sys.argv[1:] if argv is None else argv)
    args = build_parser().parse_args(own)
    args.words = foreign
    try:
        args.run(Cluster(args.prefix), args)
    except ClusterError as e:
        print(f"cluster {args.prefix}: {e.message}", file=sys.stderr)
        if e.hint:
            print(f"  {e.hint}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"cluster {args.prefix}: interrupted; `up` or `down` copes with what is half-made", file=sys.stderr)
        return 130
    return 0
