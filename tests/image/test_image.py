"""The image that every cluster runs, looked at from the inside."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from storagemirror import __version__
from tests.image.build import Image, buildah, product
from tests.image.machine import CHECKOUT

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

UNPACKED_LIMIT = 200_000_000
BUILD_TOOLS = {"cc", "c++", "gcc", "g++", "clang", "ld", "make", "pip", "pip3", "buildah", "git", "curl", "wget"}

Run = Callable[..., str]


@dataclass(frozen=True)
class Contents:
    """The archive: the image's config and, layer by layer from the base up, what each holds."""

    user: str
    layers: list[list[tarfile.TarInfo]]
    own: dict[str, bytes]
    """Files of our own package and launcher."""

    @property
    def names(self) -> set[str]:
        return {entry.name for layer in self.layers for entry in layer}


@pytest.fixture(scope="module")
def image() -> Image:
    return product()


@pytest.fixture(scope="module")
def contents(image: Image) -> Contents:
    own: dict[str, bytes] = {}
    layers = []
    with tarfile.open(image.archive) as archive:

        def member(name: str) -> bytes:
            file = archive.extractfile(name)
            assert file is not None
            return file.read()

        (manifest,) = json.loads(member("manifest.json"))
        config = json.loads(member(manifest["Config"]))["config"]
        for name in manifest["Layers"]:
            with tarfile.open(fileobj=io.BytesIO(member(name))) as layer:
                layers.append(layer.getmembers())
                for entry in layers[-1]:
                    if entry.isfile() and entry.name.startswith(
                        ("opt/storagemirror/lib/storagemirror", "opt/storagemirror/bin")
                    ):
                        file = layer.extractfile(entry)
                        assert file is not None
                        own[entry.name] = file.read()
    return Contents(config["User"], layers, own)


@pytest.fixture(scope="module")
def run(image: Image) -> Iterator[Run]:
    """Run a command in a container of the image, as the image's user."""
    container = buildah("from", "--pull-never", image.reference).strip()
    try:
        yield lambda *argv: buildah("run", "--isolation", "chroot", container, "--", *argv)
    finally:
        buildah("rm", container)


def test_it_is_under_200_mb_unpacked_beyond_the_base(contents: Contents, capsys: pytest.CaptureFixture[str]) -> None:
    base, *ours = (sum(entry.size for entry in layer) for layer in contents.layers)
    with capsys.disabled():
        print(f"\nimage: {sum(ours) / 1e6:.0f} MB unpacked beyond a base of {base / 1e6:.0f} MB")
    assert sum(ours) < UNPACKED_LIMIT


def test_it_holds_no_tool_to_build_or_install_with(contents: Contents) -> None:
    programs = {name.rsplit("/", 1)[1] for name in contents.names if name.startswith(("usr/bin/", "usr/local/bin/"))}
    packages = {name.split("/")[3] for name in contents.names if name.startswith("opt/storagemirror/lib/")}
    assert "python3" in programs
    assert "kopf" in packages
    assert programs & BUILD_TOOLS == set()
    assert packages & {"pip", "setuptools", "wheel", "hatchling", "pytest", "mypy"} == set()


def test_it_is_not_root_unless_a_pod_says_so(contents: Contents, run: Run) -> None:
    assert contents.user == "65532:65532"
    assert run("python3", "-c", "import os; print(os.getuid(), os.getgid())").split() == ["65532", "65532"]


def test_its_user_has_a_name_although_no_file_knows_the_number(run: Run) -> None:
    assert run("python3", "-c", "import getpass; print(getpass.getuser())").strip() == "storagemirror"


def test_its_files_belong_to_root_and_nobody_else_may_write_them(contents: Contents) -> None:
    for entry in (entry for layer in contents.layers[1:] for entry in layer if entry.name.startswith("opt/")):
        assert (entry.uid, entry.gid) == (0, 0), entry.name
        assert entry.issym() or not entry.mode & 0o022, entry.name


def test_it_starts_by_its_name(run: Run) -> None:
    assert run("storagemirror", "--version").strip() == f"storagemirror {__version__}"
    assert "operator" in run("storagemirror", "--help")


def test_every_module_of_ours_finds_what_it_imports(run: Run) -> None:
    everything = (
        "import importlib, pkgutil, storagemirror as s\n"
        "for m in pkgutil.walk_packages(s.__path__, 'storagemirror.'):\n"
        "    importlib.import_module(m.name)\n"
        "    print(m.name)"
    )
    assert "storagemirror.cli.main" in run("python3", "-c", everything).split()


def test_every_module_comes_compiled_because_its_root_is_read_only(contents: Contents) -> None:
    names = contents.names
    sources = {n for n in names if n.startswith("opt/storagemirror/lib/storagemirror/") and n.endswith(".py")}
    assert sources
    for source in sources:
        folder, _, name = source.rpartition("/")
        assert f"{folder}/__pycache__/{name.removesuffix('.py')}.cpython-311.pyc" in names


def test_nothing_in_it_names_the_machine_that_built_it(contents: Contents) -> None:
    for name, data in contents.own.items():
        assert str(CHECKOUT).encode() not in data, name


def test_an_unchanged_checkout_gives_the_same_image_at_once(image: Image) -> None:
    built = image.archive.stat().st_ino
    again = product()
    assert again == image
    assert again.archive.stat().st_ino == built
