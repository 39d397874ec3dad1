"""The command line `rag-embeddings`."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        args: The arguments; None takes those of the process.

    Returns:
        0 success, 1 an error, 2 wrong usage, 130 interrupted.
    """
    missing = [name for name in ("click", "rich") if find_spec(name) is None]
    if missing:
        needed = " and ".join(missing)
        print(f"error: the command line needs {needed}. Run: pip install 'rag-embeddings[cli]'", file=sys.stderr)
        return 1
    from rag_embeddings.cli.app import cli

    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a terminal that lacks a character must not end the program
    try:
        cli.main(None if args is None else list(args), prog_name="rag-embeddings")
    except SystemExit as finished:  # how click ends, always
        return finished.code if isinstance(finished.code, int) else 1
