"""Failovers and Restores of one pair: how a test asks for them, and what the API tells of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime

from tests.support import failover_objects as objects
from tests.support import operators
from tests.support.case import Case, Json
from tests.support.watching import Seen

ENDED = ("Completed", "RolledBack", "Failed", "Superseded")


class Operations:
    """One pair in its case. Failovers and Restores are found by their name alone: in a case no two share one."""

    case: Case
    name: str

    # ------------------------------------------------------------ asking

    def failover(
        self, name: str, mode: str = "Planned", *, epoch: int | None = None, approved: bool = True, **spec: object
    ) -> None:
        """Ask for a failover of the pair, from its present epoch, with approval by the user who asks."""
        at = self.status()["epoch"] if epoch is None else epoch
        self.case.apply(objects.failover(name, self.name, mode, at, approved_by=self._user(approved), **spec))

    def restore(
        self, name: str, *, epoch: int | None = None, cut_over: str = "Automatic", to: Json | None = None
    ) -> None:
        """Ask to be brought home from the present epoch, or (`to`: spec.to) for a copy of the live side elsewhere."""
        at = None if to else self.status()["epoch"] if epoch is None else epoch
        self.case.apply(objects.restore(name, self.name, at, cut_over, to))

    def approve(self, name: str, **spec: object) -> str:
        """Approve what waits for it; the user's name."""
        user = str(self._user(True))
        patch = {"spec": {"approved": True, "approvedBy": user, **spec}}
        kind = self._object(name)["kind"].lower()
        self.case.kubectl("patch", kind, name, "--type=merge", "-p", json.dumps(patch))
        return user

    # ------------------------------------------------------------ seeing

    def status(self) -> Json:
        """The pair's status."""
        return self.case.status(self.name)

    def volume(self) -> Json:
        """The status of the pair's volume."""
        return self.case.volume_status(self.name)

    def operation(self) -> Json:
        """status.operation of the pair; empty while there was none."""
        found: Json = self.status().get("operation") or {}
        return found

    def asked(self, kinds: str = "failovers,restores") -> list[Json]:
        """The Failovers and Restores that name this pair, oldest first."""
        items = self.case.get(kinds)["items"]
        mine = [item for item in items if item["spec"]["pairName"] == self.name]
        return sorted(mine, key=lambda item: str(item["metadata"]["creationTimestamp"]))

    def failovers(self) -> list[Json]:
        """The Failovers that name this pair, oldest first."""
        return self.asked("failovers")

    def outcome(self, name: str) -> Json:
        """The status of a Failover or Restore; empty while it has none, and where there is none of that name."""
        found: Json = self._object(name).get("status") or {}
        return found

    def phase(self, name: str) -> str:
        """The phase of a Failover or Restore; empty where `outcome` is."""
        return str(self.outcome(name).get("phase", ""))

    def timeline(self, name: str) -> list[str]:
        """The phases that it went through."""
        return [str(step["phase"]) for step in self.outcome(name).get("timeline") or []]

    def until(self, what: str, probe: Callable[[], bool], seconds: float = 60) -> None:
        """Wait; on failure tell everything there is to tell, the operators' words too."""
        try:
            self.case.until(f"{what} ({self.name})", probe, seconds)
        except Exception as e:
            e.add_note(self.told())
            raise

    def until_phase(self, name: str, *phases: str, seconds: float = 60) -> Json:
        """Until it is in one of the phases; its status. At once wrong where it ended in another."""

        def there() -> bool:
            phase = self.phase(name)
            if phase in ENDED and phase not in phases:
                raise AssertionError(f"{name} ended in {phase}, expected {phases}\n{self.told()}")
            return phase in phases

        self.until(f"{name} to be in {' or '.join(phases)}", there, seconds)
        return self.outcome(name)

    def until_reason(self, name: str, reason: str, seconds: float = 60) -> str:
        """Until it gives a reason; its message."""
        self.until(f"{name} to say {reason}", lambda: self.outcome(name).get("reason") == reason, seconds)
        return str(self.outcome(name)["message"])

    def until_automatic(self, seconds: float = 60, after: int = 0) -> str:
        """Until the operator made a Failover (the one after so many others); its name."""
        self.until("an automatic Failover", lambda: len(self.failovers()) > after, seconds)
        made = self.failovers()[after]
        assert made["metadata"]["labels"]["storagemirror.io/automatic"], made
        return str(made["metadata"]["name"])

    def told(self) -> str:
        """The Failovers and Restores, the Service and the operators' last words."""
        parts = [f"operation of {self.name}: {json.dumps(self.operation(), indent=1)}"]
        for words in (("get", "failovers,restores"), ("get", "services,endpointslices", "-o", "wide")):
            parts.append(f"$ kubectl {' '.join(words)}\n{self.case.kubectl(*words, check=False)}")
        return "\n".join([*parts, operators.told(self.case.cluster)])

    def _object(self, name: str) -> Json:
        """A Failover or Restore; empty where there is none of that name."""
        return next((item for item in self.asked() if item["metadata"]["name"] == name), {})

    def _user(self, wanted: bool) -> str | None:
        """The user who asks; None where it is not wanted."""
        return self.case.kubectl("auth", "whoami", "-o", "jsonpath={.status.userInfo.username}") if wanted else None


def seconds_of(text: str) -> float:
    """A time of the API in Unix seconds."""
    return datetime.fromisoformat(text).timestamp()


def operation_is(*phases: str) -> Callable[[Seen], bool]:
    """For `Watching.once`: the pair's operation is in one of these phases."""

    def holds(seen: Seen) -> bool:
        operation = (seen.object.get("status") or {}).get("operation") or {}
        return operation.get("phase") in phases

    return holds
