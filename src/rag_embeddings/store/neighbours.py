"""What stands beside a chunk in its document: sentence edges and other chunks, as the ledger has them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rag_embeddings.text import Span

if TYPE_CHECKING:
    from rag_embeddings.store.ledger import Ledger


@dataclass(frozen=True, slots=True)
class Part:
    """A chunk without its text.

    Attributes:
        ordinal: Its number among the chunks of its version.
        spans: Where it stands in the document.
        headings: The path of headings above it.
    """

    ordinal: int
    spans: tuple[Span, ...]
    headings: tuple[str, ...]


def parts(ledger: Ledger, version: int, first: int | None = None, last: int | None = None) -> list[Part]:
    """Return the chunks of a version in order, all or those numbered ``first`` to ``last``, both included.

    Args:
        ledger: Holds them.
        version: Number of the version.
        first: Least ordinal; None: from the beginning.
        last: Greatest ordinal; None: to the end.
    """
    sql = "SELECT ordinal, spans, headings FROM chunks WHERE version = ? AND ordinal BETWEEN ? AND ? ORDER BY ordinal"
    with ledger.reading():
        rows = ledger.execute(sql, (version, first or 0, 2**62 if last is None else last))
        return [
            Part(ordinal, tuple(Span(start, end) for start, end in json.loads(spans)), tuple(json.loads(headings)))
            for ordinal, spans, headings in rows
        ]


def start_before(ledger: Ledger, version: int, position: int, count: int) -> int:
    """Return where the ``count``-th sentence that begins before a position begins, or the first; else the position."""
    sql = "SELECT DISTINCT start FROM sentences WHERE version = ? AND start < ? ORDER BY start DESC LIMIT ?"
    with ledger.reading():
        starts = [row[0] for row in ledger.execute(sql, (version, position, count))]
    return int(starts[-1]) if starts else position


def end_after(ledger: Ledger, version: int, position: int, count: int) -> int:
    """Return where the ``count``-th sentence that ends behind a position ends, or the last; else the position."""
    sql = 'SELECT DISTINCT "end" FROM sentences WHERE version = ? AND "end" > ? ORDER BY "end" LIMIT ?'
    with ledger.reading():
        ends = [row[0] for row in ledger.execute(sql, (version, position, count))]
    return int(ends[-1]) if ends else position
