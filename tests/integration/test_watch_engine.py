"""The watch and the engine together: what an application does at random arrives, burst by burst."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.livestorm import CloseStorm, LinkStorm, differences


@pytest.mark.parametrize("seed", range(12))
def test_after_each_burst_of_operations_the_copy_is_equal(tmp_path: Path, seed: int) -> None:
    assert differences(tmp_path, CloseStorm, seed) == ""


@pytest.mark.parametrize("seed", range(12))
def test_hard_links_attributes_and_owners_are_followed_too(tmp_path: Path, seed: int) -> None:
    assert differences(tmp_path, LinkStorm, seed) == ""
