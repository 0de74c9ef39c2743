"""`storagemirror serve DIR`: the target of mirrors from other hosts."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import threading
from collections.abc import Callable
from typing import TextIO

import msgspec

from storagemirror.agent.listener import Listener
from storagemirror.cli.ends import (
    VOLUME,
    Address,
    Terms,
    add_pair,
    add_terms,
    address,
    checked_keys,
    make_target,
    pair_uid,
    terms_of,
)
from storagemirror.contract import AGENT_PORT, Role, peer_name
from storagemirror.errors import Disconnected, Held, StorageMirrorError, VolumeError
from storagemirror.fs.target import TargetVolume
from storagemirror.sync.observer import Event, EventKind, SilentObserver
from storagemirror.sync.stream import SocketStream
from storagemirror.sync.target import TargetSession

DESCRIPTION = """\
Take mirrors of other hosts: `storagemirror mirror SRC HOST:PORT` there makes DIR equal to SRC. Over TLS; both sides
have certificates that one `storagemirror keys` made. DIR must be empty or a copy that was made so, else say --adopt.

One source at a time: another one is turned away while it is there. A source that has died is given up after 8 s of
silence, or when another comes. Ends in good order on SIGTERM and Ctrl-C: what has come whole is applied and synced.
"""
EXAMPLES = """\
examples:
  storagemirror keys keys                                               # once; then give keys/source to the other host
  storagemirror serve /mnt/copy --listen :7460 --keys keys/target
  storagemirror serve /mnt/copy --listen 192.0.2.7:7460 --keys keys/target --once

"""
MOST_SESSIONS = 4
"""At once: one that writes, those that are turned away, and those that only look."""
DEAD_SECONDS = 2.0
"""A source of which nothing was heard for so long makes room for another; a living one says something each second."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    parser.description = DESCRIPTION
    parser.epilog = EXAMPLES + (parser.epilog or "")
    parser.add_argument("directory", metavar="DIR", help="made when it does not exist; what leads to it is not")
    parser.add_argument(
        "--listen",
        type=address,
        default=Address("", AGENT_PORT),
        metavar="HOST:PORT",
        help=f"where; without HOST everywhere; port 0: any that is free (default :{AGENT_PORT})",
    )
    parser.add_argument("--keys", metavar="DIR", help="tls.crt, tls.key, ca.crt of this side (made by `keys`)")
    parser.add_argument("--once", action="store_true", help="end after the first source has been here")
    add_pair(parser)
    add_terms(parser)
    output = parser.add_mutually_exclusive_group()
    output.add_argument(
        "--json",
        action="store_true",
        help='one JSON object a line on stdout: {"type": "listening"}, then "connected", "mirrored", "ended" and '
        '"refused"',
    )
    output.add_argument("--quiet", "-q", action="store_true", help="say nothing unless something goes wrong")


def run(args: argparse.Namespace) -> int:
    """0: ended in good order. With --once 1 or 3: as that one session ended."""
    terms = terms_of(args)
    tls = checked_keys(args.keys, Role.TARGET, args.pair)
    make_target(args.directory)
    with TargetVolume.open(args.directory):
        pass  # it must be a directory
    telling = Telling(sys.stdout, sys.stderr, json=args.json, quiet=args.quiet)
    logging.getLogger("storagemirror.agent").addHandler(telling.handler())
    server = Server(args.directory, terms, telling, once=args.once)
    here = args.listen
    peer = peer_name(Role.SOURCE, VOLUME, pair_uid(args.pair))
    listener = Listener(here.port, tls, lambda: peer, server.take, host=here.host)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: server.stop())
    listener.start()
    telling.listening(Address(listener.address, listener.port))
    try:
        return server.wait()
    finally:
        listener.close()


class Server:
    """The sessions of one directory. `take` is called from any thread."""

    def __init__(self, directory: str, terms: Terms, telling: Telling, *, once: bool) -> None:
        self._directory = directory
        self._terms = terms
        self._telling = telling
        self._once = once
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._sessions: dict[TargetSession, threading.Thread] = {}
        self._status = 0

    def stop(self) -> None:
        """For signal handlers: `wait` returns soon."""
        self._stopped.set()

    def wait(self) -> int:
        """Until stopped, or with `once` until a session has ended; then what has come is applied, and all is closed."""
        while not self._stopped.wait(3600):
            pass
        with self._lock:
            running = dict(self._sessions)
        for session in running:
            session.finish()
        for thread in running.values():
            thread.join()
        return self._status

    def take(self, stream: SocketStream) -> None:
        """A connection of a source that has shown who it is."""
        self._bury()
        with self._lock:
            if self._stopped.is_set() or len(self._sessions) >= MOST_SESSIONS:
                stream.close()
                return
            try:
                volume = TargetVolume.open(self._directory)
            except StorageMirrorError as e:
                stream.close()
                self._telling.ended(e)
                return
            session = TargetSession(
                volume, stream, self._terms.expectation(), Watching(self._telling), sync_at_end=self._terms.sync
            )
            thread = threading.Thread(target=self._serve, args=(session, volume), name="session")
            self._sessions[session] = thread
            thread.start()

    def _bury(self) -> None:
        """A source that is silent has died, and must not keep its successor out."""
        with self._lock:
            silent = [(s, t) for s, t in self._sessions.items() if s.quiet_seconds() > DEAD_SECONDS]
        for session, thread in silent:
            session.close()
            thread.join()

    def _serve(self, session: TargetSession, volume: TargetVolume) -> None:
        why: StorageMirrorError | None = None
        try:
            with volume:
                session.serve()
        except StorageMirrorError as e:
            why = e
        except OSError as e:
            why = VolumeError(f"the target volume fails: {e.strerror}", reason="TargetFailing")
        finally:
            session.close()
            with self._lock:
                del self._sessions[session]
        if self._stopped.is_set() and isinstance(why, Disconnected):
            why = Disconnected("we were told to stop: what had come whole is kept")
        self._telling.ended(why)
        if self._once:
            self._status = 0 if why is None else 3 if isinstance(why, Held) else 1
            self.stop()


class Watching(SilentObserver):
    """What happens in one session."""

    def __init__(self, telling: Telling) -> None:
        self._telling = telling

    def event(self, event: Event) -> None:
        """See `Observer`."""
        if event.kind is EventKind.CONNECTED:
            self._telling.connected()
        elif event.kind is EventKind.MIRROR_ENDED:
            self._telling.mirrored(event.detail)


class Telling:
    """For people, or as JSON for programs. Used from several threads."""

    def __init__(self, out: TextIO, err: TextIO, *, json: bool, quiet: bool) -> None:
        self._out = out
        self._err = err
        self._json = json
        self._quiet = quiet
        self._lock = threading.Lock()

    def listening(self, where: Address) -> None:
        """We can be reached."""
        self._say({"type": "listening", "host": where.host, "port": where.port}, f"listening on {where}")

    def connected(self) -> None:
        """A source was let in."""
        self._say({"type": "connected"}, "a source is here")

    def mirrored(self, failed: str) -> None:
        """Everything was compared and sent."""
        text = "mirrored" if not failed else f"mirrored, but not everything could be written; the first: {failed}"
        self._say({"type": "mirrored", "failed": failed or None}, text, wrong=bool(failed))

    def ended(self, why: StorageMirrorError | None) -> None:
        """A session has ended; None: with the source's goodbye."""
        if why is None:
            self._say({"type": "ended", "reason": None}, "the source has left")
            return
        token = why.token if isinstance(why, Held) else None
        text = f"ended: {why.reason}: {why.message}" + (f"\n  {why.hint}" if why.hint else "")
        if token:
            text += f"\n  token: {token}"
        line: dict[str, object] = {
            "type": "ended",
            "reason": why.reason,
            "message": why.message,
            "hint": why.hint,
            "token": token,
        }
        self._say(line, text, wrong=True)

    def refused(self, message: str) -> None:
        """Somebody was not let in."""
        self._say({"type": "refused", "message": message}, message, wrong=True)

    def handler(self) -> logging.Handler:
        """For what the listener logs."""
        return _Handler(self.refused)

    def _say(self, line: dict[str, object], text: str, *, wrong: bool = False) -> None:
        with self._lock:
            if self._json:
                print(msgspec.json.encode(line).decode(), file=self._out, flush=True)
            elif wrong or not self._quiet:
                print(text, file=self._err if wrong else self._out, flush=True)


class _Handler(logging.Handler):
    def __init__(self, say: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._say = say

    def emit(self, record: logging.LogRecord) -> None:
        self._say(record.getMessage())
