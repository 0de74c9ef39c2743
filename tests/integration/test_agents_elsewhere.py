"""A copy that is handed over once and for all, with two real processes."""

from __future__ import annotations

from storagemirror.contract import Action, MirrorOrder, Phase
from tests.support.agents import AgentPair, equal_soon, fill, problem, wait_for

ONCE = MirrorOrder(once=True)


def test_it_is_never_overwritten_again_at_a_later_epoch_either(pair: AgentPair) -> None:
    fill(pair.source.volume, 20)
    pair.start(mirror=ONCE)
    pair.until(Phase.REPLICATING)
    equal_soon(pair)
    pair.target.give(action=Action.PROMOTE)

    def handed_over() -> bool:
        report = pair.target.report()
        return report is not None and report.phase is Phase.PROMOTED

    wait_for(handed_over, "the volume to be handed over", 15, pair.tell)
    (pair.target.volume / "mine").write_text("of whoever uses it")
    for agent in (pair.source, pair.target):
        agent.give(action=Action.RUN, epoch=2, mirror=ONCE)
    wait_for(lambda: problem(pair) == "TargetNotEmpty", "a refusal", 20, pair.tell)
    assert (pair.target.volume / "mine").read_text() == "of whoever uses it"
