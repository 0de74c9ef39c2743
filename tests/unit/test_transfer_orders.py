"""From spec.transfer and from the command line to an agent's order."""

from __future__ import annotations

import argparse

import pytest

from storagemirror.api.mirrorpair import MirrorPairSpec
from storagemirror.cli import transfer
from storagemirror.contract import BandwidthWindow, Compression, Order, Role, TransferOrder, Weekday, decode, encode
from storagemirror.plan.transfer import transfer_order

SPEC = {
    "volumes": [{"name": "data", "source": {"claimName": "a"}, "target": {"claimName": "b"}}],
    "transfer": {
        "timeZone": "Europe/Berlin",
        "bandwidth": [{"limit": "20Mi", "days": ["Mon"], "from": "08:00", "to": "18:00"}, {"limit": 1000000}],
        "compression": "Zstd",
        "readLimit": "100M",
    },
}


def test_an_order_says_what_the_spec_says_in_bytes() -> None:
    spec = MirrorPairSpec.read(SPEC)
    assert transfer_order(spec.transfer, 1) == TransferOrder(
        bandwidth=(
            BandwidthWindow(limit=20 << 20, days=(Weekday.MON,), begin="08:00", end="18:00"),
            BandwidthWindow(limit=1_000_000),
        ),
        time_zone="Europe/Berlin",
        compression=Compression.ZSTD,
        level=3,
        read_limit=100_000_000,
    )


def test_volumes_of_a_pair_share_its_limits_and_never_send_more() -> None:
    spec = MirrorPairSpec.read(SPEC)
    shares = transfer_order(spec.transfer, 3)
    assert 3 * shares.bandwidth[1].limit <= 1_000_000
    assert shares.read_limit == 33_333_333


def test_a_spec_that_says_nothing_limits_nothing() -> None:
    spec = MirrorPairSpec.read({"volumes": SPEC["volumes"]})
    assert transfer_order(spec.transfer, 1) == TransferOrder()


def test_an_order_of_a_release_before_has_no_limits() -> None:
    order = Order(
        pair_uid="u", pair_name="p", namespace="n", volume="v", role=Role.SOURCE, revision=1, instance=1, epoch=1
    )
    assert "transfer" not in encode(order)
    assert decode(Order, encode(order)).transfer == TransferOrder()


def parsed(*words: str) -> TransferOrder:
    parser = argparse.ArgumentParser(exit_on_error=False)
    transfer.configure(parser)
    return transfer.transfer_of(parser.parse_args(words))


def test_the_command_line_says_the_same() -> None:
    assert parsed() == TransferOrder()
    assert parsed("--bwlimit", "20Mi").bandwidth == (BandwidthWindow(limit=20 << 20),)
    assert (parsed("--compress", "zstd:9").compression, parsed("--compress", "zstd:9").level) == (Compression.ZSTD, 9)
    assert parsed("--compress", "LZ4").compression is Compression.LZ4
    assert parsed("--read-limit", "1500").read_limit == 1500


@pytest.mark.parametrize(
    "words",
    [
        ("--bwlimit", "fast"),
        ("--bwlimit", "0"),
        ("--bwlimit", "-5M"),
        ("--bwlimit", "1000"),
        ("--compress", "gzip"),
        ("--compress", "zstd:0"),
        ("--compress", "zstd:20"),
        ("--compress", "zstd:"),
        ("--compress", "lz4:3"),
        ("--read-limit", "x"),
    ],
)
def test_what_cannot_be_meant_is_refused(words: tuple[str, ...]) -> None:
    with pytest.raises(argparse.ArgumentError, match="expected"):
        parsed(*words)
