"""Services that follow the live side: what to do about them, what is wrong with them, and whether they are turned."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from storagemirror.api.conditions import ConditionType
from storagemirror.api.mirrorpair import MirrorPair
from storagemirror.api.reasons import Reason
from storagemirror.api.sides import Service, ServiceStrategy, Side
from storagemirror.plan.answering import ANSWER_PATIENCE, answers, targets_to_reach
from storagemirror.plan.children import covers
from storagemirror.plan.decisions import Action, ApplyService, LabelPod, Verdict
from storagemirror.plan.living import (
    answering,
    answering_object,
    pods_of,
    seen,
    side_of,
    undecided,
    workloads_of,
)
from storagemirror.plan.objects import Pod, ServiceObject, WorkloadObject
from storagemirror.plan.observed import Observed, Unseen
from storagemirror.resources import labels
from storagemirror.resources.service import managed_service

__all__ = [
    "ANSWER_PATIENCE",
    "answers",
    "ours",
    "service_steps",
    "service_verdict",
    "service_warning",
    "side_of",
    "targets_to_reach",
    "turned",
]

_NOT_LOOKED_AT = Unseen("it was not looked at")


def _object(observed: Observed, service: Service) -> ServiceObject | Unseen | None:
    return observed.services.get(service.name, _NOT_LOOKED_AT)


def ours(found: ServiceObject, pair: MirrorPair) -> bool:
    """Whether an operator made it for this pair, or for an earlier one of the same name."""
    meta = found.metadata
    if meta.labels.get(labels.APP_MANAGED_BY) != labels.STORAGEMIRROR:
        return False
    by_name = meta.labels.get(labels.PAIR_NAME) == pair.metadata.name
    return by_name or meta.annotations.get(labels.PAIR) == pair.metadata.uid


def service_steps(observed: Observed, now: datetime) -> tuple[Action, ...]:
    """What is to be done so that the Services point to the live side. Nothing while both sides are closed, and nothing
    about what could not be looked at, is another's, or cannot be said by a selector."""
    del now  # Whether a Service is turned does not hang on the time.
    if undecided(observed.pair):
        return ()
    services = observed.pair.spec.services
    steps: list[Action] = [
        step for s in services if s.strategy is ServiceStrategy.MANAGED and (step := _managed(observed, s)) is not None
    ]
    return (*steps, *_label_steps(observed))


def _managed(observed: Observed, service: Service) -> ApplyService | None:
    manifest = _manifest(observed, service)
    found = _object(observed, service)
    if manifest is None or isinstance(found, Unseen):
        return None
    if found is None:
        return ApplyService(manifest)
    if (
        not ours(found, observed.pair)
        or found.metadata.deletion_timestamp is not None
        or _as_it_should(found, manifest)
    ):
        return None
    return ApplyService(manifest)


def _manifest(observed: Observed, service: Service) -> dict[str, Any] | None:
    """As the Service must be; None where the live side's workload does not tell."""
    workload = answering_object(observed, service, side_of(observed.pair))
    if workload is None or not _plain(workload):
        return None
    meta = observed.pair.metadata
    return managed_service(
        meta.namespace,
        service.name,
        pair_name=meta.name,
        pair_uid=meta.uid,
        selector=workload.spec.selector.match_labels,
        ports=service.ports,
    )


def _plain(workload: WorkloadObject) -> bool:
    """Whether a Service's selector, which knows labels alone, can say the same."""
    return bool(workload.spec.selector.match_labels) and not workload.spec.selector.match_expressions


def _as_it_should(found: ServiceObject, manifest: dict[str, Any]) -> bool:
    """Whether the object is as the manifest wants it. A selector with a label too many selects other pods; a port too
    many is another's, or is told by the digest."""
    there = msgspec.to_builtins(found)
    wanted = manifest["spec"]
    ports = [any(covers(p, w) for p in there["spec"]["ports"]) for w in wanted["ports"]]
    meta = {k: manifest["metadata"][k] for k in ("labels", "annotations")}
    return bool(
        covers(there["metadata"], meta)
        and found.spec.selector == wanted["selector"]
        and not found.spec.publish_not_ready_addresses
        and all(ports)
    )


def _label_steps(observed: Observed) -> tuple[LabelPod, ...]:
    """The label of the live side for the pods that answer, and off all other pods of the pair's workloads."""
    pair, live = observed.pair, side_of(observed.pair)
    services = [s for s in pair.spec.services if s.strategy is ServiceStrategy.LABEL]
    named = [w for side in Side for w in workloads_of(pair, side)]
    objects = [seen(observed, w) for w in named]
    if not services or isinstance(observed.pods, Unseen) or any(isinstance(o, Unseen) for o in objects):
        return ()
    here = [answering_object(observed, s, live) for s in services]
    wanted = {p.metadata.uid for o in here if o is not None and _plain(o) for p in pods_of(observed, o)}
    of_the_pair = {
        p.metadata.uid for o in objects if isinstance(o, WorkloadObject) and _plain(o) for p in pods_of(observed, o)
    }
    bears = {p.metadata.uid for p in observed.pods if p.metadata.labels.get(labels.LIVE) == pair.metadata.name}
    off = [_label(pair, p, None) for p in observed.pods if p.metadata.uid in (of_the_pair & bears) - wanted]
    on = [
        _label(pair, p, pair.metadata.name)
        for p in observed.pods
        if p.metadata.uid in wanted - bears and not p.leaving and not p.over
    ]
    # First off: a Service that answers from nobody for a moment does less harm than one that answers from both.
    return (*off, *on)


def _label(pair: MirrorPair, pod: Pod, value: str | None) -> LabelPod:
    return LabelPod(pair.metadata.namespace, pod.metadata.name, pod.metadata.uid, labels.LIVE, value)


def service_verdict(observed: Observed) -> Verdict | None:
    """What is wrong with the pair's Services; the first that there is."""
    found = (_wrong(observed, s) for s in observed.pair.spec.services)
    return next((Verdict(ConditionType.SERVICES_READY, *wrong) for wrong in found if wrong is not None), None)


def _wrong(observed: Observed, service: Service) -> tuple[Reason, str] | None:
    return _wrong_workloads(observed, service) or _wrong_object(observed, service)


def _wrong_workloads(observed: Observed, service: Service) -> tuple[Reason, str] | None:
    for side in Side:
        workload = answering(observed.pair, service, side)
        where = f"the {side.value.lower()} side"
        if workload is None:
            message = f"Service {service.name} names a workload of {where} that spec.sides does not."
            return Reason.WORKLOAD_MISSING, message
        there = seen(observed, workload)
        if there is None:
            message = f"{workload.kind} {workload.name} of {where}, which Service {service.name} points to, is missing."
            return Reason.WORKLOAD_MISSING, message
        if isinstance(there, WorkloadObject) and not _plain(there):
            message = (
                f"{workload.kind} {workload.name} selects its pods by matchExpressions; a Service needs matchLabels, "
                f"so Service {service.name} cannot point to them."
            )
            return Reason.SERVICE_AMBIGUOUS, message
    source, target = (answering_object(observed, service, side) for side in Side)
    if source is None or target is None or not (_takes_in(source, target) or _takes_in(target, source)):
        return None
    both = f"{source.metadata.name} and {target.metadata.name}"
    message = f"Service {service.name} would answer from both sides: the labels of {both} do not tell their pods apart."
    return Reason.SERVICE_AMBIGUOUS, message


def _takes_in(one: WorkloadObject, another: WorkloadObject) -> bool:
    """Whether the selector of `one` selects the pods of `another`."""
    return one.spec.selector.match_labels.items() <= another.spec.template.metadata.labels.items()


def _wrong_object(observed: Observed, service: Service) -> tuple[Reason, str] | None:
    found, pair = _object(observed, service), observed.pair
    label = service.strategy is ServiceStrategy.LABEL
    if isinstance(found, Unseen):
        return None
    if found is None:
        message = f"Service {service.name} does not exist."
        return (Reason.SERVICE_MISSING, message) if label else None
    if not label and not ours(found, pair):
        return Reason.SERVICE_NOT_OURS, f"Service {service.name} exists, and was not made for this pair."
    if found.spec.publish_not_ready_addresses:
        message = f"Service {service.name} has publishNotReadyAddresses: it would answer from pods that are not Ready."
        return Reason.SERVICE_UNSAFE, message
    if label and not _selects_live(found, pair):
        message = (
            f"The selector of Service {service.name} lacks {labels.LIVE}: {pair.metadata.name}, "
            "so it does not follow the live side."
        )
        return Reason.SERVICE_UNSAFE, message
    return None


def _selects_live(found: ServiceObject, pair: MirrorPair) -> bool:
    return found.spec.selector.get(labels.LIVE) == pair.metadata.name


def service_warning(observed: Observed) -> tuple[Reason, str] | None:
    """What is worth a word and stops nothing."""
    for service in observed.pair.spec.services:
        found = _object(observed, service)
        if isinstance(found, ServiceObject) and found.spec.cluster_ip == "None":
            message = f"Service {service.name} is headless: clients hold the addresses of the pods themselves."
            return Reason.SERVICE_HEADLESS, message
    return None


def turned(observed: Observed) -> str | None:
    """Why not every Service of the pair points to the live side yet; None when all do, as the objects read say."""
    found = (_not_turned(observed, s) for s in observed.pair.spec.services)
    return next((why for why in found if why is not None), None)


def _not_turned(observed: Observed, service: Service) -> str | None:
    found, live = _object(observed, service), side_of(observed.pair)
    if isinstance(found, Unseen):
        return f"Service {service.name}: {found.why}"
    if found is None:
        return f"Service {service.name} does not exist"
    if service.strategy is ServiceStrategy.LABEL:
        return _not_labelled(observed, service, found)
    manifest = _manifest(observed, service)
    if manifest is None:
        return f"Service {service.name}: the workload of the {live.value.lower()} side does not tell its labels"
    if not ours(found, observed.pair):
        return f"Service {service.name} was not made for this pair"
    if found.spec.selector != manifest["spec"]["selector"]:
        return f"Service {service.name} does not point to the {live.value.lower()} side yet"
    return None


def _not_labelled(observed: Observed, service: Service, found: ServiceObject) -> str | None:
    live = side_of(observed.pair)
    if not _selects_live(found, observed.pair):
        return f"Service {service.name} does not select {labels.LIVE}: {observed.pair.metadata.name}"
    here = answering_object(observed, service, live)
    if here is None or isinstance(observed.pods, Unseen):
        return f"Service {service.name}: the pods of the {live.value.lower()} side could not be looked at"
    name = observed.pair.metadata.name
    pods = [p for p in pods_of(observed, here) if not p.leaving and not p.over]
    if pods and not any(p.metadata.labels.get(labels.LIVE) == name for p in pods):
        return f"Service {service.name}: no pod of the {live.value.lower()} side bears {labels.LIVE} yet"
    there = answering_object(observed, service, live.other)
    mine = {p.metadata.uid for p in pods_of(observed, here)}
    left = [p for p in pods_of(observed, there) if p.metadata.uid not in mine] if there is not None else []
    if any(p.metadata.labels.get(labels.LIVE) == name for p in left):
        return f"Service {service.name}: pods of the {live.other.value.lower()} side still bear {labels.LIVE}"
    return None
