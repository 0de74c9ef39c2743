"""`python -m tests.bench.mirror.publish`: the kept results into docs/performance.md, between its two marks.

A test holds that page against the kept file: no figure there is written by hand.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tests.bench.mirror import results, table
from tests.cluster.layout import checkout

KEPT = checkout() / "tests/bench/results/mirror.json"
PAGE = checkout() / "docs/performance.md"
BEGIN, END = "<!-- measured: written by tests/bench/mirror/publish.py -->\n", "<!-- /measured -->\n"


def published(page: str, kept: Path) -> str:
    """The page with the results of a file in it. ValueError where the marks are not."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"expected {BEGIN.strip()} and {END.strip()} in the page")
    return f"{before}{BEGIN}\n{table.text(results.read(kept))}\n{END}{after}"


def main() -> int:
    """See above."""
    PAGE.write_text(published(PAGE.read_text(), KEPT))
    return 0


if __name__ == "__main__":
    sys.exit(main())
