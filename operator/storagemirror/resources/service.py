"""The Service in front of the application, turned to the live side by its selector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from storagemirror.api.sides import ServicePort
from storagemirror.resources import labels
from storagemirror.resources.names import digest


def managed_service(
    namespace: str,
    name: str,
    *,
    pair_name: str,
    pair_uid: str,
    selector: Mapping[str, str],
    ports: Sequence[ServicePort],
) -> dict[str, Any]:
    """The Service. It has no owner: deleting the pair must not cut the application off.

    `spec.selector` is atomic in the API's schema (x-kubernetes-map-type), so server-side apply puts it in the place of
    the old one as a whole: nothing of the other side's selector stays. What else the API or the user sets (type,
    addresses, policies) is left alone. The digest tells that the ports are other ones than those that were applied.
    """
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {labels.APP_MANAGED_BY: labels.STORAGEMIRROR, labels.PAIR_NAME: pair_name},
            "annotations": {labels.PAIR: pair_uid, labels.SETTINGS: digest(tuple(map(_port_key, ports)))},
        },
        "spec": {
            "selector": dict(selector),
            "ports": [_port(p) for p in ports],
            "publishNotReadyAddresses": False,
        },
    }


def _port_key(port: ServicePort) -> tuple[str | None, int, int, str]:
    return (port.name, port.port, port.target_port or port.port, port.protocol.value)


def _port(port: ServicePort) -> dict[str, Any]:
    name, number, target, protocol = _port_key(port)
    found: dict[str, Any] = {"port": number, "targetPort": target, "protocol": protocol}
    return found if name is None else {"name": name, **found}
