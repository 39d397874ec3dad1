"""HTML to a document with layout: the text as a browser shows it, without navigation, scripts and styles."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rag_embeddings.errors import DocumentError, require
from rag_embeddings.read.base import TextBuilder
from rag_embeddings.read.html_events import MAX_DEPTH, Table, Target
from rag_embeddings.text import without_surrogates

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rag_embeddings.read.html_events import Piece
    from rag_embeddings.text import Document

HTML_SUFFIXES = (".html", ".htm", ".xhtml")
"""What names of such files end in."""

_FED = 1 << 16  # characters handed to the parser at once


def read_html(
    source: str,
    *,
    id: str = "",  # noqa: A002 - the document's field
    metadata: Mapping[str, Any] | None = None,
    main_only: bool = True,
) -> Document:
    """Find text and layout of HTML or XHTML. Nothing is fetched or run.

    Args:
        source: A page or a part of one.
        id: The document's id; derived from text and metadata if empty.
        metadata: The document's metadata.
        main_only: Leave out what stands around the content: if the page marks its main content (``<main>``,
            ``role="main"``), everything else; navigation, and headers, footers and asides of the page, in any case.
            A heading of level 1 stays where nothing else has one. A page that holds nothing else is taken whole.

    Returns:
        A document whose text is what a browser shows: entities decoded, white space collapsed (kept in ``<pre>``), list
        items marked, table rows on lines of their own with `CELL_SEPARATOR` between cells. Scripts, styles, form
        controls, comments and hidden elements are left out, and so are the marks by which headings link to themselves.
        Tables that only lay out the page (with headings, other tables or programs in their cells) are taken apart.

    Raises:
        DocumentError: If more than `MAX_DEPTH` tags are open at once.
        MissingExtraError: If lxml is not installed.
    """
    found = _found(source)
    if main_only:
        found = _main(found)
    builder = TextBuilder()
    for entry in found:
        if isinstance(entry, Table):
            builder.add_table(entry.rows, headers=entry.headers)
        else:
            builder.add(entry.kind, entry.text, level=entry.level)
    return builder.document(id, metadata)


def tables_in(source: str) -> list[tuple[list[list[str]], int]]:
    """Return the tables of a piece of HTML: the text of the cells, and how many rows at the top are headers."""
    return [(entry.rows, entry.headers) for entry in _found(source) if isinstance(entry, Table)]


def _found(source: str) -> list[Piece | Table]:
    """Return all blocks of a page."""
    etree = require("lxml.etree", "read")
    target = Target()
    parser = etree.HTMLParser(target=target, encoding="utf-8", huge_tree=True, remove_comments=True, remove_pis=True)
    text = without_surrogates(source).replace("\0", "\ufffd")
    for start in range(0, len(text), _FED):
        parser.feed(text[start : start + _FED].encode())
        if target.depth_exceeded:
            raise DocumentError(f"this HTML opens more than {MAX_DEPTH} tags inside each other; it cannot be read")
    if text:
        parser.close()
    return target.finish()


def _main(found: list[Piece | Table]) -> list[Piece | Table]:
    """Keep what the page is about, and its title, even if that stands in the header of the page."""
    inner = [entry for entry in found if not entry.around]
    kept = [entry for entry in inner if entry.main] or inner
    if not kept or any(map(_is_title, kept)):
        return kept or found
    return [*(entry for entry in found if _is_title(entry))][:1] + kept


def _is_title(entry: Piece | Table) -> bool:
    return not isinstance(entry, Table) and entry.kind == "heading" and entry.level == 1
