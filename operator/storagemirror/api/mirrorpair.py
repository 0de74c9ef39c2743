"""MirrorPair: what a person asks for, and the object as a whole."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from storagemirror.api.agents import Agents
from storagemirror.api.claims import ClaimName, ClaimTemplate
from storagemirror.api.meta import ObjectMeta
from storagemirror.api.mirroring import MAX_RULES, MirrorRule, Orphans
from storagemirror.api.model import API_VERSION, ATOMIC, DNS_LABEL, ApiModel, map_by, rule, rules
from storagemirror.api.replication import Replication
from storagemirror.api.sides import FailoverPolicy, Monitoring, Service, Sides
from storagemirror.api.status import MirrorPairStatus
from storagemirror.api.transfer import Transfer
from storagemirror.api.verify import Verify
from storagemirror.contract import CompareBy, TargetPolicy

KIND = "MirrorPair"
PLURAL = "mirrorpairs"
MAX_NAME = 63
"""A pair's name is a label value of its children; the children's own names are shortened where they must be."""
MAX_VOLUMES = 16


class SourceVolume(ApiModel):
    """The side that the application writes."""

    claim_name: ClaimName = Field(
        description="Name of the PersistentVolumeClaim that the application writes, in the pair's namespace. It is "
        "mounted read-only by the pair and never changed by it."
    )


class TargetVolume(ApiModel):
    """The side that holds the copy."""

    claim_name: ClaimName = Field(
        description="Name of the PersistentVolumeClaim that holds the copy, in the pair's namespace. Everything in "
        "it is made equal to the source, what the source does not have is deleted: no one else may write it."
    )
    claim_template: ClaimTemplate | None = Field(
        default=None,
        description="Makes the target claim when it does not exist. It is made once and never changed or deleted "
        "afterwards, so deleting the pair leaves the copy. Left out: the claim must exist.",
    )


class Volume(ApiModel):
    """One volume and its copy."""

    model_config = rules(
        rule(
            "self.source.claimName != self.target.claimName",
            "source and target must be two different claims: a volume cannot be its own copy",
            field=".target.claimName",
        ),
        rule(
            "self.source.claimName == oldSelf.source.claimName && self.target.claimName == oldSelf.target.claimName",
            "the claims of a volume cannot change: remove this volume and add one with another name, "
            "so that no copy is taken for that of another claim",
        ),
    )

    name: str = Field(
        min_length=1,
        max_length=63,
        pattern=DNS_LABEL,
        description="Short name of this volume within the pair, such as data: small letters, digits and '-'. It "
        "names the volume in the status and in the names of the agent pods.",
    )
    source: SourceVolume = Field(description="Where the application writes.")
    target: TargetVolume = Field(description="Where the copy is kept.")


class Keep(ApiModel):
    """What is kept only where it is asked for. All else that the target can hold is always kept."""

    access_times: bool = Field(
        default=False,
        description="Keep the access times of regular files too. Each file that was read on the source since is then "
        "one whose attributes are sent.",
    )
    selinux: bool = Field(
        default=False,
        description="Keep SELinux labels (security.selinux), where the target's kernel and the agent's privilege "
        "allow. Kubernetes gives each volume the label of its pod by itself.",
    )


class Mirror(ApiModel):
    """How the full comparison of both sides behaves, and its guards."""

    model_config = rules(
        rule(
            "!self.ignoreDeletes || (self.orphans.policy != 'Move' && !has(self.orphans.olderThan))",
            "with ignoreDeletes orphans stay where they are: leave out orphans.policy Move and orphans.olderThan",
            field=".ignoreDeletes",
        ),
    )

    target: TargetPolicy = Field(
        default=TargetPolicy.EMPTY,
        description="What the first mirror may find on the target. Empty (default): nothing but lost+found, or a "
        "copy that this pair made itself; anything else is refused with TargetNotEmpty and left alone. Adopt: "
        "whatever is there is made equal to the source, and what the source does not have is deleted.",
    )
    max_delete_percent: int = Field(
        default=50,
        ge=0,
        le=100,
        description="Guard against copying a disaster: when more than this percentage of the files and directories "
        "counted at the last full mirror would be deleted (counted together since then, from 10 up), nothing more is "
        "deleted and the volume is Held until a person confirms it. 100 switches the guard off, 0 holds at every "
        "deletion from 10 up.",
    )
    confirm: str | None = Field(
        default=None,
        max_length=128,
        description="Lets exactly one hold through: copy the token of status.volumes[].hold here. A later hold has "
        "another token, so a value left behind does no harm.",
    )
    compare: CompareBy = Field(
        default=CompareBy.SIZE_AND_TIME,
        description="How a file that both sides have is judged. SizeAndTime (default): by size, time and attributes. "
        "Checksum: after that also by its content, which reads both volumes whole, at most a twentieth of the time. "
        "Newer: as SizeAndTime, but a file that is newer on the target is left as it is, and counted in "
        "status.volumes[].leftAlone.",
    )
    rules: tuple[MirrorRule, ...] | None = Field(
        default=None,
        max_length=MAX_RULES,
        description="What is mirrored, in the language of .gitignore: of all rules that match an entry the last one "
        "counts, and nothing in an excluded directory is looked at. What is left out is not sent, and what the target "
        "has of it is left alone. Left out: everything is mirrored.",
        json_schema_extra=ATOMIC,
    )
    orphans: Orphans = Field(
        default=Orphans(),
        description="What becomes of what the target has and the source has not. A restore does not obey it: the live "
        "side is brought home as it is.",
    )
    ignore_deletes: bool = Field(
        default=False,
        description="true: what is deleted on the source stays on the target, and so does everything else that only "
        "the target has, whatever orphans says.",
    )
    keep: Keep = Field(default=Keep(), description="What is kept only where it is asked for.")


class MirrorPairSpec(ApiModel):
    """What is wanted."""

    model_config = rules(
        rule(
            "quantity(string(self.replication.queue.memory)).compareTo("
            "quantity(string(self.agents.resources.limits.memory))) < 0",
            "replication.queue.memory must be less than agents.resources.limits.memory",
            field=".replication",
        ),
        rule(
            "!has(self.replication.remirror) || self.replication.remirror != 'Checksum' || "
            "self.mirror.compare != 'Newer'",
            "remirror Checksum would send again what mirror.compare Newer leaves alone: leave it out",
            field=".replication",
        ),
        rule(
            "self.volumes.all(v, self.volumes.exists_one(w, w.target.claimName == v.target.claimName))",
            "two volumes have the same target claim: each copy needs a claim of its own",
            field=".volumes",
        ),
        rule(
            "self.volumes.all(v, self.volumes.exists_one(w, w.source.claimName == v.source.claimName))",
            "two volumes have the same source claim: for a second copy of it make a second MirrorPair",
            field=".volumes",
        ),
        rule(
            "self.volumes.all(v, !self.volumes.exists(w, v.name != w.name && "
            "w.source.claimName == v.target.claimName))",
            "a claim is the source of one volume and the target of another: a copy cannot be written by two sides",
            field=".volumes",
        ),
        rule(
            "!has(self.services) || size(self.services) == 0 || has(self.sides)",
            "services follow the live side: name the workloads of both in sides",
            field=".services",
        ),
        rule(
            "!has(self.services) || !has(self.sides) || self.services.all(s, !has(s.workloads) || "
            "(self.sides.source.workloads.exists(w, w.name == s.workloads.source) && "
            "self.sides.target.workloads.exists(w, w.name == s.workloads.target)))",
            "a Service names a workload that its side does not have: name one of sides.source.workloads and one of "
            "sides.target.workloads",
            field=".services",
        ),
    )

    volumes: tuple[Volume, ...] = Field(
        min_length=1,
        max_length=MAX_VOLUMES,
        description="The volumes to keep a copy of: one or more, told apart by name. Several volumes of one "
        "application belong into one pair.",
        json_schema_extra=map_by("name"),
    )
    sides: Sides | None = Field(
        default=None,
        description="The application's workloads on both sides. Left out: a copy that nobody fails over to.",
    )
    services: tuple[Service, ...] = Field(
        default=(),
        max_length=16,
        description="Services that follow the live side.",
        json_schema_extra=map_by("name"),
    )
    monitoring: Monitoring = Field(default=Monitoring(), description="When the source counts as not heard any more.")
    failover: FailoverPolicy = Field(default=FailoverPolicy(), description="The rules of a failover.")
    mirror: Mirror = Field(
        default=Mirror(),
        description="How the two sides are made equal, and what stops it from destroying a good copy.",
    )
    transfer: Transfer = Field(
        default=Transfer(), description="How fast the copy may be sent, and whether it is compressed."
    )
    replication: Replication = Field(
        default=Replication(), description="How changes reach the copy: as they come, or as points in time."
    )
    verify: Verify | None = Field(
        default=None,
        description="When both sides are compared by checksum, file by file, while replication goes on. Left out: "
        "never but before a planned failover.",
    )
    agents: Agents = Field(
        default=Agents(),
        description="The agent pods, one beside each volume's two sides: their rights, size and placement.",
    )
    paused: bool = Field(
        default=False,
        description="true: stop copying and leave both sides as they are; the agents keep their place. false: go on "
        "from there. Nothing that changed meanwhile is lost: both sides are compared again.",
    )


class MirrorPair(ApiModel):
    """Keeps a live copy of volumes (PersistentVolumeClaims) on any storage.

    An agent pod beside each side reads the source and writes the copy; after a first full mirror, changes are copied
    as they happen. Smallest pair: spec.volumes with a name, a source and a target claim. `kubectl get mirrorpairs`
    shows how far the copy is; the conditions say what is wrong and what to do.
    """

    api_version_text: ClassVar[str] = API_VERSION

    metadata: ObjectMeta
    spec: MirrorPairSpec = Field(description="What is wanted. Written by you.")
    status: MirrorPairStatus = Field(
        default=MirrorPairStatus(), description="What is. Written by the operator; do not edit."
    )
