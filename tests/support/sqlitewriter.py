"""A SQLite database in WAL mode, every commit durable, that is written until the process is killed.

    python -m tests.support.sqlitewriter FILE

Each transaction adds an entry with the next number and moves an amount between two accounts, so that all accounts
together hold 0. Once a commit has come back, its number and the time (ns since the Unix epoch) are said.
"""

from __future__ import annotations

import random
import sqlite3
import sys
import time


def main(path: str) -> None:
    """For ever."""
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=FULL")
    database.execute("PRAGMA wal_autocheckpoint=50")
    database.execute("CREATE TABLE IF NOT EXISTS entries (number INTEGER PRIMARY KEY, filler BLOB)")
    database.execute("CREATE TABLE IF NOT EXISTS accounts (id INTEGER PRIMARY KEY, amount INTEGER)")
    database.executemany("INSERT OR IGNORE INTO accounts VALUES (?, 0)", [(n,) for n in range(1000)])
    chance = random.Random(1)
    number = 0
    while True:
        number += 1
        amount, giver, taker = chance.randrange(100), chance.randrange(1000), chance.randrange(1000)
        database.execute("BEGIN IMMEDIATE")
        database.execute("INSERT INTO entries VALUES (?, ?)", (number, chance.randbytes(500)))
        database.execute("UPDATE accounts SET amount = amount - ? WHERE id = ?", (amount, giver))
        database.execute("UPDATE accounts SET amount = amount + ? WHERE id = ?", (amount, taker))
        database.execute("COMMIT")
        print(number, time.time_ns(), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
