"""Which entries of a volume are mirrored: rules, compiled.

The language is that of `.gitignore` (https://git-scm.com/docs/gitignore), read by `pathspec`. An entry is judged by its
own path; the last rule that matches counts; where none does it is mirrored. A directory that is excluded is not
entered, so nothing in it can be included again: exclude `dir/*` instead and include what is to stay.

Names are decoded as UTF-8 with `surrogateescape`: `?` stands for one character, and for one byte where a name is no
UTF-8. That maps every name to a text of its own and back.

It is asked for each entry of a volume, so most rules are answered without a regular expression: plain names and
endings (`*.tmp`) by looking them up. What is left is compiled so that no pattern needs more steps than the length of
the pattern times that of the path: whoever may write rules cannot have a walk last for ever with them.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from storagemirror.entry import join, split
from storagemirror.errors import BadInput
from storagemirror.terms import RULE_INVALID, Rule, Rules, check_rules

_DIRECTORIES = 4096
"""Directories whose verdict is remembered, where single paths are asked about."""
_LONG = 1024
"""Bytes of a path beyond which none is: a peer may name many, each as long as a path may be."""

_WILD = re.compile(r"[*?\[\\]").search
_HINT = "The patterns are those of .gitignore: https://git-scm.com/docs/gitignore"

_STAR, _SOME, _ONE, _LEAD, _BETWEEN = "[^/]*", "[^/]+", "[^/]", "^(?:.+/)?", "(?:/.+)?"
_END = ("(?:(?P<ps_d>/)|$)", "(?P<ps_d>/)")
"""How pathspec writes these."""
_ANYWHERE = "(?:.+/)?"

_Match = Callable[[str], Any]


@dataclass(slots=True)
class _Step:
    """Neighbouring rules that say the same. One of them that matches decides."""

    excluded: bool
    names: set[bytes] = field(default_factory=set)
    endings: set[bytes] = field(default_factory=set)
    """From the last dot on."""
    by_name: list[str] = field(default_factory=list)
    by_path: list[str] = field(default_factory=list)
    match_name: _Match | None = None
    match_path: _Match | None = None

    def compile(self) -> None:
        """All of them in one go each."""
        if self.by_name:
            self.match_name = _compile("|".join(self.by_name))
        if self.by_path:
            self.match_path = _compile("|".join(self.by_path))

    def matches(self, directory: bytes, name: bytes) -> bool:
        """Whether one of them is of this entry."""
        if name in self.names or (self.endings and name[name.rfind(b".") :] in self.endings and b"." in name):
            return True
        if self.match_name is not None and self.match_name(name.decode("utf-8", "surrogateescape")) is not None:
            return True
        if self.match_path is None:
            return False
        path = directory + b"/" + name if directory else name
        return self.match_path(path.decode("utf-8", "surrogateescape")) is not None


class Selection:
    """What is mirrored under some rules. Immutable; for any thread."""

    def __init__(self, rules: Rules) -> None:
        """`BadInput` names the rule that cannot be meant."""
        check_rules(rules)
        self.rules = rules
        self._files = _steps(rules, directories=False)
        self._directories = _steps(rules, directories=True)
        self._known: dict[bytes, bool] = {b"": True}

    def excludes(self, directory: bytes, name: bytes, *, is_directory: bool) -> bool:
        """Whether `name` in `directory`, which is mirrored itself, is left out."""
        for step in self._directories if is_directory else self._files:
            if step.matches(directory, name):
                return step.excluded
        return False

    def leaves_out(self, path: bytes, *, is_directory: bool) -> bool:
        """Whether the entry at `path` is left out, or a directory that leads to it."""
        directory, name = split(path)
        if not path or not self._enters(directory):
            return bool(path)
        return self.excludes(directory, name, is_directory=is_directory)

    def _enters(self, path: bytes) -> bool:
        """Whether a directory, and all that lead to it, are mirrored."""
        if len(path) > _LONG:
            return self._enters_step_by_step(path)
        known = self._known
        unknown = []
        while path not in known:
            unknown.append(path)
            path = split(path)[0]
        entered = known[path]
        if len(known) + len(unknown) > _DIRECTORIES:
            self._known = known = {b"": True}
        while unknown:
            path = unknown.pop()
            entered = entered and not self.excludes(*split(path), is_directory=True)
            known[path] = entered
        return entered

    def _enters_step_by_step(self, path: bytes) -> bool:
        at = b""
        for name in path.split(b"/"):
            if self.excludes(at, name, is_directory=True):
                return False
            at = join(at, name)
        return True


def selection_of(rules: Rules) -> Selection | None:
    """None where everything is mirrored. `BadInput`."""
    return Selection(rules) if rules else None


def _steps(rules: Rules, *, directories: bool) -> tuple[_Step, ...]:
    """In the order in which they are asked: the last rule first."""
    steps: list[_Step] = []
    for rule in reversed(rules):
        text, only_directories = _text(rule)
        if only_directories and not directories:
            continue
        if not steps or steps[-1].excluded is rule.include:
            steps.append(_Step(not rule.include))
        _add(steps[-1], rule, text)
    for step in steps:
        step.compile()
    return tuple(steps)


def _text(rule: Rule) -> tuple[str, bool]:
    """The pattern without the slash at its end, and whether there was one: then it is of directories alone."""
    text = rule.pattern.decode("utf-8", "surrogateescape")
    if "\0" in text or text[0] in "!#" or (text[-1].isspace() and not text.endswith("\\ ")):
        raise BadInput(
            f"the rule {str(rule)!r} cannot be meant: a pattern holds no NUL, and a leading '!' or '#' or a space at "
            "its end needs a backslash before it",
            reason=RULE_INVALID,
            hint="What is to be mirrored after all is a rule of its own: include.",
        )
    if "[:" in text:
        raise BadInput(
            f"the rule {str(rule)!r} holds a named class such as [[:digit:]]: write [0-9]",
            reason=RULE_INVALID,
            hint=_HINT,
        )
    return (text[:-1], True) if text.endswith("/") else (text, False)


def _add(step: _Step, rule: Rule, text: str) -> None:
    if text.startswith("**/") and "/" not in text[3:]:
        text = text[3:]  # anywhere, which is what a name without a slash means
    if "/" in text:
        step.by_path.append(_regex(rule, text))
    elif text and _WILD(text) is None:
        step.names.add(_bytes(text))
    elif text.startswith("*.") and _WILD(text[1:]) is None and "." not in text[2:]:
        step.endings.add(_bytes(text[1:]))
    else:
        step.by_name.append(_regex(rule, text).removeprefix(_ANYWHERE))


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _regex(rule: Rule, text: str) -> str:
    from pathspec.patterns.gitignore import GitIgnorePatternError
    from pathspec.patterns.gitignore.spec import GitIgnoreSpecPattern

    try:
        found, _ = GitIgnoreSpecPattern.pattern_to_regex(text)
        if found is None:
            raise ValueError("it matches nothing")
        whole = _of_one_entry(found)
        _compile(whole)
    except (ValueError, GitIgnorePatternError, re.error) as e:
        raise BadInput(f"the rule {str(rule)!r} cannot be meant: {e}", reason=RULE_INVALID, hint=_HINT) from e
    return whole


def _compile(regex: str) -> _Match:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # `[[`: sets within sets, some day
        return re.compile(regex, re.DOTALL).fullmatch


def _of_one_entry(regex: str) -> str:
    """What pathspec makes of a pattern matches an entry and all that is below. Here: the entry alone, whole."""
    if regex == ".":
        return ".+"
    if regex == "/":
        return ".+/.+"
    for end in _END:
        regex = regex.removesuffix(end)
    below = regex.endswith("/")  # `dir/**`: what is in it, not the directory itself
    leads = regex.startswith(_LEAD)
    parts = [_part(tokens) for tokens in _split(_tokens(regex.removeprefix(_LEAD if leads else "^")), _BETWEEN)]
    # What follows `**` is taken where it comes first: a later place gives what comes after it no more room.
    first = _ANYWHERE if leads else ""
    if len(parts) > 1:
        parts[0] = f"(?>{'(?:.+?/)??' if leads else ''}{parts[0]}(?=/))"
        parts[1:-1] = [f"(?>(?:/.+?)??{part}(?=/))" for part in parts[1:-1]]
        return f"{''.join(parts[:-1])}(?:/.+)?{parts[-1]}" + (".+" if below else "")
    return first + parts[0] + (".+" if below else "")


def _part(tokens: list[str]) -> str:
    """What is between two `**`: each star takes as little as will do, once and for all, but the last of a name."""
    names = []
    for name in _split(tokens, "/"):
        pieces = ["".join(piece) for piece in _split(name, _STAR)]
        if len(pieces) > 1:
            middle = "".join(f"(?>[^/]*?{piece})" for piece in pieces[1:-1] if piece)
            names.append(f"{pieces[0]}{middle}[^/]*{pieces[-1]}")
        else:
            names.append(pieces[0])
    return "/".join(names)


def _split(tokens: list[str], separator: str) -> list[list[str]]:
    parts: list[list[str]] = [[]]
    for token in tokens:
        if token == separator:
            parts.append([])
        else:
            parts[-1].append(token)
    return parts


def _tokens(regex: str) -> list[str]:
    """One for each thing that is matched. A set never takes a slash."""
    found, at = [], 0
    while at < len(regex):
        token = next((known for known in (_BETWEEN, _STAR, _SOME, _ONE) if regex.startswith(known, at)), "")
        if token:
            found.append(token)
            at += len(token)
            continue
        end = at + 1
        if regex[at] == "\\":
            end = at + 2
        elif regex[at] == "[":
            end = _end_of_set(regex, at)
        found.append(f"(?!/){regex[at:end]}" if regex[at] == "[" else regex[at:end])
        at = end
    return found


def _end_of_set(regex: str, at: int) -> int:
    at += 2 if regex.startswith("[^", at) else 1
    if regex.startswith("]", at):
        at += 1
    while regex[at] != "]":
        at += 2 if regex[at] == "\\" else 1
    return at + 1
