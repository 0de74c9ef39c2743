"""What a source has heard from its target, and waiting for more of it.

One thread receives; it never waits for anything but the network, so that the target can always send. How much can
lie here is bounded: digests by the credit we gave, listings by what we asked for.
"""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Callable

from storagemirror.entry import Entry, walk_key
from storagemirror.errors import (
    Disconnected,
    Held,
    ProtocolError,
    StorageMirrorError,
    Superseded,
    VolumeError,
    VolumeFull,
)
from storagemirror.sync.asking import Asking
from storagemirror.sync.channel import Channel
from storagemirror.wire import messages as m

DIGEST_CREDIT = 8
"""Frames of digests that may be on their way at once."""
_REPORTS = 1_000_000
_ORPHANS = 100_000
"""Directories that only the target has and that are remembered, in case they were moved."""
_REPORT_BYTES = 256 << 20
"""Of failures that lie here, at most."""
_LISTED_BYTES = 1 << 30
"""Of listings that lie here, at most: ten million entries."""
_ENTRY_BYTES = 80
"""What an entry costs beside what it has on the wire."""
_RECALLED_BYTES = 256 << 20
_POINTS = 10_000


class Inbox:
    """Filled by `run` in a thread of its own, emptied by the session's thread."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._changed = threading.Condition()
        self._error: StorageMirrorError | None = None
        self._digests: dict[bytes, m.DirectoryDigest] = {}
        self._passed: bytes | None = None
        self._all_digests = True
        self._credit = 0
        self._used = 0
        self._wanted: dict[bytes, list[tuple[m.Listing, int]]] = {}
        self._listed: deque[list[tuple[m.Listing, int]]] = deque()
        self._looked: deque[m.Looked] = deque()
        self._looks = 0
        self._cleared: m.Cleared | None = None
        self._mirrored: m.Mirrored | None = None
        self._marked: m.Marked | None = None
        self._marking = 0
        self._listed_bytes = 0
        self._report_bytes = 0
        self._recalled_bytes = 0
        self._recalled: deque[tuple[m.ManifestWant, int]] = deque()
        self._kept: m.Kept | None = None
        self._block_sums: deque[m.BlockSums] = deque()
        self._blocks = 0
        self._moved: deque[m.Moved] = deque()
        self._moves = 0
        self._points: deque[m.PointDurable | m.PointApplied | m.PointRefused] = deque()
        self.disturbed = 0
        """So often the target has said that somebody else has changed it."""
        self.orphans: dict[bytes, m.DirectoryDigest] = {}
        """Directories that nobody asked about, as far as they were told and remembered."""
        self._reports: deque[m.Failed | m.NotKept] = deque()
        self.asking = Asking(channel.send)
        """What the source asks for in a proof."""

    # -- the receiving thread

    def run(self) -> None:
        """Receive until the connection ends; the reason is raised from whatever waits, now or later."""
        try:
            while True:
                event = self._channel.receive()
                with self._changed:
                    self._take(event, self._channel.event_bytes)
                    self._changed.notify_all()
        except StorageMirrorError as e:
            self.fail(e)
            self._channel.deafen()

    def fail(self, error: StorageMirrorError) -> None:
        """Nothing more comes, for this reason. The first one counts."""
        with self._changed:
            self._error = self._error or error
            self._changed.notify_all()

    def _take(self, event: object, size: int) -> None:
        """`size`: bytes that it had on the wire."""
        match event:
            case m.Digests():
                self._take_digests(event)
            case m.Listing():
                if event.path not in self._wanted:
                    raise ProtocolError(f"a listing of {event.path[:300]!r} that was not asked for")
                if not event.entries and not event.last:
                    raise ProtocolError("a listing that goes on, without an entry")
                weight = size + _ENTRY_BYTES * len(event.entries)
                self._listed_bytes += weight
                if self._listed_bytes > _LISTED_BYTES:
                    raise ProtocolError(f"more than {_LISTED_BYTES} bytes of listings at once")
                self._wanted[event.path].append((event, weight))
                if event.last:
                    self._listed.append(self._wanted.pop(event.path))
            case m.Looked():
                self._looks -= 1
                if self._looks < 0:
                    raise ProtocolError("an answer to a Look that was not sent")
                self._looked.append(event)
            case m.Cleared():
                self._cleared = event
            case m.Mirrored():
                self._mirrored = event
            case m.Marked():
                if event.number > self._marking:
                    raise ProtocolError(f"an answer to mark {event.number}, which was not sent")
                self._marked = event
            case m.ManifestWant():
                weight = size + _ENTRY_BYTES * (1 + len(event.directories))
                self._recalled.append((event, weight))
                self._recalled_bytes += weight
                if self._recalled_bytes > _RECALLED_BYTES:
                    raise ProtocolError(f"more than {_RECALLED_BYTES} bytes of wanted directories at once")
            case m.Kept():
                self._kept = event
            case m.PointDurable() | m.PointApplied() | m.PointRefused():
                self._points.append(event)
                if len(self._points) > _POINTS:
                    raise ProtocolError(f"more than {_POINTS} answers to points")
            case m.Moved():
                self._moves -= 1
                if self._moves < 0:
                    raise ProtocolError("an answer to Moves that were not sent")
                self._moved.append(event)
            case m.BlockSums():
                self._blocks -= 1
                if self._blocks < 0:
                    raise ProtocolError("sums of blocks that were not asked for")
                self._block_sums.append(event)
            case m.Summed() | m.Tallied() | m.Examined():
                self.asking.take(event)
            case m.Failed() | m.NotKept():
                self._reports.append(event)
                self._report_bytes += size
                if len(self._reports) > _REPORTS or self._report_bytes > _REPORT_BYTES:
                    raise ProtocolError(f"more than {_REPORTS} failures, or {_REPORT_BYTES} bytes of them, at once")
            case m.Disturbed():
                self.disturbed += 1
            case m.Hold():
                raise Held(event.message, reason=event.reason.value, token=event.token, hint=event.hint)
            case m.Abort():
                raise aborted(event)
            case _:
                raise ProtocolError(f"{type(event).__name__} was not expected here")

    def _take_digests(self, event: m.Digests) -> None:
        if self._all_digests:
            raise ProtocolError("digests that were not asked for")
        self._credit -= 1
        if self._credit < 0:
            raise ProtocolError("more digests than there was credit for")
        if not event.directories and not event.last:
            raise ProtocolError("digests that go on, without a directory")
        for directory in event.directories:
            key = walk_key(directory.path)
            if self._passed is not None and key <= self._passed:
                raise ProtocolError(f"the directory {directory.path[:300]!r} is out of order")
            self._passed = key
            self._digests[directory.path] = directory
        self._all_digests = event.last

    # -- the session's thread

    def check(self) -> None:
        """Raise what has gone wrong, if anything has."""
        error = self._error
        if error is not None:
            raise error

    def explain(self, error: Disconnected) -> StorageMirrorError:
        """Sending failed: perhaps the target had told us why before."""
        with self._changed:
            self._changed.wait_for(lambda: self._error is not None, timeout=1.0)
        return self._error or error

    def wait(self, ready: Callable[[], bool]) -> None:
        """Until `ready`; raises what has gone wrong before."""
        with self._changed:
            while not ready():
                self.check()
                self._changed.wait()

    def pause(self, seconds: float) -> None:
        """Until there is an answer in `asking`, at most so long; raises what has gone wrong."""
        with self._changed:
            self._changed.wait_for(lambda: self.asking.heard or self._error is not None, seconds)
        self.check()

    def reports(self) -> list[m.Failed | m.NotKept]:
        """What the target could not do since the last call."""
        if not self._reports:
            return []
        with self._changed:
            taken = list(self._reports)
            self._reports.clear()
            self._report_bytes = 0
        return taken

    def expect_mirror(self, *, digests: bool) -> None:
        """A mirror begins: forget the one before. Give the credit that is due with `grant`."""
        with self._changed:
            self._digests.clear()
            self._passed = None
            self._all_digests = not digests
            self._credit = DIGEST_CREDIT if digests else 0
            self._used = 0
            self._cleared = self._mirrored = None
            self.orphans = {}

    def digest(self, path: bytes) -> m.DirectoryDigest | None:
        """The target's directory at `path`; None: it has none. Waits until the target's walk has passed it."""
        key = walk_key(path)

        def known() -> bool:
            return self._all_digests or path in self._digests or (self._passed is not None and self._passed > key)

        if not known():
            with self._changed:
                if not known():  # then the walk has not passed `key`: all that lies here is before it, and stale
                    self._remember(self._digests)
                    self._digests.clear()
            self._grant()
            self.wait(known)
        return self._digests.pop(path, None)

    def finish_digests(self) -> int:
        """Let the target's walk come to its end; how many entries the directories have that nobody asked about."""
        entries = 0
        while not self._all_digests:
            entries += sum(directory.entries for directory in self._digests.values())
            self._remember(self._digests)
            self._digests.clear()
            self._grant()
            before = self._credit
            self.wait(lambda: self._all_digests or self._credit < before)  # noqa: B023
        self._remember(self._digests)
        return entries

    def _remember(self, passed: dict[bytes, m.DirectoryDigest]) -> None:
        room = _ORPHANS - len(self.orphans)
        self.orphans.update(itertools.islice(passed.items(), max(0, room)))

    def _grant(self) -> None:
        with self._changed:
            missing = DIGEST_CREDIT - self._credit
            if missing < DIGEST_CREDIT // 2:
                return
            self._credit += missing
        self._channel.send(m.Credit(missing))

    def want(self, paths: list[bytes]) -> None:
        """Ask for listings."""
        with self._changed:
            for path in paths:
                self._wanted[path] = []
        self._channel.send(m.Want(paths))

    @property
    def wanted(self) -> int:
        """How many listings were asked for and have not come."""
        return len(self._wanted)

    def listing(self, *, wait: bool) -> tuple[bytes, bytes | None, list[Entry]] | None:
        """The next listing that has come whole: path, digest of its attributes (None: no directory), entries.
        None when there is none yet, or, waiting, when none is to come."""
        if wait:
            self.wait(lambda: bool(self._listed) or not self._wanted)
        if not self._listed:
            return None
        with self._changed:
            frames = self._listed.popleft()
            self._listed_bytes -= sum(weight for _, weight in frames)
        entries = [entry for frame, _ in frames for entry in frame.entries]
        first, _ = frames[0]
        return first.path, first.attributes, entries

    def look(self, paths: list[bytes]) -> m.Looked:
        """Ask what the target has at `paths`, and wait for the answer."""
        with self._changed:
            self._looks += 1
        self._channel.send(m.Look(paths))
        self.wait(lambda: bool(self._looked))
        return self._looked.popleft()

    def move(self, moves: m.Moves) -> None:
        """Ask for renames; `moved` has the answers, in order."""
        with self._changed:
            self._moves += 1
        self._channel.send(moves)

    def moved(self) -> m.Moved:
        """The answer to the next Moves."""
        self.wait(lambda: bool(self._moved))
        return self._moved.popleft()

    def ask_blocks(self, question: m.Blocks) -> None:
        """Ask for sums of blocks; `block_sums` has the answer, in the order of the questions."""
        with self._changed:
            self._blocks += 1
        self._channel.send(question)

    def block_sums(self) -> m.BlockSums:
        """The answer to the next Blocks."""
        self.wait(lambda: bool(self._block_sums))
        return self._block_sums.popleft()

    def cleared(self) -> m.Cleared:
        """The answer to the last Doomed."""
        self.wait(lambda: self._cleared is not None)
        answer, self._cleared = self._cleared, None
        if answer is None:
            raise AssertionError("waited for it")
        return answer

    def mirrored(self) -> m.Mirrored:
        """The answer to MirrorEnd."""
        self.wait(lambda: self._mirrored is not None)
        answer, self._mirrored = self._mirrored, None
        if answer is None:
            raise AssertionError("waited for it")
        return answer

    def expect_mark(self, number: int) -> None:
        """Mark `number` is about to be sent."""
        with self._changed:
            self._marking = number

    def marked(self, number: int, seconds: float | None) -> m.Marked | None:
        """The answer to mark `number`; None when it has not come in so many seconds (None: it is waited for). Raises
        what has gone wrong before."""

        def answer() -> m.Marked | None:
            return self._marked if self._marked is not None and self._marked.number >= number else None

        with self._changed:
            self._changed.wait_for(lambda: answer() is not None or self._error is not None, seconds)
            if (found := answer()) is None:
                self.check()
            return found

    def recalled(self) -> m.ManifestWant:
        """The next list of directories that the target wants of a manifest."""
        self.wait(lambda: bool(self._recalled))
        with self._changed:
            taken, weight = self._recalled.popleft()
            self._recalled_bytes -= weight
        return taken

    def points(self, seconds: float) -> list[m.PointDurable | m.PointApplied | m.PointRefused]:
        """What the target has said of points since the last call; waits so long for something. Raises what has gone
        wrong."""
        with self._changed:
            self._changed.wait_for(lambda: bool(self._points) or self._error is not None, seconds)
            taken = list(self._points)
            self._points.clear()
        if not taken:
            self.check()
        return taken

    def kept(self) -> m.Kept:
        """The answer to ManifestEnd."""
        self.wait(lambda: self._kept is not None)
        if self._kept is None:
            raise AssertionError("waited for it")
        return self._kept


def failure(reason: m.FailureReason, message: str) -> StorageMirrorError | None:
    """The error of a failure that stops everything; None where the rest goes on without that entry."""
    match reason:
        case m.FailureReason.FULL:
            return VolumeFull(
                message, hint="Grow the target's volume, or free space on it; the mirror goes on by itself."
            )
        case m.FailureReason.READ_ONLY:
            return VolumeError(
                message,
                reason="TargetNotWritable",
                hint="The target's file system became read-only: look at its node's kernel log.",
            )
        case m.FailureReason.IO | m.FailureReason.DAMAGED:
            return VolumeError(message, reason="TargetFailing", hint="Look at the target node's kernel log.")
        case m.FailureReason.SUPERSEDED:
            return Superseded(message)
        case m.FailureReason.PROTOCOL:
            return ProtocolError(f"the peer says: {message}")
        case _:
            return None


def aborted(event: m.Abort) -> StorageMirrorError:
    """What an Abort of the peer means here."""
    return failure(event.reason, event.message) or VolumeError(event.message, reason="PeerFailed")
