"""Kubernetes quantities as numbers."""

from __future__ import annotations

import re
from decimal import Decimal

from storagemirror.errors import BadInput

_SUFFIXES = {
    "": Decimal(1),
    "n": Decimal(10) ** -9,
    "u": Decimal(10) ** -6,
    "m": Decimal(10) ** -3,
    **{letter: Decimal(10) ** (3 * (i + 1)) for i, letter in enumerate("kMGTPE")},
    **{letter + "i": Decimal(2) ** (10 * (i + 1)) for i, letter in enumerate("KMGTPE")},
}
_SHAPE = re.compile(r"([+-]?[0-9]*\.?[0-9]+|[+-]?[0-9]+\.)(?:([eE][+-]?[0-9]+)|([a-zA-Z]{0,2}))")


def quantity(text: str) -> Decimal:
    """The number that `text` stands for (`10Gi`, `500m`, `1e9`); `BadInput` when it is no quantity.

    Source: k8s.io/apimachinery/pkg/api/resource, the grammar in the comment of `Quantity`.
    """
    found = _SHAPE.fullmatch(text)
    if found is None or (found[3] or "") not in _SUFFIXES:
        raise BadInput(f"expected a quantity such as 10Gi, got {text!r}")
    return Decimal(found[1] + (found[2] or "")) * _SUFFIXES[found[3] or ""]
