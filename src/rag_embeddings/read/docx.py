"""DOCX to a document with layout: headings, lists, tables and quotations by the styles of its paragraphs."""

from __future__ import annotations

import io
import zipfile
import zlib
from typing import TYPE_CHECKING, Any

from rag_embeddings.errors import DocumentError, require
from rag_embeddings.read.base import TextBuilder, grid
from rag_embeddings.read.docx_styles import MAX_LEVEL, Numbering, Styles, attribute, child, number, tag

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from rag_embeddings.text import Document

_CHARACTERS = {"tab": "\t", "br": "\n", "cr": "\n", "noBreakHyphen": "-"}
_MAIN = "word/document.xml"
# Containers of paragraphs and tables, of paragraphs' runs, and what a reader of the document does not see.
_BLOCKS = {"body", "sdt", "sdtContent", "customXml", "ins", "moveTo", "footnote", "endnote"}
_UNSEEN = {"del", "moveFrom", "Fallback", "rPr", "pPr", "sdtPr", "instrText", "delText"}


def read_docx(
    source: bytes | str | Path,
    *,
    id: str = "",  # noqa: A002 - the document's field
    metadata: Mapping[str, Any] | None = None,
    max_bytes: int = 50_000_000,
) -> Document:
    """Find text and layout of a Word document.

    Args:
        source: The bytes of a file, or its path.
        id: The document's id; derived from text and metadata if empty.
        metadata: The document's metadata.
        max_bytes: Largest part of the file, unpacked, that is read.

    Returns:
        A document whose text has the paragraphs, with the numbers and marks of their lists, and tables with a line for
        each row, in order; footnotes and endnotes follow. Inserted text is part of it, deleted text, comments, headers
        and footers are not. A title is a heading of level 1, and what comes behind it is one level lower. Word stores
        no pages, so blocks have none.

    Raises:
        DocumentError: If the file is broken, encrypted or larger than the limit.
        MissingExtraError: If lxml is not installed.
    """
    etree = require("lxml.etree", "read")
    try:
        with zipfile.ZipFile(io.BytesIO(source) if isinstance(source, bytes) else source) as archive:
            parts = {name: _part(archive, name, max_bytes, etree) for name in (
                _MAIN, "word/styles.xml", "word/numbering.xml", "word/footnotes.xml", "word/endnotes.xml"
            )}  # fmt: skip
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, OSError, RuntimeError) as error:
        raise DocumentError(f"this DOCX is broken or encrypted: {error}") from error
    if parts[_MAIN] is None:
        raise DocumentError(f"this DOCX has no part {_MAIN}")
    reader = _Reader(Styles(parts["word/styles.xml"]), Numbering(parts["word/numbering.xml"]))
    for name in (_MAIN, "word/footnotes.xml", "word/endnotes.xml"):
        if parts[name] is not None:
            reader.read(parts[name])
    return reader.builder.document(id, metadata)


def _part(archive: zipfile.ZipFile, name: str, max_bytes: int, etree: Any) -> Any:
    """Parse a part of the file; None if there is no such part. A part may lie about its size, so reading is bounded."""
    try:
        info = archive.getinfo(name)
    except KeyError:
        return None
    if info.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
        raise DocumentError(f"{name} of this DOCX is packed in a way that Word does not")
    try:
        with archive.open(info) as file:
            data = file.read(max_bytes + 1)
    except ValueError as error:  # a place before the beginning of the file
        raise DocumentError(f"this DOCX is broken: {error}") from error
    if len(data) > max_bytes:
        raise DocumentError(f"{name} of this DOCX has more than max_bytes={max_bytes}")
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, remove_comments=True)
    try:
        return etree.fromstring(data, parser)
    except etree.XMLSyntaxError as error:
        raise DocumentError(f"{name} of this DOCX is broken: {error}") from error


class _Reader:
    """Writes the blocks of a part's tree."""

    def __init__(self, styles: Styles, numbering: Numbering) -> None:
        self.builder = TextBuilder()
        self._styles = styles
        self._numbering = numbering
        self._code: list[str] = []
        self._titled = False

    def read(self, root: Any) -> None:
        """Write what a tree holds."""
        for element in _blocks(root):
            if tag(element) == "p":
                self._paragraph(element)
            else:
                self._table(element)
        self._end_code()

    def _paragraph(self, element: Any) -> None:
        boxes: list[Any] = []
        text = _text(element, boxes)
        kind, level, place = self._styles.of(element)
        if kind == "code":  # each line of a program is a paragraph
            self._code.append(text)
        else:
            self._end_code()
            if kind == "title":
                kind, self._titled = "heading", self._titled or bool(text.strip())
            elif kind == "heading":
                level = min(level + self._titled, MAX_LEVEL)
            mark = self._numbering.mark(*place) if place and text.strip() else ""
            self.builder.add(kind, mark + (text.lstrip() if mark else text), level=level)
        for box in boxes:
            for inner in _blocks(box):
                self.builder.add("paragraph", " ".join(_texts(inner)))

    def _end_code(self) -> None:
        self.builder.add("code", "\n".join(self._code))
        self._code = []

    def _table(self, element: Any) -> None:
        self._end_code()
        rows = [(row, list(_cells(row))) for row in _within(element, "tr")]
        if sum(len(cells) for _, cells in rows) == 1:  # a frame around paragraphs
            for inner in _blocks(rows[0][1][0]):
                self.builder.add("paragraph", " ".join(_texts(inner)))
            return
        text = grid([(" ".join(_texts(cell)), _width(cell), 1) for cell in cells] for _, cells in rows)
        heads = 0
        while heads < len(rows) and child(rows[heads][0], "trPr", "tblHeader") is not None:
            heads += 1
        look = child(element, "tblPr", "tblLook")
        first = look is not None and (attribute(look, "firstRow") == "1" or _flag(attribute(look, "val"), 0x20))
        heads = heads or int(first)
        self.builder.add_table(text, headers=heads if heads < len(rows) else 0)


def _blocks(root: Any) -> Iterator[Any]:
    """Give the paragraphs and tables below an element, outermost only, in order."""
    stack = list(reversed(root))
    while stack:
        element = stack.pop()
        name = tag(element)
        if name in {"p", "tbl"}:
            yield element
        elif name in _BLOCKS:
            kind = attribute(element, "type")
            if kind not in {"separator", "continuationSeparator", "continuationNotice"}:
                stack.extend(reversed(element))


def _text(paragraph: Any, boxes: list[Any]) -> str:
    """Return the text of a paragraph; text boxes that hang on it are put into ``boxes``."""
    parts: list[str] = []
    stack = list(reversed(paragraph))
    while stack:
        element = stack.pop()
        name = tag(element)
        if name == "t":
            parts.append(element.text or "")
        elif name in _CHARACTERS:
            parts.append(_CHARACTERS[name])
        elif name == "txbxContent":
            boxes.append(element)
        elif name not in _UNSEEN:
            stack.extend(reversed(element))
    return "".join(parts)


def _texts(element: Any) -> Iterator[str]:
    """Give the text of all paragraphs in an element, however deep, text boxes included."""
    stack = [element]
    while stack:
        inner = stack.pop()
        if tag(inner) == "p":
            boxes: list[Any] = []
            text = _text(inner, boxes)
            if text.strip():
                yield text
            stack.extend(reversed(boxes))
        elif tag(inner) not in _UNSEEN:
            stack.extend(reversed(inner))


def _within(element: Any, name: str) -> Iterator[Any]:
    """Give the children of a name, also those in content controls."""
    stack = list(reversed(element))
    while stack:
        inner = stack.pop()
        if tag(inner) == name:
            yield inner
        elif tag(inner) in _BLOCKS:
            stack.extend(reversed(inner))


def _cells(row: Any) -> Iterator[Any]:
    return _within(row, "tc")


def _width(cell: Any) -> int:
    """Return how many columns a cell covers. Cells that go on from the row above are there, and empty."""
    span = child(cell, "tcPr", "gridSpan")
    return max(1, number(attribute(span, "val"), 1)) if span is not None else 1


def _flag(value: str, bit: int) -> bool:
    try:
        return bool(int(value or "0", 16) & bit)
    except ValueError:
        return False
