"""Images built with buildah, as archives that `python -m tests.cluster load` brings to every node.

An image is named for what went into it (`storagemirror.local/storagemirror:<hash>`), so that a node with
`imagePullPolicy: IfNotPresent` can never run an older one by the same name.
"""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.image import debian, wheels
from tests.image.machine import CHECKOUT, BuildFailed, alone, cache, need, run

REPOSITORY = "storagemirror.local"
KEPT = 3
"""Archives of one image that stay in the cache, newest first."""
YOUNG_SECONDS = 900
"""One that was asked for since then stays as well: somebody may be loading it."""

LAUNCHER = """#!/usr/bin/env python3
import sys

from storagemirror.cli.main import main

sys.exit(main())
"""


@dataclass(frozen=True)
class Image:
    """A built image: what a pod calls it, and its docker-archive."""

    reference: str
    archive: Path

    @property
    def repository(self) -> str:
        """The reference without its tag."""
        return self.reference.rpartition(":")[0]

    @property
    def tag(self) -> str:
        """The reference's tag."""
        return self.reference.rpartition(":")[2]


def buildah(*words: str | Path) -> str:
    """Run buildah on a store of our own: nothing else on the machine is touched, `rm -r` of the cache cleans up."""
    need(["buildah", "runc"])
    root = cache() / "containers"
    store: list[str | Path] = ["buildah", "--root", root / "store", "--runroot", root / "run", "--storage-driver"]
    chosen = root / "driver"
    if not chosen.exists():
        root.mkdir(exist_ok=True)
        try:
            run(*store, "overlay", "images")
            chosen.write_text("overlay")
        except BuildFailed:  # the cache itself lies on an overlay, as in a container
            shutil.rmtree(root / "store", ignore_errors=True)
            chosen.write_text("vfs")
    return run(*store, chosen.read_text(), *words)


def _import(tar: debian.Tar, name: str) -> str:
    """A root file system as an image; its name in our store."""
    reference = f"localhost/{name}:{tar.sha256[:12]}"
    if not buildah("images", "--quiet", "--filter", f"reference={reference}").strip():
        recipe = cache() / f"{name}.Containerfile"
        recipe.write_text(f"FROM scratch\nADD {tar.path.name} /\n")
        buildah("bud", "--timestamp", "0", "-t", reference, "-f", recipe, tar.path.parent)
    return reference


def context(into: Path) -> Path:
    """What the Containerfile copies: `dependencies/` and `storagemirror/`, laid out in `into`."""
    shutil.rmtree(into, ignore_errors=True)
    into.mkdir(parents=True)
    shutil.copytree(wheels.dependencies(), into / "dependencies", symlinks=True, copy_function=_link)
    wheels.product(into / "storagemirror" / "lib")
    launcher = into / "storagemirror" / "bin" / "storagemirror"
    launcher.parent.mkdir()
    launcher.write_text(LAUNCHER)
    launcher.chmod(0o755)
    return into


def _link(source: str, target: str) -> None:
    """Hard link where that can be: a thousand files appear at once."""
    try:
        Path(target).hardlink_to(source)
    except OSError:
        shutil.copy2(source, target)


def product(base: str | None = None) -> Image:
    """The product's image, from this checkout as it is now; seconds after a change, at once without one.

    `base` is an image to stand on, pulled if need be; without it a minimal Debian is made by mmdebstrap.
    """
    with alone():
        stand = base or _import(debian.make(debian.BASE), "storagemirror-base")
        recipe = (CHECKOUT / "Containerfile").read_bytes() + (CHECKOUT / ".containerignore").read_bytes()
        digest = hashlib.sha256(recipe + LAUNCHER.encode() + f"{stand} {wheels.sources_digest()}".encode()).hexdigest()

        def build(reference: str) -> None:
            where = context(cache() / "context")
            buildah(
                *("bud", "--layers", "--isolation", "chroot", "--timestamp", "0", "--build-arg", f"BASE={stand}"),
                *(() if base else ("--pull-never",)),
                *("--ignorefile", CHECKOUT / ".containerignore"),
                *("-t", reference, "-f", CHECKOUT / "Containerfile", where),
            )

        return _archive("storagemirror", digest, build)


def demo() -> Image:
    """Debian's nginx with a few thousand files of Debian's documentation, and Python for the demo's writer."""
    with alone():
        tar = debian.make(debian.DEMO)
        recipe = (
            "FROM scratch\n"
            f"ADD {tar.path.name} /\n"
            "RUN ln -sf /dev/stdout /var/log/nginx/access.log && ln -sf /dev/stderr /var/log/nginx/error.log\n"
            'CMD ["nginx", "-g", "daemon off;"]\n'
        )

        def build(reference: str) -> None:
            path = cache() / "demo.Containerfile"
            path.write_text(recipe)
            # No --timestamp: it would take the documents' own times from them.
            buildah("bud", "--isolation", "chroot", "-t", reference, "-f", path, tar.path.parent)

        return _archive("demo-nginx", hashlib.sha256(f"{recipe}{tar.sha256}".encode()).hexdigest(), build)


def postgres() -> Image:
    """Debian's PostgreSQL, for the tests of databases. What a pod runs is said by the test."""
    with alone():
        tar = debian.make(debian.POSTGRES)
        recipe = (
            f"FROM scratch\nADD {tar.path.name} /\nENV PATH=/usr/lib/postgresql/15/bin:/usr/sbin:/usr/bin:/sbin:/bin\n"
        )

        def build(reference: str) -> None:
            path = cache() / "postgres.Containerfile"
            path.write_text(recipe)
            buildah("bud", "--timestamp", "0", "-t", reference, "-f", path, tar.path.parent)

        return _archive("postgres", hashlib.sha256(f"{recipe}{tar.sha256}".encode()).hexdigest(), build)


def _archive(name: str, digest: str, build: Callable[[str], None]) -> Image:
    """The archive of image `name` made from what `digest` stands for, built if it is not there."""
    image = Image(f"{REPOSITORY}/{name}:{digest[:12]}", cache() / "archives" / f"{name}-{digest[:12]}.tar")
    if image.archive.exists():
        image.archive.touch()
        return image
    image.archive.parent.mkdir(exist_ok=True)
    build(image.reference)
    half = image.archive.with_suffix(".half")
    half.unlink(missing_ok=True)
    buildah("push", image.reference, f"docker-archive:{half}:{image.reference}")
    half.replace(image.archive)
    older = sorted(image.archive.parent.glob(f"{name}-*.tar"), key=lambda p: p.stat().st_mtime, reverse=True)[KEPT:]
    for old in (path for path in older if time.time() - path.stat().st_mtime > YOUNG_SECONDS):
        old.unlink()
        buildah("rmi", f"{REPOSITORY}/{name}:{old.stem.removeprefix(f'{name}-')}")
    return image
