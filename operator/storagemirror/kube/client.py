"""One HTTP client of the API server: paths and bytes in, decoded values or named errors out.

The `kubernetes` package brings configuration (kubeconfig, service account, token renewal) and connections. Its models
are not used: decoding straight into our own structs costs a tenth of the time, and skips what nobody reads.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Generic, TypeVar
from urllib.parse import urlencode

import msgspec
import urllib3
from kubernetes import client as k8s
from kubernetes import config as k8s_config

from storagemirror.errors import ApiUnavailable, BadInput
from storagemirror.kube.faults import fault_of
from storagemirror.kube.paths import Resource, path
from storagemirror.kube.throttle import Throttle

T = TypeVar("T")

FIELD_MANAGER = "storagemirror"
TIMEOUT = (5.0, 20.0)
"""Seconds to connect, seconds to answer."""
PAGE = 500
"""Objects a list brings at once."""
CONNECTIONS = 8
_BAD_BACKEND = (502, 503, 504)

APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"
METADATA = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"


class ListMeta(msgspec.Struct, rename="camel"):
    continue_: str = msgspec.field(default="", name="continue")
    resource_version: str = ""


class Page(msgspec.Struct, Generic[T]):
    """One page of a list."""

    items: list[T] = []
    metadata: ListMeta = msgspec.field(default_factory=ListMeta)


def connect(*, in_cluster: bool | None = None) -> k8s.ApiClient:
    """From the pod's service account, else from KUBECONFIG; `BadInput` when there is neither."""
    configuration = k8s.Configuration()
    inside = "KUBERNETES_SERVICE_HOST" in os.environ if in_cluster is None else in_cluster
    try:
        if inside:
            k8s_config.load_incluster_config(client_configuration=configuration)
        else:
            k8s_config.load_kube_config(client_configuration=configuration)
    except k8s_config.ConfigException as e:
        raise BadInput(f"no Kubernetes cluster to talk to: {e}", hint="Set KUBECONFIG, or run in a pod.") from e
    configuration.connection_pool_maxsize = CONNECTIONS
    # A request is repeated by the pass that made it, which looks first; never blindly by the connection pool.
    configuration.retries = urllib3.Retry(0, read=0, redirect=0)
    return k8s.ApiClient(configuration)


class Api:
    """The API server."""

    def __init__(self, client: k8s.ApiClient, throttle: Throttle) -> None:
        self._client = client
        self._throttle = throttle
        self.writes = 0
        """Requests that may have changed something (dry runs do not count)."""
        self.requests = 0

    def request(
        self,
        method: str,
        where: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        kind: str = "",
        user: str = "",
    ) -> bytes:
        """The answer's body. `kind` is the content type of `body`, or what is accepted of a GET. `user`: ask in the
        name of that user.

        Raises `Missing`, `Conflict`, `Denied` or `ApiUnavailable`; after the last of these a write may have happened.
        """
        self._throttle.wait()
        self.requests += 1
        if method != "GET" and "dryRun" not in (query or {}):
            self.writes += 1
        headers = {"Accept": kind if method == "GET" and kind else "application/json"}
        if method != "GET":
            headers["Content-Type"] = kind or "application/json"
        if user:
            headers["Impersonate-User"] = user
        # Server-side apply takes bytes; what is JSON by its name the client encodes itself.
        payload = msgspec.json.encode(body) if kind == APPLY else body
        url = where + (f"?{urlencode(query)}" if query else "")
        request = self._client.param_serialize(
            method, url, header_params=headers, body=payload, auth_settings=["BearerToken"]
        )
        try:
            answer = self._client.call_api(*request, _request_timeout=TIMEOUT)
            data = bytes(answer.read() or b"")
        except (urllib3.exceptions.HTTPError, k8s.ApiException, OSError) as e:
            raise ApiUnavailable(f"{method} {where}: {e}") from e
        if answer.status in _BAD_BACKEND:
            # Behind a load balancer a kept connection may stick to a server that is ill, while others are well.
            self._client.rest_client.close()
        if not 200 <= answer.status < 300:
            raise fault_of(answer.status, data, f"{method} {where}")
        return data

    def get(self, kind: type[T], resource: Resource, namespace: str | None, name: str) -> T:
        """One object as `kind`."""
        return msgspec.json.decode(self.request("GET", path(resource, namespace, name)), type=kind)

    def get_metadata(self, kind: type[T], resource: Resource, namespace: str | None, name: str) -> T:
        """One object's metadata alone: of a Secret, the key never leaves the API server."""
        return msgspec.json.decode(self.request("GET", path(resource, namespace, name), kind=METADATA), type=kind)

    def list(self, kind: type[T], resource: Resource, namespace: str | None = None, *, labels: str = "") -> list[T]:
        """All objects (of one namespace), page by page."""
        query = {"limit": str(PAGE)} | ({"labelSelector": labels} if labels else {})
        decoder = msgspec.json.Decoder(Page[kind])  # type: ignore[valid-type]
        found: list[T] = []
        while True:
            page = decoder.decode(self.request("GET", path(resource, namespace), query=query))
            found.extend(page.items)
            if not page.metadata.continue_:
                return found
            query["continue"] = page.metadata.continue_

    def create(
        self, resource: Resource, manifest: Mapping[str, Any], *, dry_run: bool = False, user: str = ""
    ) -> bytes:
        """Make an object that must not exist yet. `user`: in the name of that user."""
        query = {"fieldManager": FIELD_MANAGER} | ({"dryRun": "All"} if dry_run else {})
        where = path(resource, manifest["metadata"].get("namespace"))
        return self.request("POST", where, query=query, body=dict(manifest), user=user)

    def merge(self, resource: Resource, namespace: str, name: str, patch: Mapping[str, Any]) -> bytes:
        """JSON merge patch (RFC 7386). With `metadata.uid` or `metadata.resourceVersion` in it, only of exactly that
        object, or that version of it; else `Conflict`."""
        query = {"fieldManager": FIELD_MANAGER}
        return self.request("PATCH", path(resource, namespace, name), query=query, body=dict(patch), kind=MERGE)

    def scale(self, resource: Resource, namespace: str, name: str, replicas: int, version: str) -> bytes:
        """Set the replicas of a workload, by compare-and-swap on its resourceVersion."""
        body = {
            "apiVersion": "autoscaling/v1",
            "kind": "Scale",
            "metadata": {"name": name, "namespace": namespace, "resourceVersion": version},
            "spec": {"replicas": replicas},
        }
        where = path(resource, namespace, name) + "/scale"
        return self.request("PUT", where, query={"fieldManager": FIELD_MANAGER}, body=body)

    def apply(self, resource: Resource, manifest: Mapping[str, Any]) -> bytes:
        """Server-side apply: exactly the fields of `manifest` are ours, and taken back where others changed them."""
        metadata = manifest["metadata"]
        query = {"fieldManager": FIELD_MANAGER, "force": "true"}
        where = path(resource, metadata.get("namespace"), metadata["name"])
        return self.request("PATCH", where, query=query, body=dict(manifest), kind=APPLY)

    def replace(self, resource: Resource, manifest: Mapping[str, Any]) -> bytes:
        """Replace an object, by compare-and-swap on the manifest's resourceVersion."""
        metadata = manifest["metadata"]
        where = path(resource, metadata["namespace"], metadata["name"])
        return self.request("PUT", where, query={"fieldManager": FIELD_MANAGER}, body=dict(manifest))

    def replace_status(self, resource: Resource, manifest: Mapping[str, Any]) -> bytes:
        """Write the status, by compare-and-swap on the manifest's resourceVersion."""
        metadata = manifest["metadata"]
        where = path(resource, metadata["namespace"], metadata["name"]) + "/status"
        return self.request("PUT", where, query={"fieldManager": FIELD_MANAGER}, body=dict(manifest))

    def delete(self, resource: Resource, namespace: str, name: str, *, uid: str) -> None:
        """Delete exactly the object of this UID; `Conflict` when the name is another's by now."""
        body = {"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": {"uid": uid}}
        self.request("DELETE", path(resource, namespace, name), body=body)
