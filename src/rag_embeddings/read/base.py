"""What the readers share: a text that grows block by block."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rag_embeddings.text import Block, Document, Span

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

CELL_SEPARATOR = " | "
"""Stands between the cells of a table's row in a text that a reader makes."""

_MAX_FIELDS = 64


class TextBuilder:
    """Writes a text and notes where its blocks are.

    Blocks stand apart by an empty line; neighbouring list items and the rows of a table by a line end.
    """

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._blocks: list[Block] = []
        self._length = 0

    def add(self, kind: str, text: str, *, level: int = 0, page: int | None = None) -> None:
        """Append a block.

        Args:
            kind: One of `rag_embeddings.text.KINDS`, tables aside.
            text: Outer white space is no part of the block, but an indentation of the first line is kept in front of
                it. Without anything else, nothing is appended.
            level: The block's level; list items are indented by it.
            page: The block's page.
        """
        if not text.strip():
            return
        close = kind == "list_item" and bool(self._blocks) and self._blocks[-1].kind == "list_item"
        self._gap("\n" if close else "\n\n")
        if kind == "list_item":
            indent = "  " * (min(level, 8) - 1)
            text = indent + text.strip().replace("\n", "\n" + indent)
        self._blocks.append(Block(self._write(text), kind, level, page))

    def add_table(self, rows: Sequence[Sequence[str]], *, headers: int = 0, pages: Sequence[int | None] = ()) -> None:
        """Append a table, one line a row.

        Args:
            rows: The text of the cells. Line ends in a cell become spaces. Rows without text are left out.
            headers: How many rows at the top say what the columns are.
            pages: The page of each row, where there are pages.
        """
        lines = [CELL_SEPARATOR.join(" ".join(cell.split()) for cell in row) for row in rows]
        kept = [index for index, row in enumerate(rows) if any(cell.strip() for cell in row)]
        if not kept:
            return
        self._gap("\n\n")
        spans = []
        for index in kept:
            if index != kept[0]:
                self._gap("\n")
            spans.append(self._write(lines[index]))
        numbers = [pages[index] if pages else None for index in kept]
        self._blocks.append(Block(Span(spans[0].start, spans[-1].end), "table", 0, numbers[0]))
        top = sum(index < headers for index in kept)
        if top:
            self._blocks.append(Block(Span(spans[0].start, spans[top - 1].end), "table_header", 0, numbers[0]))
        self._blocks.extend(
            Block(span, "table_row", 0, number) for span, number in zip(spans[top:], numbers[top:], strict=True)
        )

    def document(self, id: str = "", metadata: Mapping[str, Any] | None = None) -> Document:  # noqa: A002 - the field's name
        """Return the document written so far."""
        return Document("".join(self._parts), id=id, metadata=metadata or {}, blocks=tuple(self._blocks))

    def _gap(self, gap: str) -> None:
        if self._parts:
            self._parts.append(gap)
            self._length += len(gap)

    def _write(self, text: str) -> Span:
        text = text.rstrip()
        start = self._length + len(text) - len(text.lstrip())
        self._parts.append(text)
        self._length += len(text)
        return Span(start, self._length)


def grid(rows: Iterable[Iterable[tuple[str, int, int]]]) -> list[list[str]]:
    """Lay out cells that cover several columns or rows: the text stands in the first, the others are empty.

    Args:
        rows: Text, and how many columns and rows it covers (at least 1), of each cell, as in HTML. A cell may cover 64
            fields of the grid at most; what goes beyond is cut off, so that no table is much larger than its source.

    Returns:
        The rows with all their fields.
    """
    table: list[list[str]] = []
    covered: dict[int, int] = {}  # column -> how many rows more a cell above covers
    for row in rows:
        fields: list[str] = []
        below: dict[int, int] = {}
        for text, columns, height in (*row, ("", 0, 0)):
            while more := covered.get(len(fields), 0):
                below[len(fields)] = more - 1
                fields.append("")
            width = min(columns, _MAX_FIELDS)
            for offset in range(width):
                below[len(fields)] = min(height, _MAX_FIELDS // width) - 1
                fields.append("" if offset else text)
        table.append(fields)
        covered = below
    return table
