"""From a pydantic model to a structural schema, as Kubernetes wants it in a CRD.

What pydantic writes and a structural schema may not hold: references (put in their place here), `anyOf` with null and
`default: null` (a field that may be left out is simply not required), `title`, `const`. Defaults of objects are written
as `{}`, since the API server fills their fields from the fields' own defaults; only where a CEL rule looks at the
object the default stands in full, since rules judge a default before its fields are filled.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from storagemirror.errors import BadInput

Schema = dict[str, Any]

_PLAIN = frozenset(
    {
        "type",
        "format",
        "description",
        "enum",
        "pattern",
        "minimum",
        "maximum",
        "minLength",
        "maxLength",
        "minItems",
        "maxItems",
        "minProperties",
        "maxProperties",
        "uniqueItems",
    }
)

_INT_OR_STRING = "x-kubernetes-int-or-string"


def structural_schema(model: type[BaseModel], *, defaults: bool) -> Schema:
    """The schema of `model`; without `defaults` (for a status: the operator writes what is, nothing is filled in).

    `BadInput` names what no structural schema can express.
    """
    whole = model.model_json_schema(by_alias=True, mode="validation")
    return _Converter(whole.get("$defs", {}), defaults).convert(whole, model.__name__)


class _Converter:
    """Walks one schema; `where` is the path for messages."""

    def __init__(self, definitions: Mapping[str, Schema], defaults: bool) -> None:
        self._definitions = definitions
        self._defaults = defaults

    def convert(self, given: Schema, where: str) -> Schema:
        node = self._resolve(given, where)
        made: Schema = {}
        for key, value in node.items():
            either = key == "anyOf" and _INT_OR_STRING in node
            if key in _PLAIN or key.startswith("x-kubernetes-") or either:
                made[key] = value
            elif key in {"title", "$defs"}:
                continue
            elif key == "default":
                self._default(made, node, value)
            elif key == "properties":
                made[key] = {name: self.convert(sub, f"{where}.{name}") for name, sub in value.items()}
            elif key == "required":
                made[key] = sorted(value)
            elif key == "items":
                made[key] = self.convert(value, f"{where}[]")
            elif key == "additionalProperties" and isinstance(value, dict):
                made[key] = self.convert(value, f"{where}[*]")
            else:
                raise BadInput(f"{where}: {key!r} cannot be expressed in a structural schema")
        return made

    def _resolve(self, given: Schema, where: str) -> Schema:
        """`given` with references and optional types put in place; what stands beside a reference wins."""
        node = dict(given)
        if "anyOf" in node and not node.get(_INT_OR_STRING):
            kinds = [k for k in node.pop("anyOf") if k.get("type") != "null"]
            if len(kinds) != 1:
                raise BadInput(f"{where}: a choice of types cannot be expressed in a structural schema")
            node = {**kinds[0], **node}
        if "$ref" in node:
            name = str(node.pop("$ref")).rsplit("/", 1)[-1]
            node = self._resolve({**self._definitions[name], **node}, where)
        return node

    def _default(self, made: Schema, node: Schema, value: object) -> None:
        if not self._defaults or value is None or value == []:
            return
        if node.get("type") == "object" and "x-kubernetes-validations" not in node:
            value = {}
        made["default"] = _without_none(value)


def _without_none(value: object) -> object:
    if isinstance(value, dict):
        return {k: _without_none(v) for k, v in value.items() if v is not None}
    return value
