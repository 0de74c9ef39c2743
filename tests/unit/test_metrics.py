"""What Prometheus reads of the operator, over HTTP, by its own parser."""

from __future__ import annotations

import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from storagemirror import __version__
from storagemirror.api.conditions import Condition, ConditionStatus, ConditionType
from storagemirror.api.replication import PointStatus, QueueStatus
from storagemirror.api.status import DriftStatus, MirrorPairStatus, MissedStatus, NotKept, Phase, Progress, VolumeStatus
from storagemirror.handlers.metrics import STALE_SECONDS, Metrics, serve_metrics
from storagemirror.kube.gather import Key
from tests.support.world import HeldClock

SHOP = Key("shop", "orders")
AT = "2026-01-02T03:04:05Z"
SECONDS = 1767323045.0
OF_ORDERS = {"namespace": "shop", "pair": "orders"}
OF_DATA = {**OF_ORDERS, "volume": "data"}

Series = dict[tuple[str, frozenset[tuple[str, str]]], float]


class Scraped:
    """A server of metrics, and whoever reads it."""

    def __init__(self) -> None:
        self.clock = HeldClock()
        self.leading = True
        self.metrics = Metrics(self.clock, lambda: self.leading)
        self._server = serve_metrics(self.metrics, 0)

    def read(self) -> Series:
        url = f"http://127.0.0.1:{self._server.server_port}/metrics"
        with urllib.request.urlopen(url, timeout=5) as answer:
            text = answer.read().decode()
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def scraped() -> Iterator[Scraped]:
    made = Scraped()
    yield made
    made.close()


def value(series: Series, name: str, **labels: str) -> float | None:
    return series.get((f"storagemirror_{name}", frozenset(labels.items())))


def see(scraped: Scraped, *volumes: VolumeStatus, key: Key = SHOP, **status: object) -> None:
    scraped.metrics.see(key, MirrorPairStatus().model_copy(update=status), volumes)


def test_what_is_known_of_a_volume_is_told(scraped: Scraped) -> None:
    volume = VolumeStatus(
        name="data",
        lag_seconds=3,
        lag_bytes=4096,
        synced_through=AT,
        last_full_mirror=AT,
        progress=Progress(bytes_done=5, bytes_total=10, bytes_per_second=2),
        points=PointStatus(
            number=7,
            at=AT,
            made=12,
            put_off=2,
            stall_p50_milliseconds=40,
            stall_p99_milliseconds=60,
            interval_seconds=5,
            missed=1,
        ),
        missed=MissedStatus(count=2),
        queue=QueueStatus(memory_bytes=100, disk_bytes=200, names=3, overflows=1),
        drift=DriftStatus(count=4),
        not_kept=(NotKept(kind="Xattr", count=9),),
    )
    see(scraped, volume)
    series = scraped.read()
    expected = {
        "lag_seconds": 3,
        "lag_bytes": 4096,
        "synced_through_timestamp_seconds": SECONDS,
        "last_mirror_timestamp_seconds": SECONDS,
        "mirror_done_bytes": 5,
        "mirror_all_bytes": 10,
        "mirror_bytes_per_second": 2,
        "point_timestamp_seconds": SECONDS,
        "point_interval_seconds": 5,
        "points_made_total": 12,
        "points_put_off_total": 2,
        "changes_missed": 3,
        "queue_names": 3,
        "queue_overflows_total": 1,
        "copy_changed_entries": 4,
    }
    assert {name: value(series, name, **OF_DATA) for name in expected} == expected
    assert value(series, "point_stall_seconds", **OF_DATA, quantile="0.5") == 0.04
    assert value(series, "point_stall_seconds", **OF_DATA, quantile="0.99") == 0.06
    assert value(series, "queue_bytes", **OF_DATA, place="memory") == 100
    assert value(series, "queue_bytes", **OF_DATA, place="disk") == 200
    assert value(series, "not_kept_entries", **OF_DATA, kind="Xattr") == 9


def test_what_is_not_known_has_no_series(scraped: Scraped) -> None:
    see(scraped, VolumeStatus(name="data"))
    told = {name for name, labels in scraped.read() if ("volume", "data") in labels}
    assert told == {"storagemirror_changes_missed"}


def test_the_pair_is_told_with_its_conditions(scraped: Scraped) -> None:
    conditions = (
        Condition(type=ConditionType.READY, status=ConditionStatus.TRUE, reason="Replicating", last_transition_time=AT),
        Condition(type=ConditionType.DRIFTED, status=ConditionStatus.UNKNOWN, reason="X", last_transition_time=AT),
    )
    see(scraped, VolumeStatus(name="data"), phase=Phase.REPLICATING, epoch=3, conditions=conditions)
    scraped.clock.sleep(2)
    series = scraped.read()
    assert value(series, "phase", **OF_ORDERS, phase="Replicating") == 1
    assert value(series, "epoch", **OF_ORDERS) == 3
    assert value(series, "condition", **OF_ORDERS, type="Ready", status="True") == 1
    assert value(series, "condition", **OF_ORDERS, type="Drifted", status="Unknown") == 1
    assert value(series, "condition", **OF_ORDERS, type="Ready", status="False") is None
    assert value(series, "looked_at_seconds", **OF_ORDERS) == 2


def test_series_go_with_their_pair(scraped: Scraped) -> None:
    see(scraped, VolumeStatus(name="data", lag_seconds=1))
    see(scraped, VolumeStatus(name="data", lag_seconds=2), key=Key("bank", "orders"))
    scraped.metrics.forget(SHOP)
    assert {dict(labels)["namespace"] for _, labels in scraped.read() if labels and "pair" in dict(labels)} == {"bank"}
    scraped.metrics.forget(SHOP)


def test_series_of_a_volume_go_with_it(scraped: Scraped) -> None:
    see(scraped, VolumeStatus(name="data", lag_seconds=1), VolumeStatus(name="log", lag_seconds=1))
    see(scraped, VolumeStatus(name="log", lag_seconds=1))
    series = scraped.read()
    assert value(series, "lag_seconds", **OF_DATA) is None
    assert value(series, "lag_seconds", **{**OF_DATA, "volume": "log"}) == 1


def test_a_pair_that_nobody_looks_at_does_not_look_well(scraped: Scraped) -> None:
    see(scraped, VolumeStatus(name="data", lag_seconds=0))
    scraped.clock.sleep(STALE_SECONDS - 1)
    assert value(scraped.read(), "lag_seconds", **OF_DATA) == 0
    scraped.clock.sleep(2)
    assert not [labels for _, labels in scraped.read() if ("pair", "orders") in labels]


def test_the_page_about_them_names_each_of_them_and_no_other(scraped: Scraped) -> None:
    found = {metric.name + ("_total" if metric.type == "counter" else "") for metric in scraped.metrics.collect()}
    page = (Path(__file__).resolve().parents[2] / "docs/metrics.md").read_text()
    assert set(re.findall(r"`(storagemirror_[a-z_]+)`", page)) == found


def test_the_operator_tells_of_itself(scraped: Scraped) -> None:
    series = scraped.read()
    assert value(series, "build_info", version=__version__) == 1
    assert value(series, "leader") == 1
    scraped.leading = False
    assert value(scraped.read(), "leader") == 0
