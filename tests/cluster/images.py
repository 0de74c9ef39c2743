"""Images without a registry: an archive is made from a root file system, and imported on every node's disk."""

from __future__ import annotations

import hashlib
import io
import json
import platform
import re
import shutil
import tarfile
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.command import run, say
from tests.cluster.errors import ClusterError
from tests.cluster.packages import FOR_IMAGES, ensure_packages
from tests.cluster.tools import cache_directory, lock, tool_path

PAUSE = "rig.local/pause:1"
TESTBOX = "storagemirror.local/testbox:1"
TESTBOX_SUITE = "bookworm"
TESTBOX_PACKAGES = ("acl", "attr", "coreutils", "procps", "python3", "rsync")
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_SEARCH_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class Archive:
    """An image archive (docker-archive format): where it is, what it holds, and a name that follows its content."""

    path: Path
    names: tuple[str, ...]
    digest: str

    @property
    def file_name(self) -> str:
        """A file name that says which image, and changes with the content."""
        return f"{re.sub(r'[^a-z0-9.]+', '-', self.names[0])}@{self.digest[:16]}.tar"

    @property
    def family(self) -> str:
        """The beginning of the file names of all versions of this image."""
        return self.file_name.split("@")[0] + "@"


def read_archive(path: Path) -> Archive:
    """Look into an archive; raises ClusterError for what is none or has no name."""
    try:
        with tarfile.open(path) as tar, tar.extractfile("manifest.json") or io.BytesIO() as file:
            manifest = json.load(file)
        names = tuple(str(name) for image in manifest for name in image.get("RepoTags") or ())
    except (OSError, KeyError, ValueError, tarfile.TarError) as e:
        raise ClusterError(
            f"expected an image archive in docker-archive format at {path}: {e}",
            hint="`buildah push IMAGE docker-archive:FILE:NAME` writes one",
        ) from e
    if not names:
        raise ClusterError(f"the images in {path} have no name", hint="name it: docker-archive:FILE:NAME:TAG")
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Archive(path, names, digest)


def write_archive(layer: Path, name: str, out: Path, command: Sequence[str]) -> None:
    """Make an image of one layer (an uncompressed tar of a root file system) that runs `command`."""
    with layer.open("rb") as file:
        diff = "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
    config = json.dumps(
        {
            "architecture": _ARCHITECTURES.get(platform.machine(), platform.machine()),
            "os": "linux",
            "config": {"Cmd": list(command), "Env": [_SEARCH_PATH]},
            "rootfs": {"type": "layers", "diff_ids": [diff]},
            "history": [{"created_by": "tests.cluster"}],
        }
    ).encode()
    config_name = hashlib.sha256(config).hexdigest() + ".json"
    manifest = json.dumps([{"Config": config_name, "RepoTags": [name], "Layers": ["layer.tar"]}]).encode()
    fresh = out.with_name(out.name + ".new")
    with tarfile.open(fresh, "w") as tar:
        for entry, content in ((config_name, config), ("manifest.json", manifest)):
            info = tarfile.TarInfo(entry)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        tar.add(layer, "layer.tar")
    fresh.rename(out)


def ensure_pause() -> Path:
    """The archive of the sandbox image, made from the `pause` that is built beside hyperkube."""
    program = tool_path("pause")
    out = program.with_name("pause.tar")
    with lock(out.with_suffix(".lock")):
        if not out.exists():
            with tempfile.TemporaryDirectory(prefix=".pause.", dir=cache_directory()) as scratch:
                layer = Path(scratch) / "layer.tar"
                with tarfile.open(layer, "w") as tar:
                    tar.add(program, "pause")
                write_archive(layer, PAUSE, out, ["/pause"])
    return out


def ensure_testbox() -> Path:
    """The archive of a small Debian with python3, rsync, acl and attr for the pods of tests; about 20 s, once."""
    key = hashlib.sha256(" ".join((TESTBOX_SUITE, *TESTBOX_PACKAGES)).encode()).hexdigest()[:12]
    out = cache_directory() / f"testbox-{key}.tar"
    with lock(out.with_suffix(".lock")):
        if out.exists():
            return out
        ensure_packages(FOR_IMAGES)
        say(f"making the image {TESTBOX}")
        started = time.monotonic()
        with tempfile.TemporaryDirectory(prefix=".testbox.", dir=cache_directory()) as scratch:
            layer = Path(scratch) / "layer.tar"
            packages = ",".join(TESTBOX_PACKAGES)
            run(
                "mmdebstrap", "--quiet", "--variant=minbase", f"--include={packages}", TESTBOX_SUITE, layer, timeout=900
            )
            write_archive(layer, TESTBOX, out, ["sleep", "infinity"])
        say(f"made {TESTBOX} in {time.monotonic() - started:.0f} s")
    return out


def keep_archive(archive: Archive, directory: Path) -> Path:
    """Copy an archive to where booting nodes look for images; an older one of the same name goes."""
    directory.mkdir(parents=True, exist_ok=True)
    kept = directory / archive.file_name
    if not kept.exists():
        fresh = kept.with_name(kept.name + ".new")
        shutil.copyfile(archive.path, fresh)
        fresh.rename(kept)
    for other in directory.glob("*.tar"):
        if other.name.startswith(archive.family) and other != kept:
            other.unlink()
    return kept


def missing_images(directory: Path, imported: Path) -> list[Path]:
    """The kept archives that a node's disk does not hold yet. `imported` lists, a line each, what was imported."""
    have = set(imported.read_text().split()) if imported.exists() else set()
    return [path for path in sorted(directory.glob("*.tar")) if path.name not in have]
