"""A database on a volume that is kept by points: its node loses its power, and the standby starts on one moment of it.

SQLite here; `make campaign-databases` does the same again and again, with PostgreSQL beside it.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import databases
from tests.support.case import Case, Json
from tests.support.databases import SHAPE, SqliteBank
from tests.support.failover_fixtures import choose
from tests.support.node_words import mend_nodes
from tests.support.operations import seconds_of
from tests.support.product import Product

pytestmark = pytest.mark.e2e


@pytest.fixture
def bank(two_operators: Product, case: Case, tmp_path: Path) -> Iterator[SqliteBank]:
    """A bank under its client, replicated by points."""
    made = SqliteBank(case, choose(case, "nobody"), tmp_path, "bank", SHAPE)
    try:
        databases.start([made])
        yield made
    finally:
        made.strike()
        mend_nodes(case.cluster)


def promoted_point(bank: SqliteBank) -> Json:
    """What the pair last told of the copy while it was one, before the standby lived on it."""
    (watch,) = bank.watches
    told = [(seen.object.get("status") or {}).get("volumes") or [{}] for seen in watch.history]
    points: list[Json] = [volumes[0]["copyPoint"] for volumes in told if (volumes[0].get("copyPoint") or {}).get("at")]
    return points[-1]


def test_a_database_starts_on_a_point_and_holds_all_that_was_promised(bank: SqliteBank) -> None:
    promotable = bank.case.condition("Promotable", bank.name)
    point = bank.volume()["copyPoint"]
    assert point["promotable"]
    assert "point" in promotable["message"], f"Promotable does not say of which moment: {promotable['message']}"
    seed = time.time_ns()
    print(f"seed {seed}")
    time.sleep(3 * random.Random(seed).random())
    at = databases.cut([bank])
    done = bank.until_phase(bank.until_automatic(), "Completed")
    back = bank.until_back()
    outcome = bank.judge(done)
    print(f"{outcome}, running again after {back - at:.1f} s; rpoSeconds {done['rpoSeconds']}")

    # What is promoted is a point that is no older than any that the pair told of, and no younger than the cut.
    last = promoted_point(bank)
    assert last["number"] >= point["number"]
    assert seconds_of(done["syncedThrough"]) >= seconds_of(last["at"]) - 1  # it is told in whole seconds
    assert bank.moment(done) <= at
    assert outcome.lost_seconds <= done["rpoSeconds"] + 2, "more is lost than is admitted"
    status = bank.status()
    assert (status["activeSide"], status["epoch"], status["phase"]) == ("Target", 2, "FailedOver")
