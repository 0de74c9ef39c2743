"""The files of a target that deltas start from, and the sums of their blocks.

A base is opened when it is asked about, by the session's thread and so after all that came before. Its blocks are read
in a thread of its own, beside all else that the session does. How many are open, and how many questions wait, is
bounded. What is known of a file's sums (`storagemirror.sync.knownsums`) is told without reading it.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable

from storagemirror.entry import split
from storagemirror.errors import BadInput, ProtocolError, StorageMirrorError
from storagemirror.fs.blocks import BLOCK, PIECE, SUM, BlockReader, Piece, blocks_in
from storagemirror.fs.patch import Base, open_base
from storagemirror.fs.source import unchanged
from storagemirror.fs.tree import Tree
from storagemirror.sync.knownsums import KnownSums
from storagemirror.wire import messages as m


class Bases:
    """Answers `Blocks`. All but the reading is for the session's thread."""

    def __init__(
        self,
        tree: Tree,
        send: Callable[[m.Message], None],
        partial: Callable[[bytes], Base | None] = lambda path: None,
        known: KnownSums | None = None,
    ) -> None:
        """`partial`: what has come before of a file that is not there yet. `known`: what is kept of sums; None: nothing
        is."""
        self._known = known
        self._gathered: tuple[int, os.stat_result, bytearray] | None = None
        """Of the file that is read for the questions with this number: what it was at the first, and sums so far."""
        self._tree = tree
        self._partial = partial
        self._send = send
        self._news = threading.Condition()  # guards what follows
        self._open: dict[int, Base] = {}
        self._last = -1
        self._reading = -1
        """Descriptor by which the file with the last number is read; its base may be somebody else's by then."""
        self._grows = False
        """That file is written in place while it comes: nothing in it can be copied to another place."""
        self._asked: deque[tuple[m.Blocks, int, bool]] = deque()
        """With a descriptor of the base to read it by, -1 where there is none: the base itself may be closed before."""
        self._waiting = 0
        self._stop = False
        self._thread: threading.Thread | None = None

    def hear(self, event: m.Blocks | m.LetGo) -> None:
        """What the source asks, or no longer needs. `ProtocolError`."""
        if isinstance(event, m.LetGo):
            self.take(event.number).close()
            return
        with self._news:
            if self._waiting >= m.BLOCKS_WINDOW:
                raise ProtocolError(f"more than {m.BLOCKS_WINDOW} lists of blocks were asked for at once")
            self._waiting += 1
            if event.number < self._last:
                raise ProtocolError(f"expected questions about file {self._last} or later, got {event.number}")
            if event.number > self._last:
                self._last = event.number
                _close(self._reading)
                self._reading = -1
                self._open_base(event)
            self._asked.append((event, os.dup(self._reading) if self._reading >= 0 else -1, self._grows))
            self._news.notify_all()
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="blocks", daemon=True)
            self._thread.start()

    def _open_base(self, event: m.Blocks) -> None:
        if len(self._open) >= m.BLOCKS_WINDOW:
            raise ProtocolError(f"more than {m.BLOCKS_WINDOW} files were asked about at once")
        try:
            base = self._base(event.path) or self._partial(event.path)
            if base is not None:
                self._open[event.number] = base
                self._grows = base.partial
                self._reading = os.dup(base.fd)
        except (OSError, BadInput):
            return

    def _base(self, path: bytes) -> Base | None:
        """The file at `path`; None where nothing is. OSError: it is no file, or cannot be read."""
        try:
            directory = self._tree.open_directory(split(path)[0])
        except FileNotFoundError:
            return None
        try:
            return open_base(directory, path)
        except FileNotFoundError:
            return None
        finally:
            os.close(directory)

    def take(self, number: int) -> Base:
        """The base with this number, which is the caller's from now on. `ProtocolError` when there is none."""
        with self._news:
            base = self._open.pop(number, None)
        if base is None:
            raise ProtocolError(f"expected the number of a file that was asked about, got {number}")
        return base

    def stop(self) -> None:
        """Give up; returns when the thread has ended."""
        with self._news:
            self._stop = True
            while self._asked:
                _close(self._asked.popleft()[1])
            self._news.notify_all()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()
        _close(self._reading)
        self._reading = -1
        for base in self._open.values():
            base.close()
        self._open.clear()

    def _work(self) -> None:
        try:
            while True:
                with self._news:
                    self._news.wait_for(lambda: self._stop or self._asked)
                    if self._stop:
                        return
                    question, fd, grows = self._asked.popleft()
                try:
                    answer = self._answer(question, fd, anchored=not grows)
                finally:
                    _close(fd)
                with self._news:
                    self._waiting -= 1
                self._send(answer)
        except StorageMirrorError:
            return  # the connection broke: the session's own thread sees it too

    def _answer(self, question: m.Blocks, fd: int, *, anchored: bool) -> m.BlockSums:
        if fd < 0:
            return m.BlockSums(question.number, question.first, None, b"")
        sums: list[bytes] = []
        anchors: list[bytes] = []
        try:
            found = os.fstat(fd)
            size = found.st_size
            at, end = question.first * BLOCK, min(size, (question.first + question.count) * BLOCK)
            if anchored and self._known is not None and (known := self._known.find(found)) is not None:
                return self._from_known(question, fd, found, known)
            reader = BlockReader(fd, end)
            while at < end and not self._stop:
                piece = reader.read(at)
                if piece.length < min(PIECE, end - at):
                    break  # it was cut meanwhile
                sums.append(piece.sums)
                if anchored:
                    anchors.append(_anchor(piece))
                at += PIECE
            if anchored:
                self._gather(question, fd, found, b"".join(sums))
        except OSError:
            pass  # the rest is sent
        told = b"".join(sums)[: question.count * SUM]
        return m.BlockSums(question.number, question.first, size, told, b"".join(anchors))

    def _from_known(self, question: m.Blocks, fd: int, found: os.stat_result, known: bytes) -> m.BlockSums:
        """Without reading more than the anchors. OSError."""
        if question.first == 0 and self._known is not None:
            self._known.hits += 1
        told = known[question.first * SUM : (question.first + question.count) * SUM]
        first, end = question.first * BLOCK, (question.first + len(told) // SUM) * BLOCK
        anchors = [os.pread(fd, m.ANCHOR, at) for at in range(first, end, m.ANCHOR_BLOCKS * BLOCK)]
        whole = b"".join(anchor if len(anchor) == m.ANCHOR else bytes(m.ANCHOR) for anchor in anchors)
        return m.BlockSums(question.number, question.first, found.st_size, told, whole)

    def _gather(self, question: m.Blocks, fd: int, found: os.stat_result, sums: bytes) -> None:
        """Remember what was read, when all of a file was and it stood still."""
        if self._known is None:
            return
        if question.first == 0:
            self._gathered = question.number, found, bytearray()
        if self._gathered is None:
            return
        number, first, gathered = self._gathered
        if number != question.number or len(gathered) != question.first * SUM or len(gathered) > self._known.budget:
            self._gathered = None
            return
        gathered += sums
        if len(gathered) >= blocks_in(first.st_size) * SUM:
            self._gathered = None
            if unchanged(first, os.fstat(fd)):
                self._known.put(first, bytes(gathered))


def _anchor(piece: Piece) -> bytes:
    """Of its first block. A hole has one that nobody looks for, and so has what is too short."""
    content = bytes(piece.content[: m.ANCHOR]) if piece.content is not None else b""
    return content if len(content) == m.ANCHOR else bytes(m.ANCHOR)


def _close(fd: int) -> None:
    if fd >= 0:
        os.close(fd)
