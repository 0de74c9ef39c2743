"""JSON schemas of every kind that an API server knows, as kubeconform reads them.

Made from the server's own OpenAPI document: no schema is taken from anywhere else, and our own kinds are among them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.cluster.tools import ensure_tools

_PREFIX = "#/definitions/"
_LOOSE: dict[str, dict[str, Any]] = {
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": {"type": ["string", "integer"]},
    "io.k8s.apimachinery.pkg.api.resource.Quantity": {"type": ["string", "number"]},
}
LOCATION = "{{ .ResourceKind }}{{ .KindSuffix }}.json"
"""kubeconform's template for the names that `write_schemas` gives."""


def write_schemas(openapi: dict[str, Any], directory: Path) -> int:
    """Write one schema per group, version and kind into `directory`, unknown fields refused; returns how many.

    `openapi` is the server's /openapi/v2.
    """
    directory.mkdir(parents=True, exist_ok=True)
    definitions = {name: _LOOSE.get(name) or _strict(node) for name, node in openapi["definitions"].items()}
    written = 0
    for name, node in openapi["definitions"].items():
        for kind in node.get("x-kubernetes-group-version-kind", []):
            group = str(kind["group"]).split(".", 1)[0]
            suffix = f"-{group}-{kind['version']}" if group else f"-{kind['version']}"
            schema = {**definitions[name], "definitions": _reachable(name, definitions)}
            (directory / f"{kind['kind']}{suffix}.json".lower()).write_text(json.dumps(schema))
            written += 1
    return written


def checking(directory: Path) -> list[str | Path]:
    """kubeconform, told to check what it reads by the schemas in `directory`; its summary is JSON."""
    kubeconform = ensure_tools(("kubeconform",))["kubeconform"]
    return [kubeconform, "-strict", "-summary", "-output", "json", "-schema-location", f"{directory}/{LOCATION}"]


def _strict(node: Any) -> Any:
    """`node` with unknown keys refused wherever keys are known."""
    if isinstance(node, list):
        return [_strict(n) for n in node]
    if not isinstance(node, dict):
        return node
    if node.get("x-kubernetes-int-or-string"):
        return {"type": ["string", "integer"]}
    made = {
        # The names of properties are free, and some are called as the words of a schema.
        key: {name: _strict(sub) for name, sub in value.items()} if key == "properties" else _strict(value)
        for key, value in node.items()
    }
    if isinstance(node.get("properties"), dict) and "additionalProperties" not in node:
        made["additionalProperties"] = False
    return made


def _reachable(name: str, definitions: dict[str, Any]) -> dict[str, Any]:
    """The definitions that `name` refers to, directly or not."""
    found: dict[str, Any] = {}
    todo = [name]
    while todo:
        for reference in _references(definitions[todo.pop()]):
            if reference not in found:
                found[reference] = definitions[reference]
                todo.append(reference)
    return found


def _references(node: Any) -> set[str]:
    if isinstance(node, list):
        return {r for n in node for r in _references(n)}
    if not isinstance(node, dict):
        return set()
    own = {node["$ref"].removeprefix(_PREFIX)} if isinstance(node.get("$ref"), str) else set()
    return own | {r for n in node.values() for r in _references(n)}
