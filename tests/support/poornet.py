"""A poor network on loopback: packets of one port are held for a while in each direction, and some never arrive.

The kernels this runs on have no netem: netfilter drops, and hands the rest to `tests.cluster.delay`.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.cluster.delay import QUEUE
from tests.cluster.layout import checkout


def _iptables(*words: str, check: bool = True) -> str:
    done = subprocess.run(["iptables", "-w", *words], check=check, capture_output=True, text=True)
    return done.stdout


@dataclass(frozen=True)
class PoorNetwork:
    """While it lasts."""

    chain: str

    def dropped(self) -> int:
        """Packets that never arrived."""
        lines = _iptables("-L", self.chain, "-v", "-x", "-n").splitlines()
        return sum(int(line.split()[0]) for line in lines if " DROP " in line)


@contextmanager
def poor_network(port: int, delay: float, loss: float) -> Iterator[PoorNetwork]:
    """Packets from and to that port of loopback take `delay` seconds longer each way; the share `loss` is lost."""
    chain = f"sm-poor-{port}"
    queue = ("-j", "NFQUEUE", "--queue-num", str(QUEUE))
    drop = ("-m", "statistic", "--mode", "random", "--probability", str(loss), "-j", "DROP")
    holder = subprocess.Popen([sys.executable, "-m", "tests.cluster.delay", str(delay)], cwd=checkout())
    jumps = [("OUTPUT", "-o", "lo", "-p", "tcp", side, str(port), "-j", chain) for side in ("--dport", "--sport")]
    try:
        _iptables("-N", chain)
        _iptables("-A", chain, *drop)
        _iptables("-A", chain, *queue)
        for jump in jumps:
            _iptables("-I", *jump)
        yield PoorNetwork(chain)
    finally:
        for jump in jumps:
            _iptables("-D", *jump, check=False)
        _iptables("-F", chain, check=False)
        _iptables("-X", chain, check=False)
        holder.kill()
        holder.wait()


def reset(port: int) -> int:
    """End what is connected to that port of loopback, as a firewall does: one end is told of an abort, the other gets a
    reset. How many connections there were."""
    words = ["ss", "-HtnK", "state", "established", "dport", "=", str(port)]
    done = subprocess.run(words, check=False, capture_output=True, text=True)
    return len(done.stdout.splitlines())
