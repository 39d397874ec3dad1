"""What a retriever returns."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rag_embeddings.text import Chunk, Span


@dataclass(frozen=True)
class Match:
    """A parent chunk, its sentences that matched, a score.

    Attributes:
        chunk: The parent passage, with the document it stands in.
        score: Larger is better; what it means is the retriever's ``score`` option.
        sentences: Spans of the sentences that matched, best first, in characters of the document.
    """

    chunk: Chunk
    score: float
    sentences: tuple[Span, ...]

    def metadata(self) -> dict[str, Any]:
        """Return what both frameworks show beside the passage.

        Returns:
            The document's own metadata, the chunk's, and ``start_index``, ``end_index``, ``source_id``, ``chunk_id``,
            ``score`` and ``matches`` (a list of ``[start, end]`` of the sentences that matched, best first), and
            ``context`` where the chunk has one.
            All JSON-safe where the document's metadata is. The caller's own: nothing in it is shared with the index.
        """
        return {
            **deepcopy(dict(self.chunk.document.metadata)),
            **deepcopy(dict(self.chunk.metadata)),
            **({"context": self.chunk.context} if self.chunk.context else {}),
            "start_index": self.chunk.start,
            "end_index": self.chunk.end,
            "source_id": self.chunk.document.id,
            "chunk_id": self.chunk.id,
            "score": self.score,
            "matches": [[span.start, span.end] for span in self.sentences],
        }
