"""What every test run does: a failure is told when it happens, with what the machine had left.

A run that is cut off would not get to pytest's own report.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest


def left() -> str:
    """What memory and disk have left, in one line."""
    meminfo = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    disk = shutil.disk_usage("/var/tmp")
    load = Path("/proc/loadavg").read_text().split()[0]
    return f"memory left {meminfo['MemAvailable'].strip()}, disk left {disk.free >> 20} MiB, load {load}"


@pytest.hookimpl(trylast=True)
def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.failed:
        print(f"\n{report.nodeid}: failed in {report.when}; {left()}\n{report.longreprtext[-6000:]}", flush=True)
