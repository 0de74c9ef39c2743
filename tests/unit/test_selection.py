"""Rules: which entries of a volume are mirrored. The language is that of .gitignore, and git itself is the judge."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storagemirror.errors import BadInput
from storagemirror.fs.selection import Selection
from storagemirror.terms import PATTERN_LIMIT, RULES, Rule


def selection(*words: str | bytes) -> Selection:
    """Of lines of a .gitignore."""
    lines = [word if isinstance(word, bytes) else os.fsencode(word) for word in words]
    return Selection(tuple(Rule(line[:1] == b"!", line.removeprefix(b"!")) for line in lines))


def left_out(rules: Selection, path: str | bytes) -> bool:
    """A path that ends in a slash is a directory's."""
    whole = path if isinstance(path, bytes) else os.fsencode(path)
    return rules.leaves_out(whole.rstrip(b"/"), is_directory=whole.endswith(b"/"))


@pytest.mark.parametrize(
    ("rules", "path", "out"),
    [
        (["*.tmp"], "deep/er/x.tmp", True),
        (["*.tmp"], "x.tmp.gz", False),
        (["*.tmp"], ".tmp", True),
        (["*.tmp"], "tmp", False),
        (["cache"], "a/cache/file", True),
        (["cache/"], "a/cache/", True),
        (["cache/"], "a/cache", False),
        (["/cache"], "a/cache", False),
        (["/cache"], "cache/x", True),
        (["a/cache"], "b/a/cache", False),
        (["**/cache/x"], "b/a/cache/x", True),
        (["a/**/z"], "a/z", True),
        (["a/**/z"], "a/b/c/z", True),
        (["a/**"], "a/", False),
        (["a/**"], "a/b/", True),
        (["*.log", "!keep.log"], "d/keep.log", False),
        (["!keep.log", "*.log"], "d/keep.log", True),
        (["*", "!*/", "!*.txt"], "a/b/c.txt", False),
        (["*", "!*/", "!*.txt"], "a/b/c.bin", True),
        (["dir/", "!dir/file"], "dir/file", True),
        (["dir/*", "!dir/file"], "dir/file", False),
        (["f?o"], "föo", True),
        (["f??o"], "föo", False),
        ([b"f?o"], b"f\xffo", True),
        ([b"\xff*"], b"\xff\xfe", True),
        (["a*"], "a\nb", True),
        (["*b"], "a\nb\n", False),
        (["x[!a]y"], "x/y", False),
        (["d/x[+-9]y"], "d/x/y", False),
        (["[ab]c"], "bc", True),
        (["\\!x"], "!x", True),
        (["\\#x"], "#x", True),
        (["a\\ "], "a ", True),
        (["a\\*"], "a*", True),
        (["a\\*"], "ab", False),
    ],
)
def test_the_last_rule_that_matches_counts(rules: list[str], path: str, out: bool) -> None:
    assert left_out(selection(*rules), path) is out


@pytest.mark.parametrize("pattern", ["", "/", "//", "a ", "#x", "!x", "a\\", "[a", "[z-a]", "[[:digit:]]", "a\0b"])
def test_what_cannot_be_meant_is_refused_with_the_rule(pattern: str) -> None:
    with pytest.raises(BadInput):
        Selection((Rule(False, pattern.encode()),))


def test_lists_and_patterns_have_an_end() -> None:
    with pytest.raises(BadInput, match="at most 256 rules"):
        Selection((Rule(False, b"x"),) * (RULES + 1))
    with pytest.raises(BadInput, match="1024 bytes"):
        Selection((Rule(False, b"x" * (PATTERN_LIMIT + 1)),))
    with pytest.raises(BadInput, match="together"):
        Selection((Rule(False, b"x" * PATTERN_LIMIT),) * 65)


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("*a" * 100 + "b", "a" * 255),
        ("**/" + "a/**/" * 100 + "b", "a/" * 10_000 + "c"),
        ("*" * 500 + "b", "a" * 255),
        ("**/" + "*a*/**/" * 50 + "*b", "aaa/" * 5_000 + "c"),
    ],
)
def test_no_pattern_takes_for_ever(pattern: str, path: str) -> None:
    rules = selection(pattern)
    directory, _, name = path.encode().rpartition(b"/")
    began = time.process_time()
    assert not rules.excludes(directory, name, is_directory=False)
    assert time.process_time() - began < 2


def test_a_path_of_4096_names_is_judged_as_any_other() -> None:
    rules = selection("out/", "!in/")
    deep = "/".join(["in"] * 4000)
    assert not left_out(rules, f"{deep}/file")
    assert left_out(rules, f"{deep}/out/in/file")
    assert left_out(rules, f"out/{deep}/file")


# -- git is the judge


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("repository")
    subprocess.run(["git", "init", "-q", path], check=True)
    subprocess.run(["git", "-C", path, "config", "core.excludesFile", "/dev/null"], check=True)
    for entry in PATHS:
        if entry.endswith("/"):
            (path / entry).mkdir()
        else:
            (path / entry).touch()
    return path


PATHS = [
    *("abc", "a.c", ".a", "b.a.c", "aa", "cb", "a/", "b/", "c/", "ab/"),
    *("a/b", "a/a/", "a/a/a", "a/b.c", "a/c/", "a/c/b/", "a/c/b/a", "a/c/ab"),
    *("c/a/", "c/a/b", "ab/c", "ab/c.a", "b/c/", "b/c/a/", "b/c/a/b", "b/a"),
]
"""A directory ends in a slash."""

EXAMPLES = int(os.environ.get("STORAGEMIRROR_EXAMPLES", "40"))

pieces = st.sampled_from(["a", "b", "c", "ab", "*", "?", "[ab]", "[!a]", ".", "*a*", "\\a"])
# Two stars within a name are one to git's documentation, and not to git.
names = st.lists(pieces, min_size=1, max_size=3).map("".join).filter(lambda name: "**" not in name) | st.just("**")
patterns = st.builds(
    lambda start, parts, end: start + "/".join(parts) + end,
    *(st.sampled_from(["", "", "/", "**/"]), st.lists(names, min_size=1, max_size=3), st.sampled_from(["", "", "/"])),
)
lines = st.lists(st.tuples(st.booleans(), patterns), min_size=1, max_size=4)


def by_git(repository: Path, rules: list[tuple[bool, str]]) -> set[str]:
    """The paths that git leaves out."""
    (repository / ".git/info/exclude").write_text("".join(f"{'!' if again else ''}{line}\n" for again, line in rules))
    done = subprocess.run(
        ["git", "-C", repository, "check-ignore", "--stdin", "-z", "--no-index"],
        input="".join(path.rstrip("/") + "\0" for path in PATHS).encode(),
        capture_output=True,
        check=False,
    )
    assert done.returncode in (0, 1), done.stderr
    told = {path.decode() for path in done.stdout.split(b"\0") if path}
    return {path for path in PATHS if path.rstrip("/") in told}


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines)
def test_what_git_ignores_is_left_out(repository: Path, rules: list[tuple[bool, str]]) -> None:
    ours = selection(*(f"{'!' if again else ''}{line}" for again, line in rules))
    assert {path for path in PATHS if left_out(ours, path)} == by_git(repository, rules)
