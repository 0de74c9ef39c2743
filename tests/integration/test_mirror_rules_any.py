"""Any tree under any rules: what the rules let through is equal, and what they leave out is untouched on both sides."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storagemirror.fs.selection import Selection
from storagemirror.sync.requests import Changes
from storagemirror.terms import Rule, Terms
from tests.support import trees
from tests.support.engine import expectation, joined

EXAMPLES = int(os.environ.get("STORAGEMIRROR_EXAMPLES", "15"))
NAMES = ("a", "b", "c.x", "d.y")

paths = st.lists(st.sampled_from(NAMES), min_size=1, max_size=3).map("/".join)
tree = st.sets(paths, min_size=1, max_size=12)
pieces = st.sampled_from(["a", "b", "*", "*.x", "?", "[!a]", "**"])
patterns = st.builds(
    lambda start, parts, end: start + "/".join(parts) + end,
    *(st.sampled_from(["", "/"]), st.lists(pieces, min_size=1, max_size=3), st.sampled_from(["", "/"])),
)
rules = st.lists(st.builds(Rule, st.booleans(), patterns.map(str.encode)), min_size=1, max_size=4).map(tuple)


def grow(root: Path, wanted: set[str], content: str) -> None:
    """These files, in directories; a path that leads through a file is passed over."""
    for path in sorted(wanted):
        at = root / path
        if at.exists() or any((root / part).is_file() for part in Path(path).parents):
            continue
        trees.write(at, f"{content} {path}")


def seen(root: Path, selection: Selection, *, included: bool) -> dict[str, str]:
    """What is in a tree, of what is mirrored or of what is left out."""
    found = {}
    for here, directories, files in os.walk(root):
        if here == str(root):
            directories[:] = [name for name in directories if name != ".storagemirror"]
        for name in (*directories, *files):
            path = os.path.relpath(os.path.join(here, name), root)
            is_directory = name in directories
            if selection.leaves_out(path.encode(), is_directory=is_directory) is not included:
                found[path] = "directory" if is_directory else (root / path).read_text()
    return found


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(tree, tree, tree, rules, st.booleans())
def test_what_is_mirrored_is_equal_and_what_is_left_out_is_untouched(
    first: set[str], theirs: set[str], later: set[str], ruled: tuple[Rule, ...], live: bool
) -> None:
    selection = Selection(ruled)
    with tempfile.TemporaryDirectory() as place:
        source, target = Path(place, "source"), Path(place, "target")
        source.mkdir()
        target.mkdir()
        grow(source, first, "first")
        expect = expectation(max_delete_percent=100)
        with joined(source, target, expect, terms=Terms(ruled)) as pair:
            pair.mirror()
            # Somebody's own on the target, of what is left out alone.
            before = seen(source, selection, included=True)
            grow(target, {p for p in theirs if selection.leaves_out(p.encode(), is_directory=False)}, "theirs")
            mine = {p: t for p, t in seen(target, selection, included=False).items() if t != "directory"}
            for entry in source.iterdir():
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
            grow(source, later, "later")
        failed = 0
        with joined(source, target, expectation(max_delete_percent=100), terms=Terms(ruled)) as pair:
            if live:
                named = {path.encode() for path in (*before, *seen(source, Selection(()), included=True))}
                pair.source.apply(Changes(paths=named | {b""}))
                pair.source.mark(1)
            failed = pair.mirror().failed
        left = seen(target, selection, included=False)
        assert {path: left.get(path) for path in mine} == mine
        if not failed:
            ours = seen(source, selection, included=True)
            there = seen(target, selection, included=True)
            # Directories that lead to what is left alone stay.
            needed = {
                path for path in there if there[path] == "directory" and any(p.startswith(path + "/") for p in mine)
            }
            assert {p: t for p, t in there.items() if p not in needed or p in ours} == ours
