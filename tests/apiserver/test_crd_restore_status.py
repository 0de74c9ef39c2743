"""What the API server itself says to the status of a Restore: what came of it stays."""

from __future__ import annotations

from typing import Any

import pytest

from storagemirror.api.operation import ENDED, OperationPhase
from tests.support.api_client import ApiAnswer
from tests.support.apiserver import ApiServer
from tests.support.manifests import created, endpoint, publish, restore

pytestmark = pytest.mark.apiserver

AT = "2026-01-02T03:04:05Z"
FINAL = sorted(ENDED)
KEPT: dict[str, Any] = {
    "volume": "data",
    "epoch": 2,
    "path": ".storagemirror/diverged/2",
    "entries": 3,
    "bytes": 4096,
    "deleted": 1,
    "first": ["late.txt", "dir", "dir/late"],
    "complete": True,
    "at": AT,
}
DONE: dict[str, Any] = {
    "attempt": 3,
    "phase": "Completed",
    "reason": "RestoreCompleted",
    "message": "orders is home.",
    "startedAt": AT,
    "endedAt": AT,
    "approvedBy": "alice",
    "rpoSeconds": 0,
    "rtoSeconds": 9,
    "epoch": 3,
    "observedGeneration": 1,
    "sentBytes": 1234,
    "wholeOn": ["Source", "Target"],
    "diverged": [KEPT, {**KEPT, "volume": "logs", "complete": False, "entries": 9}],
    "equality": [
        {"volume": "data", "stage": stage, "files": 5, "bytes": 7, "differing": 0, "digest": "d", "at": AT}
        for stage in ("Live", "Final")
    ],
    "timeline": [{"phase": "Mirroring", "at": AT}, {"phase": "AwaitingCutOver", "at": AT}],
    "conditions": [{"type": "Ready", "status": "True", "reason": "R", "message": "m", "lastTransitionTime": AT}],
}


class TestStatus:
    @pytest.fixture
    def stored(self, apiserver: ApiServer, namespace: str) -> dict[str, Any]:
        return created(apiserver, namespace, restore())

    def end(self, server: ApiServer, stored: dict[str, Any], phase: str = "Completed") -> dict[str, Any]:
        answer = publish(server, stored, {**DONE, "phase": phase})
        assert answer.status == 200, answer.message
        found: dict[str, Any] = answer.value
        return found

    def test_it_tells_what_came_of_it(self, apiserver: ApiServer, stored: dict[str, Any]) -> None:
        assert self.end(apiserver, stored)["status"] == DONE

    def test_nobody_writes_it_with_the_spec(self, apiserver: ApiServer, namespace: str) -> None:
        assert "status" not in created(apiserver, namespace, {**restore("other"), "status": {"phase": "Completed"}})

    @pytest.mark.parametrize("phase", sorted(set(OperationPhase) - ENDED))
    def test_what_goes_on_may_go_anywhere(self, apiserver: ApiServer, stored: dict[str, Any], phase: str) -> None:
        stored = publish(apiserver, stored, {"phase": phase}).value
        for other in (*OperationPhase, None):
            status = {} if other is None else {"phase": other}
            dry = apiserver.client().put(f"{_path(stored)}/status?dryRun=All", {**stored, "status": status})
            assert dry.status == 200, dry.message

    @pytest.mark.parametrize("phase", FINAL)
    def test_what_has_ended_stays_as_it_ended(self, apiserver: ApiServer, stored: dict[str, Any], phase: str) -> None:
        stored = self.end(apiserver, stored, phase)
        for other in set(OperationPhase) - {phase}:
            answer = publish(apiserver, stored, {**DONE, "phase": other})
            assert _stays(answer), f"{other}: {answer.message}"

    @pytest.mark.parametrize("phase", FINAL)
    def test_an_end_is_not_taken_away(self, apiserver: ApiServer, stored: dict[str, Any], phase: str) -> None:
        stored = publish(apiserver, stored, {"phase": phase}).value
        without = {k: v for k, v in stored.items() if k != "status"}
        for body in ({**without, "status": {}}, without):
            answer = apiserver.client().put(f"{_path(stored)}/status", body, check=False)
            assert _stays(answer), answer.message

    def test_more_may_be_told_of_what_has_ended(self, apiserver: ApiServer, stored: dict[str, Any]) -> None:
        stored = self.end(apiserver, stored)
        assert publish(apiserver, stored, {**DONE, "message": "more"}).status == 200

    def test_an_old_copy_of_it_does_not_overwrite_a_newer_status(
        self, apiserver: ApiServer, stored: dict[str, Any]
    ) -> None:
        assert publish(apiserver, stored, {"phase": "Fencing"}).status == 200
        assert publish(apiserver, stored, {"phase": "Proving"}).status == 409

    @pytest.mark.parametrize(
        ("status", "message"),
        [
            ({"phase": "Done"}, "Unsupported value"),
            ({"sentBytes": -1}, "should be greater than or equal to 0"),
            ({"epoch": 0}, "should be greater than or equal to 1"),
            ({"wholeOn": ["Source", "Source"]}, "Duplicate value"),
            ({"wholeOn": ["Elsewhere"]}, 'supported values: "Source", "Target"'),
            ({"diverged": [KEPT, KEPT]}, "Duplicate value"),
            ({"diverged": [{**KEPT, "first": ["n"] * 17}]}, "at most 16 items"),
            ({"diverged": [{**KEPT, "first": ["n" * 257]}]}, "may not be more than 256"),
            ({"diverged": [{k: v for k, v in KEPT.items() if k != "path"}]}, "diverged[0].path: Required value"),
            ({"automatic": True}, "unknown field"),
        ],
    )
    def test_it_refuses(
        self, apiserver: ApiServer, stored: dict[str, Any], status: dict[str, Any], message: str
    ) -> None:
        answer = publish(apiserver, stored, {**DONE, **status})
        assert (answer.status in {400, 422}, message in answer.message) == (True, True), answer.message

    def test_kubectl_get_shows_it_in_one_line(self, apiserver: ApiServer, stored: dict[str, Any]) -> None:
        self.end(apiserver, stored)
        words = ["get", "rst", "-n", stored["metadata"]["namespace"]]
        head, line = apiserver.kubectl(*words).text.splitlines()
        assert head.split() == ["NAME", "PAIR", "PHASE", "DIVERGED", "RTO", "AGE"]
        assert line.split()[:5] == ["home", "orders", "Completed", "3", "9"]
        wide = apiserver.kubectl(*words, "-o", "wide").text
        assert [w for w in ("APPROVED BY", "alice", "orders is home.") if w not in wide] == []


def _path(body: dict[str, Any]) -> str:
    return f"{endpoint(body['metadata']['namespace'], body)}/{body['metadata']['name']}"


def _stays(answer: ApiAnswer) -> bool:
    return (answer.status, "a Restore that has ended stays as it ended" in answer.message) == (422, True)
