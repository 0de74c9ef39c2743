"""Receiving ahead of what is done with it: one thread takes from the network, decrypts and checks, another writes.

It is a few events ahead and no more, so that memory is bounded and a peer whose words are not dealt with is not read.
The order stays what it was; what ended the receiving is told after everything that came before it was dealt with.
"""

from __future__ import annotations

import threading
from collections import deque

from storagemirror.sync.channel import LAST_WORD_SECONDS, Channel
from storagemirror.wire import messages as m
from storagemirror.wire.connection import Event

AHEAD = 2
"""Events that have come and wait to be dealt with, at most; what they show holds until then."""


class Ahead:
    """Over a channel whose connection keeps what `AHEAD` events show. Nobody else receives on it."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._changed = threading.Condition()
        self._events: deque[Event] = deque()
        self._nudged = False
        self._end: BaseException | None = None
        self._ended = False
        self._discarding = False
        self._thread = threading.Thread(target=self._run, name="receiver", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def receive(self) -> Event | None:
        """The next event; what it shows holds until the next call. None: `nudge` was called since. Raises as
        `Channel.receive`."""
        with self._changed:
            while not self._events and not self._nudged:
                if self._ended:
                    raise self._end if self._end is not None else AssertionError("nothing comes after a goodbye")
                self._changed.wait()
            if self._nudged:
                self._nudged = False
                return None
            event = self._events.popleft()
            self._changed.notify_all()
        return event

    def nudge(self) -> None:
        """Whoever receives has something else to look at. For any thread."""
        with self._changed:
            self._nudged = True
            self._changed.notify_all()

    def last_word(self) -> None:
        """As `Channel.last_word`: what still comes is thrown away."""
        self._discard()
        if self._thread.is_alive():
            self._thread.join(LAST_WORD_SECONDS)
        if not self._thread.is_alive():
            self._channel.last_word()

    def stop(self) -> None:
        """The channel is closed: no more of it."""
        self._discard()
        if self._thread.is_alive():
            self._thread.join()

    def _discard(self) -> None:
        with self._changed:
            self._discarding = True
            self._changed.notify_all()

    def _run(self) -> None:
        try:
            while True:
                event = self._channel.receive()
                self._put(event)
                if isinstance(event, (m.Bye, m.Abort)):
                    return
        except BaseException as e:  # whatever it is: told to whoever waits
            self._end = e
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def _put(self, event: Event) -> None:
        with self._changed:
            while len(self._events) >= AHEAD and not self._discarding:
                self._changed.wait()
            if not self._discarding:
                self._events.append(event)
                self._changed.notify_all()
