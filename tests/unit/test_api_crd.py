"""The CRD: generated, structural, and what is kept in the checkout is what the models say."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import Field

from storagemirror.api.crd import KINDS, crd, crd_files, object_schema
from storagemirror.api.mirrorpair import MirrorPair
from storagemirror.api.model import ApiModel
from storagemirror.api.reference import CONDITION_MEANINGS, reference
from storagemirror.api.schema import structural_schema
from storagemirror.cli.main import main
from storagemirror.errors import BadInput

ROOT = Path(__file__).resolve().parents[2]
NAME = "storagemirror.io_mirrorpairs.yaml"


def nodes(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every schema node with its path."""
    yield path, schema
    for name, sub in schema.get("properties", {}).items():
        yield from nodes(sub, f"{path}.{name}")
    for key, mark in (("items", "[]"), ("additionalProperties", "[*]")):
        if isinstance(schema.get(key), dict):
            yield from nodes(schema[key], path + mark)


@pytest.mark.parametrize("folder", ["crds", "charts/storagemirror/files/crds"])
def test_the_kept_crd_is_the_generated_one(folder: str) -> None:
    assert (ROOT / folder / NAME).read_text() == crd_files()[NAME]
    assert [p.name for p in (ROOT / folder).iterdir()] == [NAME]


def test_the_kept_reference_is_the_generated_one() -> None:
    assert (ROOT / "docs" / "api.md").read_text() == reference()


def test_the_text_is_yaml_without_anchors_and_the_same_each_time() -> None:
    text = crd_files()[NAME]
    assert yaml.safe_load(text) == mirrorpair_crd()
    assert (" &id" in text, " *id" in text, "{{" in text) == (False, False, False)
    assert crd_files()[NAME] == text


def test_every_field_is_explained() -> None:
    bare = [path for path, node in nodes(object_schema()) if not node.get("description") and path != ".metadata"]
    assert [p for p in bare if not p.endswith(("[]", "[*]"))] == []


def test_every_list_says_how_it_is_merged() -> None:
    lists = [path for path, node in nodes(object_schema()) if node.get("type") == "array"]
    silent = [p for p, n in nodes(object_schema()) if n.get("type") == "array" and "x-kubernetes-list-type" not in n]
    assert (len(lists) > 5, silent) == (True, [])


def test_every_text_and_list_is_bounded_so_that_rules_stay_cheap() -> None:
    free = [
        path
        for path, node in nodes(object_schema()["properties"]["spec"])
        if (node.get("type") == "string" and not {"maxLength", "enum"} & node.keys())
        or (node.get("type") == "array" and "maxItems" not in node)
    ]
    assert free == []


def test_nothing_a_structural_schema_may_not_hold_is_left() -> None:
    banned = {"$ref", "$defs", "title", "const", "exclusiveMinimum", "exclusiveMaximum"}
    found = [(path, banned & node.keys()) for path, node in nodes(object_schema()) if banned & node.keys()]
    nulls = [path for path, node in nodes(object_schema()) if "default" in node and node["default"] is None]
    assert (found, nulls) == ([], [])


def test_a_status_has_no_defaults_the_operator_writes_what_is() -> None:
    assert [path for path, node in nodes(object_schema()["properties"]["status"]) if "default" in node] == []


def test_a_choice_of_types_is_refused_by_name() -> None:
    class Odd(ApiModel):
        either: int | str = Field(description="No structural schema can say this.")

    with pytest.raises(BadInput, match=r"Odd\.either: a choice of types"):
        structural_schema(Odd, defaults=True)


def test_every_condition_has_a_meaning() -> None:
    assert all(CONDITION_MEANINGS.values())
    assert {str(kind) for kind in CONDITION_MEANINGS} <= set(reference().split())


def test_the_defaults_of_the_schema_are_those_of_the_models() -> None:
    minimal = {"volumes": [{"name": "d", "source": {"claimName": "a"}, "target": {"claimName": "b"}}]}
    pair = MirrorPair.read({"metadata": {"name": "p"}, "spec": minimal})
    properties = object_schema()["properties"]["spec"]["properties"]
    mirror = {k: v["default"] for k, v in properties["mirror"]["properties"].items() if "default" in v}
    assert pair.spec.mirror.dump() == mirror
    assert properties["agents"]["properties"]["resources"]["default"] == pair.spec.agents.resources.dump()


class TestTheVerb:
    def test_it_prints_what_kubectl_apply_takes(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["crds"]) == 0
        assert [d["kind"] for d in yaml.safe_load_all(capsys.readouterr().out)] == ["CustomResourceDefinition"]

    def test_it_writes_and_then_finds_it_fresh(self, tmp_path: Path) -> None:
        words = ["crds", "--out", str(tmp_path / "new" / "crds"), "--reference", str(tmp_path / "api.md")]
        assert [main(words), main([*words, "--check"])] == [0, 0]

    def test_it_names_what_is_stale_and_changes_nothing(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / NAME).write_text("old")
        assert main(["crds", "--out", str(tmp_path), "--check"]) == 1
        assert NAME in capsys.readouterr().err
        assert (tmp_path / NAME).read_text() == "old"
