"""What a source agent does beside following: a proof before a failover first, a verification when there is none."""

from __future__ import annotations

from storagemirror.agent.prove import ProvableSession, Prover, Volume
from storagemirror.agent.verify import Verifier
from storagemirror.contract import Problem
from storagemirror.sync.changes import Drained
from storagemirror.sync.proving import Want


class Checks:
    """Both ask the target for sums, and only one may at a time. For the thread that follows the changes."""

    def __init__(self, prover: Prover, verifier: Verifier) -> None:
        self._prover = prover
        self._verifier = verifier

    @property
    def problem(self) -> Problem | None:
        """Why there is no proof yet."""
        return self._prover.problem

    def connect(self, session: ProvableSession, volume: Volume) -> None:
        """A new connection."""
        self._prover.connect(session, volume)
        self._verifier.connect(session, volume)

    def forget(self) -> None:
        """The volume was let go of."""
        self._prover.forget()

    def note(self, changes: Drained) -> None:
        """What the watch has told."""
        self._prover.note(changes)
        self._verifier.note(changes)

    def advance(self) -> Want | None:
        """A slice of work, and what is wanted before the next; None where there is none."""
        if self._prover.wanted:
            self._verifier.drop()
            return self._prover.advance()
        return self._verifier.advance()
