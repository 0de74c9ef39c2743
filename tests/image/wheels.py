"""The image's Python packages, made outside of it: wheels for its Python, unpacked into a tree.

`requirements.lock` names every package with its version and the SHA-256 of its wheel, so that the same commit gives
the same image. It is written by `python -m tests.image lock` whenever pyproject.toml changes, and a build refuses a
lock that does not fit.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import sys
import tomllib
from pathlib import Path

from tests.image.machine import CHECKOUT, BuildFailed, cache, run

LOCK = CHECKOUT / "requirements.lock"
PYTHON = "3.11"
PLATFORMS = ("manylinux_2_34_x86_64", "manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
"""Wheels that run on Debian 12 (glibc 2.36)."""

_PIP = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
_FOR_IMAGE = ("--python-version", PYTHON, "--only-binary=:all:", *(w for p in PLATFORMS for w in ("--platform", p)))


def _project() -> dict[str, dict[str, list[str]]]:
    project: dict[str, dict[str, list[str]]] = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())
    return project


def _canonical(pin: str) -> str:
    """`Name==version` with the name as PEP 503 normalizes it."""
    name, equals, version = pin.partition("==")
    return re.sub(r"[-_.]+", "-", name).lower() + equals + version


def stale() -> list[str]:
    """What pyproject.toml pins and the lock does not, such as `kopf==1.45.2`; empty when the lock fits."""
    locked = {line.split()[0] for line in LOCK.read_text().splitlines() if "==" in line} if LOCK.exists() else set()
    return [pin for pin in map(_canonical, _project()["project"]["dependencies"]) if pin not in locked]


def write_lock() -> None:
    """Resolve pyproject.toml's dependencies for the image's Python and write what was found."""
    if sys.version_info[:2] != (3, 11):  # pip judges markers by the Python it runs in
        raise BuildFailed(f"the lock is written with Python {PYTHON}, this is {sys.version.split()[0]}")
    pins = _project()["project"]["dependencies"]
    # An older pip wants a target before it lets itself be told the platform; a dry run does not write there.
    dry = ("--dry-run", "--ignore-installed", "--target", cache() / "nowhere", "--report", "-")
    report = run(*_PIP, "install", *dry, *_FOR_IMAGE, *pins)
    lines = []
    for item in json.loads(report)["install"]:
        name, version = _canonical(item["metadata"]["name"]), item["metadata"]["version"]
        sha256 = item["download_info"]["archive_info"]["hashes"]["sha256"]
        lines.append(f"{name}=={version} --hash=sha256:{sha256}")
    head = f"# Wheels of the image (CPython {PYTHON}, x86-64). Written by: python -m tests.image lock\n"
    LOCK.write_text(head + "\n".join(sorted(lines)) + "\n")


def dependencies() -> Path:
    """A tree with every dependency unpacked; from the cache when the lock has not changed."""
    if missing := stale():
        raise BuildFailed(
            f"requirements.lock does not have {', '.join(missing)} of pyproject.toml: python -m tests.image lock"
        )
    tree = cache() / "dependencies" / hashlib.sha256(LOCK.read_bytes()).hexdigest()[:12]
    if not tree.exists():
        half = tree.with_suffix(".half")
        shutil.rmtree(half, ignore_errors=True)
        run(
            *_PIP, "install", "--no-compile", "--no-deps", "--require-hashes", "--target", half, *_FOR_IMAGE, "-r", LOCK
        )
        half.rename(tree)
    return tree


def product(into: Path) -> None:
    """Our own wheel, built from the checkout and unpacked into `into`."""
    backend = cache() / "build-backend"
    requires = _project()["build-system"]["requires"]
    done = backend / ".requires"
    if not done.exists() or done.read_text() != json.dumps(requires):
        shutil.rmtree(backend, ignore_errors=True)
        run(*_PIP, "install", "--target", backend, *requires)
        done.write_text(json.dumps(requires))
    wheels = cache() / "wheel"
    shutil.rmtree(wheels, ignore_errors=True)
    run(
        *(*_PIP, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", wheels, CHECKOUT),
        env={"PYTHONPATH": str(backend), "SOURCE_DATE_EPOCH": "315532800"},  # 1980: the first a zip can say
    )
    (wheel,) = wheels.glob("*.whl")
    run(*_PIP, "install", "--no-compile", "--no-deps", "--target", into, wheel)
    shutil.rmtree(into / "bin", ignore_errors=True)  # its first line would name this machine's Python


def sources_digest() -> str:
    """SHA-256 in hex of everything that our own wheel is made from, and of the lock."""
    digest = hashlib.sha256()
    files = [p for p in (CHECKOUT / "operator" / "storagemirror").rglob("*") if p.is_file() and p.suffix != ".pyc"]
    for path in sorted([*files, CHECKOUT / "pyproject.toml", CHECKOUT / "README.md", LOCK]):
        data = path.read_bytes()
        digest.update(f"{path.relative_to(CHECKOUT)} {len(data)}\n".encode() + data)
    return digest.hexdigest()
