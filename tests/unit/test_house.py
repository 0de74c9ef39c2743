"""The house rules that a machine can check."""

from __future__ import annotations

import ast
import operator as standard_operator
import subprocess
from pathlib import Path

import pytest

from storagemirror import errors

ROOT = Path(__file__).resolve().parents[2]


def tracked(*patterns: str) -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z", *patterns], cwd=ROOT, capture_output=True, check=True)
    return [ROOT / name.decode() for name in listed.stdout.split(b"\0") if name and (ROOT / name.decode()).exists()]


def test_operator_directory_does_not_shadow_the_standard_library() -> None:
    assert not (ROOT / "operator" / "__init__.py").exists()
    assert standard_operator.add(1, 2) == 3


def test_every_error_has_a_reason_of_its_own_in_camel_case() -> None:
    leaves: list[type[errors.StorageMirrorError]] = []
    queue = [errors.StorageMirrorError]
    while queue:
        kind = queue.pop()
        queue += kind.__subclasses__()
        leaves.append(kind)
    assert len(leaves) > 10
    for kind in leaves:
        assert kind.reason.isalnum(), kind
        assert kind.reason[0].isupper(), kind


@pytest.mark.parametrize("path", tracked("operator/*.py"), ids=lambda p: str(p.relative_to(ROOT)))
def test_every_module_of_the_product_says_what_it_is_for(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text())), path


def test_no_file_holds_a_path_of_one_machine() -> None:
    roots = ["/" + name + "/" for name in ("work", "farm", "root")]
    found = [
        f"{path.relative_to(ROOT)}: {line}"
        for path in tracked()
        if path.suffix not in {".sum", ".lock"} and path.is_file()
        for line in path.read_text(errors="replace").splitlines()
        if any(root in line for root in roots)
    ]
    assert not found


def test_features_page_names_tests_that_exist() -> None:
    rows = [line.split("|") for line in (ROOT / "docs/features.md").read_text().splitlines() if line.startswith("| ")]
    assert rows
    for row in rows:
        number, works, proof = row[1].strip(), row[3].strip(), row[4].strip()
        if number in {"", "#", "---"} or works == "not yet":
            continue
        names = [word.strip("`,;") for word in proof.split() if "tests/" in word]
        assert names, f"{number} says it works and names no test"
        for name in names:
            assert_is_there(name)


def test_proofs_page_names_tests_that_exist() -> None:
    words = (ROOT / "docs/proofs.md").read_text().split()
    names = [word.strip("`") for word in words if word.startswith("`tests/")]
    assert len(names) > 40
    for name in names:
        assert_is_there(name)


def assert_is_there(name: str) -> None:
    path, _, function = name.partition("::")
    assert (ROOT / path).exists(), f"{path} is not there"
    if function:
        assert f"def {function}(" in (ROOT / path).read_text(), f"{name} is not there"
