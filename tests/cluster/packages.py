"""Debian packages the cluster needs, installed where they are missing."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

from tests.cluster.command import say
from tests.cluster.errors import CommandFailed

NEEDED = {
    "containerd": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    "/usr/lib/cni/bridge": "containernetworking-plugins",
    "ip": "iproute2",
    "tc": "iproute2",
    "nft": "nftables",
    "conntrack": "conntrack",
    "iptables": "iptables",
    "nsenter": "util-linux",
    "unshare": "util-linux",
    "losetup": "mount",
    "mount": "mount",
    "mkfs.ext4": "e2fsprogs",
    "resize2fs": "e2fsprogs",
    "mkfs.xfs": "xfsprogs",
    "mkfs.btrfs": "btrfs-progs",
    "sysctl": "procps",
    "rsync": "rsync",
}
FOR_IMAGES = {"mmdebstrap": "mmdebstrap"}


def missing_packages(programs: dict[str, str]) -> list[str]:
    """Packages of those programs that are not there, each once, sorted. A program is a name on PATH or a path."""
    return sorted({package for program, package in programs.items() if not _there(program)})


def _there(program: str) -> bool:
    if program.startswith("/"):
        return Path(program).exists()
    return shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin") is not None


def ensure_packages(programs: dict[str, str]) -> None:
    """apt-get install what is missing; says what and how long it took."""
    missing = missing_packages(programs)
    if not missing:
        return
    say(f"installing Debian packages: {' '.join(missing)}")
    started = time.monotonic()
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    wait = ["-o", "DPkg::Lock::Timeout=600"]  # somebody else may be installing
    install = ["apt-get", *wait, "install", "-y", "-qq", "--no-install-recommends", *missing]
    for words in (["apt-get", *wait, "update", "-qq"], install):
        done = subprocess.run(words, check=False, text=True, capture_output=True, env=env)
        if done.returncode != 0:
            raise CommandFailed(words, done.returncode, done.stderr)
    say(f"installed in {time.monotonic() - started:.0f} s")
