"""A tree beside a volume that nothing may touch, and the links in the volume that lead to it."""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path

Look = dict[str, tuple[object, ...]]


def plant(base: Path) -> Path:
    """The canary, in `base`."""
    canary = base / "canary"
    (canary / "dir").mkdir(parents=True)
    (canary / "secret").write_bytes(b"not for anybody")
    (canary / "dir/inner").write_bytes(b"nor this")
    os.symlink("secret", canary / "link")
    os.chmod(canary / "secret", 0o640)
    return canary


def lead_to(canary: Path, volume: Path) -> None:
    """Links out of `volume`, under names that hostile paths use. Those that cannot be made are left."""
    for name, target in (
        ("out", canary), ("d/out", canary / "dir"), ("file-out", canary / "secret"), ("dangling", canary / "nothing"),
    ):  # fmt: skip
        with contextlib.suppress(OSError):
            os.symlink(target, volume / name)


def look(base: Path, volumes: tuple[str, ...]) -> Look:
    """All of `base` but what is in `volumes`: content, attributes, number of names, and the change time, which nobody
    can set back. Of `base` itself what is in it."""
    seen: Look = {"": tuple(sorted(os.listdir(base)))}
    for here, directories, files in os.walk(base):
        if here == str(base):
            directories[:] = [name for name in directories if name not in volumes]
        for name in (*directories, *files):
            path = os.path.join(here, name)
            st = os.lstat(path)
            content = ""
            if os.path.islink(path):
                content = os.readlink(path)
            elif os.path.isfile(path):
                with open(path, "rb", opener=lambda p, f: os.open(p, f | os.O_NOATIME)) as file:
                    content = hashlib.sha256(file.read()).hexdigest()
            seen[os.path.relpath(path, base)] = (
                st.st_mode, st.st_uid, st.st_gid, st.st_size, st.st_nlink, st.st_mtime_ns, st.st_ctime_ns, content,
                tuple(os.listxattr(path, follow_symlinks=False)),
            )  # fmt: skip
    return seen
