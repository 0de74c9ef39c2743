"""Restore: bring the application and its data home, or copy the live side elsewhere. One shot, as a Failover is."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from storagemirror.api.claims import RestoreTo
from storagemirror.api.meta import ObjectMeta
from storagemirror.api.model import API_VERSION, DNS_LABEL, ApiModel, map_by, rule, rules
from storagemirror.api.operation import CutOver
from storagemirror.api.outcome import Outcome, approval_stays, ended_stays

KIND = "Restore"
PLURAL = "restores"

END_STAYS = "a Restore that has ended stays as it ended"


class RestoreDestination(ApiModel):
    """Where else."""

    model_config = rules(
        rule(
            "self.volumes.all(v, self.volumes.exists_one(w, w.claimName == v.claimName))",
            "two volumes name the same claim: each needs one of its own",
            field=".volumes",
        )
    )

    volumes: tuple[RestoreTo, ...] = Field(
        min_length=1,
        max_length=16,
        description="Which of the pair's volumes, and the claim that each is copied to.",
        json_schema_extra=map_by("name"),
    )


class RestoreSpec(ApiModel):
    """What is asked for."""

    model_config = rules(
        rule(
            "self.pairName == oldSelf.pairName && has(self.fromEpoch) == has(oldSelf.fromEpoch) && "
            "(!has(self.fromEpoch) || self.fromEpoch == oldSelf.fromEpoch) && has(self.to) == has(oldSelf.to) && "
            "(!has(self.to) || self.to == oldSelf.to)",
            "pairName, fromEpoch and to cannot change: a Restore runs once; make another one",
        ),
        rule(
            "has(self.to) || has(self.fromEpoch)",
            "to bring the application home say from which epoch: fromEpoch is status.epoch of the pair",
            field=".fromEpoch",
        ),
        *approval_stays(KIND),
    )

    pair_name: str = Field(
        min_length=1, max_length=63, pattern=DNS_LABEL, description="Name of the MirrorPair, of the same namespace."
    )
    from_epoch: int | None = Field(
        default=None,
        ge=1,
        description="status.epoch of the pair that this is for. At another epoch it ends in Superseded, so that what "
        "Git makes again does not run again. May be left out only with to.",
        json_schema_extra={"format": "int64"},
    )
    to: RestoreDestination | None = Field(
        default=None,
        description="Copy the live side to other claims, and touch nothing live. Left out: bring the data home to the "
        "source claims, and the application with it.",
    )
    cut_over: CutOver = Field(
        default=CutOver.AUTOMATIC,
        description="Automatic (default): the application moves home as soon as its volumes are whole there and "
        "follow; it stands still for a moment. Needs the right `approve` on failovers. Manual: it waits in "
        "AwaitingCutOver, and is kept up to date, until approved is set.",
    )
    approved: bool = Field(
        default=False,
        description="With cutOver Manual a person says: move now. Needs the right `approve` on failovers.",
    )
    approved_by: str | None = Field(
        default=None, max_length=253, description="Who says so: the name of the user who sets approved."
    )


class RestoreStatus(Outcome):
    """What came of it."""

    model_config = rules(ended_stays(END_STAYS))


class Restore(ApiModel):
    """Brings the application home after a failover: keeps what the old side wrote after it was cut off, copies the live
    side back to the source claims while the application serves, proves both equal, stops the application for a moment,
    sends and proves the rest, and starts it at home; then the pair replicates in its first direction again. With
    spec.to it copies the live side to other claims instead. Runs once, for one epoch; what came of it stays in the
    status.
    """

    api_version_text: ClassVar[str] = API_VERSION

    metadata: ObjectMeta
    spec: RestoreSpec = Field(description="What is asked for. Written by you.")
    status: RestoreStatus = Field(
        default=RestoreStatus(), description="What came of it. Written by the operator; do not edit."
    )
