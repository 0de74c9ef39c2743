"""What the operator's log shows."""

from __future__ import annotations

import logging
import threading

from storagemirror.clock import Clock

FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
REPEAT_SECONDS = 60.0
SAME = 40
"""Two messages of one logger that begin with the same so many characters say the same."""


class Once(logging.Filter):
    """Lets a message through that was not said within the last minute: an outage would fill the log with one line."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock
        self._lock = threading.Lock()
        self._said: dict[tuple[str, str], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.WARNING:
            return True
        key, now = (record.name, str(record.msg)[:SAME]), self._clock.monotonic()
        with self._lock:
            if now - self._said.get(key, -REPEAT_SECONDS) < REPEAT_SECONDS:
                return False
            self._said[key] = now
            return True


def set_up(level: str, clock: Clock) -> None:
    """Log to standard error. Libraries speak up only when something is wrong, unless `level` is debug."""
    wanted = logging.getLevelNamesMapping()[level.upper()]
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter(FORMAT))
    debug = wanted == logging.DEBUG
    if not debug:
        handler.addFilter(Once(clock))
    logging.basicConfig(level=wanted, handlers=[handler])
    for library in ("kopf", "asyncio", "urllib3"):
        logging.getLogger(library).setLevel(wanted if debug else max(wanted, logging.WARNING))
