"""Root file systems made from Debian's own packages by mmdebstrap, kept as tars in the cache."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from tests.image.machine import cache, need, run

SUITE = "bookworm"
NEWEST = 1_767_225_600
"""2026-01-01: no file is younger, so that two builds of the same packages are the same; the packages' own files are
older and keep their times."""


@dataclass(frozen=True)
class RootFs:
    """A recipe: packages on top of the minimal system, whether /usr/share/doc is kept, and what is taken out again."""

    name: str
    packages: tuple[str, ...]
    docs: bool = False
    removed: tuple[str, ...] = ()
    """Paths (patterns of the shell) that are taken out at the end."""


BASE = RootFs("base", ("python3", "ca-certificates"))
"""What the product's image stands on here. Nothing but Python and a CA bundle."""

DEMO = RootFs(
    "demo-nginx",
    (
        "nginx-light",
        "python3",
        "bash-doc",
        "debian-faq",
        "debian-policy",
        "debian-reference-en",
        "developers-reference",
        "git-doc",
        "postgresql-doc-15",
        "python3.11-doc",
    ),
    docs=True,
)
"""A web server and a few thousand files of Debian's own documentation."""

POSTGRES = RootFs("postgres", ("postgresql-15",), removed=("/var/lib/postgresql/15/main", "/usr/lib/*/libLLVM-*"))
"""Debian's PostgreSQL with its tools; without the cluster that its installation makes, and without its compiler (run it
with `jit=off`), which is half of its size."""


@dataclass(frozen=True)
class Tar:
    """A root file system on disk and the SHA-256 of its bytes, in hex."""

    path: Path
    sha256: str


def make(rootfs: RootFs) -> Tar:
    """The root file system as a tar; from the cache when its recipe has not changed. Half a minute when it has."""
    options = [
        "--variant=minbase",
        # Merged from the start: else usrmerge comes, and all of Perl with it.
        "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr",
        f"--include=usr-is-merged,{','.join(rootfs.packages)}",
    ]
    if not rootfs.docs:
        options += [f"--dpkgopt=path-exclude=/usr/share/{d}/*" for d in ("doc", "man", "locale", "info")]
        options += ["--dpkgopt=path-include=/usr/share/doc/*/copyright"]
    options += [f'--customize-hook=rm -rf "$1"{path}' for path in rootfs.removed]
    recipe = hashlib.sha256(json.dumps([SUITE, options, NEWEST]).encode()).hexdigest()[:12]
    tar = cache() / "rootfs" / f"{rootfs.name}-{recipe}.tar"
    sums = tar.with_suffix(".sha256")
    if not sums.exists():
        need(["mmdebstrap"])
        tar.parent.mkdir(exist_ok=True)
        half = tar.with_suffix(".half.tar")
        run("mmdebstrap", *options, SUITE, half, env={"SOURCE_DATE_EPOCH": str(NEWEST)})
        with half.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        half.replace(tar)
        sums.write_text(sha256)
    return Tar(tar, sums.read_text())
