"""What `storagemirror verify` says in the end."""

from __future__ import annotations

from dataclasses import dataclass

from storagemirror.cli.progress import JsonLines, Terminal, size
from storagemirror.entry import printable
from storagemirror.sync.differing import Difference, How
from storagemirror.sync.observer import NotKeptCount
from storagemirror.sync.verifying import Verified

_MEANING = {
    How.ONLY_HERE: "only in SRC",
    How.ONLY_THERE: "only in DST",
    How.TYPE: "type",
    How.SIZE: "size",
    How.CONTENT: "content",
    How.TIME: "time",
    How.MODE: "mode",
    How.OWNER: "owner",
    How.XATTRS: "extended attributes",
    How.LINKS: "hard links",
    How.UNREADABLE: "cannot be read",
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found, and what of it was mended."""

    found: Verified
    not_kept: tuple[NotKeptCount, ...] = ()
    """What was left out of the comparison, as one side cannot hold or show it."""
    repaired: int | None = None
    """None: nobody asked for it, or nothing differed."""
    left: tuple[Difference, ...] = ()
    """What still differs after a repair."""

    @property
    def equal(self) -> bool:
        """Now."""
        if self.repaired is None:
            return not self.found.differing
        return not self.left and not self.found.unseen


def report(verdict: Verdict, output: JsonLines | Terminal, *, names: int, json: bool, quiet: bool) -> None:
    """One JSON object; or lines, the differences first."""
    if isinstance(output, JsonLines):
        output.say(_json(verdict, names))
        return
    output.summary(_lines(verdict, names), "" if quiet else _sentence(verdict), verdict.not_kept)


def _lines(verdict: Verdict, names: int) -> list[str]:
    found = verdict.found
    lines = [f"differs: {_words(difference)}" for difference in found.first[:names]]
    if found.differing > len(lines):
        lines.append(f"... and {found.differing - len(lines):,} more")
    lines += [f"STILL DIFFERS: {_words(difference)}" for difference in verdict.left[:names]]
    return lines


def _words(difference: Difference) -> str:
    kinds = ", ".join(text for kind, text in _MEANING.items() if kind in difference.how)
    return f"{printable(difference.path)}: {kinds}"


def _sentence(verdict: Verdict) -> str:
    found = verdict.found
    seconds = max((found.ended_ns - found.started_ns) / 1e9, 0.001)
    if found.differing:
        kinds = ", ".join(f"{_MEANING[kind]} {count:,}" for kind, count in found.counts.items())
        text = f"{found.differing:,} ENTRIES DIFFER ({kinds})"
        if verdict.repaired is not None:
            text += f", {verdict.repaired:,} of them repaired"
        if found.unseen:
            text += f"; {found.unseen:,} of them were only counted: repair, and verify again"
    else:
        text = "equal"
    text += (
        f"; {found.entries:,} entries compared, {found.files:,} files ({size(found.content_bytes)}) by checksum, "
        f"{size(found.content_bytes / seconds)}/s, in {seconds:.1f} s"
    )
    if found.orphans:
        text += f"; {found.orphans:,} are in DST alone, and kept"
    if found.changing:
        text += f"; {found.changing:,} were being changed, and say nothing"
    return text


def _json(verdict: Verdict, names: int) -> dict[str, object]:
    found = verdict.found
    return {
        "type": "result",
        "equal": verdict.equal,
        "entries": found.entries,
        "files": found.files,
        "bytes": found.content_bytes,
        "differing": found.differing,
        "counts": {kind.value: count for kind, count in found.counts.items()},
        "first": [_difference(difference) for difference in found.first[:names]],
        "changing": found.changing,
        "settled": found.settled,
        "orphans": found.orphans,
        "notLookedAtAgain": found.unseen,
        "repaired": verdict.repaired,
        "left": [_difference(difference) for difference in verdict.left[:names]],
        "notCompared": [{"kind": kept.kind.value, "count": kept.count} for kept in verdict.not_kept],
        "seconds": round((found.ended_ns - found.started_ns) / 1e9, 3),
    }


def _difference(difference: Difference) -> dict[str, object]:
    return {"path": printable(difference.path), "how": [kind.value for kind in How if kind in difference.how]}
