"""Print everything a directory tree holds, one JSON object a line. Runs in a pod, with the standard library alone.

    tree.py DIRECTORY [NAME-TO-LEAVE-OUT ...]

Each line has `path` (relative, percent-encoded bytes), `type`, `mode`, `uid`, `gid`, `mtime_ns`; a file also has
`size` and `sha256` of its content, and `same_as` if it is a hard link to an earlier path; a symbolic link has
`target`; a device has `device`. `xattrs` (hex, by name) holds extended attributes and POSIX ACLs. Names to leave out
count at the top only. The time of the top directory itself is left out: whoever mounts the volume may touch it.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import sys
from collections.abc import Iterator
from urllib.parse import quote_from_bytes

KINDS = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "symlink",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "character device",
    stat.S_IFBLK: "block device",
}
NOT_DATA = {"security.selinux"}
"""Labels that a node's own policy gives to what is mounted."""


def paths(top: bytes, leave_out: set[bytes]) -> Iterator[bytes]:
    """Every path below `top`, and `top`, each directory before what it holds, in the order of their names."""
    yield top
    for name in sorted(set(os.listdir(top)) - leave_out):
        path = os.path.join(top, name)
        if stat.S_ISDIR(os.lstat(path).st_mode):
            yield from paths(path, set())
        else:
            yield path


def content(path: bytes) -> str:
    """SHA-256 of a file, in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def entry(path: bytes, top: bytes, seen: dict[tuple[int, int], str]) -> dict[str, object]:
    """What there is to say of one path; `seen` holds the first path of each inode with several."""
    info = os.lstat(path)
    name = quote_from_bytes(os.path.relpath(path, top), safe="/ +=@:,~()!")
    kind = KINDS[stat.S_IFMT(info.st_mode)]
    said: dict[str, object] = {
        "path": name,
        "type": kind,
        "mode": f"{stat.S_IMODE(info.st_mode):04o}",
        "uid": info.st_uid,
        "gid": info.st_gid,
    }
    if path != top:
        said["mtime_ns"] = info.st_mtime_ns
    if kind == "file":
        said["size"] = info.st_size
        said["sha256"] = content(path)
    elif kind == "symlink":
        said["target"] = quote_from_bytes(os.readlink(path), safe="/ +=@:,~()!")
    elif kind.endswith("device"):
        said["device"] = info.st_rdev
    if kind != "directory" and info.st_nlink > 1:
        first = seen.setdefault((info.st_dev, info.st_ino), name)
        if first != name:
            said["same_as"] = first
    names = [n for n in os.listxattr(path, follow_symlinks=False) if n not in NOT_DATA]
    if names:
        said["xattrs"] = {n: os.getxattr(path, n, follow_symlinks=False).hex() for n in sorted(names)}
    return said


def main(top: str, *leave_out: str) -> None:
    """Print the tree."""
    root = os.fsencode(top)
    seen: dict[tuple[int, int], str] = {}
    for path in paths(root, {os.fsencode(n) for n in leave_out}):
        print(json.dumps(entry(path, root, seen)))


if __name__ == "__main__":
    main(*sys.argv[1:])
