"""Documents that other parsers have read: unstructured's elements and docling's documents.

Neither package is imported; what they made is read by the names of its attributes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rag_embeddings.errors import DocumentError
from rag_embeddings.read.base import TextBuilder
from rag_embeddings.read.html import tables_in

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from rag_embeddings.text import Document

_MAX_LEVEL = 6
_UNSTRUCTURED = {
    "Title": "heading",
    "Headline": "heading",
    "Subheadline": "heading",
    "Section-header": "heading",
    "ListItem": "list_item",
    "List-item": "list_item",
    "BulletedText": "list_item",
    "Table": "table",
    "FigureCaption": "caption",
    "Caption": "caption",
    "CodeSnippet": "code",
    "Header": "furniture",
    "Page-header": "furniture",
    "Footer": "furniture",
    "Page-footer": "furniture",
    "PageNumber": "furniture",
}
_DOCLING = {
    "title": "heading",
    "section_header": "heading",
    "list_item": "list_item",
    "table": "table",
    "document_index": "table",
    "code": "code",
    "caption": "caption",
    "page_header": "furniture",
    "page_footer": "furniture",
}


def from_unstructured(
    elements: Iterable[Any],
    *,
    id: str = "",  # noqa: A002 - the document's field
    metadata: Mapping[str, Any] | None = None,
) -> Document:
    """Take over the elements that unstructured's ``partition`` functions return.

    Args:
        elements: They have ``category``, ``text`` and ``metadata`` (``page_number``, ``category_depth``,
            ``text_as_html``).
        id: The document's id; derived from text and metadata if empty.
        metadata: The document's metadata.

    Returns:
        A document whose text is that of the elements. Tables have rows where unstructured gives their HTML.

    Raises:
        DocumentError: If something given is no element.
    """
    builder = TextBuilder()
    for element in elements:
        category, text, about = (getattr(element, name, None) for name in ("category", "text", "metadata"))
        if not isinstance(category, str) or not isinstance(text, str):
            raise DocumentError(f"an element of unstructured has category and text, got {type(element).__name__}")
        kind = _UNSTRUCTURED.get(category, "paragraph")
        page, depth = getattr(about, "page_number", None), getattr(about, "category_depth", None) or 0
        tables = tables_in(getattr(about, "text_as_html", None) or "") if kind == "table" else []
        for rows, headers in tables:
            builder.add_table(rows, headers=headers, pages=[page] * len(rows))
        if not tables:
            level = min(depth + 1, _MAX_LEVEL) if kind in {"heading", "list_item"} else 0
            builder.add(kind, text, level=level, page=page)
    return builder.document(id, metadata)


def from_docling(
    document: Any,
    *,
    id: str = "",  # noqa: A002 - the document's field
    metadata: Mapping[str, Any] | None = None,
) -> Document:
    """Take over a ``DoclingDocument``.

    Args:
        document: It has ``iterate_items()``, whose items have ``label``, ``text`` and ``prov`` (pages), headings
            ``level``, and tables ``data.grid``.
        id: The document's id; derived from text and metadata if empty.
        metadata: The document's metadata.

    Returns:
        A document whose text is that of the items, in docling's reading order. A title is a heading of level 1, and
        the sections of such a document are one level lower.

    Raises:
        DocumentError: If what is given is no such document.
    """
    if not hasattr(document, "iterate_items"):
        raise DocumentError(f"a DoclingDocument has iterate_items(), got {type(document).__name__}")
    builder = TextBuilder()
    titled = 0
    depth = 0  # of the item that the first list items of a list stand at
    for item, place in document.iterate_items():
        label = str(getattr(getattr(item, "label", ""), "value", getattr(item, "label", "")))
        kind = _DOCLING.get(label, "paragraph")
        prov = getattr(item, "prov", None)
        page = prov[0].page_no if prov else None
        if kind == "table" and hasattr(item, "data"):
            cells = item.data.grid
            headers = 0
            while headers < len(cells) - 1 and all(cell.column_header for cell in cells[headers]):
                headers += 1
            rows = [_once(row, number) for number, row in enumerate(cells)]
            builder.add_table(rows, headers=headers, pages=[page] * len(rows))
            continue
        level = 0
        if kind == "heading":
            titled |= label == "title"
            level = 1 if label == "title" else min(getattr(item, "level", 1) + titled, _MAX_LEVEL)
        elif kind == "list_item":
            depth = depth or place
            level = max(1, (place - depth) // 2 + 1)  # lists inside of items are a level each
        depth = depth if kind == "list_item" else 0
        mark = f"{getattr(item, 'marker', '') or '-'} " if kind == "list_item" else ""
        text = getattr(item, "text", "")
        builder.add(kind, mark + text if text.strip() else "", level=level, page=page)
    return builder.document(id, metadata)


def _once(cells: Iterable[Any], row: int) -> list[str]:
    """Return the text of a row's cells; docling repeats one in all fields that it covers, here it is in the first."""
    return [
        cell.text if (cell.start_row_offset_idx, cell.start_col_offset_idx) == (row, column) else ""
        for column, cell in enumerate(cells)
    ]
