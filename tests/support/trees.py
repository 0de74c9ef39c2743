"""Directory trees for tests of the engine, and two judges of equality: one of ours, and rsync."""

from __future__ import annotations

import hashlib
import os
import random
import socket
import stat
import struct
import subprocess
from pathlib import Path

ACL_FOR_USER_1 = struct.pack("<I", 2) + b"".join(
    struct.pack("<HHI", *entry)
    for entry in (
        (0x01, 6, 0xFFFFFFFF),
        (0x02, 5, 1),
        (0x04, 4, 0xFFFFFFFF),
        (0x10, 7, 0xFFFFFFFF),
        (0x20, 4, 0xFFFFFFFF),
    )
)
CAPABILITY = struct.pack("<5I", 0x02000000, 1 << 10, 0, 0, 0)


def write(path: Path | str | bytes, data: bytes | str = b"x", mtime_ns: int | None = None) -> None:
    """A file, with its parents."""
    where = os.fsencode(path)
    os.makedirs(os.path.dirname(where), exist_ok=True)
    with open(where, "wb") as file:
        file.write(data.encode() if isinstance(data, str) else data)
    if mtime_ns is not None:
        os.utime(where, ns=(mtime_ns, mtime_ns))


def many(root: Path, files: int, *, seed: int = 1, size: int = 2000, directories: int | None = None) -> None:
    """`files` small files in a random tree."""
    rnd = random.Random(seed)
    places = [root]
    for number in range(directories if directories is not None else max(1, files // 20)):
        place = rnd.choice(places[-50:]) / f"d{number}"
        place.mkdir(parents=True)
        places.append(place)
    for number in range(files):
        write(rnd.choice(places) / f"f{number}", rnd.randbytes(rnd.randint(0, size)))


def everything(root: Path) -> None:
    """A tree with one of each thing a volume can hold. As root; on a file system with xattrs and ACLs."""
    write(root / "a/one", "hi")
    write(root / "a/b/two", "two")
    (root / "d").mkdir()
    (root / "e/f").mkdir(parents=True)
    (root / "empty directory").mkdir()
    os.link(root / "a/one", root / "d/same file")
    (root / "a/b/c").mkdir()
    os.link(root / "a/one", root / "a/b/c/same file too")
    os.symlink("../one", root / "a/b/relative")
    os.symlink("nowhere at all", root / "dangling")
    os.symlink("/etc/passwd", root / "absolute")
    os.mkfifo(root / "fifo")
    os.mknod(root / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.mknod(root / "loop", stat.S_IFBLK | 0o660, os.makedev(7, 200))
    bound = socket.socket(socket.AF_UNIX)
    bound.bind(os.fsencode(root / "sock"))
    bound.close()
    sparse(root / "sparse", 10_000_000, 5_000_000)
    write(root / "big", random.Random(3).randbytes(3_000_000))
    write(root / "edge", random.Random(4).randbytes(256 * 1024))
    write(root / "edge+1", random.Random(5).randbytes(256 * 1024 + 1))
    write(root / "nothing", b"")
    write(os.fsencode(root) + b"/n\xff\xfe/\x01\n\xe9 \"'\\", "odd")
    write(os.fsencode(root) + b"/" + b"x" * 255, "long")
    _attributes(root)


def _attributes(root: Path) -> None:
    os.setxattr(root / "a/b/two", "user.comment", b"a value \0 with bytes")
    os.setxattr(root / "a/b", "user.directory", b"1")
    os.setxattr(root / "a/b/two", "system.posix_acl_access", ACL_FOR_USER_1)
    os.setxattr(root / "e", "system.posix_acl_default", ACL_FOR_USER_1)
    os.setxattr(root / "a/one", "trusted.thing", b"t")
    write(root / "d/capable", "program")
    os.chown(root / "d/capable", 77, 88)
    os.setxattr(root / "d/capable", "security.capability", CAPABILITY)
    os.chown(root / "a/b/two", 1234, 4321)
    os.chown(root / "dangling", 5, 6, follow_symlinks=False)
    os.chmod(root / "a/one", 0o4755)
    os.chmod(root / "d", 0o2750)
    os.chmod(root / "e", 0o1777)
    os.chmod(root / "e/f", 0)
    os.chmod(root / "nothing", 0o400)
    os.utime(root / "a/one", ns=(1, 1))
    os.utime(root / "a/b/two", ns=(0, -1_234_567_890_123))
    os.utime(root / "dangling", ns=(0, 1_999_999_999_987_654_321), follow_symlinks=False)
    os.utime(root / "a/b", ns=(0, 1_000_000_000_000_000_007))
    os.utime(root, ns=(0, 1_100_000_000_000_000_009))


def sparse(path: Path, size: int, at: int) -> None:
    """A file of holes with a few bytes in it."""
    with open(path, "wb") as file:
        file.truncate(size)
        file.seek(at)
        file.write(b"in the middle")


def deep(root: Path, depth: int = 30) -> None:
    """A path beyond PATH_MAX."""
    fd = os.open(root, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("p" * 200, dir_fd=fd)
        inner = os.open("p" * 200, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = inner
    file = os.open("deep", os.O_CREAT | os.O_WRONLY, 0o644, dir_fd=fd)
    os.write(file, b"down here")
    os.close(file)
    os.close(fd)


def picture(root: Path | str) -> dict[bytes, tuple[object, ...]]:
    """All that can be seen of a tree, by path: types, modes, owners, times in nanoseconds, xattrs, content, links."""
    seen: dict[bytes, tuple[object, ...]] = {}
    first: dict[int, bytes] = {}
    pending = [b""]
    top = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    while pending:
        directory = pending.pop()
        fd = _open(top, directory)
        if not directory:
            seen[b""] = _look(fd, b".", first, b"")
        for name in sorted(os.listdir(b"/proc/self/fd/%d" % fd)):
            if not directory and name in (b".storagemirror", b"lost+found"):
                continue
            path = directory + b"/" + name if directory else name
            seen[path] = _look(fd, name, first, path)
            if stat.S_ISDIR(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode):
                pending.append(path)
        os.close(fd)
    os.close(top)
    return seen


def _open(top: int, directory: bytes) -> int:
    fd = os.dup(top)
    for name in directory.split(b"/") if directory else []:
        inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=fd)
        os.close(fd)
        fd = inner
    return fd


def _look(fd: int, name: bytes, first: dict[int, bytes], path: bytes) -> tuple[object, ...]:
    found = os.stat(name, dir_fd=fd, follow_symlinks=False)
    where = b"/proc/self/fd/%d/%s" % (fd, name)
    content: object = None
    leader = b""
    if stat.S_ISREG(found.st_mode):
        with open(where, "rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
    elif stat.S_ISLNK(found.st_mode):
        content = os.readlink(where)
    if found.st_nlink > 1 and not stat.S_ISDIR(found.st_mode):
        leader = first.setdefault(found.st_ino, path)
    attributes = tuple(
        (key, os.getxattr(where, key, follow_symlinks=False))
        for key in sorted(os.listxattr(where, follow_symlinks=False))
        if key != "security.selinux"
    )
    size = found.st_size if stat.S_ISREG(found.st_mode) else 0
    return (
        found.st_mode,
        found.st_uid,
        found.st_gid,
        found.st_mtime_ns,
        size,
        found.st_rdev,
        content,
        leader,
        attributes,
    )


def differences(source: Path | str, target: Path | str) -> list[str]:
    """What is not equal, one line each."""
    here, there = picture(source), picture(target)
    lines = [f"missing: {path!r}" for path in here if path not in there]
    lines += [f"left over: {path!r}" for path in there if path not in here]
    for path, value in here.items():
        if path in there and there[path] != value:
            lines.append(f"{path!r}: expected {value}, got {there[path]}")
    return lines


def rsync_differences(source: Path | str, target: Path | str) -> str:
    """What rsync would still do; empty when the trees are equal."""
    done = subprocess.run(
        [
            "rsync",
            "-anciHAX",
            "--delete",
            "--exclude=/.storagemirror",
            "--exclude=/lost+found",
            f"{source}/",
            f"{target}/",
        ],
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    return done.stdout + done.stderr
