"""Debian's PostgreSQL on a volume: made, loaded by pgbench, and judged where a copy of it was started."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

_ROOT = Path("/usr/lib/postgresql")


def binaries() -> Path:
    """Of the newest version that is installed; AssertionError where there is none."""
    found = sorted(_ROOT.glob("*/bin"), key=lambda path: int(path.parent.name))
    assert found, "PostgreSQL is not installed: apt-get install postgresql postgresql-contrib"
    return found[-1]


def _run(*words: str | Path, check: bool = True) -> str:
    """As the user postgres, who may not be root."""
    command = ["setpriv", "--reuid", "postgres", "--regid", "postgres", "--clear-groups", "--", *map(str, words)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd="/", env={"LC_ALL": "C"})
    if check and done.returncode:
        raise AssertionError(f"{words[0]} ended with {done.returncode}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout


@dataclass
class Cluster:
    """A PostgreSQL cluster in `data`, that listens in `sockets` alone."""

    data: Path
    sockets: Path
    port: int

    @classmethod
    def make(cls, data: Path, sockets: Path, port: int, scale: int) -> Cluster:
        """New, with data checksums, and pgbench's tables; running."""
        for path in (data, sockets):
            path.mkdir(exist_ok=True)
            shutil.chown(path, "postgres", "postgres")
            os.chmod(path, 0o700)
        made = cls(data, sockets, port)
        _run(binaries() / "initdb", "--data-checksums", "--auth=trust", "-D", data)
        with (data / "postgresql.conf").open("a") as file:
            file.write("listen_addresses = ''\nshared_buffers = 256MB\nmax_wal_size = 256MB\n")
        made.start()
        made.bench("-i", "-q", "-s", str(scale))
        return made

    def start(self) -> None:
        """Recovers first where it has to; AssertionError when it does not come up."""
        options = f"-p {self.port} -k {self.sockets}"
        _run(binaries() / "pg_ctl", "-D", self.data, "-w", "-t", "60", "-l", self.data / "log", "-o", options, "start")

    def stop(self) -> None:
        """At once, as it is."""
        _run(binaries() / "pg_ctl", "-D", self.data, "-m", "immediate", "-w", "stop", check=False)

    def bench(self, *words: str) -> str:
        """pgbench; what it says."""
        return _run(binaries() / "pgbench", "-h", self.sockets, "-p", str(self.port), *words, "postgres")

    def ask(self, question: str) -> str:
        """One value."""
        words = ("-h", self.sockets, "-p", str(self.port), "-At", "-d", "postgres", "-c", question)
        return _run(binaries() / "psql", *words).strip()

    def judge(self) -> int:
        """How many transactions of pgbench are there, whole; AssertionError when something is torn."""
        _run(
            *(binaries() / "pg_amcheck", "-h", self.sockets, "-p", str(self.port)),
            *("--all", "--install-missing", "--heapallindexed", "--parent-check"),
        )
        sums = [
            self.ask(f"SELECT coalesce(sum({column}), 0) FROM pgbench_{table}")
            for table, column in (
                ("accounts", "abalance"),
                ("tellers", "tbalance"),
                ("branches", "bbalance"),
                ("history", "delta"),
            )
        ]
        assert len(set(sums)) == 1, f"the balances differ: {sums}"
        return int(self.ask("SELECT count(*) FROM pgbench_history"))
