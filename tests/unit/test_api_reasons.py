"""Every word that the product gives as a reason stands in the catalogue, so that people find what to do about it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from storagemirror.api.reasons import Reason

PRODUCT = Path(__file__).resolve().parents[2] / "operator" / "storagemirror"


def words(tree: ast.AST) -> Iterator[str]:
    """What is said by `reason="Word"` and by a class's `reason = "Word"`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.keyword) and node.arg == "reason":
            value: ast.expr | None = node.value
        elif isinstance(node, ast.Assign) and [t.id for t in node.targets if isinstance(t, ast.Name)] == ["reason"]:
            value = node.value
        else:
            continue
        if isinstance(value, ast.Constant) and isinstance(value.value, str):
            yield value.value


def test_every_reason_that_is_given_stands_in_the_catalogue() -> None:
    given = {
        (word, str(path.relative_to(PRODUCT)))
        for path in PRODUCT.rglob("*.py")
        for word in words(ast.parse(path.read_text()))
    }
    assert len(given) > 20
    unknown = sorted(f"{word} in {path}" for word, path in given if word not in set(Reason))
    assert unknown == [], "add them to storagemirror/api/reasons.py, with a hint where a person can do something"
