"""Claims that the operator makes when they do not exist."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from storagemirror.api.model import ATOMIC, DNS_LABEL, DNS_SUBDOMAIN, ApiModel, Quantity, rule, rules

ClaimName = Annotated[str, Field(min_length=1, max_length=253, pattern=DNS_SUBDOMAIN)]


class AccessMode(StrEnum):
    """How a claim that is made may be mounted. ReadWriteOncePod is not offered: an agent could not mount it as well."""

    READ_WRITE_ONCE = "ReadWriteOnce"
    READ_WRITE_MANY = "ReadWriteMany"


class StorageRequest(ApiModel):
    """The size asked for."""

    model_config = rules(
        rule(
            "quantity(string(self.storage)).compareTo(quantity('0')) > 0",
            "storage must be more than 0, such as 10Gi",
            field=".storage",
        )
    )

    storage: Quantity = Field(
        description="Size of the claim, such as 10Gi. Give it at least what the source holds; a little more leaves "
        "room for the copy's own bookkeeping."
    )


class ClaimResources(ApiModel):
    """As in a PersistentVolumeClaim."""

    requests: StorageRequest = Field(description="As in a PersistentVolumeClaim: what the claim asks for.")


class ClaimTemplate(ApiModel):
    """How to make a claim when it does not exist."""

    storage_class_name: str | None = Field(
        default=None,
        max_length=253,
        description="Storage class of the claim that is made. Left out: the cluster's default class. It need not be "
        "the source's class, nor the same kind of storage.",
    )
    access_modes: tuple[AccessMode, ...] = Field(
        default=(AccessMode.READ_WRITE_ONCE,),
        min_length=1,
        max_length=2,
        description="How the claim that is made may be mounted.",
        json_schema_extra=ATOMIC,
    )
    resources: ClaimResources = Field(description="Size of the claim that is made: resources.requests.storage.")


class RestoreTo(ApiModel):
    """Another claim that one of the pair's volumes is copied to."""

    name: str = Field(
        min_length=1, max_length=63, pattern=DNS_LABEL, description="Name of the volume in spec.volumes of the pair."
    )
    claim_name: ClaimName = Field(
        description="Name of the PersistentVolumeClaim that is written, in the pair's namespace: an empty one, and "
        "none that the pair names."
    )
    claim_template: ClaimTemplate | None = Field(
        default=None,
        description="Makes that claim when it does not exist. It is never changed or deleted afterwards. Left out: "
        "the claim must exist.",
    )
