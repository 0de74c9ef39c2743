"""What a person can do about an entry that failed: one sentence for each cause."""

from __future__ import annotations

import errno

from storagemirror.wire.messages import FailureReason

_NEXT = "The next run tries again."

_WRITE = {
    FailureReason.FULL: "Grow DST's volume, or free space on it; the next run sends what is missing.",
    FailureReason.READ_ONLY: "DST's file system refuses all writing: look at its kernel log, and mount it anew.",
    FailureReason.DENIED: "Write DST as root, or let the user that writes it change this entry.",
    FailureReason.IO: "DST's disk fails: look at its kernel log. " + _NEXT,
    FailureReason.CONFLICT: "Something else has this name on DST and may not be removed: move it away.",
}

_READ = {
    errno.EIO: "SRC's disk fails: look at its kernel log. What DST has of it stays. " + _NEXT,
    errno.EUCLEAN: "SRC's file system is damaged: check it (fsck). What DST has of it stays.",
    errno.EACCES: "Read SRC as root, or let the user that reads it read this entry.",
    errno.EPERM: "Read SRC as root, or let the user that reads it read this entry.",
}


def about_writing(reason: FailureReason) -> str:
    """Of an entry that the target could not write."""
    return _WRITE.get(reason, _NEXT)


def about_reading(error: OSError) -> str:
    """Of an entry that could not be read on the source."""
    return _READ.get(error.errno or 0, _NEXT)
