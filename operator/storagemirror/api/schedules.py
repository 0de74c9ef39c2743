"""How a time of the clock on the wall is written in a spec."""

from __future__ import annotations

CRON = r"^\S+ +\S+ +\S+ +\S+ +\S+$"
"""Five fields; whether they can be meant is looked at by the operator."""
ZONE = r"^[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+)*$"
"""An IANA name."""
