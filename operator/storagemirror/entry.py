"""What an entry of a volume is: the words in which file system and wire speak of files.

Names and paths are bytes, exactly as the kernel gives them. A path is relative to the volume's root, its names joined
by `/`, with no leading, trailing or doubled slash; the root itself is `b""`.

These types travel (as MessagePack arrays), so a field is only ever added at the end, with a default.
"""

from __future__ import annotations

import re
import stat
from enum import IntEnum, StrEnum
from typing import Annotated

import msgspec

NAME_MAX = 255
"""Bytes in one name (Linux, include/uapi/linux/limits.h)."""

PATH_LIMIT = 65_536
"""Bytes in one path that we carry. Beyond PATH_MAX (4096) paths are walked in pieces, by descriptors."""

DEPTH_LIMIT = 4_096
"""Names in one path that we carry. To open a path costs as much as it has names; to delete a tree that is one chain
costs the square of it, and a peer may ask for that."""

STATE_DIRECTORY = b".storagemirror"
"""At the root of a target: ours. Never mirrored, on either side."""

LOST_AND_FOUND = b"lost+found"
"""At the root of a volume: the file system's. Never mirrored, on either side."""


Mode = Annotated[int, msgspec.Meta(ge=0, le=0o177777)]
Id = Annotated[int, msgspec.Meta(ge=0, le=0xFFFF_FFFF)]
Size = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]
TimeNs = Annotated[int, msgspec.Meta(ge=-(1 << 63), le=(1 << 63) - 1)]
"""Nanoseconds since the Unix epoch, as far as 64 bits go: the years 1677 to 2262."""


class Kind(IntEnum):
    """The types of entries: the S_IFMT bits of a mode."""

    FIFO = stat.S_IFIFO
    CHARACTER_DEVICE = stat.S_IFCHR
    DIRECTORY = stat.S_IFDIR
    BLOCK_DEVICE = stat.S_IFBLK
    FILE = stat.S_IFREG
    SYMLINK = stat.S_IFLNK
    SOCKET = stat.S_IFSOCK


KINDS = frozenset(int(kind) for kind in Kind)


class NotKeptKind(StrEnum):
    """What could not be kept, and is counted instead."""

    OWNER = "Owner"
    """The target may not give files away (no CAP_CHOWN)."""
    MODE = "Mode"
    """A mode that the target refused."""
    TIMES = "Times"
    XATTR = "ExtendedAttribute"
    """Refused, too large, or of a namespace the target cannot hold."""
    ACL = "AccessControlList"
    CAPABILITY = "FileCapability"
    DEVICE = "Device"
    """The target may not make device nodes (no CAP_MKNOD)."""
    HARD_LINK = "HardLink"
    """More names than the target's file system can give one file: kept as files of their own."""
    UNREADABLE = "Unreadable"
    """The source may not be read here (permission, or an error of its disk)."""
    NAME = "Name"
    """A name that the target's file system does not take."""
    OTHER_FILE_SYSTEM = "OtherFileSystem"
    """Mounted inside the volume, so not part of it."""
    RESERVED_NAME = "ReservedName"
    """A `.storagemirror` at the root of the source that is not ours."""
    CHANGING = "ChangingWhileRead"
    """Changed each time it was read; sent as it was, to be sent again."""
    FLAGS = "InodeFlags"
    """Flags (as of chattr) that the target's file system does not have, or that we may not set (immutable and
    append-only take CAP_LINUX_IMMUTABLE)."""
    PROJECT = "ProjectId"
    """The target's file system has no project ids, or does not let us set them."""
    SHARED = "SharedExtents"
    """Files that share their data with others (reflinks): whole on the target, so that they take more room there.
    Counted when they are sent."""
    REFUSED = "Refused"
    """The target's file system refused the entry; the message of the log says why."""


class Identity(msgspec.Struct, frozen=True, array_like=True):
    """Which file system, and which directory of it, a volume is. It outlives remounts, reboots and other devices.

    None means: this kernel or file system does not say.
    """

    inode: int
    """Of the volume's root directory."""
    uuid: str | None = None
    """Of the file system: 32 hexadecimal digits."""
    born_ns: int | None = None
    """When the volume's root directory was made, nanoseconds since the Unix epoch."""

    def same_as(self, other: Identity) -> bool:
        """Whether nothing that both know speaks against being one volume."""
        return (
            self.inode == other.inode
            and (self.uuid == other.uuid or self.uuid is None or other.uuid is None)
            and (self.born_ns == other.born_ns or self.born_ns is None or other.born_ns is None)
        )

    def __str__(self) -> str:
        parts = [f"inode={self.inode}"]
        if self.uuid is not None:
            parts.insert(0, f"uuid={self.uuid}")
        if self.born_ns is not None:
            parts.append(f"born={self.born_ns}")
        return ",".join(parts)


class Origin(msgspec.Struct, frozen=True, array_like=True):
    """What a volume that was made live says of itself: whose copy it was until then."""

    pair_uid: str
    volume: str
    promoted: int
    """The epoch at which it became the live side."""
    source: Identity
    """Of the volume that it was the copy of."""


class View(msgspec.Struct, frozen=True, array_like=True):
    """What both sides look at when they compare: no more than the target can hold.

    A target that cannot keep owners would otherwise differ for ever, and be sent the same again and again.
    """

    owner: bool = True
    devices: bool = True
    acls: bool = True
    user_xattrs: bool = True
    capabilities: bool = True
    """`security.capability`."""
    trusted_xattrs: bool = True
    """`trusted.*`, and of `security.*` all but capabilities and SELinux's label."""
    time_grain_ns: Annotated[int, msgspec.Meta(ge=1, le=10_000_000_000)] = 1
    """Times are compared after being rounded down to this many nanoseconds."""
    uid: Id = 0
    """Where owners cannot be kept: to whom everything on the target belongs."""
    gid: Id = 0
    oldest_ns: TimeNs = -(1 << 63)
    """Earlier times become this one: the target's file system has none earlier."""
    latest_ns: TimeNs = (1 << 63) - 1
    """Later times become this one."""
    selinux: bool = False
    """`security.selinux`. Only where the source asks for it."""
    access_times: bool = False
    """Of regular files. Only where the source asks for it."""


class Attributes(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What an entry carries beside its content. `mode` holds the type bits too; `mtime_ns` may be negative."""

    mode: Mode
    uid: Id
    gid: Id
    mtime_ns: TimeNs
    xattrs: dict[bytes, bytes] = {}
    """By full name, such as `b"user.comment"`; POSIX ACLs are `b"system.posix_acl_access"` and `..._default`."""


class Entry(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One name of a directory, as it is compared.

    Of a subdirectory only name and type count here (its attributes are compared with its own content).
    """

    name: bytes
    mode: Mode
    uid: Id = 0
    gid: Id = 0
    size: Size = 0
    """Bytes; 0 for all but files."""
    mtime_ns: TimeNs = 0
    content: bytes = b""
    """Of a symbolic link where it leads; of a device `b"major:minor"`; else empty."""
    leader: bytes = b""
    """Of a further hard link: the path under which the walk met the same file first; else empty."""
    xattrs: bytes = b""
    """xxh3_128 of the sorted extended attributes; empty when there are none."""

    @property
    def kind(self) -> Kind:
        """ValueError when the type bits are those of no type."""
        return Kind(stat.S_IFMT(self.mode))


def within(time_ns: int, view: View) -> int:
    """A time as the view's file system can hold it; its grain aside."""
    return min(max(time_ns, view.oldest_ns), view.latest_ns)


def join(directory: bytes, name: bytes) -> bytes:
    """The path of `name` in `directory`."""
    return directory + b"/" + name if directory else name


def split(path: bytes) -> tuple[bytes, bytes]:
    """Directory and name of `path`; the root is `(b"", b"")`."""
    directory, _, name = path.rpartition(b"/")
    return directory, name


def walk_key(path: bytes) -> bytes:
    """Sorts paths as the walk meets them: a directory before what is in it, names by their bytes."""
    return path.replace(b"/", b"\0")


_NAME = re.compile(rb"(?!\.\.?\Z)[^/\0]{1,255}").fullmatch
"""One call for each name that arrives: it is asked for each entry."""


def is_name(name: bytes) -> bool:
    """Whether `name` can name an entry of a directory: 1 to `NAME_MAX` bytes, no `/`, no NUL, not `.` or `..`."""
    return _NAME(name) is not None


_PATH = re.compile(rb"(?:(?!\.\.?(?:/|\Z))[^/\0]{1,255}+(?:/(?!\Z)|\Z))++").fullmatch
"""As `_NAME` of each name, in one go."""


def is_path(path: bytes) -> bool:
    """Whether `path` is one of ours: relative, clean, no `..`, not under our own state directory."""
    if not path:
        return True
    if len(path) > PATH_LIMIT or path.startswith(STATE_DIRECTORY + b"/") or path == STATE_DIRECTORY:
        return False
    return path.count(b"/") < DEPTH_LIMIT and _PATH(path) is not None


def printable(path: bytes) -> str:
    """`path` for people: as it is where it can be printed safely, else with escapes."""
    text = path.decode("utf-8", "surrogateescape") or "."
    return text if text.isprintable() else repr(path)[2:-1]


BRIEF = 256
"""Characters of a path in a report: reports travel in an annotation, and all of an object's share 256 KiB."""


def brief(path: bytes) -> str:
    """As `printable`, cut where it is long."""
    text = printable(path)
    return text if len(text) <= BRIEF else f"{text[: BRIEF - 1]}…"
