"""What the demo says: steps with their times, and a line that is drawn anew where there is a terminal."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

QUIET_SECONDS = 3.0
"""Without a terminal, a line that changes is printed this often."""
MARGIN = " " * 16
"""Where titles begin, beside the numbers and times of the steps."""


class Failed(Exception):
    """The demo cannot go on, or something is not as it should be. `look` are commands that show more."""

    def __init__(self, message: str, look: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.look = look


class Step:
    """One step while it runs. `note` says how far it is, `result` what came out; both are one line."""

    def __init__(self, screen: Screen, title: str) -> None:
        self._screen = screen
        self._title = title
        self.result = ""

    def note(self, text: str) -> None:
        """Show how far it is."""
        self._screen.passing(f"{MARGIN}… {self._title}: {text}")


class Screen:
    """Writes to `out`; `tty` says whether a line can be drawn anew."""

    def __init__(self, out: TextIO = sys.stdout, *, tty: bool | None = None) -> None:
        self._out = out
        self._tty = out.isatty() if tty is None else tty
        self._passing = ""
        self._passed_at = 0.0
        self._number = 0

    def line(self, text: str = "") -> None:
        """A line that stays."""
        self._clear()
        print(text, file=self._out, flush=True)

    def block(self, text: str) -> None:
        """Several lines that stay, indented."""
        for line in text.rstrip().splitlines():
            self.line(f"{MARGIN}{line}".rstrip())

    def typed(self, manifest: str) -> None:
        """What a person types to apply an object."""
        self.line()
        self.block(f"kubectl apply -f - <<EOF\n{manifest.rstrip()}\nEOF")
        self.line()

    def passing(self, text: str) -> None:
        """A line that the next one replaces. Without a terminal it stays, so there are few of them."""
        if self._tty:
            width = shutil.get_terminal_size().columns - 1
            self._out.write(f"\r\033[K{text[:width]}")
            self._out.flush()
            self._passing = text
        elif text != self._passing and time.monotonic() - self._passed_at >= QUIET_SECONDS:
            self._passing, self._passed_at = text, time.monotonic()
            print(text, file=self._out, flush=True)

    @contextmanager
    def step(self, title: str) -> Iterator[Step]:
        """A numbered step: its title, what came out, and how long it took."""
        self._number += 1
        step = Step(self, title)
        start = time.monotonic()
        self._passed_at = start
        if self._tty:
            self.passing(f"{MARGIN}… {title}")
        try:
            yield step
        except BaseException:
            self.line(f" ✗ {self._number:>2} {time.monotonic() - start:6.1f} s  {title}")
            raise
        took = time.monotonic() - start
        self.line(f" ✓ {self._number:>2} {took:6.1f} s  {title}" + (f": {step.result}" if step.result else ""))

    def _clear(self) -> None:
        if self._tty and self._passing:
            self._out.write("\r\033[K")
            self._passing = ""


def count(number: int) -> str:
    """`12345` as `12,345`."""
    return f"{number:,}"


def size(octets: float) -> str:
    """Bytes for people: `999 B`, `1.2 MB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if octets < 1000 or unit == "GB":
            return f"{octets:.0f} {unit}" if unit == "B" else f"{octets:.1f} {unit}"
        octets /= 1000
    raise AssertionError("unreachable")


def bar(share: float, width: int = 28) -> str:
    """`share` of 0 to 1 as a bar."""
    full = round(max(0.0, min(1.0, share)) * width)
    return "█" * full + "░" * (width - full)
