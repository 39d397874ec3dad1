"""The layout of documents that loaders bring as text: Markdown and HTML, by request or by what the metadata says."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, Literal, get_args

from rag_embeddings.errors import DocumentError
from rag_embeddings.read.html import HTML_SUFFIXES, read_html
from rag_embeddings.read.markdown import MARKDOWN_SUFFIXES, read_markdown

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rag_embeddings.text import Document

Layout = Literal["auto", "markdown", "html"]


def _ends(suffixes: Iterable[str]) -> str:
    """Write a pattern for the end of a name, or of the path of an address."""
    return rf"(?:{'|'.join(map(re.escape, suffixes))})(?:$|[?#])"


# Where LangChain's and LlamaIndex's loaders say what a document was made from.
_NAMES = ("source", "file_path", "file_name", "filename", "path", "url")
_TYPES = ("content_type", "mime_type", "mimetype", "file_type", "filetype")
_MARKDOWN = re.compile(rf"{_ends(MARKDOWN_SUFFIXES)}|^text/(?:x-)?markdown\b", re.IGNORECASE)
_HTML = re.compile(rf"{_ends(HTML_SUFFIXES)}|^(?:text/html|application/xhtml\+xml)\b", re.IGNORECASE)
_TAG = re.compile(r"<(?:!doctype html|html|body|head|div|p|h[1-6]|table|ul|ol|section|article|main)\b", re.IGNORECASE)
_SNIFFED = 65_536  # characters searched for a tag


@dataclass(frozen=True)
class LayoutReader:
    """Finds the layout of a document that has none yet.

    Markdown keeps its text. Of HTML the text is what a browser shows; offsets then count in that text.

    Attributes:
        layout: What documents are: ``"markdown"``, ``"html"``, or ``"auto"``: what the metadata says, by the suffix of
            a file name (under ``source``, ``file_name``, ``file_path``, ...) or a media type (``content_type``, ...).
            Many loaders take the tags off, so a document is HTML only if it holds some. Anything else is left as it is.

    Raises:
        DocumentError: If there is no such layout.
    """

    layout: Layout = "auto"

    def __post_init__(self) -> None:
        if self.layout not in get_args(Layout):
            raise DocumentError(f"layout must be 'auto', 'markdown' or 'html', got {self.layout!r}")

    @property
    def name(self) -> str:
        """Spelling for fingerprints."""
        return f"layout-{self.layout}"

    def __call__(self, document: Document) -> Document:
        """Read a document.

        Args:
            document: The document.

        Returns:
            The document with blocks, under the same id and metadata, or as it is if it has blocks or no known layout.

        Raises:
            MissingExtraError: If the parser is not installed.
            DocumentError: If HTML is nested deeper than any page is.
        """
        kind = recognised(document) if self.layout == "auto" else self.layout
        if document.blocks or kind is None:
            return document
        reader = read_markdown if kind == "markdown" else read_html
        return reader(document.text, id=document.id, metadata=document.metadata)


def recognised(document: Document) -> Literal["markdown", "html"] | None:
    """Tell from its metadata whether a document is Markdown or HTML."""
    said = [document.metadata.get(key) for key in (*_TYPES, *_NAMES)]
    for value in (str(item) for item in said if isinstance(item, str | PurePath)):
        if _MARKDOWN.search(value):
            return "markdown"
        if _HTML.search(value) and _TAG.search(document.text, 0, _SNIFFED):
            return "html"
    return None
