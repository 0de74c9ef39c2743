"""The target's walk: one digest for each directory, told as fast as the source takes them."""

from __future__ import annotations

import threading
from collections.abc import Callable

from storagemirror.entry import join, walk_key
from storagemirror.errors import BadInput, StorageMirrorError
from storagemirror.fs.scan import Scanner
from storagemirror.sync.inbox import DIGEST_CREDIT
from storagemirror.wire import messages as m

_FIRST_BATCH = 16
_LARGEST_BATCH = 2_000
_BYTES_IN_FRAME = 512 * 1024


class Walker:
    """A thread of its own while a mirror runs. It waits for credit, so that the source cannot be flooded."""

    def __init__(self, scanner: Scanner, scopes: tuple[bytes, ...], send: Callable[[m.Message], None]) -> None:
        self._scanner = scanner
        self._scopes = scopes
        self._send = send
        self._credit = threading.Semaphore(DIGEST_CREDIT)
        self._stop = False
        self._thread = threading.Thread(target=self._run, name="walker", daemon=True)
        self.entries = 0
        """Seen so far; all of them once `finished`."""
        self.finished = False

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def credit(self, frames: int) -> None:
        """So many more frames may be sent."""
        for _ in range(min(frames, DIGEST_CREDIT)):
            self._credit.release()

    def stop(self) -> None:
        """Give up; returns when the thread has ended."""
        self._stop = True
        self._credit.release()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join()

    def _run(self) -> None:
        try:
            self._walk()
        except StorageMirrorError:
            return  # the connection broke: the session's own thread sees it too

    def _walk(self) -> None:
        stack = sorted(self._scopes, key=walk_key, reverse=True)
        batch: list[m.DirectoryDigest] = []
        size = 0
        limit = _FIRST_BATCH
        while stack and not self._stop:
            path = stack.pop()
            try:
                found = self._scanner.scan(path)
            except (OSError, BadInput):
                continue  # gone, no directory (any more), or too deep: the source is told of no directory here
            stack.extend(join(path, name) for name in reversed(found.subdirectories))
            self.entries += len(found.entries)
            batch.append(m.DirectoryDigest(path, found.digest, len(found.entries)))
            size += len(path) + 32
            if len(batch) >= limit or size >= _BYTES_IN_FRAME:
                self._tell(batch, last=False)
                batch, size = [], 0
                limit = min(2 * limit, _LARGEST_BATCH)
        if not self._stop:
            self.finished = True
            self._tell(batch, last=True)

    def _tell(self, batch: list[m.DirectoryDigest], *, last: bool) -> None:
        self._credit.acquire()
        if not self._stop:
            self._send(m.Digests(batch, last))
