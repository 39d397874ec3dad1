"""Boundaries that are known rather than found: pages, sections, blocks, and whatever the metadata says."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from math import inf, isfinite
from typing import TYPE_CHECKING, Any

from rag_embeddings.errors import DocumentError
from rag_embeddings.split.segments import FURNITURE, HEADING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rag_embeddings.split.segments import Segment
    from rag_embeddings.text import Document

BLOCK, PAGE, SECTION = "block", "page", "section"
_OF_BLOCKS = frozenset({BLOCK, PAGE, SECTION})


@dataclass(frozen=True, slots=True)
class Boundary:
    """Where a document has to be split, or better should be.

    Attributes:
        by: ``"section"`` (in front of headings), ``"page"`` (where another page begins), ``"block"`` (in front of every
            block), or a key of the document's metadata. What stands under that key is a list of places: character
            indices, or pairs of a character index and the value that holds from there on, such as
            ``[[0, "Alice"], [57, "Bob"]]`` under ``"speaker"``. Each chunk then has the value at its beginning in its
            metadata, under the same key: a bare index is its own value, and in front of the first there is None. Any
            other value there holds for the whole document, which is then not cut; if there is none, a warning says so.
        forced: Whether every such place is cut, and no overlap reaches across.
        cost: What cutting there costs where it is not forced: 0 is free, 0.25 is what a chunk of half the target costs.
        level: Deepest level of a heading that counts, for ``"section"``; 0 for all.

    Raises:
        DocumentError: If ``by`` is empty, or cost or level is not a number of at least 0.
    """

    by: str
    forced: bool = True
    cost: float = 0.0
    level: int = 0

    def __post_init__(self) -> None:
        if not self.by or not isfinite(self.cost) or self.cost < 0 or self.level < 0:
            raise DocumentError(f"a boundary needs a name, and cost and level of at least 0, got {self}")

    def places(self, document: Document, segments: list[Segment]) -> list[tuple[int, Any]]:
        """Find the boundaries of a document.

        Args:
            document: The document.
            segments: Its segments.

        Returns:
            Character indices in ascending order, and what holds from there on (None for pages, sections and blocks).
            White space in front of a boundary is before it.

        Raises:
            DocumentError: If what the metadata has under the key is not such a list.
        """
        if self.by in _OF_BLOCKS:
            return [(segment.start, None) for segment in self._segments(segments)]
        if self.is_listed(document):
            return _listed(document, self.by)
        if self.by not in document.metadata:  # misspelt, or missing in this document
            message = f"the boundary {self.by!r} cuts nothing: it is none of {sorted(_OF_BLOCKS)}, nor in the metadata"
            warnings.warn(message, stacklevel=2)
        return []

    def is_listed(self, document: Document) -> bool:
        """Tell whether a document's metadata lists the places; else it is one value for the whole document."""
        return self.by not in _OF_BLOCKS and isinstance(document.metadata.get(self.by), list | tuple)

    def _segments(self, segments: list[Segment]) -> Iterator[Segment]:
        block, page = None, None
        for segment in segments:
            if segment.kind == FURNITURE:
                continue
            if self.by == PAGE:
                if segment.page != page:
                    yield segment
            elif segment.block != block and (self.by == BLOCK or self._opens(segment)):
                yield segment
            block, page = segment.block, segment.page

    def _opens(self, segment: Segment) -> bool:
        return segment.kind == HEADING and segment.level <= (self.level or inf)


def _listed(document: Document, key: str) -> list[tuple[int, Any]]:
    places: list[tuple[int, Any]] = []
    for entry in document.metadata[key]:
        at, value = entry if isinstance(entry, list | tuple) and len(entry) == 2 else (entry, entry)  # noqa: PLR2004
        if isinstance(at, bool) or not isinstance(at, int) or not 0 <= at <= len(document.text):
            raise DocumentError(
                f"document {document.id!r} has {entry!r} in metadata {key!r}: give character indices between 0 and "
                f"{len(document.text)}, or pairs of such an index and a value"
            )
        places.append((at, value))
    return sorted(places, key=lambda place: place[0])
