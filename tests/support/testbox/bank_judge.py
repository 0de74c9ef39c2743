"""Judges the books of `bank.py`, beside a bank that may be writing them. Runs in a pod (`python3 -c`).

    bank_judge.py FILE

Prints a JSON object: `integrity` (what SQLite says of the file: ["ok"]), `mode` (of its journal), `source` (the
highest number that the source wrote), `entries` (how many it wrote), `torn` (accounts that do not hold what the
entries say).
"""

from __future__ import annotations

import json
import sqlite3
import sys
from typing import Any


def judge(path: str) -> dict[str, Any]:
    """See the module; all of it is of one moment."""
    database = sqlite3.connect(path, isolation_level=None, timeout=30)
    database.execute("BEGIN")
    number, entries = database.execute(
        "SELECT coalesce(max(number), 0), count(*) FROM entries WHERE side = 'source'"
    ).fetchone()
    moved: dict[int, int] = {}
    for giver, taker, amount in database.execute("SELECT giver, taker, amount FROM entries"):
        moved[giver] = moved.get(giver, 0) - amount
        moved[taker] = moved.get(taker, 0) + amount
    held = dict(database.execute("SELECT id, amount FROM accounts"))
    torn = sorted(account for account in moved.keys() | held.keys() if moved.get(account, 0) != held.get(account))
    return {
        "integrity": [row[0] for row in database.execute("PRAGMA integrity_check")],
        "mode": database.execute("PRAGMA journal_mode").fetchone()[0],
        "source": number,
        "entries": entries,
        "torn": torn,
    }


if __name__ == "__main__":
    print(json.dumps(judge(sys.argv[1])))
