"""What the ledger writes down and gives back: a document with its chunks and sentences, and where they stand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rag_embeddings.text import Chunk, Document, Span


@dataclass(frozen=True, slots=True)
class Sentence:
    """A unit of search inside one chunk.

    Attributes:
        id: Identity, derived from document, text and span; chunks that overlap share it.
        span: Where it stands in the document.
    """

    id: str
    span: Span


@dataclass(frozen=True)
class Version:
    """A document as it is to be indexed.

    Attributes:
        document: The document.
        name: Changes with the text, the metadata, the blocks and the pipeline.
        chunks: What the splitter returned.
        sentences: For each chunk its sentences, in order.
    """

    document: Document
    name: str
    chunks: Sequence[Chunk]
    sentences: Sequence[Sequence[Sentence]]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a live chunk is to be found: the number of its version, and its ordinal there."""

    version: int
    ordinal: int
