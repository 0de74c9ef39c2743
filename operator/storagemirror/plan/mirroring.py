"""How a volume is mirrored: `spec.mirror` as the orders of both agents say it. They must agree."""

from __future__ import annotations

from storagemirror.api.durations import age_seconds
from storagemirror.api.mirrorpair import Mirror
from storagemirror.contract import CompareBy, KeepOrder, MirrorOrder, OrphansOrder, RuleOrder, TargetPolicy
from storagemirror.plan.view import View


def mirror_order(view: View) -> MirrorOrder:
    """Of both agents of a volume.

    A restore makes the side that it writes what the live side is: nothing newer and no orphan stays there (what only
    that side holds is kept aside before). Rules hold in every direction: what they leave out is nobody's copy.
    """
    mirror = view.observed.pair.spec.mirror
    restoring = view.turned or bool(view.elsewhere)
    compare = mirror.compare
    if restoring and compare is CompareBy.NEWER:
        compare = CompareBy.SIZE_AND_TIME
    return MirrorOrder(
        target=TargetPolicy.EMPTY if view.elsewhere else mirror.target,
        once=bool(view.elsewhere),
        max_delete_percent=mirror.max_delete_percent,
        confirm=mirror.confirm,
        compare=compare,
        rules=tuple(RuleOrder(include=rule.include, exclude=rule.exclude) for rule in mirror.rules or ()),
        orphans=OrphansOrder() if restoring else _orphans(mirror),
        keep=KeepOrder(access_times=mirror.keep.access_times, selinux=mirror.keep.selinux),
    )


def _orphans(mirror: Mirror) -> OrphansOrder:
    orphans = mirror.orphans
    return OrphansOrder(
        policy=orphans.policy,
        older_than_seconds=age_seconds(orphans.older_than) if orphans.older_than is not None else 0,
        ignore_deletes=mirror.ignore_deletes,
    )
