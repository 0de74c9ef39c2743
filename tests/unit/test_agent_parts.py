"""The small parts of an agent: settings, report, tidy changes, raw inotify events."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storagemirror.agent.context import Backoff
from storagemirror.agent.settings import from_environment
from storagemirror.agent.view import View
from storagemirror.clock import rfc3339
from storagemirror.contract import Order, Phase, Role, encode
from storagemirror.entry import NotKeptKind
from storagemirror.errors import BadInput, Disconnected, Held, Superseded, VolumeError
from storagemirror.fs.inotify import Mask, parse
from storagemirror.sync.changes import covering, tidy
from storagemirror.sync.observer import Event, EventKind, Progress

SECOND = 1_000_000_000
NOW = 1_700_000_000 * SECOND
ENVIRONMENT = {
    "STORAGEMIRROR_NAMESPACE": "shop",
    "STORAGEMIRROR_ORDER": "orders-data-source",
    "STORAGEMIRROR_LEASE": "orders-data-source",
    "STORAGEMIRROR_INSTANCE": "3",
    "STORAGEMIRROR_ROLE": "Source",
    "KUBERNETES_SERVICE_HOST": "10.96.0.1",
}


class StillClock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.ns = NOW
        self.set_by = 0

    def now_ns(self) -> int:
        return self.ns + self.set_by

    def monotonic(self) -> float:
        return self.ns / SECOND

    def sleep(self, seconds: float) -> None:
        self.ns += int(seconds * SECOND)


@pytest.fixture
def clock() -> StillClock:
    return StillClock()


@pytest.fixture
def view(clock: StillClock) -> View:
    return View(3, "pod-uid", clock)


# -- settings


def test_a_pod_tells_an_agent_who_it_is() -> None:
    settings = from_environment(ENVIRONMENT)
    assert settings.role is Role.SOURCE
    assert settings.instance == 3
    assert (settings.volume, settings.tls, settings.port) == ("/volume", "/tls", 7460)
    assert settings.api.token_file == "/var/run/secrets/kubernetes.io/serviceaccount/token"


@pytest.mark.parametrize("name", sorted(ENVIRONMENT))
def test_a_missing_variable_is_named(name: str) -> None:
    with pytest.raises(BadInput, match=name):
        from_environment({k: v for k, v in ENVIRONMENT.items() if k != name})


@pytest.mark.parametrize(
    ("name", "value"),
    [("STORAGEMIRROR_INSTANCE", "one"), ("STORAGEMIRROR_PORT", "-1"), ("STORAGEMIRROR_ROLE", "Both")],
)
def test_a_variable_that_cannot_be_meant_is_named(name: str, value: str) -> None:
    with pytest.raises(BadInput, match=name):
        from_environment({**ENVIRONMENT, name: value})


# -- what is told


def test_what_is_not_known_is_none_and_never_zero(view: View) -> None:
    report = view.report()
    assert (report.lag_seconds, report.lag_bytes, report.synced_through, report.mirrored_at) == (None,) * 4
    assert report.capture is None
    assert report.volume is None


def test_the_lag_grows_while_nothing_is_heard_of_the_target(view: View, clock: StillClock) -> None:
    view.see(through_ns=NOW, phase=Phase.REPLICATING)
    assert view.report().lag_seconds == 0
    clock.sleep(7.5)
    assert view.report().lag_seconds == 7.5
    assert view.report().synced_through == rfc3339(NOW)


@pytest.mark.parametrize("by", [-3600, -10, 10, 3600])
def test_a_clock_that_was_set_changes_no_lag(view: View, clock: StillClock, by: int) -> None:
    clock.sleep(2)
    view.see(through_ns=NOW)
    clock.set_by = by * SECOND
    assert view.report().lag_seconds == 2
    clock.sleep(7.5)
    assert view.report().lag_seconds == 9.5


def test_what_comes_from_a_clock_that_is_ahead_makes_no_negative_lag(view: View, clock: StillClock) -> None:
    view.see(through_ns=NOW + 10 * SECOND)
    assert view.report().lag_seconds == 0
    clock.sleep(3)
    assert view.report().lag_seconds == 3


@pytest.mark.parametrize(
    "change",
    [
        {"phase": Phase.REPLICATING},
        {"peer_connected": True},
        {"mirrored_ns": NOW},
    ],
)
def test_what_somebody_waits_for_is_told_at_once(view: View, change: dict[str, object]) -> None:
    view.report()
    view.see(**change)
    assert view.urgent
    view.report()
    assert not view.urgent


def test_what_only_flows_waits_for_the_next_heartbeat(view: View) -> None:
    view.see(through_ns=NOW, mirrored_ns=NOW)
    view.report()
    view.see(through_ns=NOW + 1, mirrored_ns=NOW + 1)
    assert not view.urgent


def test_a_hold_is_told_with_its_token_and_is_not_retried(view: View) -> None:
    view.trouble(Held("too much", reason="MassDelete", token="t-1"), Phase.HELD)
    problem = view.report().problem
    assert problem is not None
    assert (problem.token, problem.retrying) == ("t-1", False)


def test_a_passing_problem_is_retried_and_a_superseded_agent_is_not(view: View) -> None:
    view.trouble(Disconnected("gone"), Phase.CONNECTING)
    assert view.report().problem.retrying  # type: ignore[union-attr]
    view.trouble(Superseded("later one"), Phase.FAILED)
    assert not view.report().problem.retrying  # type: ignore[union-attr]


def test_progress_is_told_while_a_mirror_runs_and_not_later(view: View) -> None:
    view.see(phase=Phase.MIRRORING)
    view.event(Event(EventKind.MIRROR_STARTED))
    view.progress(Progress(files_done=3, files_total=10, wire_bytes=100))
    progress = view.report().progress
    assert progress is not None
    assert (progress.files_done, progress.files_total) == (3, 10)
    assert progress.started_at == rfc3339(NOW)
    view.see(phase=Phase.REPLICATING)
    assert view.report().progress is None


def test_bytes_on_the_wire_are_summed_over_connections(view: View) -> None:
    for wire in (100, 200, 50):
        view.progress(Progress(wire_bytes=wire))
    assert view.report().bytes_sent == 250


def test_what_could_not_be_kept_is_counted_anew_by_each_comparison(view: View) -> None:
    view.not_kept(NotKeptKind.OWNER, b"a")
    view.not_kept(NotKeptKind.OWNER, b"b\n")
    view.event(Event(EventKind.FAILED_ENTRY, "x: Denied"))
    (kept,) = view.report().not_kept
    assert (kept.kind, kept.count, kept.first) == ("Owner", 2, ("a", "b\\n"))
    assert view.failed_entries() == (1, "x: Denied")
    view.event(Event(EventKind.MIRROR_STARTED))
    assert view.report().not_kept == ()
    assert view.failed_entries() == (0, "")


def test_names_of_any_length_fit_an_annotation(view: View) -> None:
    """All annotations of an object share 256 KiB; a Lease that cannot be written is an agent that is not heard."""
    for kind in NotKeptKind:
        for number in range(16):
            view.not_kept(kind, b"/".join([b"%d" % number, *[b"\xff" * 250] * 200]))
    view.trouble(VolumeError("x" * 300_000, reason="TargetFailing", hint="y" * 300_000), Phase.FAILED)
    assert len(encode(view.report())) < 120_000


def test_the_order_that_was_taken_up_is_told(view: View) -> None:
    order = Order(
        pair_uid="u",
        pair_name="p",
        namespace="n",
        volume="v",
        role=Role.SOURCE,
        revision=7,
        instance=3,
        epoch=2,
    )
    view.see(order=order)
    assert (view.report().revision, view.report().epoch, view.report().instance) == (7, 2, 3)


def test_waits_double_up_to_the_longest_and_begin_anew() -> None:
    backoff = Backoff(1.0, 5.0)
    assert [backoff.next() for _ in range(5)] == [1.0, 2.0, 4.0, 5.0, 5.0]
    backoff.reset()
    assert backoff.next() == 1.0


# -- what changed


NAMES = st.lists(st.sampled_from([b"a", b"a-b", b"b", b"\xff"]), min_size=0, max_size=4).map(b"/".join)


def _in(path: bytes, tree: bytes) -> bool:
    return not tree or path == tree or path.startswith(tree + b"/")


@given(st.sets(NAMES), st.sets(NAMES))
def test_tidy_changes_name_the_same_and_nothing_twice(paths: set[bytes], trees: set[bytes]) -> None:
    tidied = tidy(paths, trees, [], 5)
    assert tidied.through_ns == 5
    for path in paths:
        assert path in tidied.paths or any(_in(path, tree) for tree in tidied.trees)
    for tree in trees:
        assert any(_in(tree, kept) for kept in tidied.trees)
    for tree in tidied.trees:
        assert not any(_in(tree, other) for other in tidied.trees - {tree})
        assert not any(_in(path, tree) for path in tidied.paths)


@given(st.sets(NAMES))
def test_covering_trees_are_among_those_given(trees: set[bytes]) -> None:
    assert covering(trees) <= trees


def test_nothing_named_is_false_and_still_says_how_far_it_reaches() -> None:
    nothing = tidy(set(), set(), [], 5)
    assert not nothing
    assert nothing.through_ns == 5


# -- raw events


def _raw(watch: int, mask: int, cookie: int, name: bytes) -> bytes:
    padded = name + b"\0" * (-len(name) % 16 if name else 0)
    if name and len(padded) == len(name):
        padded += b"\0" * 16
    return struct.pack("=iIII", watch, mask, cookie, len(padded)) + padded


def test_raw_events_keep_names_as_bytes() -> None:
    data = (
        _raw(1, Mask.CREATE, 0, b"\xff\xfe x")
        + _raw(-1, Mask.Q_OVERFLOW, 0, b"")
        + _raw(2, Mask.MOVED_TO, 9, b"n" * 16)
    )
    first, lost, third = parse(data)
    assert first.name == b"\xff\xfe x"
    assert (lost.watch, lost.mask, lost.name) == (-1, Mask.Q_OVERFLOW, b"")
    assert (third.watch, third.cookie, third.name) == (2, 9, b"n" * 16)


@given(st.integers(min_value=1, max_value=31))
def test_an_event_that_is_cut_short_is_an_error(cut: int) -> None:
    data = _raw(1, Mask.CREATE, 0, b"name")
    with pytest.raises(BadInput, match="inotify"):
        list(parse(data[:-cut]))
