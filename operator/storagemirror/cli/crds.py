"""`storagemirror crds`: print the CustomResourceDefinitions, or write them to where they are kept."""

from __future__ import annotations

import argparse
import os
import sys

from storagemirror.api.crd import crd_files
from storagemirror.api.reference import reference
from storagemirror.errors import BadInput


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    parser.description = (
        "Print the CustomResourceDefinitions of this release: `storagemirror crds | kubectl apply --server-side -f -`."
    )
    parser.add_argument(
        "--out", metavar="DIR", action="append", default=[], help="write one file each into DIR (may be given again)"
    )
    parser.add_argument("--reference", metavar="FILE", help="write the reference of all fields to FILE, as Markdown")
    parser.add_argument(
        "--check", action="store_true", help="write nothing: fail when a file is not what would be written"
    )


def run(args: argparse.Namespace) -> int:
    """Print, write or check."""
    wanted = {os.path.join(folder, name): text for folder in args.out for name, text in crd_files().items()}
    if args.reference:
        wanted[args.reference] = reference()
    if not wanted:
        sys.stdout.write("---\n".join(crd_files().values()))
        return 0
    if args.check:
        stale = [path for path, text in wanted.items() if _content(path) != text]
        if stale:
            raise BadInput(f"not what the models say: {', '.join(stale)}", reason="Stale", hint="Run `make crds`.")
        return 0
    for path, text in wanted.items():
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        print(path)
    return 0


def _content(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except FileNotFoundError:
        return None
