"""A document's blocks, made flat: segments that tile the text, each of one block, none cutting a grapheme."""

from __future__ import annotations

from heapq import heappop, heappush
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from rag_embeddings.errors import DocumentError
from rag_embeddings.text import Span, heading_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from rag_embeddings.text import Block, Document

FURNITURE = "furniture"
"""Kind of the blocks that stand on a page and are no part of the text: running headers, footers, page numbers."""
HEADING = "heading"
PARAGRAPH = "paragraph"
TABLE = "table"
TABLE_HEADER = "table_header"
TABLE_KINDS = frozenset({TABLE, TABLE_HEADER, "table_row"})

_DEEPEST = 16  # headings of a path, and
_LONGEST = 200  # characters of a heading in one: what is longer was not written as a heading


class Segment(NamedTuple):
    """A stretch of one block.

    Attributes:
        start: First character.
        end: Behind the last character; white space behind the block belongs to it.
        kind: The block's kind; ``"paragraph"`` for text outside of all blocks.
        level: The block's level, for headings at least 1.
        page: The block's page, or the one before it.
        block: Index of the block in the document, -1 outside of all blocks.
        section: Index of the section in `Outline`.
        table: Index of the table it is a part of in `Outline`, or -1.
    """

    start: int
    end: int
    kind: str
    level: int
    page: int | None
    block: int
    section: int
    table: int


class Table(NamedTuple):
    """A table: where it stands and the span of its header, which is empty if it has none."""

    span: Span
    header: Span


class Outline(NamedTuple):
    """The segments of a document and its sections.

    Attributes:
        segments: In order; they tile the text.
        paths: For each section the headings above its text, outermost first. The first section has none.
        tables: In order.
    """

    segments: list[Segment]
    paths: list[tuple[str, ...]]
    tables: list[Table]


def outline(document: Document, graphemes: NDArray[np.bool_]) -> Outline:
    """Make the blocks of a document flat.

    Where blocks overlap, text belongs to the one that begins last (a list item inside a quotation, code inside a list
    item). A grapheme belongs to one segment, and to no furniture unless all of it does.

    Args:
        document: The document. Blocks may stand in any order.
        graphemes: The text's `graphemes.boundaries`.

    Returns:
        The outline. Takes linear time, but for sorting the blocks.

    Raises:
        DocumentError: If a block ends behind the text.
    """
    behind = [block for block in document.blocks if block.span.end > len(document.text)]
    if behind:
        raise DocumentError(
            f"block {behind[0]} ends behind document {document.id!r}, which has {len(document.text)} characters"
        )
    segments: list[Segment] = []
    paths: list[tuple[str, ...]] = [()]
    above: list[tuple[int, str]] = []
    opened = -1  # the heading whose section this is
    page: int | None = None
    tables = _tables(document)
    table = 0
    for start, end, index in _whole(document, graphemes):
        block = document.blocks[index] if index >= 0 else None
        kind = block.kind if block else PARAGRAPH
        level = block.level if block else 0
        page = block.page if block and block.page is not None else page
        if kind == HEADING:
            level = max(level, 1)
            if index != opened:
                opened = index
                while above and above[-1][0] >= level:
                    above.pop()
                above.append((level, _title(document, document.blocks[index])))
                paths.append(tuple(text for _, text in above[-_DEEPEST:]))
        while table < len(tables) and tables[table].span.end <= start:
            table += 1
        inside = kind != FURNITURE and table < len(tables) and tables[table].span.start < end
        segments.append(Segment(start, end, kind, level, page, index, len(paths) - 1, table if inside else -1))
    return Outline(segments, paths, tables)


def _tables(document: Document) -> list[Table]:
    """Find the outer tables and their headers: what is marked so, or the first line where no row is marked."""
    found: list[Table] = []
    rows = False
    parts = sorted((b for b in document.blocks if b.kind in TABLE_KINDS), key=lambda b: (b.span.start, -b.span.end))
    for block in parts:
        inside = bool(found) and block.span.end <= found[-1].span.end
        if block.kind == TABLE:
            if not inside:
                found.append(Table(block.span, _first_line(document.text, block.span)))
                rows = False
        elif inside:
            span, header = found[-1]
            if block.kind == TABLE_HEADER:
                header = Span(header.start if rows and len(header) else block.span.start, block.span.end)
            elif not rows:
                header = Span(span.start, span.start)
            found[-1] = Table(span, header)
            rows = True
    return found


def _first_line(text: str, span: Span) -> Span:
    end = text.find("\n", span.start, span.end)
    return Span(span.start, span.end if end < 0 else end)


def _title(document: Document, block: Block) -> str:
    text = heading_text(document, block)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST].rstrip()} …"


def _whole(document: Document, graphemes: NDArray[np.bool_]) -> Iterator[tuple[int, int, int]]:
    """Yield start, end and block of stretches that tile the text, hold more than white space and cut no grapheme."""
    text, blocks = document.text, document.blocks
    flat = list(_flat(blocks, len(text)))
    starts = np.array([start for start, _ in flat], dtype=np.int64)
    furniture = np.array([index >= 0 and blocks[index].kind == FURNITURE for _, index in flat], dtype=np.bool_)
    places = np.flatnonzero(graphemes)
    below = places[np.searchsorted(places, starts, side="right") - 1]
    above = places[np.searchsorted(places, starts)]
    # A grapheme that both share is left to what is no furniture.
    behind_text = furniture & ~np.roll(furniture, 1)
    marks = [*np.where(behind_text, above, below).tolist(), len(text)]
    held: tuple[int, int] | None = None
    cursor = 0
    for (first, last), (_, index) in zip(pairwise(marks), flat, strict=True):
        start = max(cursor, first)
        if last <= start or text[start:last].isspace():
            continue  # joins what is before it
        cursor = last
        if held is not None:
            yield held[0], start, held[1]
        held = (0 if held is None else start, index)
    if held is not None:
        yield held[0], len(text), held[1]


def _flat(blocks: Sequence[Block], length: int) -> Iterator[tuple[int, int]]:
    """Yield start and innermost block (-1: none) of stretches that tile a text."""
    order = sorted(range(len(blocks)), key=lambda index: blocks[index].span.start)
    active: list[tuple[int, int, int]] = []  # the innermost first
    position = following = 0
    while position < length:
        while following < len(order) and blocks[order[following]].span.start <= position:
            index = order[following]
            heappush(active, (-blocks[index].span.start, blocks[index].span.end, index))
            following += 1
        while active and active[0][1] <= position:
            heappop(active)
        yield position, active[0][2] if active else -1
        position = min(
            active[0][1] if active else length,
            blocks[order[following]].span.start if following < len(order) else length,
        )
