"""Two agents under the small API server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.agents import AgentPair
from tests.support.smallapi import SmallApi


@pytest.fixture
def api(tmp_path: Path) -> Iterator[SmallApi]:
    api = SmallApi(tmp_path)
    yield api
    api.stop()


@pytest.fixture
def pair(tmp_path: Path, api: SmallApi) -> Iterator[AgentPair]:
    pair = AgentPair(tmp_path, "shop", lambda role: api)
    yield pair
    pair.close()
