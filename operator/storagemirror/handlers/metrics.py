"""Metrics for Prometheus: how each pair stands, as of its last pass.

What is not known has no series, and is never zero. The series of a pair go with it; so they do where no pass has come
through for a while, as those of a pair that nobody looks at would stand still and look well.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from storagemirror import __version__
from storagemirror.api.status import MirrorPairStatus, VolumeStatus
from storagemirror.clock import Clock
from storagemirror.kube.gather import Key
from storagemirror.plan.times import read

STALE_SECONDS = 180.0
"""A pair has a pass each minute at least (`--resync`)."""
PAIR, VOLUME = ("namespace", "pair"), ("namespace", "pair", "volume")

Value = float | int | None
_Part = TypeVar("_Part")


@dataclass(frozen=True)
class _Seen:
    status: MirrorPairStatus
    volumes: Sequence[VolumeStatus]
    at: float


@dataclass(frozen=True)
class _Gauge:
    """Of a volume: one number, with what tells it apart from others of its name."""

    name: str
    help: str
    values: Callable[[VolumeStatus], Iterable[tuple[tuple[str, ...], Value]]]
    labels: tuple[str, ...] = ()
    counter: bool = False
    """It only grows while one agent lives."""


def _one(get: Callable[[VolumeStatus], Value]) -> Callable[[VolumeStatus], Iterable[tuple[tuple[str, ...], Value]]]:
    return lambda volume: (((), get(volume)),)


def _in(
    part: Callable[[VolumeStatus], _Part | None], get: Callable[[_Part], Value]
) -> Callable[[VolumeStatus], Iterable[tuple[tuple[str, ...], Value]]]:
    """Of a part of the status that may be missing."""
    return _one(lambda volume: get(found) if (found := part(volume)) is not None else None)


def _seconds(text: str | None) -> float | None:
    """Since the Unix epoch."""
    found = read(text)
    return None if found is None else found.timestamp()


def _missed(volume: VolumeStatus) -> int:
    points = volume.points.missed if volume.points is not None else 0
    return points + (volume.missed.count if volume.missed is not None else 0)


def _stalls(volume: VolumeStatus) -> Iterable[tuple[tuple[str, ...], Value]]:
    points = volume.points
    if points is None:
        return
    for quantile, found in (("0.5", points.stall_p50_milliseconds), ("0.99", points.stall_p99_milliseconds)):
        yield (quantile,), None if found is None else found / 1000


def _queued(volume: VolumeStatus) -> Iterable[tuple[tuple[str, ...], Value]]:
    if volume.queue is not None:
        yield ("memory",), volume.queue.memory_bytes
        yield ("disk",), volume.queue.disk_bytes


def _not_kept(volume: VolumeStatus) -> Iterable[tuple[tuple[str, ...], Value]]:
    return (((entry.kind,), entry.count) for entry in volume.not_kept)


_GAUGES = (
    _Gauge(
        "storagemirror_lag_seconds",
        "How far the copy is behind its source, on the source's own clock. No series: not known.",
        _one(lambda v: v.lag_seconds),
    ),
    _Gauge(
        "storagemirror_lag_bytes",
        "Bytes of changes that are known and not yet on the copy, at most. No series: not known.",
        _one(lambda v: v.lag_bytes),
    ),
    _Gauge(
        "storagemirror_synced_through_timestamp_seconds",
        "Everything the source did up to this time, on its clock, is on the copy's disk.",
        _one(lambda v: _seconds(v.synced_through)),
    ),
    _Gauge(
        "storagemirror_last_mirror_timestamp_seconds",
        "When both sides were last compared and made equal completely.",
        _one(lambda v: _seconds(v.last_full_mirror)),
    ),
    _Gauge(
        "storagemirror_mirror_done_bytes",
        "Of the full mirror that runs: bytes of the files that are done.",
        _in(lambda v: v.progress, lambda part: part.bytes_done),
    ),
    _Gauge(
        "storagemirror_mirror_all_bytes",
        "Of the full mirror that runs: bytes of all files.",
        _in(lambda v: v.progress, lambda part: part.bytes_total),
    ),
    _Gauge(
        "storagemirror_mirror_bytes_per_second",
        "How fast the full mirror that runs goes.",
        _in(lambda v: v.progress, lambda part: part.bytes_per_second),
    ),
    _Gauge(
        "storagemirror_point_timestamp_seconds",
        "The moment of the source that the latest point on the copy's disk is the state of.",
        _in(lambda v: v.points, lambda part: _seconds(part.at)),
    ),
    _Gauge(
        "storagemirror_point_interval_seconds",
        "How far apart points are now.",
        _in(lambda v: v.points, lambda part: part.interval_seconds),
    ),
    _Gauge(
        "storagemirror_points_made",
        "Points that were made since the source's agent began.",
        _in(lambda v: v.points, lambda part: part.made),
        counter=True,
    ),
    _Gauge(
        "storagemirror_points_put_off",
        "How often no point was made when its time had come, since the source's agent began.",
        _in(lambda v: v.points, lambda part: part.put_off),
        counter=True,
    ),
    _Gauge(
        "storagemirror_point_stall_seconds",
        "For how long writes waited at a point, of the last 1,000.",
        _stalls,
        ("quantile",),
    ),
    _Gauge(
        "storagemirror_changes_missed",
        "Changes that a point lacked, and files that were late on the copy as nothing had named them. Alert above 0.",
        _one(_missed),
    ),
    _Gauge("storagemirror_queue_bytes", "Content that waits at the source for the copy.", _queued, ("place",)),
    _Gauge(
        "storagemirror_queue_names",
        "Files and directories that changed and are to be looked at.",
        _in(lambda v: v.queue, lambda part: part.names),
    ),
    _Gauge(
        "storagemirror_queue_overflows",
        "How often names were dropped, since the source's agent began.",
        _in(lambda v: v.queue, lambda part: part.overflows),
        counter=True,
    ),
    _Gauge(
        "storagemirror_copy_changed_entries",
        "Entries of the copy that somebody else has changed. Alert above 0.",
        _in(lambda v: v.drift, lambda part: part.count),
    ),
    _Gauge("storagemirror_not_kept_entries", "What could not be copied or kept, by kind.", _not_kept, ("kind",)),
)


class Metrics(Collector):
    """What is known of each pair. Safe for threads."""

    def __init__(self, clock: Clock, leading: Callable[[], bool]) -> None:
        self._clock = clock
        self._leading = leading
        self._lock = threading.Lock()
        self._pairs: dict[Key, _Seen] = {}

    def see(self, key: Key, status: MirrorPairStatus, volumes: Sequence[VolumeStatus]) -> None:
        """A pass came through. `volumes`: as they are now, samples included."""
        with self._lock:
            self._pairs[key] = _Seen(status, volumes, self._clock.monotonic())

    def forget(self, key: Key) -> None:
        """There is no such pair any more."""
        with self._lock:
            self._pairs.pop(key, None)

    def collect(self) -> Iterator[Metric]:
        """See `prometheus_client.registry.Collector`."""
        now = self._clock.monotonic()
        with self._lock:
            pairs = [(key, seen) for key, seen in self._pairs.items() if now - seen.at < STALE_SECONDS]
        build = GaugeMetricFamily("storagemirror_build_info", "This operator's version.", labels=("version",))
        build.add_metric((__version__,), 1)
        yield build
        yield GaugeMetricFamily(
            "storagemirror_leader", "1: this replica works, and has the series of all pairs.", float(self._leading())
        )
        yield from self._of_pairs(pairs, now)
        for gauge in _GAUGES:
            yield self._of_volumes(gauge, pairs)

    def _of_pairs(self, pairs: Sequence[tuple[Key, _Seen]], now: float) -> Iterator[Metric]:
        looked = GaugeMetricFamily(
            "storagemirror_looked_at_seconds", "How long ago the operator last looked at the pair.", labels=PAIR
        )
        epoch = GaugeMetricFamily("storagemirror_epoch", "Grows by one at each change of the live side.", labels=PAIR)
        phase = GaugeMetricFamily("storagemirror_phase", "1: the phase of the pair.", labels=(*PAIR, "phase"))
        condition = GaugeMetricFamily(
            "storagemirror_condition", "1: the status of this condition.", labels=(*PAIR, "type", "status")
        )
        for key, seen in pairs:
            pair = key.namespace, key.name
            looked.add_metric(pair, now - seen.at)
            phase.add_metric((*pair, seen.status.phase.value), 1)
            if seen.status.epoch is not None:
                epoch.add_metric(pair, seen.status.epoch)
            for one in seen.status.conditions:
                condition.add_metric((*pair, str(one.type), one.status.value), 1)
        yield from (looked, epoch, phase, condition)

    @staticmethod
    def _of_volumes(gauge: _Gauge, pairs: Sequence[tuple[Key, _Seen]]) -> Metric:
        labels = (*VOLUME, *gauge.labels)
        kind = CounterMetricFamily if gauge.counter else GaugeMetricFamily
        found = kind(gauge.name, gauge.help, labels=labels)
        for key, seen in pairs:
            for volume in seen.volumes:
                for more, value in gauge.values(volume):
                    if value is not None:
                        found.add_metric((key.namespace, key.name, volume.name, *more), value)
        return found


def serve_metrics(metrics: Metrics, port: int) -> WSGIServer:
    """Answer /metrics on `port` (0: any free one) from a thread of its own."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(metrics)
    server, _ = start_http_server(port, registry=registry)
    return server
