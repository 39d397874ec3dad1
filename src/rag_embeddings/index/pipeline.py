"""What turns a document into vectors: an encoder and a splitter."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rag_embeddings.split.sentences import sentence_spans
from rag_embeddings.store.ledger import Sentence, Version
from rag_embeddings.text import Span, canonical_json, content_id, span_id

if TYPE_CHECKING:
    from rag_embeddings.encode.base import Encoder
    from rag_embeddings.split.base import Splitter
    from rag_embeddings.text import Chunk, Document

_UNITS = 1  # grows when sentences are cut in another way


@dataclass(frozen=True)
class Pipeline:
    """An encoder and a splitter.

    Attributes:
        encoder: Text to vectors.
        splitter: Document to chunks. If it has a ``language``, sentences are cut in that language.
    """

    encoder: Encoder
    splitter: Splitter

    def settings(self) -> dict[str, Any]:
        """Return encoder and splitter as JSON-safe values."""
        return {"encoder": self.encoder.profile.to_dict(), "splitter": self.splitter.settings()}

    @property
    def fingerprint(self) -> str:
        """Stamp of everything that changes what is stored for a document."""
        settings = canonical_json(self.splitter.settings())
        return content_id("pipeline", self.encoder.profile.space, settings, self._language, str(_UNITS))

    @property
    def _language(self) -> str:
        return str(getattr(self.splitter, "language", "en"))

    def version_name(self, document: Document, fingerprint: str) -> str:
        """Name the version of a document that this pipeline makes.

        Args:
            document: The document.
            fingerprint: `fingerprint`, which takes a while to compute.

        Returns:
            A stamp of text, metadata, blocks and pipeline.

        Raises:
            DocumentError: If the metadata has a value without a stable spelling.
        """
        blocks = [[block.span.start, block.span.end, block.kind, block.level, block.page] for block in document.blocks]
        return content_id(
            "version", document.digest, canonical_json(document.metadata), canonical_json(blocks), fingerprint
        )

    def version(self, document: Document, name: str) -> Version:
        """Split a document into chunks and sentences.

        Args:
            document: The document.
            name: Its `version_name`.

        Returns:
            What the ledger writes down. A sentence that a chunk's edge cuts is two units, one in each chunk.
        """
        chunks = self.splitter.split(document)
        tiles = sentence_spans(document.text, self._language) if chunks else []
        return Version(document, name, chunks, [_sentences(chunk, tiles) for chunk in chunks])


def _sentences(chunk: Chunk, tiles: list[Span]) -> list[Sentence]:
    text = chunk.document.text
    found = []
    for span in chunk.spans:
        index = max(0, bisect_right(tiles, span.start, key=lambda tile: tile.start) - 1)
        while index < len(tiles) and tiles[index].start < span.end:
            start, end = max(tiles[index].start, span.start), min(tiles[index].end, span.end)
            piece = text[start:end]
            start, end = start + len(piece) - len(piece.lstrip()), end - (len(piece) - len(piece.rstrip()))
            if start < end:
                part = Span(start, end)
                found.append(Sentence(span_id(chunk.document, "sentence", (part,)), part))
            index += 1
    return found
