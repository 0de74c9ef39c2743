"""`python -m tests.image`: the product's image, the demo's, PostgreSQL's, and the lock of what goes in."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from tests.image import build, wheels
from tests.image.machine import BuildFailed

OTHERS = {"demo": build.demo, "postgres": build.postgres}


def main() -> int:
    """Run one verb; prints the image's reference and archive."""
    parser = argparse.ArgumentParser(prog="python -m tests.image", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    product = verbs.add_parser("product", help="build the product's image")
    product.add_argument("--base", help="image to stand on (default: a minimal Debian made here by mmdebstrap)")
    verbs.add_parser("demo", help="build the demo's image: nginx and Debian's documentation")
    verbs.add_parser("postgres", help="build the image of PostgreSQL for the tests of databases")
    verbs.add_parser("lock", help="write requirements.lock from pyproject.toml")
    context = verbs.add_parser("context", help="lay out what the Containerfile copies, for another builder")
    context.add_argument("directory", type=Path)
    args = parser.parse_args()
    start = time.monotonic()
    try:
        match args.verb:
            case "lock":
                wheels.write_lock()
            case "context":
                build.context(args.directory)
            case verb:
                image = build.product(args.base) if verb == "product" else OTHERS[verb]()
                print(f"{image.reference}\n{image.archive}")
    except BuildFailed as e:
        print(f"python -m tests.image {args.verb}: {e}", file=sys.stderr)
        return 1
    print(f"{args.verb}: done in {time.monotonic() - start:.1f} s", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
