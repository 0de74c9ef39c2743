"""A process: listens on 127.0.0.1 of this machine and passes every connection to the API server in its namespace.

`python -m tests.cluster.forward NETNS LISTEN_PORT TARGET_PORT`. The listening socket is made first and stays in the
machine's own network; then the process moves into the cluster's.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import socket
import sys

_CLONE_NEWNET = 0x40000000


def enter_network(handle: str) -> None:
    """Move this process into the network namespace of that handle. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = os.open(handle, os.O_RDONLY)
    try:
        if libc.setns(descriptor, _CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), f"setns({handle})")
    finally:
        os.close(descriptor)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Carry bytes one way until their end, then tell the other side that no more come."""
    try:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
        writer.write_eof()
    except OSError:
        writer.close()


async def _serve(listener: socket.socket, target_port: int) -> None:
    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", target_port)
        except OSError:
            writer.transport.abort()
            return
        await asyncio.gather(_pump(reader, far_writer), _pump(far_reader, writer))
        for end in (writer, far_writer):
            with contextlib.suppress(OSError):
                end.close()

    server = await asyncio.start_server(connected, sock=listener)
    await server.serve_forever()


def main(words: list[str]) -> None:
    """Serve until killed."""
    handle, listen_port, target_port = words
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", int(listen_port)))
    listener.listen(256)
    enter_network(handle)
    asyncio.run(_serve(listener, int(target_port)))


if __name__ == "__main__":
    main(sys.argv[1:])
