"""What the API server says to spec.transfer: its defaults, and what it refuses by name."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.apiserver import ApiServer
from tests.support.manifests import create, created, pair

pytestmark = pytest.mark.apiserver


def transfer(**fields: Any) -> dict[str, Any]:
    return pair(transfer=fields)


def window(**fields: Any) -> dict[str, Any]:
    return transfer(bandwidth=[{"limit": "20Mi", **fields}])


def test_what_is_left_out_is_filled_in(apiserver: ApiServer, namespace: str) -> None:
    assert created(apiserver, namespace, pair())["spec"]["transfer"] == {
        "bandwidth": [],
        "compression": "Auto",
        "timeZone": "UTC",
    }


GOOD = {
    "a limit for ever": window(),
    "a plain number": window(limit=1_000_000),
    "working hours": window(days=["Mon", "Tue", "Wed", "Thu", "Fri"], **{"from": "08:00", "to": "18:00"}),
    "a night": window(**{"from": "22:00", "to": "06:00"}),
    "a zone": transfer(timeZone="America/Argentina/Buenos_Aires", bandwidth=[{"limit": "1Gi"}]),
    "a level of Zstd": transfer(compression="Zstd", level=19),
    "no compression, and slow reading": transfer(compression="Off", readLimit="100Mi"),
}


@pytest.mark.parametrize("body", GOOD.values(), ids=GOOD.keys())
def test_it_takes(apiserver: ApiServer, namespace: str, body: dict[str, Any]) -> None:
    created(apiserver, namespace, body)


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no limit": (transfer(bandwidth=[{}]), "spec.transfer.bandwidth[0].limit: Required value"),
    "a limit of nothing": (window(limit="0"), "limit must be at least 1Ki a second"),
    "a limit that is none": (window(limit="fast"), "spec.transfer.bandwidth[0].limit"),
    "a day that is none": (window(days=["Monday"]), 'supported values: "Mon", "Tue"'),
    "a day twice": (window(days=["Mon", "Mon"]), "Duplicate value"),
    "a begin without an end": (window(**{"from": "08:00"}), "from and to belong together"),
    "an end without a begin": (window(to="08:00"), "from and to belong together"),
    "a window of no time": (window(**{"from": "08:00", "to": "08:00"}), "from and to must differ"),
    "an hour with one digit": (window(**{"from": "8:00", "to": "18:00"}), "should match"),
    "an hour after the last": (window(**{"from": "08:00", "to": "24:00"}), "should match"),
    "a zone that is none": (transfer(timeZone="Europe/Atlantis"), "spec.transfer"),
    "a path for a zone": (transfer(timeZone="../../etc/passwd"), "spec.transfer.timeZone"),
    "a level of lz4": (transfer(compression="Lz4", level=3), "level is of compression Zstd"),
    "a level without a word": (transfer(level=3), "level is of compression Zstd"),
    "a level that is none": (transfer(compression="Zstd", level=20), "less than or equal to 19"),
    "a compression that is none": (transfer(compression="Gzip"), 'supported values: "Auto", "Off", "Lz4", "Zstd"'),
    "a reading of nothing": (transfer(readLimit="1"), "readLimit must be at least 1Ki a second"),
    "too many windows": (transfer(bandwidth=[{"limit": "1Mi"}] * 17), "at most 16 items"),
}


@pytest.mark.parametrize(("body", "why"), BAD.values(), ids=BAD.keys())
def test_it_refuses(apiserver: ApiServer, namespace: str, body: dict[str, Any], why: str) -> None:
    answer = create(apiserver, namespace, body)
    assert (answer.status in {400, 422}, why in answer.message) == (True, True), answer.message
