"""What people are shown while a mirror runs, and at its end."""

from __future__ import annotations

import io

from storagemirror.cli.progress import Terminal
from storagemirror.sync.observer import Event, EventKind


def test_of_very_many_failures_a_person_is_shown_the_first_hundred() -> None:
    """Seen with a target that was full: thousands of lines, and what mattered had scrolled away."""
    out, err = io.StringIO(), io.StringIO()
    terminal = Terminal(out, err, quiet=True)
    for number in range(250):
        terminal.event(Event(EventKind.FAILED_ENTRY, f"f{number}: Full", hint="Grow it."))
    terminal.event(Event(EventKind.UNREAD_ENTRY, "g: EIO"))
    lines = err.getvalue().splitlines()
    assert [line for line in lines if ": f" in line] == [f"not written: f{number}: Full" for number in range(100)]
    assert lines.count("  Grow it.") == 1
    assert "not written: if there are more, --json names them; they are counted at the end" in lines
    assert lines[-1] == "not read: g: EIO"
