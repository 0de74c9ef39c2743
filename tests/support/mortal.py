"""A process that is killed before its nth call of the kernel, in modules of the file system."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace
from typing import Any

CALLS = (
    *("open", "close", "fsync", "rename", "mkdir", "unlink", "pwrite", "ftruncate", "utime", "copy_file_range"),
    *("fstat", "stat", "dup", "fchown", "chmod", "chown"),
)
CHANGES = (
    *("write", "pwrite", "fsync", "fdatasync", "rename", "mkdir", "rmdir", "unlink", "link", "symlink", "mknod"),
    *("ftruncate", "utime", "fchown", "fchmod", "chmod", "chown", "setxattr", "removexattr"),
)
"""Those that change something, or make it durable."""


@contextmanager
def _counted(modules: tuple[ModuleType, ...], number: int, kinds: tuple[str, ...]) -> Iterator[None]:
    left = [number]

    def deadly(call: Callable[..., Any]) -> Callable[..., Any]:
        def called(*args: Any, **options: Any) -> Any:
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*args, **options)

        return called

    names = {name: getattr(os, name) for name in dir(os)}
    calls = {name: deadly(names[name]) for name in kinds}
    for module in modules:
        module.os = SimpleNamespace(**{**names, **calls})  # type: ignore[attr-defined]
    yield


def killed_at(
    number: int, modules: tuple[ModuleType, ...], work: Callable[[], None], kinds: tuple[str, ...] = CALLS
) -> bool:
    """Do `work` in a process of its own, which is killed with SIGKILL before its call `number` of the kernel in
    `modules`; whether it was: False when it came to its end. AssertionError when it failed otherwise."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            with _counted(modules, number, kinds):
                work()
            status = 0
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        return True
    assert os.waitstatus_to_exitcode(status) == 0, "the process failed before it was killed"
    return False
