"""The CRD: generated, structural, and what is kept in the checkout is what the models say."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import Field

from storagemirror.api.crd import FAILOVER, KINDS, MIRROR_PAIR, RESTORE, Kind, crd, crd_files, object_schema
from storagemirror.api.failover import Failover
from storagemirror.api.mirrorpair import MirrorPair
from storagemirror.api.model import ApiModel
from storagemirror.api.reference import CONDITION_MEANINGS, reference
from storagemirror.api.restore import Restore
from storagemirror.api.schema import structural_schema
from storagemirror.cli.main import main
from storagemirror.errors import BadInput

ROOT = Path(__file__).resolve().parents[2]
NAMES = {
    "storagemirror.io_mirrorpairs.yaml": MIRROR_PAIR,
    "storagemirror.io_failovers.yaml": FAILOVER,
    "storagemirror.io_restores.yaml": RESTORE,
}

of_each_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)


def nodes(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every schema node with its path."""
    yield path, schema
    for name, sub in schema.get("properties", {}).items():
        yield from nodes(sub, f"{path}.{name}")
    for key, mark in (("items", "[]"), ("additionalProperties", "[*]")):
        if isinstance(schema.get(key), dict):
            yield from nodes(schema[key], path + mark)


@pytest.mark.parametrize("folder", ["crds", "charts/storagemirror/files/crds"])
def test_the_kept_crds_are_the_generated_ones(folder: str) -> None:
    assert {p.name: p.read_text() for p in (ROOT / folder).iterdir()} == crd_files()


def test_the_kept_reference_is_the_generated_one() -> None:
    assert (ROOT / "docs" / "api.md").read_text() == reference()


@pytest.mark.parametrize(("name", "kind"), NAMES.items(), ids=NAMES)
def test_the_text_is_yaml_without_anchors_and_the_same_each_time(name: str, kind: Kind) -> None:
    text = crd_files()[name]
    assert yaml.safe_load(text) == crd(kind)
    assert (" &id" in text, " *id" in text, "{{" in text) == (False, False, False)
    assert crd_files()[name] == text


@of_each_kind
def test_every_field_is_explained(kind: Kind) -> None:
    bare = [path for path, node in nodes(object_schema(kind)) if not node.get("description") and path != ".metadata"]
    assert [p for p in bare if not p.endswith(("[]", "[*]"))] == []


@of_each_kind
def test_every_list_says_how_it_is_merged(kind: Kind) -> None:
    lists = {path: node for path, node in nodes(object_schema(kind)) if node.get("type") == "array"}
    silent = [path for path, node in lists.items() if "x-kubernetes-list-type" not in node]
    assert (len(lists) > 3, silent) == (True, [])


@of_each_kind
def test_every_list_of_objects_is_told_apart_by_keys_that_must_be_given(kind: Kind) -> None:
    maps = {p: n for p, n in nodes(object_schema(kind)) if n.get("x-kubernetes-list-type") == "map"}
    missing = [
        path
        for path, node in maps.items()
        for key in node["x-kubernetes-list-map-keys"]
        if key not in node["items"].get("required", [])
    ]
    assert (len(maps) > 1, missing) == (True, [])


@of_each_kind
def test_every_text_and_list_is_bounded_so_that_rules_stay_cheap(kind: Kind) -> None:
    free = [
        path
        for path, node in nodes(object_schema(kind)["properties"]["spec"])
        if (node.get("type") == "string" and not {"maxLength", "enum"} & node.keys())
        or (node.get("type") == "array" and "maxItems" not in node)
    ]
    assert free == []


@of_each_kind
def test_every_list_of_a_status_is_bounded(kind: Kind) -> None:
    status = object_schema(kind)["properties"]["status"]
    assert [p for p, node in nodes(status) if node.get("type") == "array" and "maxItems" not in node] == []


@of_each_kind
def test_nothing_a_structural_schema_may_not_hold_is_left(kind: Kind) -> None:
    banned = {"$ref", "$defs", "title", "const", "exclusiveMinimum", "exclusiveMaximum"}
    found = [(path, banned & node.keys()) for path, node in nodes(object_schema(kind)) if banned & node.keys()]
    nulls = [path for path, node in nodes(object_schema(kind)) if "default" in node and node["default"] is None]
    assert (found, nulls) == ([], [])


@of_each_kind
def test_a_status_has_no_defaults_the_operator_writes_what_is(kind: Kind) -> None:
    assert [p for p, node in nodes(object_schema(kind)["properties"]["status"]) if "default" in node] == []


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
    pair = MirrorPair.read({"metadata": {"name": "p"}, "spec": minimal}).spec
    properties = object_schema(MIRROR_PAIR)["properties"]["spec"]["properties"]
    for name, given in (("mirror", pair.mirror), ("monitoring", pair.monitoring), ("failover", pair.failover)):
        assert given.dump() == defaults(properties[name])
    assert properties["agents"]["properties"]["resources"]["default"] == pair.agents.resources.dump()
    asked = {"pairName": "p", "fromEpoch": 1}
    failover = Failover.read({"metadata": {"name": "f"}, "spec": asked}).spec
    assert failover.dump() == asked | defaults(object_schema(FAILOVER)["properties"]["spec"])
    restore = Restore.read({"metadata": {"name": "r"}, "spec": asked}).spec
    assert restore.dump() == asked | defaults(object_schema(RESTORE)["properties"]["spec"])


def defaults(schema: dict[str, Any]) -> dict[str, Any]:
    """The default of each field that has one; of an empty object those of its own fields, as the API server does."""
    found = {name: sub for name, sub in schema["properties"].items() if "default" in sub}
    return {name: defaults(sub) if sub["default"] == {} else sub["default"] for name, sub in found.items()}


class TestTheVerb:
    def test_it_prints_what_kubectl_apply_takes(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["crds"]) == 0
        printed = list(yaml.safe_load_all(capsys.readouterr().out))
        assert {d["kind"] for d in printed} == {"CustomResourceDefinition"}
        assert [d["spec"]["names"]["kind"] for d in printed] == ["MirrorPair", "Failover", "Restore"]

    def test_it_writes_and_then_finds_it_fresh(self, tmp_path: Path) -> None:
        words = ["crds", "--out", str(tmp_path / "new" / "crds"), "--reference", str(tmp_path / "api.md")]
        assert [main(words), main([*words, "--check"])] == [0, 0]

    def test_it_names_what_is_stale_and_changes_nothing(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        stale = next(iter(NAMES))
        (tmp_path / stale).write_text("old")
        assert main(["crds", "--out", str(tmp_path), "--check"]) == 1
        assert stale in capsys.readouterr().err
        assert (tmp_path / stale).read_text() == "old"
