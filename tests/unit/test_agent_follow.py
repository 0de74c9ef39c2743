"""What a source does with one connection: when it compares, sends and marks, and what it claims."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import pytest

from storagemirror.agent.follow import (
    DISTURBED_SHARE,
    IDLE_SECONDS,
    LATE_SHARE,
    LONGEST_REST,
    MARK_SECONDS,
    MUCH_READ,
    OPEN_NAMES,
    REST_SHARE,
    RETRY_SECONDS,
    Ends,
    Following,
)
from storagemirror.agent.view import View
from storagemirror.contract import Capture, CompareBy, Phase, Problem
from storagemirror.errors import Held, VolumeError, VolumeFull
from storagemirror.fs.identity import Facts
from storagemirror.sync.changes import WHOLE_TREE, Drained
from storagemirror.sync.left import LeftAlone
from storagemirror.sync.observer import Event, EventKind
from storagemirror.sync.proving import Want
from storagemirror.sync.requests import Changes, MirrorOptions, MirrorResult

SECOND = 1_000_000_000
START = 1_000 * SECOND
FILE, WHOLE = Drained(paths=frozenset({b"file"})), Drained(trees=WHOLE_TREE)
PAUSE = Drained()
"""Nothing, for as long as was waited."""


class NoChecks:
    """Nothing is compared by content, or it is told that it is to be."""

    def __init__(self, asked: list[str] | None = None) -> None:
        self._asked = asked

    def begin(self) -> None:
        if self._asked is None:
            raise AssertionError("nobody asked for that")
        self._asked.append("by content")

    def drop(self) -> None:
        """Nothing to give up."""

    def advance(self) -> Want | None:
        return None


class NoRescan:
    """Nothing is written without an event."""

    def compared(self, started_ns: int) -> None:
        """Nothing to begin anew."""

    def drained(self, changes: Drained) -> None:
        """Nothing to remember."""

    def advance(self) -> None:
        """Nothing to look at."""


@dataclass
class World:
    """A source, its watch and its target, in which time passes only where somebody waits.

    `script`: what each drain gives, then nothing for ever; `done`: all that was done, in order.
    """

    script: list[Drained] = field(default_factory=list)
    done: list[str] = field(default_factory=list)
    now: float = 1_000.0
    mirror_takes: float = 0.0
    mark_takes: float = 0.0
    gone_after: int | None = None
    failing: bool = False
    kind: str = "ext4"
    reason: str = ""
    drains: int = 0
    sets_back: dict[int, float] = field(default_factory=dict)
    """By how many seconds the wall clock is set back, once so many drains were made."""
    behind: float = 0.0
    drained: int = 0
    """Names that are not settled."""
    waiting: int = 1
    """Names that have come while the last ones were sent."""
    compare: CompareBy = CompareBy.SIZE_AND_TIME
    remirror: CompareBy | None = None

    def __post_init__(self) -> None:
        self.view = View(1, "uid", self)
        self.marks: list[float] = []
        self.applied: list[float] = []
        self.options: list[tuple[float, MirrorOptions]] = []
        self.asked = False
        self.noted: list[Drained] = []
        self.wants: list[Want] = []

    @property
    def capture(self) -> Capture:
        return Capture.SCAN if self.reason else Capture.WATCH

    # the clock

    def now_ns(self) -> int:
        return int((self.now - self.behind) * SECOND)

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    # the session

    def mirror(self, options: MirrorOptions) -> MirrorResult:
        assert options.sync_source
        self.done.append("mirror")
        self.options.append((self.now, options))
        self.view.event(Event(EventKind.MIRROR_STARTED))
        started = self.now_ns()
        self.now += self.mirror_takes
        return MirrorResult(started_ns=started, ended_ns=self.now_ns(), entries=1, bytes_total=1)

    def apply(self, changes: Changes) -> None:
        self.done.append("apply")
        self.applied.append(self.now)
        self.now += self.apply_takes
        self.compared_bytes += self.compares
        if self.failing:
            self.view.event(Event(EventKind.FAILED_ENTRY, "file: Denied: no"))

    left: tuple[LeftAlone, ...] = ()
    disturbed: int = 0
    apply_takes: float = 0.0
    compares: int = 0
    """Bytes of large files that are looked at each time."""
    compared_bytes: int = 0
    disturbs: tuple[float, ...] = ()
    """When somebody else changes the target."""

    def begin_mark(self, through_ns: int) -> None:
        assert not self.asked, "one at a time"
        self.asked = True
        self.done.append("mark")
        self.marks.append(self.now)

    def marked(self, seconds: float | None) -> bool:
        assert self.asked
        left = max(0.0, self.marks[-1] + self.mark_takes - self.now)
        self.now += left if seconds is None else min(left, seconds)
        if seconds is not None and left > seconds:
            return False
        self.asked = False
        return True

    # the volume and the watch

    def check_identity(self) -> None:
        if self.gone_after is not None and self.drains >= self.gone_after:
            raise VolumeError("gone", reason="SourceUnmounted")

    def facts(self) -> Facts:
        return Facts(self.kind, 100, 50)

    def drain(self, timeout: float) -> Drained:
        self.drains += 1
        self.behind += self.sets_back.get(self.drains, 0.0)
        found = self.script.pop(0) if self.script else PAUSE
        if found is PAUSE:
            self.now += timeout
        self.disturbed = sum(at <= self.now for at in self.disturbs)
        return Drained(found.paths, found.trees, found.renames, self.now_ns())

    @property
    def names(self) -> int:
        return self.drained

    def marking(self) -> None:
        """The real one is looked at in contracts/test_agent_lag.py."""

    def settled(self) -> None:
        self.done.append("settled")

    # the queue

    overflows: int = 0
    made_up_for: int = 0

    @property
    def overflowed(self) -> bool:
        return self.overflows > self.made_up_for

    def covered(self, overflows: int) -> None:
        self.made_up_for = overflows

    # the proof

    problem: Problem | None = None

    def note(self, changes: Drained) -> None:
        self.noted.append(changes)

    def advance(self) -> Want | None:
        return self.wants.pop(0) if self.wants else None

    def follow(self, steps: int, compare_seconds: float = 600.0) -> None:
        """The first mirror, and so many steps."""
        left = [steps]

        def wanted() -> bool:
            left[0] -= 1
            return left[0] >= 0

        self.following(compare_seconds).run(wanted)

    def following(self, compare_seconds: float = 600.0) -> Following:
        checks = NoChecks(self.done if CompareBy.CHECKSUM in (self.compare, self.remirror) else None)
        ends = Ends(self, self, self, self, self, checks, self, NoRescan(), lambda: self.remirror)
        return Following(ends, self.view, self, compare_seconds, self.compare)


def test_it_replicates_only_after_a_mirror_and_a_mark() -> None:
    world = World()
    world.follow(0)
    assert world.done == ["mirror", "mark", "settled"]
    assert world.view.sight.phase is Phase.REPLICATING
    assert world.view.sight.mirrored_ns is not None


def test_what_was_seen_before_and_during_the_mirror_is_sent_before_it_counts_as_whole() -> None:
    world = World([FILE])
    world.follow(0)
    assert world.done == ["mirror", "apply", "mark", "settled"]


def test_the_time_moves_with_the_mark_and_not_with_what_was_sent() -> None:
    world = World([Drained(), FILE], mirror_takes=3.0)
    world.follow(1)
    assert world.done == ["mirror", "mark", "settled", "apply"]
    assert world.view.sight.through_ns == int(world.marks[0] * SECOND)
    world = World([Drained(), FILE])
    world.follow(2)
    assert world.done[-3:] == ["apply", "mark", "settled"]
    assert world.view.sight.through_ns == world.now_ns()


def test_a_busy_volume_is_marked_at_most_twice_a_second() -> None:
    world = World([Drained()])
    world.script += [FILE] * 20
    world.follow(20)
    assert world.done.count("apply") == 20
    assert world.done.count("mark") == 1, "no time has passed"
    world.follow(6)
    gaps = [b - a for a, b in zip(world.marks[1:], world.marks[2:], strict=False)]
    assert all(gap >= MARK_SECONDS for gap in gaps)


@pytest.mark.parametrize(
    ("compares", "takes", "gap"),
    [
        (MUCH_READ, 0.1, 0.1),  # not much: at once again
        (MUCH_READ + 1, 0.1, 0.1 + 0.1 * REST_SHARE),
        (MUCH_READ + 1, 5.0, 5.0 + LONGEST_REST),
    ],
)
def test_large_files_that_are_written_all_the_time_are_not_read_all_the_time(
    compares: int, takes: float, gap: float
) -> None:
    world = World([Drained(), *[FILE] * 5], compares=compares, apply_takes=takes)
    world.follow(5)
    gaps = [after - before for before, after in zip(world.applied, world.applied[1:], strict=False)]
    assert gaps == pytest.approx([gap] * 4)


def test_a_large_file_that_is_written_now_and_then_is_read_at_once() -> None:
    world = World([Drained(), *[FILE] * 5], compares=1 << 30, apply_takes=0.2, waiting=0)
    world.follow(5)
    gaps = [after - before for before, after in zip(world.applied, world.applied[1:], strict=False)]
    assert gaps == pytest.approx([0.2] * 4)


def test_the_last_changes_before_the_end_wait_for_nothing() -> None:
    world = World([FILE], compares=MUCH_READ + 1, apply_takes=0.1)
    began = world.now
    world.follow(0)
    assert world.now == pytest.approx(began + 0.1)


@pytest.mark.parametrize("seconds", [0.5, 3600.0])
def test_a_clock_that_was_set_back_has_everything_compared_and_is_believed_from_then_on(seconds: float) -> None:
    world = World([Drained(), FILE, PAUSE, FILE], sets_back={4: seconds})
    world.follow(6)
    assert world.done.count("mirror") == 2
    assert world.drains == 7
    assert world.view.sight.through_ns == int((world.marks[-1] - seconds) * SECOND)


def test_a_clock_that_is_slowed_down_has_nothing_compared() -> None:
    world = World([Drained()], sets_back=dict.fromkeys(range(2, 20), 0.01))
    world.follow(18)
    assert world.done.count("mirror") == 1


def test_changes_do_not_wait_for_the_targets_disk() -> None:
    world = World([Drained(), PAUSE, FILE, FILE], mark_takes=3.0)
    world.follow(3)
    assert world.done[3:] == ["mark", "apply", "apply"], "a mark is open, and no other is begun"
    through = world.view.sight.through_ns
    assert through == int(world.marks[0] * SECOND), "nothing is promised that is not answered"


def test_a_mark_promises_what_was_sent_before_it_and_no_more() -> None:
    world = World([Drained(), PAUSE, FILE], mark_takes=2.0)
    world.follow(2)
    opened = world.marks[-1]
    steps = 2
    while world.done.count("settled") < 2:
        steps += 1
        world = World([Drained(), PAUSE, FILE], mark_takes=2.0)
        world.follow(steps)
    assert world.now >= opened + 2.0
    assert world.view.sight.through_ns == int(opened * SECOND)


def test_many_changes_wait_for_a_disk_that_hangs() -> None:
    world = World([Drained(), PAUSE, FILE, FILE], mark_takes=60.0)
    world.drained = OPEN_NAMES + 1
    world.follow(3)
    assert world.done[3:] == ["mark", "settled", "apply", "apply"], "memory would have no bound"


def test_a_comparison_waits_for_the_mark_that_is_open() -> None:
    world = World([Drained(), PAUSE, WHOLE], mark_takes=2.0)
    world.follow(2)
    assert world.done == ["mirror", "mark", "settled", "mark", "settled", "mirror"]
    assert world.now >= world.marks[-1] + 2.0


def test_an_idle_volume_is_marked_each_second() -> None:
    world = World()
    world.follow(10)
    gaps = [b - a for a, b in zip(world.marks, world.marks[1:], strict=False)]
    assert len(gaps) == 10
    assert all(gap == pytest.approx(IDLE_SECONDS) for gap in gaps)
    assert world.view.sight.through_ns == world.now_ns()


def test_a_source_that_is_gone_sends_nothing_of_what_is_missing_there() -> None:
    world = World([Drained(), FILE, FILE], gone_after=3)
    with pytest.raises(VolumeError):
        world.follow(5)
    assert world.done.count("apply") == 1


def test_a_source_that_is_gone_is_not_even_compared() -> None:
    world = World(gone_after=0)
    with pytest.raises(VolumeError):
        world.follow(5)
    assert world.done == []


def test_lost_events_mean_a_full_comparison() -> None:
    world = World([Drained(), WHOLE])
    world.follow(1)
    assert world.done.count("mirror") == 2
    assert "apply" not in world.done


def test_a_full_comparison_comes_when_it_is_due() -> None:
    world = World()
    world.follow(25, compare_seconds=10.0)
    assert world.done.count("mirror") == 3


def test_a_target_that_somebody_else_has_changed_is_compared_at_once() -> None:
    world = World()
    began = world.now
    world.disturbs = (began + 20.5,)
    world.follow(30)
    assert [round(at - began) for at, _ in world.options] == [0, 21]
    assert all(options.follows for _, options in world.options), "the target shall tell the next one too"
    assert world.options[1][1].settled_ns is None, "what its watch has seen the target tells, and by name"


def test_what_is_late_is_asked_for_where_changes_follow_and_not_in_runs() -> None:
    world = World()
    follow = world.following(compare_seconds=20.0)
    assert follow.once()
    left = iter(range(30))
    follow.run(lambda: next(left, None) is not None)
    (_, in_a_run), *others = world.options
    assert in_a_run.late_before_ns == 0
    assert len(others) > 1
    for at, options in others:
        assert options.late_before_ns == int((at - LATE_SHARE * 20.0) * SECOND)


def test_one_that_is_changed_again_and_again_is_compared_again_after_a_while() -> None:
    world = World(mirror_takes=3.0)
    began = world.now
    world.disturbs = tuple(began + 20 + number for number in range(40))
    world.follow(70)
    starts = [at - began for at, _ in world.options]
    gaps = [b - a - 3.0 for a, b in itertools.pairwise(starts[1:])]
    assert len(gaps) >= 2
    assert all(DISTURBED_SHARE * 3.0 <= gap <= DISTURBED_SHARE * 3.0 + 2 for gap in gaps), (
        "most of the time is for changes"
    )


def test_before_points_nobody_is_to_tell_what_others_change() -> None:
    world = World()
    ends = Ends(world, world, world, world, world, NoChecks(None), world, NoRescan())
    Following(ends, world.view, world, 600.0).settle_down()
    assert [options.follows for _, options in world.options] == [False]


def test_comparing_takes_at_most_a_twentieth_of_the_time() -> None:
    world = World(mirror_takes=10.0)
    world.follow(190, compare_seconds=10.0)
    assert world.done.count("mirror") == 1
    world = World(mirror_takes=10.0)
    world.follow(210, compare_seconds=10.0)
    assert world.done.count("mirror") == 2


def test_a_network_file_system_is_compared_each_minute() -> None:
    world = World(kind="nfs4")
    world.follow(130)
    assert world.done.count("mirror") == 3


def test_the_time_stands_still_while_an_entry_could_not_be_written_and_it_is_tried_again() -> None:
    world = World([Drained(), FILE], failing=True)
    world.follow(3)
    stood = world.view.sight.through_ns
    problem = world.view.sight.problem
    assert problem is not None
    assert problem.reason == "EntriesFailed"
    assert "file: Denied: no" in problem.message
    assert stood is not None
    assert stood < world.now_ns() - SECOND
    world = World([Drained(), FILE], failing=True)
    world.follow(int(RETRY_SECONDS) + 5)
    assert world.done.count("mirror") == 2
    assert world.view.sight.problem is None
    assert world.view.sight.through_ns == world.now_ns()


def test_the_phase_stays_replicating_while_it_compares_again() -> None:
    world = World()
    phases: list[Phase] = []
    inner = world.mirror

    class Watching(World):
        def mirror(self, options: MirrorOptions) -> MirrorResult:
            phases.append(self.view.sight.phase)
            return inner(options)

    watching = Watching()
    watching.follow(25, compare_seconds=10.0)
    assert phases == [Phase.MIRRORING, Phase.REPLICATING, Phase.REPLICATING]


def test_a_hold_stays_shown_until_it_is_through() -> None:
    world = World()
    world.view.trouble(Held("much", reason="MassDelete", token="t"), Phase.HELD)
    seen: list[Phase] = []

    class Watching(World):
        def mirror(self, options: MirrorOptions) -> MirrorResult:
            seen.append(self.view.sight.phase)
            return super().mirror(options)

    watching = Watching()
    watching.view.trouble(Held("much", reason="MassDelete", token="t"), Phase.HELD)
    watching.follow(0)
    assert seen == [Phase.HELD]
    assert watching.view.sight.phase is Phase.REPLICATING
    assert watching.view.sight.problem is None


def test_a_full_target_stays_told_while_it_is_tried_again() -> None:
    seen: list[Problem | None] = []

    class Watching(World):
        def mirror(self, options: MirrorOptions) -> MirrorResult:
            seen.append(self.view.sight.problem)
            return super().mirror(options)

    world = Watching()
    world.view.trouble(VolumeFull("no room"), Phase.FAILED)
    world.follow(0)
    assert [p.reason for p in seen if p] == ["TargetFull"]
    assert world.view.sight.problem is None


def test_scanning_is_told_as_the_way_of_capture() -> None:
    world = World(reason="no watches")
    world.follow(0)
    assert world.view.sight.capture is Capture.SCAN
    assert world.view.report().capture_why == "no watches"


# -- a proof beside the changes


def test_all_that_the_watch_names_is_told_to_the_proof() -> None:
    world = World([FILE, Drained(), FILE])
    world.follow(2)
    assert [bool(noted) for noted in world.noted] == [True, False, True]


def test_changes_have_their_turn_between_two_slices_of_a_proof() -> None:
    world = World([Drained(), FILE, FILE])
    world.wants = [Want.STEP, Want.WAIT]
    world.follow(2)
    assert world.done.count("apply") == 2


def test_a_proof_gets_the_comparison_and_the_mark_that_it_asks_for_with_all_changes_sent_before() -> None:
    world = World([Drained(), FILE, Drained(), FILE])
    world.wants = [Want.COMPARE, Want.MARK]
    world.follow(2)
    assert world.done[3:] == ["apply", "mirror", "apply", "mark", "settled"]


def test_a_proof_that_has_work_to_do_makes_nobody_wait() -> None:
    world = World()
    world.wants = [Want.STEP] * 50
    before = world.now
    world.follow(50)
    assert world.now == before


def test_a_mark_does_not_hide_why_there_is_no_proof() -> None:
    world = World()
    world.problem = Problem(reason="ProofFailed", message="2 files differ")
    world.follow(3)
    assert world.view.sight.problem == world.problem


@pytest.mark.parametrize(
    ("compare", "remirror", "by_content"),
    [
        (CompareBy.SIZE_AND_TIME, None, False),
        (CompareBy.SIZE_AND_TIME, CompareBy.CHECKSUM, True),
        (CompareBy.CHECKSUM, None, True),
        (CompareBy.CHECKSUM, CompareBy.SIZE_AND_TIME, False),
    ],
)
def test_after_names_were_dropped_the_comparison_is_of_the_chosen_kind(
    compare: CompareBy, remirror: CompareBy | None, by_content: bool
) -> None:
    world = World(compare=compare, remirror=remirror, overflows=1)
    world.follow(0)
    assert world.done == ["mirror", *["by content"] * by_content, "mark", "settled"]
    assert not world.overflowed


def test_what_is_dropped_during_a_comparison_takes_another_one() -> None:
    world = World([Drained(), WHOLE], overflows=1, remirror=CompareBy.CHECKSUM)
    mirror = world.mirror

    def drops(options: MirrorOptions) -> MirrorResult:
        if world.done.count("mirror") == 0:
            world.overflows = 2
        return mirror(options)

    world.mirror = drops  # type: ignore[method-assign]
    world.follow(1)
    assert world.done.count("mirror") == world.done.count("by content") == 2
    assert not world.overflowed
