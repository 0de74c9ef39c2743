"""The target's part in a proof: it reads its own files, beside all else that the session does.

In a thread of its own: the session goes on receiving changes, however large a file is. What is asked is bounded, so
that a source cannot have us keep more than a few lists of paths.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from storagemirror.entry import View
from storagemirror.errors import BadInput, ProtocolError, StorageMirrorError
from storagemirror.fs.tree import Tree
from storagemirror.sync.examining import examine
from storagemirror.sync.sums import Summer, Total
from storagemirror.wire import messages as m


class Summing:
    """Answers `Sum`, `Tally` and `Examine`. `take` and `stop` are for the session's thread."""

    def __init__(self, tree: Tree, view: View, send: Callable[[m.Message], None]) -> None:
        self._summer = Summer(tree, view)
        self._send = send
        self._news = threading.Condition()  # guards what follows
        self._asked: deque[m.Sum | m.Examine] = deque()
        self._answered: dict[int, list[bytes | None]] = {}
        self._run = 0
        self._total = Total()
        self._stop = False
        self._thread: threading.Thread | None = None

    def take(self, event: m.Sum | m.Tally | m.Examine) -> None:
        """What the source asks; `ProtocolError` when it asks for more at once than was agreed, or counts what it was
        not told."""
        with self._news:
            if isinstance(event, m.Tally):
                self._tally(event)
                return
            if isinstance(event, m.Sum) and event.begin:
                self._begin()
                if not event.paths:
                    return
            if len(self._asked) + len(self._answered) >= m.SUM_WINDOW:
                raise ProtocolError(f"more than {m.SUM_WINDOW} lists of sums were asked for at once")
            self._asked.append(event)
            self._news.notify_all()
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="summing", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Give up; returns when the thread has ended."""
        with self._news:
            self._stop = True
            self._begin()
            self._news.notify_all()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def _begin(self) -> None:
        """Forget all before: a proof begins anew."""
        self._asked.clear()
        self._answered.clear()
        self._total = Total()
        self._run += 1

    def _tally(self, event: m.Tally) -> None:
        sums = self._answered.pop(event.number, None)
        if sums is None:
            raise ProtocolError(f"expected the number of an answered list of sums, got {event.number}")
        skipped = set(event.skipped)
        for index, digest in enumerate(sums):
            if index in skipped:
                continue
            if digest is None:
                raise ProtocolError("a file counts for equal that the target does not have")
            self._total.add(digest)
        if event.last:
            self._send(m.Tallied(event.number, self._total.files, self._total.digest()))

    def _work(self) -> None:
        try:
            while True:
                with self._news:
                    self._news.wait_for(lambda: self._stop or self._asked)
                    if self._stop:
                        return
                    asked, run = self._asked[0], self._run
                if isinstance(asked, m.Examine):
                    seen = examine(self._summer, asked.paths, lambda: self._stop)
                    with self._news:
                        if run == self._run:
                            self._asked.popleft()
                    self._send(m.Examined(asked.number, seen))
                    continue
                sums = self._sums(asked, run)
                with self._news:
                    if sums is None or run != self._run:
                        continue
                    self._asked.popleft()
                    self._answered[asked.number] = sums
                self._send(m.Summed(asked.number, sums))
        except StorageMirrorError:
            return  # the connection broke: the session's own thread sees it too

    def _sums(self, asked: m.Sum, run: int) -> list[bytes | None] | None:
        """One for each path; None when nobody wants them any more."""
        sums: list[bytes | None] = []
        for path in asked.paths:
            digest = None
            try:
                for found in self._summer.sum(path):
                    if run != self._run:
                        return None
                    if found is not None and found.steady:
                        digest = found.digest
            except BadInput:
                digest = None
            sums.append(digest)
        return sums if run == self._run else None
