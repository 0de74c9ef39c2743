"""Extended attributes, POSIX ACLs and file capabilities among them.

Python lists and reads them by path or by descriptor, not by a directory's descriptor and a name. A path costs a walk
for each file; so one directory at a time is made the working directory of the process, under a lock, and names are
used. (`/proc/self/fd/N/name` would do the same at four times the cost.)
"""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Callable, Iterable

from xxhash import xxh3_128

from storagemirror.entry import NotKeptKind, View, within

_working_directory = threading.Lock()
_NONE = frozenset({errno.ENOTSUP, errno.ENODATA, errno.ENOENT, errno.EPERM, errno.EACCES, errno.ELOOP})

ACL_ACCESS = b"system.posix_acl_access"
ACL_DEFAULT = b"system.posix_acl_default"
CAPABILITY = b"security.capability"
SELINUX = b"security.selinux"
_XFS_ACLS = (b"trusted.SGI_ACL_FILE", b"trusted.SGI_ACL_DEFAULT")
"""XFS shows its ACLs a second time, in its own format. What is left of them elsewhere would be a stale ACL one day."""

ACCESS_TIME = b"access-time"
"""No extended attribute (none has a name without a namespace): the access time of a file, where that is kept too.
8 bytes, nanoseconds since the Unix epoch, little-endian, signed."""

LARGEST = 1 << 20
"""Bytes of all attributes of one entry, at most: more cannot be carried."""


def kind_of(name: bytes) -> NotKeptKind:
    """Under which kind an attribute that could not be kept is counted."""
    if name in (ACL_ACCESS, ACL_DEFAULT):
        return NotKeptKind.ACL
    if name == CAPABILITY:
        return NotKeptKind.CAPABILITY
    return NotKeptKind.XATTR


def in_view(name: bytes, view: View) -> bool | None:
    """Whether an attribute is compared and carried; None when it is left out on purpose and not even counted."""
    if name.startswith(b"user."):
        return view.user_xattrs
    if name in (ACL_ACCESS, ACL_DEFAULT):
        return view.acls
    if name == CAPABILITY:
        return view.capabilities
    if name == SELINUX:
        return view.selinux or None
    if name == ACCESS_TIME:
        return view.access_times
    if name.startswith(b"system.") or name in _XFS_ACLS:
        return None
    return view.trusted_xattrs


def list_names(fd: int, names: Iterable[bytes]) -> dict[bytes, list[bytes]]:
    """Of each entry `names` of the directory `fd` that has any: the names of its extended attributes."""
    found: dict[bytes, list[bytes]] = {}
    with _working_directory:
        os.fchdir(fd)
        try:
            listing = os.listxattr
            for name in names:
                try:
                    attributes = listing(name, follow_symlinks=False)
                except OSError as e:
                    if e.errno == errno.ENOTSUP:
                        break
                    if e.errno in _NONE:
                        continue
                    raise
                if attributes:
                    found[name] = [os.fsencode(attribute) for attribute in attributes]
        finally:
            os.chdir("/")
    return found


def names_at(place: int | bytes) -> list[bytes]:
    """The names of the attributes of a descriptor, or of a path that is not followed."""
    try:
        names = os.listxattr(place) if isinstance(place, int) else os.listxattr(place, follow_symlinks=False)
    except OSError as e:
        if e.errno in _NONE:
            return []
        raise
    return [os.fsencode(name) for name in names] if names else []


def values_at(
    place: int | bytes, names: list[bytes], view: View, report: Callable[[NotKeptKind], None]
) -> dict[bytes, bytes]:
    """The attributes `names` that are in `view`, with their values; `report` hears of those that are not."""
    values: dict[bytes, bytes] = {}
    size = 0
    for name in sorted(names):
        wanted = in_view(name, view)
        if not wanted:
            if wanted is False:
                report(kind_of(name))
            continue
        try:
            value = (
                os.getxattr(place, name) if isinstance(place, int) else os.getxattr(place, name, follow_symlinks=False)
            )
        except OSError as e:
            if e.errno not in _NONE:
                raise
            continue
        size += len(name) + len(value)
        if size > LARGEST:
            report(NotKeptKind.XATTR)
            continue
        values[name] = value
    return values


def digest(values: dict[bytes, bytes]) -> bytes:
    """16 bytes for a set of attributes; empty for none."""
    if not values:
        return b""
    state = xxh3_128()
    for name in sorted(values):
        value = values[name]
        state.update(b"%d %d " % (len(name), len(value)))
        state.update(name)
        state.update(value)
    return state.digest()


def access_time(found: os.stat_result, view: View) -> dict[bytes, bytes]:
    """That of a regular file, as if it were an attribute; empty where it is not kept."""
    if not view.access_times or not stat.S_ISREG(found.st_mode):
        return {}
    time_ns = within(found.st_atime_ns, view)
    return {ACCESS_TIME: (time_ns - time_ns % view.time_grain_ns).to_bytes(8, "little", signed=True)}


def path_of(fd: int, name: bytes) -> bytes:
    """A path to `name` in the directory `fd` for calls that take no directory's descriptor."""
    return b"/proc/self/fd/%d/%s" % (fd, name) if name else b"/proc/self/fd/%d" % fd


def write(place: int | bytes, wanted: dict[bytes, bytes], view: View, report: Callable[[NotKeptKind], None]) -> None:
    """Set the attributes in `wanted`; what is refused is reported, never passed over in silence."""
    for name, value in wanted.items():
        if name == ACCESS_TIME:
            continue  # set with the other time
        if not in_view(name, view):
            report(kind_of(name))
            continue
        try:
            if isinstance(place, int):
                os.setxattr(place, name, value)
            else:
                os.setxattr(place, name, value, follow_symlinks=False)
        except ValueError:
            report(kind_of(name))  # a name with a NUL in it: of a peer that lies
        except OSError as e:
            # ENOSPC too: an attribute that does not fit its inode's block (ext4) is no full volume.
            if e.errno not in (*_NONE, errno.ENOSPC, errno.E2BIG, errno.ERANGE, errno.EINVAL, errno.EDQUOT):
                raise
            report(kind_of(name))


def replace(place: int | bytes, wanted: dict[bytes, bytes], view: View, report: Callable[[NotKeptKind], None]) -> None:
    """As `write`, and remove what is there, in view, and not wanted."""
    for name in names_at(place):
        if name in wanted or name == SELINUX or not in_view(name, view):  # a label may change, and never go
            continue
        try:
            if isinstance(place, int):
                os.removexattr(place, name)
            else:
                os.removexattr(place, name, follow_symlinks=False)
        except OSError as e:
            if e.errno not in _NONE:
                raise
            report(kind_of(name))
    if wanted:
        write(place, wanted, view, report)
