"""Failover: make the copy the live side. One shot: it runs once, for one epoch, and shows what came of it for ever."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from storagemirror.api.meta import ObjectMeta
from storagemirror.api.model import API_VERSION, DNS_LABEL, ApiModel, Count, rule, rules
from storagemirror.api.operation import Mode
from storagemirror.api.outcome import Outcome, approval_stays, ended_stays

KIND = "Failover"
PLURAL = "failovers"

END_STAYS = "a Failover that has ended stays as it ended"


class AcceptLoss(ApiModel):
    """What a person is willing to lose."""

    seconds: Count | None = Field(
        default=None, description="Go on although the copy was up to so many seconds behind, more than maxLag allows."
    )
    bytes: Count | None = Field(
        default=None, description="Go on only while no more than so many bytes of known changes are not on the copy."
    )
    unknown: bool = Field(default=False, description="Go on although it is not known how far the copy was behind.")
    no_point: bool = Field(
        default=False,
        description="Go on although the pair's consistency is Point and the copy is at no point: some files may be of "
        "one moment and some of the next, and a database on them may not start. The same where the copies of several "
        "volumes are at points of different moments.",
    )


class FailoverSpec(ApiModel):
    """What is asked for."""

    model_config = rules(
        rule(
            "self.pairName == oldSelf.pairName && self.fromEpoch == oldSelf.fromEpoch && self.mode == oldSelf.mode",
            "pairName, fromEpoch and mode cannot change: a Failover runs once; make another one",
        ),
        *approval_stays(KIND),
    )

    pair_name: str = Field(
        min_length=1, max_length=63, pattern=DNS_LABEL, description="Name of the MirrorPair, of the same namespace."
    )
    from_epoch: int = Field(
        ge=1,
        description="status.epoch of the pair that this is for. At another epoch it ends in Superseded, so that what "
        "Git makes again does not run again.",
        json_schema_extra={"format": "int64"},
    )
    mode: Mode = Field(
        default=Mode.PLANNED,
        description="Planned (default): prove both sides equal while the application runs, stop it, send and prove "
        "the rest, switch; nothing is lost. Unplanned: the source is gone; promote what the copy has, once it is "
        "proven that nobody writes the source any more.",
    )
    approved: bool = Field(default=False, description="A person says yes. Needs the right `approve` on failovers.")
    approved_by: str | None = Field(
        default=None, max_length=253, description="Who says yes: the name of the user who sets approved."
    )
    accept_loss: AcceptLoss | None = Field(
        default=None,
        description="Promote a copy that is further behind than spec.failover.maxLag of the pair, or (noPoint) at no "
        "point. Needs the right `approve`.",
    )
    accept_split_brain: bool = Field(
        default=False,
        description="Promote although it is not proven that every writer of the source has ended: you have seen to "
        "it yourself (the node is off, its disk is gone). If you are wrong, two sides write. Needs the right "
        "`approve`.",
    )


class FailoverStatus(Outcome):
    """What came of it."""

    model_config = rules(ended_stays(END_STAYS))

    automatic: bool = Field(default=False, description="Made by the operator, because the source failed.")


class Failover(ApiModel):
    """Makes the copy of a MirrorPair the live side: fences the source, promotes the copy, starts the standby, turns
    the Services. Runs once, for one epoch; what came of it stays in the status: a timeline, the proofs, what was lost
    (rpoSeconds), how long it took (rtoSeconds). The operator makes one by itself when a source fails.
    """

    api_version_text: ClassVar[str] = API_VERSION

    metadata: ObjectMeta
    spec: FailoverSpec = Field(description="What is asked for. Written by you, or by the operator.")
    status: FailoverStatus = Field(
        default=FailoverStatus(), description="What came of it. Written by the operator; do not edit."
    )
