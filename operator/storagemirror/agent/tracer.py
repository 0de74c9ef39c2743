"""The tracer of a volume: opens the kernel's trace for the engine beside it, and looks after it.

It has CAP_SYS_ADMIN and the engine has not. It serves one engine after the other, each with an instance of its own:
made when it asks, removed when its connection has ended and its descriptors are closed. What the engine gets can only
be read (`fs.trace.handover`), and the device is that of the volume which this process sees, whatever the engine says.

A tracer that is killed leaves its instance to the engine, which lets go of it and asks the next one; that one, and each
that begins anywhere on the node, removes what nobody holds.
"""

from __future__ import annotations

import os
import select
import socket
import time

from storagemirror.agent.guard_parts import Wake, say
from storagemirror.errors import BadInput, ProtocolError
from storagemirror.fs.trace import MEMORY, TraceUnavailable
from storagemirror.fs.trace.device import find_device
from storagemirror.fs.trace.handover import SOCKET_NAME, hand_over, receive, send
from storagemirror.fs.trace.keeping import OwnKeeper
from storagemirror.fs.trace.tracefs import PREFIX, Instance, mount_read_only, open_tracefs, sweep

_WHO = "tracer"
_PATIENCE_SECONDS = 2.0
"""An engine that takes nothing for so long is let go."""
_HELD_SECONDS = 1.0
"""So long the instance of an engine that is just ending is waited for, and between two tries to remove one."""
_LEAVING_SECONDS = 2.0
"""Told to end: the engine is told too, and makes its last point. Within the grace of a source's pod (3 s)."""


class Tracer:
    """Listens in `directory`, for the user it runs as alone. `volume` is a path. OSError."""

    def __init__(self, volume: str, directory: str, uid: str, wake: Wake) -> None:
        """`uid` is that of our pod, the name of the instance."""
        self._uid = uid
        self._wake = wake
        self._left = False
        """Whether an instance could not be removed yet."""
        self._volume = os.open(volume, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        path = os.path.join(directory, SOCKET_NAME)
        if os.path.lexists(path):  # of a tracer before us
            os.unlink(path)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
        self._listener.setblocking(False)
        old = os.umask(0o177)
        try:
            self._listener.bind(path)
        finally:
            os.umask(old)
        self._listener.listen(1)

    def run(self) -> int:
        """Serve until SIGTERM; returns the exit status."""
        self._sweep()
        while not self._wake.ending:
            if self._ready(self._listener, _HELD_SECONDS if self._left else None):
                self._let_in()
            elif self._left:
                self._sweep()
        self._sweep()
        say("ending", _WHO)
        return 0

    def _ready(self, heard: socket.socket, seconds: float | None) -> bool:
        """Whether something is to be had there; returns early when a signal comes."""
        poll = select.poll()
        poll.register(self._wake.fd, select.POLLIN)
        poll.register(heard, select.POLLIN)
        found = [fd for fd, _ in poll.poll(None if seconds is None else max(0.0, seconds * 1000))]
        self._wake.drain()
        return heard.fileno() in found

    def _let_in(self) -> None:
        try:
            engine, _ = self._listener.accept()
        except OSError:
            return
        with engine:
            engine.settimeout(_PATIENCE_SECONDS)
            try:
                self._serve(engine)
            except EOFError:
                return
            except (OSError, ProtocolError) as e:
                say(f"let go of the engine: {e}", _WHO)

    def _serve(self, engine: socket.socket) -> None:
        """One engine, to its end. OSError, EOFError, `ProtocolError`."""
        receive(engine, ("open",))
        try:
            keeper, read_only = self._open()
        except TraceUnavailable as e:
            say(f"no trace: {e.reason}: {e.message}", _WHO)
            send(engine, "refused", e.reason, e.message)
            return
        try:
            try:
                hand_over(keeper, read_only, engine)
            finally:
                os.close(read_only)
            say(f"tracing {keeper.device.fs_type} on {keeper.device.bdi} for the engine", _WHO)
            self._look_after(keeper, engine)
        finally:
            engine.close()
            self._left = not keeper.remove()

    def _open(self) -> tuple[OwnKeeper, int]:
        """The instance, running, and a mount that it can be read in and not be written. `TraceUnavailable`."""
        device = find_device(self._volume)
        read_only = mount_read_only()
        try:
            tracefs = open_tracefs()
            try:
                instance = Instance(tracefs, self._uid, _HELD_SECONDS)
            finally:
                os.close(tracefs)
            try:
                keeper = OwnKeeper(self._volume, device, instance, MEMORY)
            except BaseException:
                instance.close()
                raise
        except TraceUnavailable:
            os.close(read_only)
            raise
        except (OSError, BadInput) as e:
            os.close(read_only)
            raise TraceUnavailable(f"cannot set up the trace: {e}", reason="NoTracefs") from e
        return keeper, read_only

    def _look_after(self, keeper: OwnKeeper, engine: socket.socket) -> None:
        until: float | None = None
        while True:
            left = None if until is None else until - time.monotonic()
            if left is not None and left <= 0:
                return
            if self._ready(engine, left):
                receive(engine, ("check",))
                send(engine, "checked", self._check(keeper))
            elif self._wake.ending and until is None:
                until = time.monotonic() + _LEAVING_SECONDS

    def _check(self, keeper: OwnKeeper) -> str:
        try:
            found = "; ".join(keeper.check())
        except (OSError, BadInput) as e:
            found = f"the trace cannot be looked after: {e}"
        if found:
            say(found, _WHO)
        return found.replace("\n", " ")

    def _sweep(self) -> None:
        """Remove what nobody holds."""
        try:
            swept = sweep()
        except TraceUnavailable as e:
            say(f"cannot look for stale instances: {e.message}", _WHO)
            self._left = False
            return
        if swept.removed:
            say(f"removed {', '.join(swept.removed)}, which nobody held", _WHO)
        self._left = PREFIX + self._uid in swept.held
