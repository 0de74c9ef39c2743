"""What every model of the API shares: immutable values, camelCase on the wire, CEL rules in the schema.

A model is both the type that the operator computes with and the source of the CRD (`api.crd`): what stands in a
field's description is what `kubectl explain` prints.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, ValidationError, WithJsonSchema
from pydantic.alias_generators import to_camel

from storagemirror.errors import BadInput

GROUP = "storagemirror.io"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"

DNS_LABEL = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
DNS_SUBDOMAIN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
QUANTITY = (
    r"^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$"
)
"""As the Kubernetes API writes it for its own quantities."""


class ApiModel(BaseModel):
    """Base of everything in a spec or a status.

    Unknown keys are ignored when reading: the API server has refused or pruned what the CRD does not know, and what is
    left comes from a newer release.
    """

    model_config = ConfigDict(
        frozen=True, alias_generator=to_camel, validate_by_name=True, validate_by_alias=True, extra="ignore"
    )

    @classmethod
    def read(cls, data: Mapping[str, Any]) -> Self:
        """From what the API server gave (camelCase); `BadInput` names each field that does not fit."""
        try:
            return cls.model_validate(data)
        except ValidationError as e:
            wrong = "; ".join(f"{'.'.join(str(p) for p in d['loc']) or cls.__name__}: {d['msg']}" for d in e.errors())
            raise BadInput(f"not a valid {cls.__name__}: {wrong}") from e

    def dump(self) -> dict[str, Any]:
        """As the API server takes it: camelCase, enums as their words, what is None left out."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


def rule(expression: str, message: str, *, field: str | None = None) -> JsonValue:
    """One CEL validation: refused with `message` unless `expression` is true. `field` is the path it is about."""
    found: dict[str, JsonValue] = {"rule": expression, "message": message}
    if field is not None:
        found["fieldPath"] = field
    return found


def rules(*validations: JsonValue) -> ConfigDict:
    """Model configuration that carries CEL validations into the CRD."""
    return ConfigDict(json_schema_extra={"x-kubernetes-validations": list(validations)})


def map_by(*keys: str) -> dict[str, Any]:
    """Schema keys of a list whose entries are told apart by `keys` (merged by them, refused when they come twice)."""
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": list(keys)}


ATOMIC: dict[str, Any] = {"x-kubernetes-list-type": "atomic"}
"""Schema keys of a list that is replaced as a whole."""


def _clipped(limit: int) -> BeforeValidator:
    """Texts that come from afar are cut rather than refused: a long message must not stop a status."""
    return BeforeValidator(lambda value: value[:limit] if isinstance(value, str) else value)


Word = Annotated[str, _clipped(256), Field(max_length=256)]
"""A reason or a name in a status, cut at 256 characters."""

Message = Annotated[str, _clipped(4096), Field(max_length=4096)]
"""A sentence or two in a status, cut at 4096 characters."""


def _quantity_text(value: object) -> object:
    # A quantity may be written as a bare number (`cpu: 1`); True is an int to Python, and no quantity.
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


Quantity = Annotated[
    str,
    BeforeValidator(_quantity_text),
    WithJsonSchema(
        {
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            "pattern": QUANTITY,
            "maxLength": 32,
            "x-kubernetes-int-or-string": True,
        }
    ),
]
"""A Kubernetes quantity: `500m`, `64Mi`, `1`."""

Time = Annotated[str, WithJsonSchema({"type": "string", "format": "date-time"})]
"""RFC 3339 with a zone, `2026-01-02T03:04:05Z`; `storagemirror.clock` reads and writes it."""

Count = Annotated[int, WithJsonSchema({"type": "integer", "format": "int64", "minimum": 0})]
"""A number of files, bytes or seconds."""
