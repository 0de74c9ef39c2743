"""A bank that keeps its books in SQLite (WAL, synchronous=FULL). Runs in a pod, with the standard library alone.

    bank.py SIDE DIRECTORY PORT TRANSACTIONS-A-SECOND

Each transaction adds an entry with the next number and moves its amount between two accounts. Whoever connects to PORT
is told a line `SIDE NUMBER TIME;` at once, and one for each transaction from then on, after its commit came back: a
number that a client has heard is one that was acknowledged. NUMBER is the last entry, TIME (seconds since 1970) when
its commit came back; both are 0 before the first.
"""

from __future__ import annotations

import os
import queue
import random
import socketserver
import sqlite3
import sys
import threading
import time

ACCOUNTS = 1000
TABLES = """
CREATE TABLE IF NOT EXISTS entries (number INTEGER PRIMARY KEY, side TEXT, giver INTEGER, taker INTEGER, amount INTEGER,
  filler BLOB);
CREATE TABLE IF NOT EXISTS accounts (id INTEGER PRIMARY KEY, amount INTEGER);
"""


class Bank:
    """The books. One thread writes them."""

    def __init__(self, side: str, path: str) -> None:
        self._side = side
        self._database = sqlite3.connect(path, isolation_level=None)
        self._database.execute("PRAGMA journal_mode=WAL")
        self._database.execute("PRAGMA synchronous=FULL")
        self._database.execute("PRAGMA wal_autocheckpoint=50")
        self._database.executescript(TABLES)
        self._database.execute("BEGIN IMMEDIATE")
        self._database.executemany("INSERT OR IGNORE INTO accounts VALUES (?, 0)", [(n,) for n in range(ACCOUNTS)])
        self._database.execute("COMMIT")
        self._number = int(self._database.execute("SELECT coalesce(max(number), 0) FROM entries").fetchone()[0])
        self._chance = random.Random(self._number)
        self.said = f"{side} 0 0;\n".encode()

    def transact(self) -> None:
        """One transaction; it is durable afterwards, and `said` tells of it."""
        number, chance = self._number + 1, self._chance
        amount, giver, taker = chance.randrange(1, 100), chance.randrange(ACCOUNTS), chance.randrange(ACCOUNTS)
        row = (number, self._side, giver, taker, amount, chance.randbytes(500))
        self._database.execute("BEGIN IMMEDIATE")
        self._database.execute("INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?)", row)
        self._database.execute("UPDATE accounts SET amount = amount - ? WHERE id = ?", (amount, giver))
        self._database.execute("UPDATE accounts SET amount = amount + ? WHERE id = ?", (amount, taker))
        self._database.execute("COMMIT")
        self._number = number
        self.said = f"{self._side} {number} {time.time():.6f};\n".encode()


def main(side: str, directory: str, port: str, transactions_a_second: str) -> None:
    """Until it is killed."""
    bank = Bank(side, os.path.join(directory, "bank.sqlite"))
    hearers: set[queue.SimpleQueue[bytes]] = set()
    guard = threading.Lock()

    class Tell(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            mine: queue.SimpleQueue[bytes] = queue.SimpleQueue()
            with guard:
                mine.put(bank.said)
                hearers.add(mine)
            try:
                while True:
                    self.request.sendall(mine.get())
            except OSError:
                with guard:
                    hearers.discard(mine)

    class Server(socketserver.ThreadingTCPServer):
        allow_reuse_address = True
        daemon_threads = True

    server = Server(("", int(port)), Tell)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    while True:
        bank.transact()
        with guard:
            for hearer in hearers:
                hearer.put(bank.said)
        time.sleep(1 / float(transactions_a_second))


if __name__ == "__main__":
    main(*sys.argv[1:])
