"""Who an agent is, and what its objects are called."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from storagemirror.api.model import API_VERSION
from storagemirror.contract import Role
from storagemirror.resources import labels

NAME_LIMIT = 52
"""So that a pod's name, which adds its number, still fits into a host name of 63 characters."""
HASH_DIGITS = 6


@dataclass(frozen=True)
class AgentRef:
    """One agent: the role that it has for one volume of one pair."""

    pair_name: str
    pair_uid: str
    namespace: str
    volume: str
    role: Role

    @cached_property
    def base(self) -> str:
        """Name of the agent's objects; its pods add their number.

        The hash is of the pair's UID, the volume and the role. It keeps apart what would read the same (pair `a-b`,
        volume `c`; pair `a`, volume `b-c`), and a pair from the one of the same name that was deleted a second ago and
        whose objects are still being collected.
        """
        digest = hashlib.sha256(f"{self.pair_uid}/{self.volume}/{self.role}".encode()).hexdigest()[:HASH_DIGITS]
        tail = f"-{self.role.value.lower()}-{digest}"
        head = f"{self.pair_name}-{self.volume}".replace(".", "-")
        return head[: NAME_LIMIT - len(tail)].rstrip("-") + tail

    def pod_name(self, instance: int) -> str:
        """Name of pod number `instance`."""
        return f"{self.base}-{instance}"

    @property
    def labels(self) -> dict[str, str]:
        """On every object of this agent."""
        found = {
            labels.APP_NAME: labels.STORAGEMIRROR,
            labels.APP_COMPONENT: labels.AGENT,
            labels.PAIR: self.pair_uid,
            labels.VOLUME: self.volume,
            labels.ROLE: self.role.value.lower(),
        }
        if len(self.pair_name) <= labels.LABEL_LIMIT:
            found[labels.PAIR_NAME] = self.pair_name
        return found

    def owner(self, *, controller: bool = False) -> dict[str, Any]:
        """Reference to the pair. `blockOwnerDeletion` stays off: nothing of ours may hold up the pair's deletion."""
        return {
            "apiVersion": API_VERSION,
            "kind": "MirrorPair",
            "name": self.pair_name,
            "uid": self.pair_uid,
            "controller": controller,
            "blockOwnerDeletion": False,
        }

    def metadata(self, *, annotations: dict[str, str] | None = None) -> dict[str, Any]:
        """Of an object that is named as the agent itself."""
        found: dict[str, Any] = {
            "name": self.base,
            "namespace": self.namespace,
            "labels": self.labels,
            "ownerReferences": [self.owner()],
        }
        if annotations:
            found["annotations"] = annotations
        return found


def digest(value: object) -> str:
    """Short digest of a value that prints the same whenever it is the same."""
    return hashlib.sha256(repr(value).encode()).hexdigest()[:16]
