"""What the API server says to the status of a MirrorPair that is being restored: the one lock holds all there is."""

from __future__ import annotations

from typing import Any

import pytest

from storagemirror.api.claims import ClaimResources, ClaimTemplate, RestoreTo, StorageRequest
from storagemirror.api.operation import Diverged, Mode, Operation, OperationKind, OperationPhase, WriterProof
from storagemirror.api.status import MirrorPairStatus, NotKept, VolumeStatus
from tests.support.apiserver import ApiServer
from tests.support.manifests import created, pair, publish, sides, volume

pytestmark = pytest.mark.apiserver

AT = "2026-01-02T03:04:05Z"
KEPT: dict[str, Any] = {
    "volume": "data",
    "epoch": 2,
    "path": ".storagemirror/diverged/2",
    "entries": 3,
    "bytes": 4096,
    "deleted": 1,
    "first": ["late.txt"],
    "complete": True,
    "at": AT,
}
OPERATION: dict[str, Any] = {
    "attempt": 2,
    "phase": "AwaitingCutOver",
    "kind": "Restore",
    "name": "home",
    "uid": "u",
    "mode": "Planned",
    "fromEpoch": 2,
    "cutOver": "Manual",
    "diverged": [KEPT],
    "sentBytes": 1234,
    "wholeOn": ["Target"],
    "replicas": [{"kind": "StatefulSet", "name": "orders-standby", "replicas": 3}],
    "timeline": [{"phase": "Mirroring", "at": AT}, {"phase": "AwaitingCutOver", "at": AT, "message": "whole"}],
}
ELSEWHERE: dict[str, Any] = {
    **{k: v for k, v in OPERATION.items() if k != "diverged"},
    "phase": "Mirroring",
    "to": [
        {"name": "data", "claimName": "seen"},
        {
            "name": "logs",
            "claimName": "seen-logs",
            "claimTemplate": {
                "storageClassName": "fast",
                "accessModes": ["ReadWriteMany"],
                "resources": {"requests": {"storage": "1Gi"}},
            },
        },
    ],
}
AWAY: dict[str, Any] = {
    "phase": "Restoring",
    "activeSide": "Target",
    "epoch": 2,
    "attempt": 2,
    "closedSides": ["Source"],
    "operation": OPERATION,
}


@pytest.fixture
def stored(apiserver: ApiServer, namespace: str) -> dict[str, Any]:
    """A pair whose target is live."""
    answer = publish(apiserver, created(apiserver, namespace, pair(sides=sides())), AWAY)
    assert answer.status == 200, answer.message
    found: dict[str, Any] = answer.value
    return found


def test_it_holds_all_that_the_operator_knows(stored: dict[str, Any]) -> None:
    assert stored["status"] == AWAY


def test_it_holds_where_else_a_copy_goes_templates_and_all(apiserver: ApiServer, stored: dict[str, Any]) -> None:
    answer = publish(apiserver, stored, {**AWAY, "operation": ELSEWHERE})
    assert answer.value["status"]["operation"] == ELSEWHERE, answer.message


@pytest.mark.parametrize("phase", list(OperationPhase))
def test_it_holds_every_phase_of_it(apiserver: ApiServer, stored: dict[str, Any], phase: str) -> None:
    answer = publish(apiserver, stored, {**AWAY, "operation": {**OPERATION, "phase": phase}})
    assert answer.value["status"]["operation"]["phase"] == phase, answer.message


def test_the_application_comes_home_with_a_higher_epoch(apiserver: ApiServer, stored: dict[str, Any]) -> None:
    both = publish(apiserver, stored, {**AWAY, "closedSides": ["Source", "Target"]}).value
    home = {**AWAY, "phase": "Replicating", "activeSide": "Source", "epoch": 3, "closedSides": ["Target"]}
    refused = publish(apiserver, both, {**home, "epoch": 2})
    assert (refused.status, "the live side changes only with a higher epoch" in refused.message) == (422, True)
    assert publish(apiserver, both, home).value["status"] == home


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"kind": "Drill"}, 'supported values: "Failover", "Restore"'),
        ({"cutOver": "Later"}, 'supported values: "Automatic", "Manual"'),
        ({"diverged": [KEPT, KEPT]}, "Duplicate value"),
        ({"wholeOn": ["Target", "Target"]}, "Duplicate value"),
        ({"to": ELSEWHERE["to"] + ELSEWHERE["to"]}, "Duplicate value"),
        ({"sentBytes": -1}, "should be greater than or equal to 0"),
        ({"approved": True}, 'unknown field "status.operation.approved"'),
    ],
)
def test_it_refuses(apiserver: ApiServer, stored: dict[str, Any], given: dict[str, Any], message: str) -> None:
    answer = publish(apiserver, stored, {**AWAY, "operation": {**OPERATION, **given}})
    assert (answer.status in {400, 422}, message in answer.message) == (True, True), answer.message


def test_sixteen_volumes_with_the_longest_names_of_all_fit_into_it(apiserver: ApiServer, namespace: str) -> None:
    """The database takes 1.5 MiB for an object; what it refuses is never known again."""
    names = tuple(f"{i:04}" + "\u4f60" * 4091 for i in range(16))  # three bytes each
    template = ClaimTemplate(resources=ClaimResources(requests=StorageRequest(storage="1Gi")))
    operation = Operation(
        kind=OperationKind.RESTORE,
        name="n" * 253,
        mode=Mode.PLANNED,
        from_epoch=2,
        to=tuple(RestoreTo(name=f"v{i}", claim_name="c" * 253, claim_template=template) for i in range(16)),
        diverged=tuple(
            Diverged(volume=f"v{i}", epoch=2, path="p" * 253, entries=16, bytes=1, first=names, at=AT)
            for i in range(16)
        ),
        proofs=tuple(
            WriterProof.read({"uid": f"u{i}", "name": "n" * 253, "grade": "Proven", "evidence": "e" * 500, "at": AT})
            for i in range(256)
        ),
    )
    volumes = tuple(
        VolumeStatus(name=f"v{i}", not_kept=(NotKept(kind="Owner", count=16, first=names),)) for i in range(16)
    )
    status = MirrorPairStatus(epoch=2, attempt=2, operation=operation, volumes=volumes).dump()
    asked = pair(*[volume(f"v{i}", f"s{i}", f"t{i}") for i in range(16)], sides=sides())
    answer = publish(apiserver, created(apiserver, namespace, asked), status)
    assert answer.status == 200, answer.message
    assert MirrorPairStatus.read(answer.value["status"]).operation == operation
