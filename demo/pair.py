"""What a MirrorPair's status says, read for showing."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from demo.screen import bar, count, size

Json = dict[str, Any]
TRUTH = {"True": True, "False": False}
WRONG_WHEN_TRUE = {"Stalled", "Held"}


@dataclass(frozen=True)
class Condition:
    """One condition."""

    kind: str
    true: bool | None
    """None: Unknown."""
    reason: str
    message: str


@dataclass(frozen=True)
class Status:
    """The status of the pair and of its one volume. None: the status does not say."""

    phase: str
    conditions: dict[str, Condition]
    progress: Json | None
    synced_through: datetime | None
    lag_seconds: float | None
    source_node: str | None
    target_node: str | None
    not_kept: list[Json]
    epoch: int
    active_side: str
    operation: Json | None
    """status.operation: the failover or restore that goes on, or the last one."""

    @staticmethod
    def of(pair: Json) -> Status:
        """From the object that the API server holds."""
        status: Json = pair.get("status") or {}
        volume: Json = (status.get("volumes") or [{}])[0]
        conditions = {
            c["type"]: Condition(c["type"], TRUTH.get(c["status"]), c["reason"], c.get("message", ""))
            for c in status.get("conditions") or []
        }
        through = volume.get("syncedThrough")
        return Status(
            phase=status.get("phase", "Pending"),
            conditions=conditions,
            progress=volume.get("progress"),
            synced_through=datetime.fromisoformat(through) if through else None,
            lag_seconds=volume.get("lagSeconds"),
            source_node=(volume.get("source") or {}).get("node"),
            target_node=(volume.get("target") or {}).get("node"),
            not_kept=volume.get("notKept") or [],
            epoch=status.get("epoch", 1),
            active_side=status.get("activeSide", ""),
            operation=status.get("operation"),
        )

    def holds(self, kind: str) -> bool:
        """Whether a condition is True."""
        found = self.conditions.get(kind)
        return found is not None and found.true is True

    def bad(self) -> list[str]:
        """What the conditions complain of: a line for each reason and message, with the conditions that say it."""
        said: dict[str, list[str]] = {}
        for c in self.conditions.values():
            if c.kind != "Reconciling" and c.true is (c.kind in WRONG_WHEN_TRUE):
                said.setdefault(f"{c.reason}: {c.message}", []).append(f"{c.kind}={c.true}")
        return [f"{text} ({', '.join(kinds)})" for text, kinds in said.items()]


def progress_line(status: Status) -> str:
    """How far the first mirror is, in one line."""
    p = status.progress
    if not p:
        reconciling = status.conditions.get("Reconciling")
        return f"{status.phase}: {reconciling.message}" if reconciling and reconciling.message else status.phase
    done, total = p.get("bytesDone", 0), p.get("bytesTotal")
    files, of = p.get("filesDone", 0), p.get("filesTotal")
    rate = p.get("bytesPerSecond", 0)
    if total is None or of is None:
        return f"{count(files)} files, {size(done)} so far"
    line = f"{bar(done / total if total else 1)} {count(files)}/{count(of)} files  {size(done)} of {size(total)}"
    if rate:
        line += f"  {size(rate)}/s  {max(0, total - done) / rate:.0f} s left"
    return line
