"""Options that say what is mirrored and what becomes of the rest: `--compare`, `--include`, `--exclude`, `--orphans`,
`--older-than`, `--ignore-deletes`."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from typing import Any

from storagemirror.contract import CompareBy
from storagemirror.errors import COMMAND_LINE, BadInput
from storagemirror.fs.selection import Selection
from storagemirror.terms import OrphanPolicy, Rule, Terms

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}

_COMPARE = {
    "size-and-time": CompareBy.SIZE_AND_TIME,
    "checksum": CompareBy.CHECKSUM,
    "newer": CompareBy.NEWER,
}
_ORPHANS = {policy.value.lower(): policy for policy in OrphanPolicy}


class _AddRule(argparse.Action):
    """Both options fill one list: their order counts."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        rule = Rule(option_string == "--include", os.fsencode(str(values)))
        try:
            Selection((rule,))
        except BadInput as e:
            raise argparse.ArgumentError(self, e.message) from e
        namespace.rules = (*namespace.rules, rule)


def add_selecting(parser: argparse.ArgumentParser) -> None:
    """To the parser of a verb."""
    group = parser.add_argument_group("what is compared, and what is left alone")
    group.add_argument(
        "--compare",
        choices=sorted(_COMPARE),
        default="size-and-time",
        help="how a file that both sides have is judged. size-and-time (default): by size, time and attributes. "
        "checksum: by its content as well; both sides read everything. newer: as size-and-time, but what is newer in "
        "DST is left as it is",
    )
    for name, text in (
        ("--exclude", "leave out what matches GLOB (a pattern of .gitignore), here and in DST"),
        (
            "--include",
            "do not leave out what matches GLOB. Of all --exclude and --include the last that matches counts",
        ),
    ):
        group.add_argument(name, action=_AddRule, metavar="GLOB", dest="rules", default=(), help=text)
    group.add_argument(
        "--orphans",
        choices=sorted(_ORPHANS),
        default="delete",
        help="what becomes of what DST has and SRC has not: delete (default), keep, report (keep, and tell the first "
        "names), move (to DST/.storagemirror/orphans/TIME/)",
    )
    group.add_argument(
        "--older-than",
        type=_age,
        default=0,
        metavar="AGE",
        help="delete or move only orphans that were not modified for so long, such as 12h or 30d; a directory goes "
        "when all that is in it is so old",
    )
    group.add_argument(
        "--ignore-deletes", action="store_true", help="delete and move nothing, whatever SRC does not have"
    )


def selecting_of(args: argparse.Namespace) -> Terms:
    """What the options come to. `BadInput`."""
    orphans = _ORPHANS[args.orphans]
    if args.older_than and (args.ignore_deletes or orphans in (OrphanPolicy.KEEP, OrphanPolicy.REPORT)):
        raise BadInput("--older-than says when orphans go, and here none does: leave it out", reason=COMMAND_LINE)
    if args.ignore_deletes and orphans is OrphanPolicy.MOVE:
        raise BadInput(
            "--ignore-deletes leaves orphans where they are, --orphans move does not: say one of them",
            reason=COMMAND_LINE,
        )
    terms = Terms(args.rules, orphans, args.older_than, args.ignore_deletes)
    Selection(terms.rules)
    return terms


def compare_of(args: argparse.Namespace) -> CompareBy:
    """How files are judged."""
    return _COMPARE[args.compare]


def _age(text: str) -> int:
    number, unit = text[:-1], text[-1:]
    if not (number.isascii() and number.isdigit() and unit in _UNITS):
        raise argparse.ArgumentTypeError(f"expected a number and s, m, h, d or w, such as 30d, got {text!r}")
    return int(number) * _UNITS[unit]
