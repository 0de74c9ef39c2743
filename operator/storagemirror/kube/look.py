"""One look at the API: what is there, what is not, and what could not be seen."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from storagemirror.errors import ApiUnavailable
from storagemirror.kube.faults import Denied, Missing
from storagemirror.plan.observed import Unseen

T = TypeVar("T")


def look(read: Callable[[], T], what: str) -> T | Unseen | None:
    """What `read` brings; None when it is not there; `Unseen` when that cannot be said."""
    try:
        return read()
    except Missing:
        return None
    except Denied as e:
        return Unseen(f"{what} cannot be read: {e.message}", forbidden=True)
    except ApiUnavailable as e:
        return Unseen(f"{what} cannot be read: {e.message}")
