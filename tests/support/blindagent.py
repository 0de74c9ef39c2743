"""An agent that does not look at ctimes: what raises no event it does not know of.

`python -m tests.support.blindagent agent`.
"""

from __future__ import annotations

import sys

from storagemirror.agent.rescan import Rescan
from storagemirror.cli.main import main

PROGRAM = [sys.executable, "-m", "tests.support.blindagent", "agent"]

if __name__ == "__main__":
    Rescan.advance = lambda self: None  # type: ignore[method-assign]
    sys.exit(main(sys.argv[1:]))
