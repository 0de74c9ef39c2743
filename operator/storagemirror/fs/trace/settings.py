"""How our instance is set up; and that it stays so.

An instance is open to whoever is root on the node: `trace-cmd reset` turns off the events of all of them. An event that
is off says nothing, so each drain looks.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress

from storagemirror.fs.trace.device import Device
from storagemirror.fs.trace.events import Chosen, choose
from storagemirror.fs.trace.files import Files
from storagemirror.fs.trace.layout import Format, parse_format
from storagemirror.fs.trace.tracefs import Instance

_PERCENT = "25"
"""How full a buffer must be for its reader to be woken before its time."""
_SMALLEST = 64
"""KiB for each processor."""
_PROCESSES = ("set_event_pid", "set_event_notrace_pid")
"""Empty: of all processes."""
_PLAIN = ("tracing_on", "tracing_cpumask", "buffer_size_kb", *_PROCESSES)
"""What decides whether anything is recorded, beside the events' own files."""


def format_of(files: Files, event: str) -> Format | None:
    """Of `system/event`; None where the kernel has none. OSError, `BadInput`."""
    path = f"events/{event}/format"
    return parse_format(files.read(path)) if files.has(path) else None


def changed(files: Files, expected: Mapping[str, str]) -> list[str]:
    """Which settings are not shown as expected, in words; empty when all are. OSError."""
    paths = [path for path, text in expected.items() if files.read(path).strip() != text]
    return [f"somebody changed the trace's settings: {', '.join(paths)}"] if paths else []


class Settings:
    """Chooses the events for `device`, enables them, and enables them again. OSError."""

    def __init__(self, instance: Instance, device: Device, memory: int) -> None:
        """`memory`: bytes of ring buffer, over all processors that are there now. `TraceUnavailable`."""
        self._instance = instance
        self._kilobytes = max(_SMALLEST, (memory >> 10) // max(1, os.cpu_count() or 1))
        self.pages_each = (self._kilobytes << 10) // 4096 + 2
        """At most so many pages hold the records of one processor."""
        self.events: list[Chosen] = choose(device, lambda event: format_of(instance, event))
        self._processors = instance.read("tracing_cpumask").strip()  # of a new instance: all
        self.expected: dict[str, str] = {}
        """By path: how the kernel shows each setting as it should be. Empty before `arm`."""

    def arm(self) -> None:
        """Set everything, and remember how the kernel shows it."""
        instance = self._instance
        instance.write("tracing_on", "0")
        instance.write("buffer_size_kb", str(self._kilobytes))
        instance.write("tracing_cpumask", self._processors)
        for path in _PROCESSES:
            if instance.has(path):  # the second: since Linux 5.7
                instance.write(path, "")
        with suppress(OSError):  # before Linux 5.0: the reader looks at its time
            instance.write("buffer_percent", _PERCENT)
        for event in self.events:
            instance.write(f"events/{event.name}/filter", event.filter)
            instance.write(f"events/{event.name}/enable", "1")
        instance.write("tracing_on", "1")
        self.expected = self._shown()

    def restore(self) -> list[str]:
        """What is not as it was set, in words, after it was set anew; empty when all is well."""
        found = changed(self._instance, self.expected)
        if found:
            self.arm()
        return found

    def _shown(self) -> dict[str, str]:
        paths = [path for path in _PLAIN if self._instance.has(path)]
        paths += [f"events/{event.name}/{word}" for event in self.events for word in ("enable", "filter")]
        return {path: self._instance.read(path).strip() for path in paths}
