"""What the API server's answers mean."""

from __future__ import annotations

import json

import pytest

from storagemirror.api.reasons import Reason
from storagemirror.errors import ApiUnavailable, Passing, Permanent
from storagemirror.kube.faults import Conflict, Denied, Missing, fault_of, reason_of


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (400, Denied),
        (401, Denied),
        (403, Denied),
        (404, Missing),
        (409, Conflict),
        (422, Denied),
        (429, ApiUnavailable),
        (500, ApiUnavailable),
        (503, ApiUnavailable),
        (504, ApiUnavailable),
    ],
)
def test_each_status_is_tried_again_or_told(code: int, kind: type[Exception]) -> None:
    found = fault_of(code, json.dumps({"message": "why"}).encode(), "GET /x")
    assert type(found) is kind
    assert "why" in str(found)
    assert isinstance(found, Passing) == (kind is not Denied)
    assert isinstance(found, Permanent) == (kind is Denied)


def test_an_answer_that_is_not_json_is_quoted() -> None:
    assert "upstream" in str(fault_of(502, b"<html>upstream</html>", "GET /x"))


def test_a_lack_of_rights_is_told_from_a_refusal_by_admission() -> None:
    rbac = Denied('User "u" cannot create resource "pods"', code=403)
    assert reason_of(rbac) is Reason.FORBIDDEN
    assert reason_of(Denied("admission webhook denied the request", code=403)) is Reason.ADMISSION_REFUSED
    assert reason_of(Denied("namespace is being terminated", code=403)) is Reason.DELETING
