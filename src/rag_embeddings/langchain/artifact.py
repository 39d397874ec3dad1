"""Artifacts of LangChain's documents, and into LangChain's vector stores, without encoding again."""

from __future__ import annotations

import asyncio
import re
from itertools import chain, islice, zip_longest
from typing import TYPE_CHECKING, Any

from langchain_core.documents import Document

from rag_embeddings.encode.base import Role
from rag_embeddings.encode.profile import Profile
from rag_embeddings.encode.wrap import wrap
from rag_embeddings.errors import StoreError
from rag_embeddings.langchain.convert import to_core
from rag_embeddings.langchain.door import VectorDoor
from rag_embeddings.store.artifact import EmbeddingArtifact
from rag_embeddings.store.artifact_save import ArtifactRecord
from rag_embeddings.text import Span

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from langchain_core.embeddings import Embeddings
    from langchain_core.vectorstores import VectorStore

    from rag_embeddings.encode.base import Encoder
    from rag_embeddings.store.artifact_save import Kind

_BATCH = 1_024  # documents embedded at a time
_SPAN = re.compile(r"(\d+)-(\d+)")


def save_documents(
    path: str | Path,
    documents: Iterable[Document],
    embeddings: Embeddings | Encoder | Profile,
    *,
    vectors: Iterable[Sequence[float]] | None = None,
) -> EmbeddingArtifact:
    """Save documents with their vectors as an artifact.

    Args:
        path: The file; replaced if it is there.
        documents: Chunks as any splitter gives them, drawn as needed. Where metadata says so, as this package's
            splitters do, ``source_id``, ``start_index`` and ``end_index`` are kept as places, too. One without an id
            gets one derived from text and metadata.
        embeddings: What the vectors are made with, or were: any LangChain embeddings or an encoder; with ``vectors``
            also a `Profile`.
        vectors: Vectors made beforehand, one for each document; nothing is encoded then. None: they are made here, of
            the text, with ``metadata["context"]`` in front where a chunk has one.

    Returns:
        The artifact, open.

    Raises:
        DocumentError: If metadata is not JSON.
        StoreError: If an id occurs twice, the numbers of documents and vectors differ, or the file cannot be written.
        VectorError: If a vector has NaN, infinity or zeros only.
        TypeError: If there is only a profile to make vectors with.
    """
    if isinstance(embeddings, Profile):
        if vectors is None:
            raise TypeError("a profile cannot embed; give vectors=..., or embeddings")
        return EmbeddingArtifact.save(path, _with_vectors(documents, vectors), embeddings)
    encoder = wrap(embeddings)
    records = _with_vectors(documents, vectors) if vectors is not None else _embedded(documents, encoder)
    first = list(islice(records, 1))  # so that embeddings of somebody else have shown how many dimensions they have
    return EmbeddingArtifact.save(path, chain(first, records), encoder.profile)


def to_document(record: ArtifactRecord) -> Document:
    """Turn a record of an artifact into LangChain's document: its text, id and metadata, with the place in it."""
    return Document(page_content=record.text, id=record.id, metadata=record.placed_metadata())


def upload(
    artifact: EmbeddingArtifact, vectorstore: VectorStore, *, kinds: Sequence[str] = ("", "chunk"), **options: Any
) -> list[str]:
    """Write an artifact into any LangChain vector store. Nothing is encoded; chunks that are there are replaced.

    Args:
        artifact: The vectors.
        vectorstore: A store made with embeddings of this package, which will embed its queries. For any other, put
            them into one: ``CachedEmbeddings(embeddings=...)``.
        kinds: Which records; sentences only where they are asked for.
        **options: Handed to the store's ``add_documents``.

    Returns:
        The ids.

    Raises:
        SpaceMismatchError: If the store's embeddings make vectors of another space.
        StoreError: If the store was made with embeddings that are not of this package, does not ask for the vectors,
            or asks for others.
    """
    return _door(artifact, vectorstore).add_ready(vectorstore, _pairs(artifact, kinds), **options)


async def aupload(
    artifact: EmbeddingArtifact, vectorstore: VectorStore, *, kinds: Sequence[str] = ("", "chunk"), **options: Any
) -> list[str]:
    """Write an artifact through the store's own async methods; see `upload`."""
    door = await asyncio.to_thread(_door, artifact, vectorstore)  # may load the model
    return await door.aadd_ready(vectorstore, _pairs(artifact, kinds), **options)


def _door(artifact: EmbeddingArtifact, vectorstore: VectorStore) -> VectorDoor:
    embeddings: Any = vectorstore.embeddings
    if not isinstance(embeddings, VectorDoor):
        raise StoreError(
            f"{type(vectorstore).__name__}.embeddings is {embeddings!r:.80}, which would encode the texts again; make "
            "the store with embeddings of this package, or with CachedEmbeddings(embeddings=...) around these"
        )
    artifact.check_space(wrap(embeddings).profile)
    return embeddings


def _pairs(artifact: EmbeddingArtifact, kinds: Sequence[str]) -> Iterator[tuple[Document, list[float]]]:
    return ((to_document(record), record.vector.tolist()) for record in artifact.records(kinds))


def _with_vectors(documents: Iterable[Document], vectors: Iterable[Sequence[float]]) -> Iterator[ArtifactRecord]:
    for document, vector in zip_longest(documents, vectors):
        if document is None or vector is None:
            raise StoreError("there are not as many vectors as documents")
        yield _record(document, vector)


def _embedded(documents: Iterable[Document], encoder: Encoder) -> Iterator[ArtifactRecord]:
    iterator = iter(documents)
    while part := list(islice(iterator, _BATCH)):
        vectors = encoder.encode([_embedding_text(document) for document in part], Role.DOCUMENT)
        yield from map(_record, part, vectors)


def _embedding_text(document: Document) -> str:
    context, text = document.metadata.get("context"), document.page_content
    return f"{context}\n\n{text}" if isinstance(context, str) and context and not text.startswith(context) else text


def _record(document: Document, vector: Any) -> ArtifactRecord:
    core = to_core(document)
    source_id, spans = core.metadata.get("source_id"), _spans(document)
    kind: Kind = "chunk" if spans else ""
    known = source_id if isinstance(source_id, str) else ""
    return ArtifactRecord(core.id, vector, core.text, core.metadata, known, spans, kind)


def _spans(document: Document) -> tuple[Span, ...]:
    """Return where a chunk stands, if its metadata says so."""
    start, end, several = (document.metadata.get(key) for key in ("start_index", "end_index", "spans"))
    if not isinstance(start, int) or not isinstance(end, int) or not 0 <= start <= end:
        return ()
    parts = _SPAN.findall(several) if isinstance(several, str) else []
    return tuple(Span(int(first), int(last)) for first, last in parts) or (Span(start, end),)
