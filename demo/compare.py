"""Two trees held against each other, path by path: contents, owners, modes, times, links, attributes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

Entry = dict[str, Any]
"""One line of `pods/tree.py`."""


@dataclass(frozen=True)
class Tree:
    """What a directory holds, by path."""

    entries: dict[str, Entry]

    @staticmethod
    def parse(lines: str) -> Tree:
        """From what `pods/tree.py` printed."""
        found = [json.loads(line) for line in lines.splitlines()]
        return Tree({entry["path"]: entry for entry in found})

    @property
    def files(self) -> int:
        """How many regular files."""
        return sum(entry["type"] == "file" for entry in self.entries.values())

    @property
    def octets(self) -> int:
        """Bytes of all regular files."""
        return sum(entry.get("size", 0) for entry in self.entries.values())

    def others(self) -> str:
        """How many of the rest, such as `210 directories, 48 symlinks`."""
        kinds: dict[str, int] = {}
        for entry in self.entries.values():
            kinds[entry["type"]] = kinds.get(entry["type"], 0) + 1
        plural = {"directory": "directories"}
        return ", ".join(f"{n} {plural.get(k, k + 's')}" for k, n in sorted(kinds.items()) if k != "file")


def differences(source: Tree, copy: Tree) -> list[str]:
    """Every path that is not the same on both sides, with what differs; empty when the copy is right."""
    found = []
    for path in sorted(source.entries.keys() | copy.entries.keys()):
        one, two = source.entries.get(path), copy.entries.get(path)
        if one is None:
            found.append(f"{path}: only on the copy")
        elif two is None:
            found.append(f"{path}: missing on the copy")
        elif one != two:
            keys = [k for k in sorted(one.keys() | two.keys()) if one.get(k) != two.get(k)]
            found.append(f"{path}: " + ", ".join(f"{k} {one.get(k)} → {two.get(k)}" for k in keys))
    return found
