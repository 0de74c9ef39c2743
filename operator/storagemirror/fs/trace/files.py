"""The files of a trace instance as their reader needs them: of our own instance, or handed to us by a tracer."""

from __future__ import annotations

import os
from typing import Protocol


class Files(Protocol):
    """Paths are relative to the instance's directory. OSError as the kernel says."""

    def open(self, path: str, flags: int = os.O_RDONLY) -> int:
        """A descriptor of a file; close it."""
        ...

    def list(self, path: str) -> list[str]:
        """Names in a directory."""
        ...

    def read(self, path: str) -> str:
        """A text file."""
        ...

    def has(self, path: str) -> bool:
        """Whether there is such a file."""
        ...


def read_text(files: Files, path: str) -> str:
    """A text file, anew from its beginning."""
    fd = files.open(path)
    try:
        return text_of(fd)
    finally:
        os.close(fd)


def text_of(fd: int) -> str:
    """All that the open file says now. OSError."""
    parts: list[bytes] = []
    at = 0
    while part := os.pread(fd, 4096, at):
        parts.append(part)
        at += len(part)
    return b"".join(parts).decode("ascii", "replace")
