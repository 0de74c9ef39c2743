"""What operator and agent agree on survives a release between them."""

from __future__ import annotations

import json

import pytest

from storagemirror.contract import Order, Phase, Report, Role, decode, encode, peer_name
from storagemirror.errors import BadInput

ORDER = Order(pair_uid="u", pair_name="p", namespace="n", volume="v", role=Role.SOURCE, revision=1, instance=2, epoch=3)


def test_an_order_comes_back_as_it_was_written() -> None:
    assert decode(Order, encode(ORDER)) == ORDER


def test_keys_are_written_as_kubernetes_writes_them() -> None:
    assert {"pairUid", "pairName", "instance", "epoch"} <= set(json.loads(encode(ORDER)))


def test_a_key_of_a_later_release_is_ignored() -> None:
    later = json.loads(encode(ORDER)) | {"invented": {"later": True}}
    assert decode(Order, json.dumps(later)) == ORDER


def test_a_missing_key_is_a_named_error_that_says_which() -> None:
    short = json.loads(encode(ORDER))
    del short["epoch"]
    with pytest.raises(BadInput, match="epoch"):
        decode(Order, json.dumps(short))


def test_what_is_not_known_is_not_zero() -> None:
    report = decode(Report, encode(Report(instance=1, epoch=1, revision=1, phase=Phase.STARTING)))
    assert report.lag_seconds is None
    assert report.lag_bytes is None
    assert report.synced_through is None


def test_the_two_ends_of_a_volume_have_different_names() -> None:
    assert peer_name(Role.SOURCE, "v", "u") != peer_name(Role.TARGET, "v", "u")
    assert Role.SOURCE.peer is Role.TARGET
