"""What a retriever returns."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rag_embeddings.split.slices import inherited, spelled

if TYPE_CHECKING:
    from rag_embeddings.text import Chunk, Span


@dataclass(frozen=True)
class Match:
    """A parent chunk, its sentences that matched, a score.

    Attributes:
        chunk: The parent passage, with the document it stands in.
        score: Larger is better; what it means is the retriever's ``score`` option.
        sentences: Spans of the sentences that matched, best first, in characters of the document.
        linked_from: Id of the chunk whose link led here, where no sentence did; empty otherwise.
    """

    chunk: Chunk
    score: float
    sentences: tuple[Span, ...]
    linked_from: str = ""

    def metadata(self) -> dict[str, Any]:
        """Return what both frameworks show beside the passage.

        Returns:
            The document's own metadata, the chunk's, and ``start_index``, ``end_index``, ``source_id``, ``chunk_id``,
            ``score`` and ``matches`` (a list of ``[start, end]`` of the sentences that matched, best first); and
            where there is such a thing, ``context``, ``spans`` (of a passage of several, such as
            ``"0-57,120-188"``; the two indices enclose them) and ``linked_from``.
            All JSON-safe where the document's metadata is. The caller's own: nothing in it is shared with the index.
        """
        return {
            **deepcopy(inherited(self.chunk.document.metadata)),
            **deepcopy(dict(self.chunk.metadata)),
            **({"context": self.chunk.context} if self.chunk.context else {}),
            **({"spans": spelled(self.chunk.spans)} if len(self.chunk.spans) > 1 else {}),
            **({"linked_from": self.linked_from} if self.linked_from else {}),
            "start_index": self.chunk.start,
            "end_index": self.chunk.end,
            "source_id": self.chunk.document.id,
            "chunk_id": self.chunk.id,
            "score": self.score,
            "matches": [[span.start, span.end] for span in self.sentences],
        }
