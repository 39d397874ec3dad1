"""Passages on a terminal, and as JSON."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rag_embeddings.retrieve.base import Match

OPEN, CLOSE = ">>>", "<<<"
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def safe(text: str) -> str:
    """Replace control characters one for one: a document must not speak to the terminal. CR LF becomes space LF."""
    return _CONTROL.sub("\ufffd", text.replace("\r\n", " \n"))


def line_of(match: Match) -> int:
    """Return the line, from 1, on which a passage starts."""
    return match.chunk.document.text.count("\n", 0, match.chunk.start) + 1


def place(match: Match) -> str:
    """Say where a passage stands: file (from the working directory, if it is below it), page or line, characters."""
    source = str(match.chunk.document.metadata.get("source") or match.chunk.document.id)
    path = Path(source)
    here = Path.cwd()
    if path.is_absolute() and path.is_relative_to(here):
        source = path.relative_to(here).as_posix()
    page = match.chunk.metadata.get("page")
    line_or_page = f":{line_of(match)}" if page is None else f", page {page}"
    return safe(f"{source}{line_or_page}, characters {match.chunk.start} to {match.chunk.end}")


def as_json(rank: int, match: Match) -> dict[str, Any]:
    """Return a passage as JSON-safe values; see the help of ``ask``."""
    chunk = match.chunk
    return {
        "rank": rank,
        "score": match.score,
        "source_id": chunk.document.id,
        "start_index": chunk.start,
        "end_index": chunk.end,
        "line": line_of(match),
        "text": chunk.text,
        "context": chunk.context,
        "matches": [[span.start, span.end] for span in match.sentences],
        "chunk_id": chunk.id,
        "metadata": match.metadata(),
    }


def print_passages(matches: Sequence[Match]) -> None:
    """Print passages with number, score, place, and the sentence that matched best highlighted."""
    from rich.console import Console
    from rich.text import Text

    console = Console(file=sys.stdout, highlight=False, soft_wrap=True)
    coloured = console.is_terminal and not console.no_color
    for rank, match in enumerate(matches, 1):
        console.print(Text(f"[{rank}] {match.score:.3f}  {place(match)}", style="bold cyan" if coloured else ""))
        console.print(_highlighted(match, coloured=coloured), end="\n\n")


def _highlighted(match: Match, *, coloured: bool) -> Any:
    from rich.text import Text

    best = match.sentences[0] if match.sentences else None
    shown = Text()
    for number, span in enumerate(match.chunk.spans):
        shown.append("\n" if number else "")
        text = safe(span.of(match.chunk.document.text))
        if best is None or best.end <= span.start or best.start >= span.end:
            shown.append(text)
            continue
        start, end = max(best.start, span.start) - span.start, min(best.end, span.end) - span.start
        marked = text[start:end]
        shown.append(text[:start])
        shown.append(marked if coloured else f"{OPEN}{marked}{CLOSE}", style="bold black on yellow" if coloured else "")
        shown.append(text[end:])
    return shown
