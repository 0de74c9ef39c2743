"""How fast, and how packed: the options of the verbs that send."""

from __future__ import annotations

import argparse

from storagemirror.contract import BandwidthWindow, Compression, TransferOrder
from storagemirror.errors import BadInput
from storagemirror.plan.quantities import quantity

LEAST_LIMIT = 1024
_COMPRESSIONS = {word.value.lower(): word for word in Compression}


def configure(parser: argparse.ArgumentParser) -> None:
    """The options."""
    parser.add_argument(
        "--bwlimit",
        type=_rate,
        metavar="RATE",
        help="send at most so many bytes a second: 500K, 20Mi (1024*1024) or a plain number; at least 1Ki. What is "
        "sent counts as it is before TLS, after compression",
    )
    parser.add_argument(
        "--compress",
        type=_compression,
        default=(Compression.AUTO, 3),
        metavar="HOW",
        help="auto (default: measures link and data, and compresses where that is faster), off, lz4, zstd or zstd:N, "
        "N from 1 (fast) to 19 (small); zstd is zstd:3",
    )
    parser.add_argument(
        "--read-limit",
        type=_rate,
        metavar="RATE",
        help="read at most so many bytes of content a second from SRC, so that whoever works on its disk is not slowed "
        "down",
    )


def transfer_of(args: argparse.Namespace) -> TransferOrder:
    """What they say."""
    compression, level = args.compress
    windows = () if args.bwlimit is None else (BandwidthWindow(limit=args.bwlimit),)
    return TransferOrder(bandwidth=windows, compression=compression, level=level, read_limit=args.read_limit)


def _rate(text: str) -> int:
    try:
        value = int(quantity(text))
    except BadInput as e:
        raise argparse.ArgumentTypeError(f"expected bytes a second such as 20Mi, got {text!r}") from e
    if value < LEAST_LIMIT:
        raise argparse.ArgumentTypeError(f"expected at least 1Ki a second, got {text!r}")
    return value


def _compression(text: str) -> tuple[Compression, int]:
    word, colon, level = text.lower().partition(":")
    found = _COMPRESSIONS.get(word)
    valid = not colon or (found is Compression.ZSTD and level.isascii() and level.isdigit() and 1 <= int(level) <= 19)
    if found is None or not valid:
        raise argparse.ArgumentTypeError(f"expected auto, off, lz4, zstd or zstd:1 to zstd:19, got {text!r}")
    return found, int(level) if level else 3
