"""Conditions by the conventions of the Kubernetes API, and the one way to set one."""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import StrEnum

from pydantic import Field

from storagemirror.api.model import ApiModel, Count, Time
from storagemirror.api.reasons import Reason, advised

MAX_MESSAGE = 4096
MAX_REASON = 256
REASON = r"[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?"
"""As `metav1.Condition` wants it."""


class ConditionType(StrEnum):
    """What conditions speak of. For all but Reconciling, Stalled, Held, Drifted, ChangesMissed and QueueAlert, True is
    good."""

    READY = "Ready"
    """The copy of every volume is whole and follows (kstatus, Flux, Argo CD and `kubectl wait` read this)."""
    RECONCILING = "Reconciling"
    """The operator or its agents are on the way to Ready by themselves (kstatus)."""
    STALLED = "Stalled"
    """No way on unless somebody changes something (kstatus)."""
    REPLICATING = "Replicating"
    """The first full mirror is whole and live changes flow."""
    CLAIMS_READY = "ClaimsReady"
    """The claims exist, are bound (or will be with the first pod), and can be mounted beside the application."""
    AGENTS_READY = "AgentsReady"
    """Both agents of every volume run and are heard."""
    CONNECTED = "Connected"
    """The two agents of every volume reach each other."""
    HELD = "Held"
    """A volume stopped on purpose before harm was done and waits for a person's word."""
    FENCEABLE = "Fenceable"
    """Every pod that may write the source is known, and the gate works (only where the pair names its sides)."""
    PROMOTABLE = "Promotable"
    """The copy is whole, and exactly one point where the pair asks for points: it could be promoted now, or where the
    source died (only with sides)."""
    SERVICES_READY = "ServicesReady"
    """The pair's Services are turned to the live side (only where it has some)."""
    SEPARATE_NODES = "SeparateNodes"
    """The two sides are on different nodes, so that one node's death leaves a copy."""
    EVERYTHING_KEPT = "EverythingKept"
    """Nothing of the source was left out of the copy, nor owner, mode or attribute lost."""
    CRASH_CONSISTENT = "CrashConsistent"
    """The copy is a point in time of the source, as a power cut would leave it."""
    DRIFTED = "Drifted"
    """Somebody else has changed the copy (only where that was ever found)."""
    CHANGES_MISSED = "ChangesMissed"
    """Something was changed on the source without a word (only where that was ever found)."""
    QUEUE_ALERT = "QueueAlert"
    """So much waits for the target that somebody should look (only where the source's agent has said how much)."""
    ON_SCHEDULE = "OnSchedule"
    """Every run that was due is done, or is going on (only with mode Scheduled or Manual)."""
    VERIFIED = "Verified"
    """The last verification found both sides equal (only where the pair asks for some)."""


BAD_WHEN_TRUE = frozenset(
    {
        ConditionType.STALLED,
        ConditionType.HELD,
        ConditionType.DRIFTED,
        ConditionType.CHANGES_MISSED,
        ConditionType.QUEUE_ALERT,
    }
)


class ConditionStatus(StrEnum):
    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class Condition(ApiModel):
    """One condition."""

    type: str = Field(min_length=1, max_length=316, description="What this condition speaks of.")
    status: ConditionStatus = Field(description="True, False or Unknown.")
    reason: str = Field(
        min_length=1,
        max_length=1024,
        pattern=f"^{REASON}$",
        description="Why, as one word that programs can rely on.",
    )
    message: str = Field(default="", max_length=32768, description="Why, for people, and what to do about it.")
    last_transition_time: Time = Field(description="When the status last changed (not the reason or message).")
    observed_generation: Count | None = Field(
        default=None, description="The metadata.generation of the spec that this condition speaks of."
    )

    @property
    def is_true(self) -> bool:
        return self.status is ConditionStatus.TRUE


def condition(
    kind: ConditionType, status: ConditionStatus, reason: Reason | str, message: str, *, generation: int, now: str
) -> Condition:
    """A condition as it is now; the reason's hint is added to the message where the status is not the good one.

    What cannot be a reason (an agent may say anything) becomes `Unknown`, and is told in the message.
    """
    if len(reason) > MAX_REASON or re.fullmatch(REASON, reason) is None:
        reason, message = Reason.UNKNOWN, f"{message} (reason given: {str(reason)[:MAX_REASON]!r})".strip()
    bad_when_true = kind in BAD_WHEN_TRUE
    neutral = kind is ConditionType.RECONCILING
    good = ConditionStatus.FALSE if bad_when_true else ConditionStatus.TRUE
    text = message
    if not neutral and status is not good:
        text = advised(message, reason)
    return Condition(
        type=kind.value,
        status=status,
        reason=str(reason),
        message=text[:MAX_MESSAGE],
        last_transition_time=now,
        observed_generation=generation,
    )


def set_condition(conditions: Iterable[Condition], new: Condition) -> tuple[Condition, ...]:
    """`conditions` with `new` in the place of the one of its type (or at the end).

    `lastTransitionTime` moves only when the status flips: reason and message may change without it. Setting an equal
    condition again gives back equal conditions, whatever the time.
    """
    kept = tuple(conditions)
    old = next((c for c in kept if c.type == new.type), None)
    if old is None:
        return (*kept, new)
    if old.status is new.status:
        new = new.model_copy(update={"last_transition_time": old.last_transition_time})
    return tuple(new if c.type == new.type else c for c in kept)


def drop_condition(conditions: Iterable[Condition], kind: ConditionType) -> tuple[Condition, ...]:
    """`conditions` without the one of type `kind`."""
    return tuple(c for c in conditions if c.type != kind.value)


def find_condition(conditions: Iterable[Condition], kind: ConditionType) -> Condition | None:
    """The condition of type `kind`, or None."""
    return next((c for c in conditions if c.type == kind.value), None)
