"""LangChain's vector store over a store of the core: everything but where the vectors lie."""

from __future__ import annotations

import json
from copy import deepcopy
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any
from weakref import finalize

import numpy as np
from langchain_core.documents import Document
from langchain_core.vectorstores import VectorStore
from langchain_core.vectorstores.utils import maximal_marginal_relevance

from rag_embeddings.errors import DocumentError
from rag_embeddings.langchain.convert import to_core
from rag_embeddings.langchain.encoded import EncodedEmbeddings
from rag_embeddings.langchain.filters import where_of
from rag_embeddings.store.base import Record
from rag_embeddings.store.records import filterable, relevance

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from tempfile import TemporaryDirectory
    from typing import Self

    from langchain_core.embeddings import Embeddings

    from rag_embeddings.encode.base import Vectors
    from rag_embeddings.encode.profile import Similarity
    from rag_embeddings.langchain.filters import Filter
    from rag_embeddings.store.base import Hit, Store
    from rag_embeddings.store.where import Where

_WHOLE = "_metadata"  # where metadata that no store can filter by is kept, as JSON
_BATCH = 1_000  # what a failure costs at most


class RecordVectorStore(VectorStore):
    """Documents in a store of the core. Made by its subclasses.

    Args:
        embedding: Makes the vectors.
        store: Holds them.
        similarity: How ``store`` compares them.
        temporary: Removed by `close`.
    """

    def __init__(
        self,
        embedding: Embeddings,
        store: Store,
        *,
        similarity: Similarity,
        temporary: TemporaryDirectory[str] | None = None,
    ) -> None:
        self._embedding = embedding
        self._similarity = similarity
        self.store = store
        self._release = finalize(self, _released, store, temporary)  # a store may be let go without being closed

    @property
    def embeddings(self) -> Embeddings:
        """What makes the vectors."""
        return self._embedding

    @classmethod
    def from_texts(
        cls,
        texts: list[str],
        embedding: Embeddings,
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        **options: Any,
    ) -> Self:
        """Make a store and add texts; ``options`` are those of the constructor."""
        store = cls(embedding, **options)
        try:
            store.add_texts(texts, metadatas, ids=ids)
        except BaseException:
            store.close()  # nobody else could, and others may want to write
            raise
        return store

    # --- writing -----------------------------------------------------------------------------------------------------

    def add_texts(
        self,
        texts: Iterable[str],
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        **kwargs: Any,
    ) -> list[str]:
        """Add texts, replacing those whose id is known; see `add_documents`."""
        items = list(texts)
        if metadatas is not None and len(metadatas) != len(items):
            raise ValueError(f"{len(items)} texts need as many metadatas, got {len(metadatas)}")
        documents = [
            Document(page_content=text, metadata=metadata)
            for text, metadata in zip(items, metadatas or [{}] * len(items), strict=True)
        ]
        return self.add_documents(documents, ids=ids, **kwargs)

    def add_documents(
        self,
        documents: Iterable[Document],
        *,
        ids: Sequence[str | None] | None = None,
        batch_size: int = _BATCH,
        **kwargs: Any,
    ) -> list[str]:
        """Add documents, replacing those whose id is known, metadata and all.

        Args:
            documents: A document without an id gets one derived from its text and metadata.
            ids: Ids to use instead of the documents' own.
            batch_size: Embed and write that many at a time: what a failure costs at most.
            **kwargs: None are known.

        Returns:
            The ids, in order.

        Raises:
            DocumentError: If metadata is not JSON.
            VectorError: If the embeddings return something that is not a vector.
            ValueError: If there are not as many ids as documents, or ``batch_size`` is below 1.
        """
        self._refuse(kwargs)
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        items = iter(_identified(list(documents), ids))
        added = []
        while part := list(islice(items, batch_size)):
            added += self._add(part, self._embedding.embed_documents([item.page_content for item in part]))
        return added

    def add_vectors(
        self,
        documents: Iterable[Document],
        vectors: Iterable[Sequence[float]],
        *,
        ids: Sequence[str | None] | None = None,
    ) -> list[str]:
        """Add documents with ready vectors; otherwise as `add_documents`.

        Raises:
            ValueError: If there are not as many vectors as documents.
        """
        return self._add(_identified(list(documents), ids), list(vectors))

    def _add(self, documents: Sequence[Document], vectors: Sequence[Sequence[float]]) -> list[str]:
        records = [
            Record(item.id or "", np.asarray(vector, dtype=np.float32), item.page_content, _dumped(item.metadata))
            for item, vector in zip(documents, vectors, strict=True)
        ]
        self.store.upsert(records)
        return [record.id for record in records]

    def delete(self, ids: Sequence[str] | None = None, **kwargs: Any) -> bool:
        """Delete documents by their ids, all of them if there are none given. Unknown ids are ignored."""
        self._refuse(kwargs)
        self.store.delete(list(self.store.ids()) if ids is None else ids)
        return True

    def close(self) -> None:
        """Close the files and let other processes write."""
        self._release()

    # --- reading -----------------------------------------------------------------------------------------------------

    def get_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """Return the documents that exist, in the order of ``ids``."""
        return [_document(record) for record in self.store.get(ids)]

    def similarity_search(self, query: str, k: int = 4, **kwargs: Any) -> list[Document]:
        """Return the most similar documents; see `similarity_search_with_score`."""
        return [document for document, _ in self.similarity_search_with_score(query, k, **kwargs)]

    def similarity_search_with_score(self, query: str, k: int = 4, **kwargs: Any) -> list[tuple[Document, float]]:
        """Return the most similar documents with their scores, best first.

        Args:
            query: The query.
            k: How many.
            **kwargs: ``filter``: a `Where`, or a dictionary of metadata that all have to equal.

        Returns:
            Documents and scores: cosine, dot product, or negative Euclidean distance.
        """
        return self.similarity_search_with_score_by_vector(self._embedding.embed_query(query), k, **kwargs)

    def similarity_search_by_vector(self, embedding: list[float], k: int = 4, **kwargs: Any) -> list[Document]:
        """Return the documents most similar to a vector."""
        return [document for document, _ in self.similarity_search_with_score_by_vector(embedding, k, **kwargs)]

    def similarity_search_with_score_by_vector(
        self, embedding: list[float], k: int = 4, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        """Return the documents most similar to a vector with their scores; see `similarity_search_with_score`."""
        return [(_document(record), hit.score) for hit, record in self._found(embedding, k, **kwargs)]

    def max_marginal_relevance_search(
        self, query: str, k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, **kwargs: Any
    ) -> list[Document]:
        """Return documents that are similar to the query and differ from each other, in the order of their choice."""
        vector = self._embedding.embed_query(query)
        return self.max_marginal_relevance_search_by_vector(vector, k, fetch_k, lambda_mult, **kwargs)

    def max_marginal_relevance_search_by_vector(
        self, embedding: list[float], k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, **kwargs: Any
    ) -> list[Document]:
        """As `max_marginal_relevance_search`, for a vector (Carbonell and Goldstein 1998).

        Args:
            embedding: The query's vector.
            k: How many to return.
            fetch_k: How many to choose from.
            lambda_mult: 1 for similarity only, 0 for difference only.
            **kwargs: As for `similarity_search_with_score`.
        """
        found = self._found(embedding, max(k, fetch_k), **kwargs)
        query = np.asarray(embedding, dtype=np.float32)
        chosen = maximal_marginal_relevance(query, [record.vector.tolist() for _, record in found], lambda_mult, k)
        return [_document(found[index][1]) for index in chosen]

    def _found(
        self,
        embedding: Sequence[float],
        k: int,
        *,
        filter: Filter = None,  # noqa: A002 - LangChain's word
        **options: Any,
    ) -> list[tuple[Hit, Record]]:
        hits = self._search(np.asarray(embedding, dtype=np.float32), k, where_of(filter), **options)
        records = {record.id: record for record in self.store.get([hit.id for hit in hits])}
        return [(hit, records[hit.id]) for hit in hits if hit.id in records]  # one may just have been deleted

    def _search(self, vector: Vectors, k: int, where: Where | None, /, **options: Any) -> list[Hit]:
        self._refuse(options)
        return self.store.search(vector, k, where=where)

    def _select_relevance_score_fn(self) -> Callable[[float], float]:
        return partial(relevance, similarity=self._similarity)

    def _refuse(self, unknown: Mapping[str, Any]) -> None:
        """LangChain's signatures let any keyword in; one that would have no effect is a mistake."""
        if unknown:
            raise TypeError(f"{type(self).__name__} got unknown arguments: {', '.join(sorted(unknown))}")


def space_of(embedding: Embeddings, space: str | None) -> str:
    """Return the stamp of the space of embeddings: the one given, or that of embeddings of this package."""
    if space is not None:
        return space
    return embedding.encoder.profile.space if isinstance(embedding, EncodedEmbeddings) else ""


def similarity_of(embedding: Embeddings, similarity: Similarity | None) -> Similarity | None:
    """Return how vectors are compared: as asked for, or as embeddings of this package were trained for."""
    if similarity is not None:
        return similarity
    return embedding.encoder.profile.similarity if isinstance(embedding, EncodedEmbeddings) else None


def _released(store: Store, temporary: TemporaryDirectory[str] | None) -> None:
    store.close()
    if temporary is not None:
        temporary.cleanup()


def _identified(documents: Sequence[Document], ids: Sequence[str | None] | None) -> list[Document]:
    if ids is not None and len(ids) != len(documents):
        raise ValueError(f"{len(documents)} documents need as many ids, got {len(ids)}")
    chosen = ids or [None] * len(documents)
    return [
        item.model_copy(update={"id": identity or to_core(item).id})
        for item, identity in zip(documents, chosen, strict=True)
    ]


def _dumped(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return what can be filtered by, and beside it all of it as JSON where that is not all."""
    kept = filterable(metadata)
    if kept == metadata and _WHOLE not in kept:
        return kept
    try:
        return {**kept, _WHOLE: json.dumps(metadata, allow_nan=False)}
    except (TypeError, ValueError) as error:
        raise DocumentError(f"the metadata of a document is not JSON: {error}; it has {list(metadata)}") from error


def _document(record: Record) -> Document:
    metadata = dict(record.metadata)
    whole = metadata.get(_WHOLE)
    return Document(
        page_content=record.text,
        id=record.id,
        metadata=deepcopy(metadata) if whole is None else json.loads(whole),
    )
