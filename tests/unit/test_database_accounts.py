"""What the tests of databases find wrong: each kind of damage is one that they notice."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from tests.support.databases import Acknowledged, account, bank_there, pgbench_log, postgres_there
from tests.support.testbox.bank import Bank
from tests.support.testbox.bank_judge import judge

ACKNOWLEDGED = [Acknowledged("a", 1, 10.0), Acknowledged("a", 2, 11.0), Acknowledged("b", 1, 11.5)]
CLEAN = {"checksums": "on", "damaged": 0, "there": {"0": 7, "1": 3}, "gaps": 0, "torn": 0}


def test_what_is_younger_than_the_point_may_be_lost() -> None:
    found = account(ACKNOWLEDGED, {"a": 1}, 10.5)
    assert (found.promised, found.lost, found.lost_seconds) == (1, 2, 1.5)


def test_what_is_older_than_the_point_may_not_be_lost() -> None:
    with pytest.raises(AssertionError, match="1 transactions acknowledged before"):
        account(ACKNOWLEDGED, {"a": 1}, 11.2)


def test_a_check_of_nothing_is_none() -> None:
    with pytest.raises(AssertionError, match="nothing was tried"):
        account(ACKNOWLEDGED, {"a": 2, "b": 1}, 9.0)


def books(path: Path, transactions: int = 20) -> sqlite3.Connection:
    """Of a bank; open, to be damaged."""
    bank = Bank("source", str(path))
    for _ in range(transactions):
        bank.transact()
    return sqlite3.connect(path, isolation_level=None)


def test_whole_books_are_whole(tmp_path: Path) -> None:
    books(tmp_path / "bank")
    assert bank_there(judge(str(tmp_path / "bank"))) == {"bank": 20}


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("UPDATE accounts SET amount = amount + 1 WHERE id = 7", "do not hold what the entries say"),
        ("DELETE FROM entries WHERE number = 20", "do not hold what the entries say"),
        ("UPDATE entries SET number = 22 WHERE number = 20", "20 entries up to number 22"),
    ],
)
def test_a_transaction_in_part_and_a_gap_are_found(tmp_path: Path, damage: str, said: str) -> None:
    books(tmp_path / "bank").execute(damage)
    with pytest.raises(AssertionError, match=said):
        bank_there(judge(str(tmp_path / "bank")))


def test_a_bank_goes_on_with_what_it_finds(tmp_path: Path) -> None:
    books(tmp_path / "bank")
    standby = Bank("target", str(tmp_path / "bank"))
    standby.transact()
    assert standby.said.startswith(b"target 21 ")
    assert bank_there(judge(str(tmp_path / "bank"))) == {"bank": 20}


@pytest.mark.parametrize("damage", [{"checksums": "off"}, {"damaged": 1}, {"gaps": 1}, {"torn": 1}])
def test_each_kind_of_damage_of_postgresql_counts(damage: dict[str, object]) -> None:
    assert postgres_there(CLEAN) == {"0": 7, "1": 3}
    with pytest.raises(AssertionError):
        postgres_there({**CLEAN, **damage})


def test_the_log_of_pgbench_is_numbered_by_client() -> None:
    log = "0 0 1210 0 1764240000 250000 12\n1 0 900 0 1764240000 500000 3\n0 1 800 0 1764240001 0 3\n"
    assert pgbench_log(log) == [
        Acknowledged("0", 1, 1764240000.25),
        Acknowledged("1", 1, 1764240000.5),
        Acknowledged("0", 2, 1764240001.0),
    ]
    with pytest.raises(AssertionError, match="failed"):
        pgbench_log("0 0 failed 0 1764240000 250000 12\n")
