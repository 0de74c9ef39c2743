"""Fixtures of the end-to-end tests that need the product: installed once, a namespace per case."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator

import pytest

from tests.cluster.cluster import Cluster
from tests.support.case import Case
from tests.support.product import Product, deliver


@pytest.fixture(scope="session")
def product(cluster: Cluster) -> Product:
    """The product, built from this checkout and installed by its chart."""
    return deliver(cluster)


@pytest.fixture(scope="session")
def left_behind() -> list[Case]:
    """Cases whose volumes were still held when they ended. Waiting for their pods would cost a third of the time."""
    return []


@pytest.fixture
def case(product: Product, left_behind: list[Case], request: pytest.FixtureRequest) -> Iterator[Case]:
    """A case of its own: a fresh namespace, and volumes that go with it."""
    stem = re.sub(r"[^a-z0-9]+", "-", request.node.name.removeprefix("test_").lower())[:18].strip("-")
    made = Case(product, f"{stem}-{uuid.uuid4().hex[:4]}")
    product.cluster.kubectl("create", "namespace", made.namespace)
    yield made
    made.clean_up()
    left_behind[:] = [old for old in left_behind if not old.sweep()]
    left_behind.append(made)
