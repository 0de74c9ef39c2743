"""Everything about one pair, read live. What cannot be read becomes `Unseen`, never "not there"."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec

from storagemirror.api.agents import Privilege
from storagemirror.api.mirrorpair import MirrorPair
from storagemirror.clock import Clock
from storagemirror.contract import ORDER_KEY, Order, Role, decode
from storagemirror.errors import BadInput
from storagemirror.kube import paths
from storagemirror.kube.client import Api
from storagemirror.kube.credentials import Credentials
from storagemirror.kube.endings import Endings
from storagemirror.kube.faults import Denied
from storagemirror.kube.gate import Gate
from storagemirror.kube.gather_failover import (
    Reach,
    before_pods,
    list_failovers,
    list_restores,
    with_failover,
    workload_pods,
)
from storagemirror.kube.heartbeats import Heartbeats
from storagemirror.kube.look import look
from storagemirror.plan.course import operation_of
from storagemirror.plan.elsewhere import claims_elsewhere, elsewhere_volumes
from storagemirror.plan.lifecycle import SILENT_SECONDS
from storagemirror.plan.objects import Claim, ConfigMap, Lease, Node, PartialObject, Pod, StorageClass
from storagemirror.plan.observed import (
    AgentSeen,
    Authority,
    BrokenOrder,
    CertificateSeen,
    Heard,
    Observed,
    OrderSeen,
    OtherPair,
    Unseen,
)
from storagemirror.resources import labels
from storagemirror.resources.names import AgentRef
from storagemirror.resources.order import kept_of
from storagemirror.resources.pod import Image

T = TypeVar("T")

_LISTED = (("ServiceAccount", paths.ACCOUNTS), ("Role", paths.ROLES), ("RoleBinding", paths.BINDINGS))


@dataclass(frozen=True)
class Key:
    """Which pair."""

    namespace: str
    name: str


@dataclass(frozen=True)
class Gathered:
    """What a pass works on: the values to decide from, and the object as it must be sent back."""

    observed: Observed
    raw_pair: Mapping[str, Any]


@dataclass(frozen=True)
class Sources:
    """Where a pass reads from."""

    api: Api
    heartbeats: Heartbeats
    image: Image
    authority: Callable[[], Authority]
    clock: Clock
    reach: Reach
    credentials: Credentials
    gate: Gate = field(default_factory=Gate)
    endings: Endings = field(default_factory=Endings)
    named: Callable[[Key], bool] = lambda key: False
    """Whether a Failover or Restore names this pair, as far as a watch has told: for pairs that name no sides."""


def gather(sources: Sources, key: Key) -> Gathered | None:
    """None when there is no such pair. `ApiUnavailable` when the pair itself cannot be read, `BadInput` when its spec
    cannot be understood (it was written for another release)."""
    items = sources.api.list(dict[str, Any], paths.PAIRS, key.namespace)
    raw = next((i for i in items if i["metadata"]["name"] == key.name), None)
    if raw is None:
        return None
    pair = MirrorPair.read(raw)
    attentive = sources.heartbeats.attentive_since()
    base = Observed(pair=pair, image=sources.image, authority=_authority(sources), attentive_since=attentive)
    if pair.metadata.deletion_timestamp is not None and pair.spec.sides is not None:
        # What it holds must be let go of.
        return Gathered(replace(base, pods=_pods(sources.api, pair)), raw)
    if pair.metadata.deletion_timestamp is not None or pair.status.epoch is None:
        return Gathered(base, raw)
    concerned = pair.spec.sides is not None or operation_of(pair.status) is not None
    failovers = list_failovers(sources.api, key.namespace, key.name) if concerned or sources.named(key) else None
    gate = before_pods(sources.api, sources.gate, pair, _moment(sources.clock))
    every_pod = look(lambda: sources.api.list(Pod, paths.PODS, key.namespace), "the pods")
    pods = _pods_of(pair, every_pod)
    claims = _claims(sources.api, pair)
    agents = _agents(sources, pair)
    observed = replace(
        base,
        others=tuple(_other(i) for i in items if i is not raw),
        pods=pods,
        claims=claims,
        classes=_classes(sources.api, claims),
        nodes=_nodes(sources.api, pods, agents),
        agents=agents,
        ended=sources.endings.known(),
        consent=_consent(sources.api, pair),
        gate=gate,
    )
    if failovers is not None:
        restores = list_restores(sources.api, key.namespace, key.name)
        observed = replace(observed, failovers=failovers.of_pair, failover_names=failovers.names, restores=restores)
    if concerned:
        observed = with_failover(sources.api, sources.reach, observed)
        if isinstance(every_pod, list) and isinstance(pods, tuple):
            seen = {p.metadata.uid for p in pods}
            more = (p for p in workload_pods(every_pod, observed.workloads) if p.metadata.uid not in seen)
            observed = replace(observed, pods=(*pods, *more))
    return Gathered(observed, raw)


def _moment(clock: Clock) -> datetime:
    return datetime.fromtimestamp(clock.now_ns() / 1e9, UTC)


def _consent(api: Api, pair: MirrorPair) -> bool | Unseen:
    """Asked only where it matters."""
    name = pair.metadata.namespace
    if pair.spec.agents.privilege is not Privilege.FREEZE:
        return False
    found = look(lambda: api.get_metadata(PartialObject, paths.NAMESPACES, None, name), f"namespace {name}")
    if isinstance(found, Unseen):
        return found
    return found is not None and found.metadata.annotations.get(labels.PRIVILEGED_AGENTS) == "true"


def _authority(sources: Sources) -> Authority | Unseen:
    """What is wrong with the CA must stand in the status: nobody reads the operator's log at once."""
    try:
        return sources.authority()
    except BadInput as e:
        return Unseen(f"{e.message}. {e.hint}".strip(), spoiled=True)
    except Denied as e:
        return Unseen(f"the CA of the agents cannot be read: {e.message}", forbidden=True)


def _pods(api: Api, pair: MirrorPair) -> tuple[Pod, ...] | Unseen:
    return _pods_of(pair, look(lambda: api.list(Pod, paths.PODS, pair.metadata.namespace), "the pods"))


def _pods_of(pair: MirrorPair, found: list[Pod] | Unseen | None) -> tuple[Pod, ...] | Unseen:
    """Agents of this pair, and pods that mount a claim of it."""
    if isinstance(found, Unseen):
        return found
    wanted = claim_names(pair)
    uid = pair.metadata.uid
    return tuple(p for p in found or () if p.metadata.labels.get(labels.PAIR) == uid or wanted & p.claims)


def claim_names(pair: MirrorPair) -> frozenset[str]:
    """Of both sides of every volume, and those elsewhere that a restore writes."""
    own = frozenset(name for v in pair.spec.volumes for name in (v.source.claim_name, v.target.claim_name))
    return own | claims_elsewhere(pair)


def _claims(api: Api, pair: MirrorPair) -> dict[str, Claim | Unseen | None]:
    def one(name: str) -> Claim | Unseen | None:
        return look(lambda: api.get(Claim, paths.CLAIMS, pair.metadata.namespace, name), f"claim {name}")

    return {name: one(name) for name in sorted(claim_names(pair))}


def _classes(api: Api, claims: Mapping[str, Claim | Unseen | None]) -> dict[str, StorageClass | Unseen | None]:
    unbound = (c for c in claims.values() if isinstance(c, Claim) and not c.bound)
    names = sorted({c.spec.storage_class_name for c in unbound if c.spec.storage_class_name})

    def one(name: str) -> StorageClass | Unseen | None:
        return look(lambda: api.get(StorageClass, paths.STORAGE_CLASSES, None, name), f"storage class {name}")

    return {name: one(name) for name in names}


def _nodes(
    api: Api, pods: tuple[Pod, ...] | Unseen, agents: Mapping[tuple[str, Role], AgentSeen]
) -> dict[str, Node | Unseen | None]:
    """Only those of silent agents: all is well with the others."""
    if isinstance(pods, Unseen):
        return {}
    silent = {
        a.ref.base for a in agents.values() if isinstance(a.heard, Heard) and a.heard.silent_for >= SILENT_SECONDS
    }
    names = {p.spec.node_name for p in pods if p.spec.node_name and p.metadata.name.rpartition("-")[0] in silent}

    def one(name: str) -> Node | Unseen | None:
        return look(lambda: api.get(Node, paths.NODES, None, name), f"node {name}")

    return {name: one(name) for name in sorted(names)}


def _agents(sources: Sources, pair: MirrorPair) -> dict[tuple[str, Role], AgentSeen]:
    meta = pair.metadata
    selector = labels.selector({labels.PAIR: meta.uid})
    children = _children(sources, meta.uid, meta.namespace, selector)
    found: dict[tuple[str, Role], AgentSeen] = {}
    for volume in (*pair.spec.volumes, *(v for _, v in elsewhere_volumes(pair))):
        for role in Role:
            ref = AgentRef(meta.name, meta.uid, meta.namespace, volume.name, role)
            found[volume.name, role] = _agent(sources, ref, children)
    return found


def _children(
    sources: Sources, uid: str, namespace: str, selector: str
) -> dict[str, dict[str, dict[str, Any]]] | Unseen:
    """By name, then by kind."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for kind, resource in (*_LISTED, ("Lease", paths.LEASES)):
        lister = _lister(sources.api, resource, namespace, selector)
        if kind != "Lease":
            lister = _remembered(sources.credentials, uid, kind, lister)
        listed = look(lister, f"the {kind}s of the agents")
        if isinstance(listed, Unseen):
            return listed
        for item in listed or ():
            # The items of a list do not say their kind.
            named = item | {"kind": kind, "apiVersion": resource[0].removeprefix("/apis/").removeprefix("/api/")}
            found.setdefault(item["metadata"]["name"], {})[kind] = named
    return found


def _lister(api: Api, resource: paths.Resource, namespace: str, selector: str) -> Callable[[], list[dict[str, Any]]]:
    return lambda: api.list(dict[str, Any], resource, namespace, labels=selector)


def _remembered(credentials: Credentials, uid: str, what: str, read: Callable[[], T]) -> Callable[[], T]:
    return lambda: credentials.read(uid, what, read)


def _agent(sources: Sources, ref: AgentRef, children: dict[str, dict[str, dict[str, Any]]] | Unseen) -> AgentSeen:
    api = sources.api
    heard: Heard | Unseen | None = None
    mine: dict[str, dict[str, Any]] | Unseen = {}
    if isinstance(children, Unseen):
        heard = mine = children
    else:
        mine = children.get(ref.base, {})
        if "Lease" in mine:
            heard = sources.heartbeats.heard(msgspec.convert(mine["Lease"], type=Lease))
    order = look(lambda: api.get(ConfigMap, paths.CONFIG_MAPS, ref.namespace, ref.base), "an agent's order")
    secret = look(
        _remembered(
            sources.credentials,
            ref.pair_uid,
            f"Secret {ref.base}",
            lambda: api.get_metadata(PartialObject, paths.SECRETS, ref.namespace, ref.base),
        ),
        "a certificate",
    )
    return AgentSeen(
        ref=ref,
        order=_order(order) if isinstance(order, ConfigMap) else order,
        heard=heard,
        certificate=_certificate(secret) if isinstance(secret, PartialObject) else secret,
        children=mine,
    )


def _order(found: ConfigMap) -> OrderSeen | BrokenOrder:
    version = found.metadata.resource_version
    try:
        order = decode(Order, found.data.get(ORDER_KEY, ""))
    except BadInput as e:
        number = found.metadata.annotations.get(labels.INSTANCE, "")
        return BrokenOrder(version, e.message, int(number) if number.isascii() and number.isdigit() else 0)
    return OrderSeen(order, version, kept_of(found.metadata.annotations))


def _certificate(found: PartialObject) -> CertificateSeen:
    notes = found.metadata.annotations
    return CertificateSeen(not_after=notes.get(labels.NOT_AFTER, ""), issuer=notes.get(labels.ISSUER, ""))


def _other(raw: Mapping[str, Any]) -> OtherPair:
    meta = raw["metadata"]
    volumes = raw.get("spec", {}).get("volumes", [])
    mirrors = ((v.get("source", {}).get("claimName", ""), v.get("target", {}).get("claimName", "")) for v in volumes)
    return OtherPair(
        name=meta["name"],
        uid=meta["uid"],
        created=meta.get("creationTimestamp", ""),
        mirrors=frozenset(mirrors),
        deleting="deletionTimestamp" in meta,
    )
