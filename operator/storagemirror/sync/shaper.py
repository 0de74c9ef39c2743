"""How frames leave: compressed where that pays, and no faster than the limit allows.

What counts against the limit are the bytes of our frames, headers included, before TLS (which adds 22 bytes to each
16 KiB). A Ping goes at once: what follows waits for it. A frame that would take long at the limit goes in fragments,
so that Pings come between.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from storagemirror.clock import Clock
from storagemirror.contract import TransferOrder
from storagemirror.errors import BadInput
from storagemirror.sync.compressor import LZ4, Compressor, Method
from storagemirror.sync.pacer import Pacer
from storagemirror.sync.schedule import limit_at
from storagemirror.sync.stream import Transmitted
from storagemirror.wire.envelope import COMPRESSIBLE, Codec, compressed, fragment
from storagemirror.wire.frame import FRAGMENT_CHUNK, HEADER
from storagemirror.wire.messages import FrameType

_LONG_SECONDS = 0.25
_PIECE_SECONDS = 0.05
_LEAST_PIECE = 256


class Shaper:
    """Of one direction of one connection. Whoever sends calls `pieces`, one frame at a time."""

    def __init__(self, clock: Clock, transmitted: Callable[[], Transmitted | None]) -> None:
        self.pacer = Pacer(clock)
        self.compressor = Compressor(clock, transmitted, self.pacer.rate)
        self.agreed = False
        """Both sides can do this (feature `compress`)."""
        self.saved = 0
        """Bytes that compression has spared so far."""
        self._clock = clock

    def govern(self, transfer: TransferOrder) -> None:
        """From now on so. `BadInput` when it names a time or a zone that there is not: nothing changes then."""
        limit_at(transfer, self._clock.now_ns())
        if not 1 <= transfer.level <= 19:
            raise BadInput(f"expected a level of 1 to 19, got {transfer.level}")
        self.pacer.govern(lambda: limit_at(transfer, self._clock.now_ns()))
        self.compressor.govern(transfer.compression, transfer.level)

    def follow(self, codec: Codec | None) -> None:
        """A target compresses its lists as its source compresses: not before it does."""
        if codec is not None:
            self.compressor.use(LZ4 if codec is Codec.LZ4 else Method(Codec.ZSTD, 1))

    def pieces(self, prefix: bytes, body: bytes | memoryview = b"") -> Iterator[tuple[bytes | memoryview, bool]]:
        """A frame, whose header `prefix` begins with, as it is to be sent: each piece when its time has come, and
        whether another frame may follow it."""
        if self.agreed and not self.compressor.idle() and prefix[0] in COMPRESSIBLE:
            prefix, body = self._compressed(prefix, body)
        rate = self.pacer.rate()
        if rate is None:
            if body:
                yield prefix, False
            yield body or prefix, True
        elif self.agreed and len(prefix) + len(body) > _LONG_SECONDS * rate:
            yield from self._fragments(prefix, body)
        else:
            yield from self._paced(prefix, body)

    def _compressed(self, prefix: bytes, body: bytes | memoryview) -> tuple[bytes, bytes | memoryview]:
        payload = b"".join((memoryview(prefix)[HEADER.size :], body)) if len(prefix) > HEADER.size else bytes(body)
        found = self.compressor.squeeze(payload)
        if found is None:
            return prefix, body
        codec, content = found
        made = compressed(FrameType(prefix[0]), codec, len(payload), content)
        self.saved += len(prefix) + len(body) - len(made[0]) - len(made[1])
        return made

    def _fragments(self, prefix: bytes, body: bytes | memoryview) -> Iterator[tuple[bytes, bool]]:
        payload = memoryview(b"".join((memoryview(prefix)[HEADER.size :], body)))
        at = 0
        while at < payload.nbytes:
            size = min(FRAGMENT_CHUNK, self._step())
            piece = fragment(FrameType(prefix[0]), payload.nbytes, payload[at : at + size])
            self.pacer.take(len(piece))
            yield piece, True
            at += size

    def _paced(self, prefix: bytes, body: bytes | memoryview) -> Iterator[tuple[bytes | memoryview, bool]]:
        for part, last in ((prefix, not body), (body, True)):
            view, at = memoryview(part), 0
            while at < view.nbytes:
                size = self._step()
                self.pacer.take(min(size, view.nbytes - at))
                yield view[at : at + size], last and at + size >= view.nbytes
                at += size

    def _step(self) -> int:
        rate = self.pacer.rate()
        return 1 << 20 if rate is None else min(1 << 20, max(_LEAST_PIECE, int(rate * _PIECE_SECONDS)))
