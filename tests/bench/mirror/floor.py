"""`python -m tests.bench.mirror.floor`: what the system calls and the encryption of a mirror cost without any mirror.

The same calls for each file as ours, in bare loops of Python, one process, warm cache, on a file system of its own:
what a mirror takes beyond these is ours to save. Prints seconds of processor time (user and system) for D1, and for
sending as many bytes as D2 has over TLS on loopback, both ends.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import resource
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from storagemirror.fs.syscalls import syncfs
from tests.bench.mirror import room, wire
from tests.bench.mirror.datasets import D1, D2_BYTES
from tests.bench.mirror.ownmemory import Held
from tests.bench.mirror.runs import read_all
from tests.bench.mirror.tools import CROSSING_PORT

_ROOM = 4e9
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NOATIME
_MAKE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_FLAGS, _PROJECT = 0x80086601, 0x801C581F
_PIECE = 1 << 20


def main() -> int:
    """See above."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.mirror.floor", description=__doc__)
    parser.add_argument("--dir", default="/var/tmp", help="where (default: /var/tmp)")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the data sets (default: 1)")
    args = parser.parse_args()
    room.enter()
    wire.set_up(CROSSING_PORT)
    with room.workplace(args.dir, _ROOM) as base:
        source, keys = base / "source", base / "keys"
        source.mkdir()
        D1.make(source, args.scale)
        read_all(source)
        fd = os.open(base, os.O_RDONLY)
        syncfs(fd)
        os.close(fd)
        print(f"D1 at {args.scale:g} of its size; processor seconds, user and system")
        print(f"  looking at all entries: lstat, listxattr          {_cost(lambda: _look(source)):6.2f}")
        print("  reading all files: open, fstat, read, fstat,")
        print(f"    listxattr, two ioctls, close                    {_cost(lambda: _read(source)):6.2f}")
        held = Held()
        held.fetch()
        with held.giving():
            made = _cost(lambda: _make(source, base / "made"))
        print(f"  making all files: open, write, utimens, close     {made:6.2f}")
        held.let_go()
        subprocess.run(
            [str(Path(sys.executable).parent / "storagemirror"), "keys", str(keys)],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        size = int(D2_BYTES * args.scale)
        began = time.monotonic()
        sender, receiver = _send(keys, size)
        took = time.monotonic() - began
        print(f"{size / 2**30:.1f} GiB over TLS 1.3 on loopback, in pieces of 1 MiB: {took:.2f} s")
        print(f"  the sender                                        {sender:6.2f}")
        print(f"  the receiver                                      {receiver:6.2f}")
    return 0


def _cost(work: Callable[[], None]) -> float:
    before = time.process_time()
    work()
    return time.process_time() - before


def _look(root: Path) -> None:
    for _, directories, names, fd in os.fwalk(root):
        os.fchdir(fd)
        for name in (*directories, *names):
            os.stat(name, follow_symlinks=False)
            os.listxattr(name, follow_symlinks=False)
    os.chdir("/")


def _read(root: Path) -> None:
    buffer, flags, project = memoryview(bytearray(1 << 20)), bytearray(8), bytearray(28)
    for _, _, names, directory in os.fwalk(root):
        for name in names:
            fd = os.open(name, _READ, dir_fd=directory)
            size = os.fstat(fd).st_size
            os.preadv(fd, (buffer[: size + 1],), 0)
            os.fstat(fd)
            os.listxattr(fd)
            fcntl.ioctl(fd, _FLAGS, flags)
            fcntl.ioctl(fd, _PROJECT, project)
            os.close(fd)


def _make(root: Path, target: Path) -> None:
    content = memoryview(os.urandom(1 << 20))
    for path, _, names, directory in os.fwalk(root):
        there = target / os.path.relpath(path, root)
        there.mkdir()
        made = os.open(there, os.O_RDONLY | os.O_DIRECTORY)
        for name in names:
            found = os.stat(name, dir_fd=directory)
            fd = os.open(name, _MAKE, 0o600, dir_fd=made)
            os.write(fd, content[: found.st_size])
            os.utime(fd, ns=(found.st_mtime_ns, found.st_mtime_ns))
            os.close(fd)
        os.close(made)


def _send(keys: Path, size: int) -> tuple[float, float]:
    """Processor seconds of both ends."""
    with socket.create_server(("127.0.0.1", CROSSING_PORT)) as listener:
        child = os.fork()
        if child == 0:
            connection, _ = listener.accept()
            _receive(_wrapped(connection, keys / "target", server=True), size)
            os._exit(0)
        before = time.process_time()
        sender = _wrapped(socket.create_connection(listener.getsockname()), keys / "source", server=False)
        content = memoryview(os.urandom(_PIECE))
        for _ in range(size // _PIECE):
            sender.sendall(content)
        sent = time.process_time() - before
        used: resource.struct_rusage = os.wait4(child, 0)[2]
        sender.close()
    return sent, used.ru_utime + used.ru_stime


def _wrapped(connection: socket.socket, keys: Path, *, server: bool) -> ssl.SSLSocket:
    for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
        connection.setsockopt(socket.SOL_SOCKET, option, 4 << 20)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(keys / "tls.crt", keys / "tls.key")
    context.load_verify_locations(keys / "ca.crt")
    return context.wrap_socket(connection, server_side=server)


def _receive(connection: ssl.SSLSocket, size: int) -> None:
    room_ = memoryview(bytearray(_PIECE))
    got = 0
    while got < size // _PIECE * _PIECE and (count := connection.recv_into(room_)):
        got += count


if __name__ == "__main__":
    sys.exit(main())
