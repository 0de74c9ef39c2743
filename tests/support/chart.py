"""The chart: rendered, and installed by Helm on a server of the tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from tests.cluster.command import run
from tests.cluster.layout import checkout
from tests.cluster.tools import ensure_tools
from tests.support.apiserver import ApiServer
from tests.support.policies import wait_for_the_gate, wait_for_the_signatures

CRDS = checkout() / "crds"
CHART = checkout() / "charts" / "storagemirror"
RELEASE, HOME = "storagemirror", "storagemirror-system"
OPERATOR = f"system:serviceaccount:{HOME}:{RELEASE}"
PROBE = f"system:serviceaccount:{HOME}:storagemirror-probe"


@contextmanager
def bare_server(directory: Path, controllers: str = "") -> Iterator[ApiServer]:
    """A server without anything of ours; with these controllers."""
    tools = ensure_tools(("hyperkube", "kubectl"))
    server = ApiServer(directory, tools["hyperkube"], [tools["kubectl"]])
    try:
        server.start()
        if controllers:
            server.start_controllers(controllers)
        yield server
    finally:
        server.stop()


def template(*flags: str) -> str:
    """What Helm renders."""
    return run(ensure_tools(("helm",))["helm"], "template", RELEASE, CHART, "--namespace", HOME, *flags).stdout


def rendered(*flags: str) -> list[dict[str, Any]]:
    """Each object that Helm renders."""
    return [d for d in yaml.safe_load_all(template(*flags)) if d]


def one(documents: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    """The only object of that kind."""
    (found,) = [d for d in documents if d["kind"] == kind]
    return found


def helm(server: ApiServer, *words: str | Path) -> str:
    """Run helm against that server."""
    tool = ensure_tools(("helm",))["helm"]
    return run(tool, "--kubeconfig", server.kubeconfig(), "--namespace", HOME, *words, timeout=120).stdout


def install(server: ApiServer) -> None:
    """A release with the values of the chart, when its policies are in effect."""
    helm(server, "install", RELEASE, CHART, "--create-namespace")
    wait_for_the_gate(server)
    wait_for_the_signatures(server)


def apply(server: ApiServer, *templates: str) -> None:
    """Of the chart only these templates, in a namespace that is there."""
    only = [f"--show-only=templates/{name}.yaml" for name in templates]
    server.kubectl("apply", "--server-side", "-f", "-", stdin=template(*only))
