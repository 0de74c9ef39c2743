"""Why the kernel's trace cannot be had here."""

from __future__ import annotations

from storagemirror.errors import Permanent


class TraceUnavailable(Permanent):
    """The kernel's trace cannot tell what changes on this volume. `reason` says which way, for a status:

    NoTracePrivilege    we may not mount tracefs, or not open what is in it
    NoTracefs           the kernel has no tracefs, or one that we cannot read
    KernelLockdown      the kernel is locked down for confidentiality
    FileSystemUntraced  not ext4, XFS or btrfs, or one in a mode whose writes are not named
    DirectAccess        DAX: writes to persistent memory raise no events
    SeveralSubvolumes   btrfs gives the same inode numbers out in each of its subvolumes
    DeviceNotFound      which device the events would name could not be told
    EventsMissing       the kernel is too old, or built without events that are needed
    TracerNotReady      the tracer that is to open it for us does not answer, or not yet
    """

    reason = "TraceUnavailable"
