"""The part of an object's metadata that the operator reads."""

from __future__ import annotations

from pydantic import Field

from storagemirror.api.model import ApiModel


class ObjectMeta(ApiModel):
    """Of any kind of ours."""

    name: str
    namespace: str = ""
    uid: str = ""
    generation: int = 0
    resource_version: str = ""
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)
