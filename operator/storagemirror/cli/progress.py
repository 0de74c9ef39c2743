"""What `storagemirror mirror` shows: for people, or as JSON for programs."""

from __future__ import annotations

import argparse
import time
from collections import Counter
from typing import TextIO

import msgspec

from storagemirror.entry import NotKeptKind, printable
from storagemirror.errors import Held, StorageMirrorError
from storagemirror.sync.left import LeftAlone, LeftKind
from storagemirror.sync.observer import Event, EventKind, NotKeptCount, Progress, SilentObserver
from storagemirror.sync.requests import MirrorResult

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")

_MEANING = {
    NotKeptKind.OWNER: "owners (only root may give files away)",
    NotKeptKind.MODE: "modes",
    NotKeptKind.TIMES: "times",
    NotKeptKind.XATTR: "extended attributes",
    NotKeptKind.ACL: "access control lists",
    NotKeptKind.CAPABILITY: "file capabilities",
    NotKeptKind.DEVICE: "device nodes (only root may make them)",
    NotKeptKind.HARD_LINK: "hard links (more names than DST's file system gives a file: copied instead)",
    NotKeptKind.UNREADABLE: "entries that cannot be read",
    NotKeptKind.NAME: "names that DST does not take",
    NotKeptKind.OTHER_FILE_SYSTEM: "other file systems, mounted in SRC",
    NotKeptKind.RESERVED_NAME: "a .storagemirror of SRC's own (the name is ours)",
    NotKeptKind.CHANGING: "files that changed each time they were read (the next run sends them again)",
    NotKeptKind.FLAGS: "inode flags (DST's file system has none such, or they may not be set)",
    NotKeptKind.PROJECT: "project ids (DST's file system has none, or they may not be set)",
    NotKeptKind.SHARED: "shared extents (reflinks: these files take their full room on DST)",
    NotKeptKind.REFUSED: "entries that DST refused",
}

_LEFT = {
    LeftKind.NEWER: "files that are newer in DST",
    LeftKind.ORPHAN: "entries that SRC does not have",
}


def left_lines(left: tuple[LeftAlone, ...]) -> list[str]:
    """What was left as it is, for people."""
    lines = []
    for found in left:
        names = ", ".join(found.first_printable())
        lines.append(f"left alone: {found.count:,} {_LEFT[found.kind]}{': ' if names else ''}{names}")
    return lines


def add_output(parser: argparse.ArgumentParser) -> None:
    """How what happens is told."""
    output = parser.add_mutually_exclusive_group()
    output.add_argument(
        "--json",
        action="store_true",
        help='one JSON object a line on stdout: {"type": "progress"}, {"type": "failed"}, and at the end '
        '{"type": "result"} or {"type": "error"}',
    )
    output.add_argument("--quiet", "-q", action="store_true", help="say nothing unless something goes wrong")


_NAMED = 100
"""Entries of one kind of failure that a person is shown by name."""
_FAILURES = {EventKind.FAILED_ENTRY: "not written", EventKind.UNREAD_ENTRY: "not read"}


def size(count: float) -> str:
    """Bytes for people: `1.5 GiB`."""
    unit = 0
    while count >= 1024 and unit < len(_UNITS) - 1:
        count /= 1024
        unit += 1
    return f"{count:.0f} {_UNITS[unit]}" if unit == 0 else f"{count:.1f} {_UNITS[unit]}"


def duration(seconds: float) -> str:
    """`0:07`, `12:34`, `1:02:03`."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def describe(progress: Progress) -> str:
    """One line."""
    parts = [f"{progress.files_done:,} entries", size(progress.bytes_done)]
    if progress.files_total is not None and progress.bytes_total is not None:
        share = progress.bytes_done / progress.bytes_total if progress.bytes_total else 1.0
        parts = [
            f"{share:4.0%}",
            f"{progress.files_done:,} of {progress.files_total:,} entries",
            f"{size(progress.bytes_done)} of {size(progress.bytes_total)}",
        ]
    parts.append(f"{size(progress.bytes_per_second)}/s")
    if progress.bytes_total is not None and progress.bytes_per_second > 0:
        left = (progress.bytes_total - progress.bytes_done) / progress.bytes_per_second
        parts.append(f"{duration(left)} left")
    return "  ".join(parts)


class Terminal(SilentObserver):
    """For people: a line that moves where there is a terminal, and a summary."""

    def __init__(self, out: TextIO, err: TextIO, *, quiet: bool) -> None:
        self._out = out
        self._err = err
        self._quiet = quiet
        self._moving = err.isatty() and not quiet
        self._width = 0
        self._hints: set[str] = set()
        self._failures: Counter[EventKind] = Counter()
        self._started = time.monotonic()

    def progress(self, progress: Progress) -> None:
        """See `Observer`."""
        self._line(describe(progress))

    def syncing(self) -> None:
        """All is sent; now it must reach the disk."""
        self._line("waiting until all is on the disk")

    def event(self, event: Event) -> None:
        """See `Observer`."""
        if event.kind is EventKind.SHORT_OF_SPACE:
            self._clear()
            print(f"warning: {event.detail}", file=self._err)
        words = _FAILURES.get(event.kind)
        if words is None:
            return
        self._failures[event.kind] += 1
        if self._failures[event.kind] > _NAMED:
            return
        self._clear()
        print(f"{words}: {event.detail}", file=self._err)
        if self._failures[event.kind] == _NAMED:
            print(f"{words}: if there are more, --json names them; they are counted at the end", file=self._err)
        if event.hint and event.hint not in self._hints:
            self._hints.add(event.hint)
            print(f"  {event.hint}", file=self._err)

    def result(self, result: MirrorResult) -> None:
        """What came of it."""
        self._clear()
        self._not_kept(result.not_kept)
        for line in left_lines(result.left_alone):
            print(line, file=self._err)
        if self._quiet:
            return
        if result.spared_bytes:
            before = result.wire_bytes + result.spared_bytes
            print(f"compressed {size(before)} to {size(result.wire_bytes)}", file=self._out)
        seconds = max(time.monotonic() - self._started, 0.001)
        words = "mirrored" if not result.failed else f"{result.failed:,} ENTRIES COULD NOT BE WRITTEN; mirrored"
        if result.unread:
            words = f"{result.unread:,} ENTRIES COULD NOT BE READ; {words}"
        print(
            f"{words} {result.entries:,} entries, {size(result.bytes_total)}: sent {result.files_sent:,} files "
            f"({size(result.bytes_sent)}, {size(result.bytes_sent / seconds)}/s), attributes of "
            f"{result.metadata_sent:,}, {result.links_sent:,} links, deleted {result.deleted - result.moved_aside:,}, "
            + (f"moved aside {result.moved_aside:,}, " if result.moved_aside else "")
            + (f"{result.differing:,} differed by content alone, " if result.differing else "")
            + f"in {seconds:.1f} s",
            file=self._out,
        )

    def summary(self, lines: list[str], sentence: str, not_kept: tuple[NotKeptCount, ...]) -> None:
        """What came of something else than a mirror."""
        self._clear()
        for line in lines:
            print(line, file=self._out)
        self._not_kept(not_kept)
        if sentence:
            print(sentence, file=self._out)

    def _not_kept(self, counts: tuple[NotKeptCount, ...]) -> None:
        for kept in counts:
            names = ", ".join(kept.first_printable())
            more = ", ..." if kept.count > len(kept.first) else ""
            print(f"not kept: {kept.count:,} {_MEANING[kept.kind]}: {names}{more}", file=self._err)

    def error(self, error: StorageMirrorError) -> None:
        """It is printed by `storagemirror.cli.main`."""
        self._clear()
        if isinstance(error, Held):
            print(f"token: {error.token}", file=self._err)

    def _line(self, text: str) -> None:
        if self._moving:
            self._err.write("\r" + text.ljust(self._width))
            self._err.flush()
            self._width = len(text)

    def _clear(self) -> None:
        if self._moving and self._width:
            self._err.write("\r" + " " * self._width + "\r")
            self._err.flush()
            self._width = 0


class JsonLines(SilentObserver):
    """For programs: one JSON object a line."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def progress(self, progress: Progress) -> None:
        """See `Observer`."""
        left = None
        if progress.bytes_total is not None and progress.bytes_per_second > 0:
            left = round((progress.bytes_total - progress.bytes_done) / progress.bytes_per_second, 1)
        self._print(
            {
                "type": "progress",
                "filesDone": progress.files_done,
                "filesTotal": progress.files_total,
                "bytesDone": progress.bytes_done,
                "bytesTotal": progress.bytes_total,
                "bytesPerSecond": progress.bytes_per_second,
                "secondsLeft": left,
                "wireBytes": progress.wire_bytes,
            }
        )

    def syncing(self) -> None:
        """All is sent; now it must reach the disk."""
        self._print({"type": "syncing"})

    def event(self, event: Event) -> None:
        """See `Observer`."""
        if event.kind is EventKind.SHORT_OF_SPACE:
            self._print({"type": "warning", "detail": event.detail})
        if event.kind in _FAILURES:
            name = "failed" if event.kind is EventKind.FAILED_ENTRY else "unread"
            self._print({"type": name, "detail": event.detail, "hint": event.hint})

    def result(self, result: MirrorResult) -> None:
        """What came of it."""
        self._print(
            {
                "type": "result",
                "entries": result.entries,
                "bytesTotal": result.bytes_total,
                "filesSent": result.files_sent,
                "bytesSent": result.bytes_sent,
                "metadataSent": result.metadata_sent,
                "linksSent": result.links_sent,
                "deleted": result.deleted - result.moved_aside,
                "movedAside": result.moved_aside,
                "differing": result.differing,
                "failed": result.failed,
                "unread": result.unread,
                "wireBytes": result.wire_bytes,
                "wireBytesUncompressed": result.wire_bytes + result.spared_bytes,
                "seconds": round((result.ended_ns - result.started_ns) / 1e9, 3),
                "notKept": [_not_kept(kept) for kept in result.not_kept],
                "leftAlone": [
                    {"kind": left.kind.value, "count": left.count, "first": [printable(path) for path in left.first]}
                    for left in result.left_alone
                ],
            }
        )

    def error(self, error: StorageMirrorError) -> None:
        """Why it ended."""
        token = error.token if isinstance(error, Held) else None
        self._print(
            {"type": "error", "reason": error.reason, "message": error.message, "hint": error.hint, "token": token}
        )

    def say(self, line: dict[str, object]) -> None:
        """Anything else."""
        self._print(line)

    def _print(self, value: dict[str, object]) -> None:
        self._out.write(msgspec.json.encode(value).decode() + "\n")
        self._out.flush()


def _not_kept(kept: NotKeptCount) -> dict[str, object]:
    return {"kind": kept.kind.value, "count": kept.count, "first": [printable(path) for path in kept.first]}
