"""What Argo CD makes of a pair: its health script, run by the Lua that Argo CD's own is a port of."""

from __future__ import annotations

import json
import shutil
import textwrap
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.command import run
from tests.cluster.layout import checkout
from tests.cluster.packages import ensure_packages

pytestmark = pytest.mark.apiserver

SCRIPT = "charts/storagemirror/files/argocd-health.lua"


def lua_value(value: object) -> str:
    """A JSON value as Lua writes it."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"[{json.dumps(k)}] = {lua_value(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "{" + ", ".join(lua_value(v) for v in value) + "}"
    return "nil" if value is None else json.dumps(value)


@pytest.fixture(scope="module")
def lua() -> str:
    ensure_packages({"lua5.1": "lua5.1"})
    return str(shutil.which("lua5.1"))


def judged(lua: str, pair: dict[str, Any], directory: Path) -> tuple[str, str]:
    """Status and message."""
    script = (checkout() / SCRIPT).read_text()
    program = directory / "health.lua"
    program.write_text(
        f"obj = {lua_value(pair)}\nlocal function judge()\n{script}\nend\n"
        "local h = judge()\nio.write(h.status, '\\n', h.message or '', '\\n')\n"
    )
    status, message = run(lua, program).stdout.splitlines()
    return status, message


def pair(generation: int = 1, observed: int | None = 1, *, paused: bool = False, **conditions: str) -> dict[str, Any]:
    listed = [{"type": k, "status": v, "reason": "R", "message": f"{k} is {v}."} for k, v in conditions.items()]
    status = {"observedGeneration": observed, "conditions": listed}
    return {"metadata": {"name": "orders", "generation": generation}, "spec": {"paused": paused}, "status": status}


@pytest.mark.parametrize(
    ("given", "status", "message"),
    [
        (pair(Ready="True", Stalled="False"), "Healthy", "Ready is True."),
        (pair(Ready="False", Reconciling="True"), "Progressing", "Ready is False."),
        (pair(Ready="False", Stalled="True"), "Degraded", "Stalled is True."),
        (pair(Ready="False", Stalled="True", Held="True"), "Degraded", "Held is True."),
        (pair(Ready="Unknown"), "Progressing", "Ready is Unknown."),
        (pair(paused=True, Ready="False"), "Suspended", "Ready is False."),
        (pair(2, 1, Ready="True"), "Progressing", "Waiting for the operator to take up the change"),
        (pair(2, 1, Ready="False", Stalled="True"), "Progressing", "Waiting for the operator to take up the change"),
        ({"metadata": {"generation": 1}, "spec": {}}, "Progressing", "Waiting for the operator"),
        ({"metadata": {"generation": 1}, "spec": {}, "status": {}}, "Progressing", "Waiting for the operator"),
    ],
    ids=[
        "following",
        "on the way",
        "stalled",
        "held",
        "not known",
        "paused",
        "ready by an older spec",
        "stalled by an older spec",
        "without a status",
        "with an empty status",
    ],
)
def test_argo_cd_judges_rightly(lua: str, tmp_path: Path, given: dict[str, Any], status: str, message: str) -> None:
    assert judged(lua, given, tmp_path) == (status, message)


def test_the_page_shows_the_script_that_is_shipped() -> None:
    page = (checkout() / "docs" / "gitops.md").read_text()
    script = (checkout() / SCRIPT).read_text()
    assert textwrap.indent(script, "    ") in page
