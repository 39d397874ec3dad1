"""The only places where a document changes shape: LangChain in, LangChain out."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING

from langchain_core.documents import Document as LangChainDocument

from rag_embeddings.split.slices import inherited, slices_of, spelled, traced
from rag_embeddings.text import Document, Span

if TYPE_CHECKING:
    from rag_embeddings.retrieve.base import Match
    from rag_embeddings.text import Chunk


def to_core(document: LangChainDocument | Document) -> Document:
    """Turn a LangChain document into the core's. One of the core, with the layout a reader found, stays as it is.

    Args:
        document: Left untouched; its metadata is copied. Without an id, one is derived from text and metadata.

    Returns:
        The same text, id and metadata.

    Raises:
        DocumentError: If there is no id and the metadata has a value without a stable spelling to derive one from.
    """
    if isinstance(document, Document):
        return document
    return Document(text=document.page_content, id=document.id or "", metadata=deepcopy(document.metadata))


def from_core(document: Document) -> LangChainDocument:
    """Turn a core document back into LangChain's, metadata copied. The inverse of `to_core`, with the id filled in."""
    return LangChainDocument(page_content=document.text, id=document.id, metadata=deepcopy(dict(document.metadata)))


def from_chunk(chunk: Chunk, *, context_in_content: bool = False) -> LangChainDocument:
    """Turn a chunk into a LangChain document.

    Args:
        chunk: What a splitter returned.
        context_in_content: Put the context in front of the text in ``page_content``, which then ends with the slice.

    Returns:
        ``page_content`` is the slice and ``id`` the chunk's. Metadata: the document's, the chunk's, ``start_index``,
        ``end_index`` and ``source_id``, and ``context`` where the chunk has one. A chunk of several spans has
        ``spans``, such as ``"0-57,120-188"``, which every store can hold; the two indices enclose them all.

    A document that is itself a slice with a known place, or several (its metadata has ``source_id``, ``start_index``,
    ``end_index`` and perhaps ``spans``, and they are as long as its text) hands on that ``source_id``, and the offsets
    count there: chunks of chunks cite the first text.
    """
    source_id, slices = _origin(chunk.document)
    spans = traced(chunk.spans, slices)
    metadata = {
        **deepcopy(inherited(chunk.document.metadata)),
        **deepcopy(dict(chunk.metadata)),
        "start_index": spans[0].start,
        "end_index": spans[-1].end,
        "source_id": source_id,
    }
    if len(spans) > 1:
        metadata["spans"] = spelled(spans)
    if chunk.context:
        metadata["context"] = chunk.context
    return LangChainDocument(page_content=_content(chunk, context_in_content), id=chunk.id, metadata=metadata)


def from_match(match: Match, *, context_in_content: bool = False) -> LangChainDocument:
    """Turn a search result into a LangChain document: the passage, its chunk id and `Match.metadata`."""
    content = _content(match.chunk, context_in_content)
    return LangChainDocument(page_content=content, id=match.chunk.id, metadata=match.metadata())


def _content(chunk: Chunk, context_in_content: bool) -> str:  # noqa: FBT001
    return chunk.embedding_text if context_in_content else chunk.text


def _origin(document: Document) -> tuple[str, list[Span]]:
    """Return the id of the text that offsets count in, and the slices of it that ``document`` is made of."""
    found = document.metadata
    source_id, start, end = found.get("source_id"), found.get("start_index"), found.get("end_index")
    slices = slices_of(document.text, start, end, found.get("spans"))
    if isinstance(source_id, str) and slices is not None:
        return source_id, slices
    return document.id, [Span(0, len(document.text))]
