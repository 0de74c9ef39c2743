"""One cluster for all end-to-end tests of a session, a namespace for each."""

from __future__ import annotations

import fcntl
import os
import re
import uuid
from collections.abc import Generator, Iterator

import pytest

from tests.cluster.cluster import Cluster
from tests.cluster.images import ensure_testbox
from tests.cluster.packages import NEEDED, ensure_packages
from tests.cluster.tools import ensure_tools
from tests.support.cluster_kubectl import Kubectl, wait_for
from tests.support.cluster_storage import Storage
from tests.support.failover_fixtures import stages, two_operators
from tests.support.fixtures import case, left_behind, product

__all__ = ["case", "left_behind", "product", "stages", "two_operators"]

PREFIX = os.environ.get("STORAGEMIRROR_CLUSTER_PREFIX") or "sme"
KEEP = os.environ.get("STORAGEMIRROR_KEEP_CLUSTER") == "1"
_FAILED = pytest.StashKey[bool]()


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> None:
    """Build what the cluster needs before the first test, outside of every test's time limit."""
    wanted = any(item.get_closest_marker("e2e") for item in session.items)
    if wanted and not session.config.option.collectonly:
        ensure_packages(NEEDED)
        ensure_tools()
        ensure_testbox()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Remember whether the test failed, for the fixtures that tell why."""
    report = yield
    if report.failed:
        item.stash[_FAILED] = True
    return report


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """The cluster STORAGEMIRROR_CLUSTER_PREFIX (default `sme`), brought up with the tests' image; taken down at the
    end unless STORAGEMIRROR_KEEP_CLUSTER=1. Only one session at a time uses it; a second one waits."""
    made = Cluster(PREFIX)
    made.layout.base.mkdir(parents=True, exist_ok=True)
    with (made.layout.base / f"{PREFIX}.session").open("w") as session:
        fcntl.flock(session, fcntl.LOCK_EX)
        made.up()
        made.load(ensure_testbox())
        yield made
        if not KEEP:
            os.unlink(session.name)
            made.down()


@pytest.fixture
def namespace(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[str]:
    """A fresh namespace, named for the test, removed afterwards. The cluster is made whole again first, whatever the
    test broke. When the test failed, what happened in the namespace is printed."""
    short = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower().removeprefix("test_")).strip("-")[:24].strip("-")
    name = f"{short}-{uuid.uuid4().hex[:5]}"
    everywhere = Kubectl(cluster)
    everywhere.run("create", "namespace", name)
    inside = Kubectl(cluster, name)
    wait_for(f"the service account of {name}", lambda: inside.find("serviceaccount", "default"), 30)
    yield name
    if request.node.stash.get(_FAILED, False):
        print(f"\n{inside.diagnosis()}\n{inside.pod_logs()}")
    cluster.up()
    everywhere.run("delete", "namespace", name, "--wait=false")


@pytest.fixture
def kubectl(cluster: Cluster, namespace: str) -> Kubectl:
    """kubectl in the test's namespace."""
    return Kubectl(cluster, namespace)


@pytest.fixture
def storage(cluster: Cluster, namespace: str) -> Iterator[Storage]:
    """Claims with volumes for the test; its pods are removed before the volumes."""
    inside = Kubectl(cluster, namespace)
    made = Storage(cluster, inside)
    yield made
    cluster.up()
    inside.run("delete", "deployments,statefulsets,jobs", "--all", "--wait=false")
    inside.run("delete", "mirrorpairs", "--all", "--wait=false", check=False)
    inside.run("delete", "pods,pvc", "--all", "--now", "--timeout=90s", timeout=120)
    made.remove_all()
