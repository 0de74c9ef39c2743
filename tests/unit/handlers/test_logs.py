"""An outage does not fill the log."""

from __future__ import annotations

import logging

from storagemirror.handlers.logs import REPEAT_SECONDS, Once
from tests.support.world import HeldClock


def record(level: int, text: str) -> logging.LogRecord:
    return logging.LogRecord("kopf", level, "f", 1, text, None, None)


def test_a_warning_is_said_once_a_minute_and_news_at_once() -> None:
    clock = HeldClock()
    once = Once(clock)
    assert once.filter(record(logging.ERROR, "Request attempt failed"))
    assert not once.filter(record(logging.ERROR, "Request attempt failed"))
    assert once.filter(record(logging.ERROR, "Something else"))
    clock.sleep(REPEAT_SECONDS)
    assert once.filter(record(logging.ERROR, "Request attempt failed"))


def test_what_is_no_warning_is_always_said() -> None:
    once = Once(HeldClock())
    assert all(once.filter(record(logging.INFO, "made a pod")) for _ in range(3))
