"""Compressing frames, where it pays.

Every large frame is tried by a sample first: where that does not shrink, the frame goes as it is, and with each further
one that does not, more of those that follow are not even tried. What was compressed and did not shrink goes as it is.

`Auto` compares what a byte costs either way, in seconds: 1/rate as it is, and the time to compress it plus share/rate
compressed, where *rate* is what the link carries and *share* what is left of the content. The link's rate is the
limit that is set, or what the kernel says, whichever of two is higher: bytes acknowledged by the time in which
something was on its way and the peer had room for it, and the rate at which it saw them delivered lately. (The first
alone is too low where little is sent: a peer takes up to 40 ms to acknowledge the last of it.) How long a send waits
would not do: that is as long where the peer's disk is slow, and no compression helps there. Where the kernel cannot
say, as between two processes of one machine, there is no link.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from storagemirror.clock import Clock
from storagemirror.contract import Compression
from storagemirror.sync.stream import Transmitted
from storagemirror.wire.envelope import Codec

LEAST_BYTES = 512
"""What is smaller is not worth it."""
SHRINKS = 0.92
"""What is left of a sample, or of a frame, at most: else it goes as it is."""
_SAMPLED = 128 << 10
_SAMPLE = 16 << 10
"""A frame beyond `_SAMPLED` is judged by three samples of so many bytes."""
_MOST_SKIPPED = 15

_DECIDE_SECONDS = 2.0
_TRIAL = 128 << 10
_ENOUGH_BYTES = 1 << 20
_LITTLE_BYTES, _LONG_SECONDS = 64 << 10, 0.5
"""So much must have been carried before it says anything: a lot, or a little for long."""
_FAST = 400_000_000
"""Bytes a second. No codec gains anything on a link that is faster than this: none is tried."""
_MARGIN = 0.9
"""So much cheaper compression must be at least."""
_PEER = 1.5
"""The other side has work with it too: a byte counts for so much of the time to compress it."""

Compress = Callable[[bytes | memoryview], bytes]


@dataclass(frozen=True, slots=True)
class Method:
    """A codec and its level (of Zstd)."""

    codec: Codec
    level: int = 1

    def prepare(self) -> Compress:
        """Something that compresses; for one thread at a time."""
        if self.codec is Codec.LZ4:
            import lz4.block

            return lambda data: bytes(lz4.block.compress(data, store_size=False))
        import zstandard

        return zstandard.ZstdCompressor(level=self.level, write_content_size=True).compress


LZ4 = Method(Codec.LZ4)
CANDIDATES = (LZ4, Method(Codec.ZSTD, 1), Method(Codec.ZSTD, 3))
"""What `Auto` chooses from."""


class Compressor:
    """Of one direction of one connection. Not for several threads at a time."""

    def __init__(
        self, clock: Clock, transmitted: Callable[[], Transmitted | None], limit: Callable[[], int | None]
    ) -> None:
        self._clock = clock
        self._transmitted = transmitted
        self._limit = limit
        self._auto = False
        self._method: Method | None = None
        self._prepared: dict[Method, Compress] = {}
        self._skip = self._failures = 0
        self._decide_at = 0.0
        self._last: Transmitted | None = None
        self._rate: float | None = None

    @property
    def method(self) -> Method | None:
        """With what is compressed now; None: not at all."""
        return self._method

    def govern(self, compression: Compression, level: int) -> None:
        """What is wanted. Holds from the next frame on."""
        self._auto = compression is Compression.AUTO
        self._skip = self._failures = 0
        self._decide_at = 0.0
        self._method = {
            Compression.AUTO: self._method if self._auto else None,
            Compression.OFF: None,
            Compression.LZ4: LZ4,
            Compression.ZSTD: Method(Codec.ZSTD, level),
        }[compression]

    def use(self, method: Method) -> None:
        """As the peer does."""
        if method != self._method:
            self._auto, self._method, self._skip, self._failures = False, method, 0, 0

    def idle(self) -> bool:
        """Whether nothing is to be done now."""
        if self._auto and self._clock.monotonic() >= self._decide_at:
            return False
        return self._method is None

    def squeeze(self, payload: bytes) -> tuple[Codec, bytes] | None:
        """`payload` compressed; None where it goes as it is."""
        if len(payload) < LEAST_BYTES:
            return None
        if self._auto and self._clock.monotonic() >= self._decide_at:
            self._decide(payload)
        method = self._method
        if method is None:
            return None
        if self._skip:
            self._skip -= 1
            return None
        compress = self._compress(method)
        if len(payload) > _SAMPLED and not _worth(compress, payload):
            self._did_not_shrink()
            return None
        content = compress(payload)
        if len(content) > SHRINKS * len(payload):
            self._did_not_shrink()
            return None
        self._failures = 0
        return method.codec, content

    def _did_not_shrink(self) -> None:
        self._failures = min(self._failures + 1, 8)
        self._skip = min((1 << self._failures) - 1, _MOST_SKIPPED) if self._failures > 1 else 0

    def _compress(self, method: Method) -> Compress:
        found = self._prepared.get(method)
        if found is None:
            found = self._prepared[method] = method.prepare()
        return found

    # -- Auto

    def _decide(self, payload: bytes) -> None:
        """Which method costs least here, if any is worth it."""
        self._decide_at = self._clock.monotonic() + _DECIDE_SECONDS
        rate = self._measure()
        if rate is None or rate >= _FAST:
            self._method = None
            if rate is None and self._last is not None:
                self._decide_at = 0.0  # nothing to go by yet: the next frame asks again
            return
        best, least = None, _MARGIN / rate
        trial = memoryview(payload)[:_TRIAL]
        shrinks = False
        for method in CANDIDATES:
            began = self._clock.monotonic()
            left = len(self._compress(method)(trial)) / len(trial)
            cost = _PEER * (self._clock.monotonic() - began) / len(trial) + left / rate
            shrinks = shrinks or left <= SHRINKS
            if left <= SHRINKS and cost < least:
                best, least = method, cost
        if shrinks or self._method is None:
            self._method = best
        # Content that does not shrink says nothing about the link: what was chosen stays, and is skipped as it comes.

    def _measure(self) -> float | None:
        """Bytes a second that the link carries, as far as that is known."""
        limit, now = self._limit(), self._transmitted()
        if now is not None:
            last = self._last
            if last is None:
                last = self._last = Transmitted(0, 0.0, 0)
            size, seconds = now.bytes - last.bytes, now.seconds - last.seconds
            if size >= _ENOUGH_BYTES or (size >= _LITTLE_BYTES and seconds >= _LONG_SECONDS):
                self._last = now
                self._rate = max(size / seconds if seconds > 0 else float("inf"), float(now.rate))
        if limit is None:
            return self._rate
        return min(self._rate, float(limit)) if self._rate is not None else float(limit)


def _worth(compress: Compress, payload: bytes) -> bool:
    view = memoryview(payload)
    last = len(payload) - _SAMPLE
    left = sum(len(compress(view[at : at + _SAMPLE])) for at in (0, last // 2, last))
    return left <= SHRINKS * 3 * _SAMPLE
