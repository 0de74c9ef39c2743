"""What /proc/self/mountinfo says of a mount (proc_pid_mountinfo(5))."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Mount:
    """Of one mount. `major` and `minor` are the file system's own device (`s_dev`): for btrfs it is not what stat(2)
    tells of a file. `options` are the file system's, not the mount's."""

    major: int
    minor: int
    fs_type: str
    options: tuple[str, ...]


def mount_of(fd: int) -> Mount | None:
    """The mount that `fd` is on; None where /proc does not tell."""
    try:
        with open(f"/proc/self/fdinfo/{fd}", encoding="ascii") as file:
            number = next(line.split()[1] for line in file if line.startswith("mnt_id:"))
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            for line in file:
                fields, _, rest = line.partition(" - ")
                words = fields.split(" ")
                if words[0] == number:
                    major, _, minor = words[2].partition(":")
                    kind, _, options = rest.rstrip("\n").split(" ", 2)
                    return Mount(int(major), int(minor), kind, tuple(options.split(",")))
    except (OSError, StopIteration, ValueError):
        return None
    return None
