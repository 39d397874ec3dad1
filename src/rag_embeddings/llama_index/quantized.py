"""A LlamaIndex vector store whose vectors take a fraction of the memory."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import numpy as np
from llama_index.core.bridge.pydantic import Field, PrivateAttr
from llama_index.core.indices.query.embedding_utils import get_top_k_mmr_embeddings
from llama_index.core.schema import MetadataMode
from llama_index.core.vector_stores.types import BasePydanticVectorStore, VectorStoreQueryMode, VectorStoreQueryResult
from llama_index.core.vector_stores.utils import metadata_dict_to_node, node_to_metadata_dict

from rag_embeddings.errors import StoreError
from rag_embeddings.llama_index.component import PortableComponent
from rag_embeddings.llama_index.filters import where_of
from rag_embeddings.store.base import Record
from rag_embeddings.store.quantized import QuantizedStore
from rag_embeddings.store.where import All, Where

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from llama_index.core.schema import BaseNode
    from llama_index.core.vector_stores.types import MetadataFilters, VectorStoreQuery

    from rag_embeddings.codec.base import VectorCodec
    from rag_embeddings.encode.profile import Similarity

_ID = "_node_id"  # metadata key under which a node's id can be filtered by


class QuantizedVectorStore(PortableComponent, BasePydanticVectorStore):
    """Nodes in a `QuantizedStore`: small codes are searched, float vectors on disk put the best in order.

    Adding a node again replaces it. Similarities are those of the float vectors: cosine, dot product, or negative
    Euclidean distance. One process at a time may write to a directory, from its first write until `close`.

    Example:
        ```python
        from llama_index.core import StorageContext, VectorStoreIndex
        from rag_embeddings import BinaryCodec
        from rag_embeddings.llama_index import QuantizedVectorStore

        store = QuantizedVectorStore("vectors", codec=BinaryCodec())
        index = VectorStoreIndex(nodes, storage_context=StorageContext.from_defaults(vector_store=store))
        ```

    Args:
        directory: Where the store lives; made if absent.
        codec: How vectors become codes; None: as the directory was made with, for a new one `Int8Codec`. The directory
            remembers it; it is no field and not part of a pickle.
        similarity: How vectors are compared; None: as the codec, or as the directory was made with.
        oversample: How many nodes are compared by their float vectors, for each one asked for.
        build_after: See `QuantizedStore`.
        space: Stamp of the embedding space, compared with that of an existing directory; see `Profile.space`.
    """

    stores_text: bool = True
    is_embedding_query: bool = True
    directory: str = Field(description="Where the store lives.")
    oversample: int = Field(default=16, ge=1, description="Nodes compared as floats for each one asked for.")
    build_after: int = Field(default=20_000, ge=1, description="Nodes outside the index that extend it.")
    space: str = Field(default="", description="Stamp of the embedding space.")

    _store: QuantizedStore = PrivateAttr()

    def __init__(
        self,
        directory: str | Path,
        *,
        codec: VectorCodec | None = None,
        similarity: Similarity | None = None,
        oversample: int = 16,
        build_after: int = 20_000,
        space: str = "",
        **fields: Any,
    ) -> None:
        super().__init__(  # type: ignore[call-arg]  # pydantic's plugin is not at work here
            directory=str(directory), oversample=oversample, build_after=build_after, space=space, **fields
        )
        self._store = QuantizedStore(
            self.directory,
            codec=codec,
            similarity=similarity,
            oversample=oversample,
            build_after=build_after,
            space=space,
        )

    @classmethod
    def class_name(cls) -> str:
        """Name in serialised form."""
        return "QuantizedVectorStore"

    @property
    def client(self) -> QuantizedStore:
        """The store itself."""
        return self._store

    # --- writing -----------------------------------------------------------------------------------------------------

    def add(self, nodes: Sequence[BaseNode], **kwargs: Any) -> list[str]:  # noqa: ARG002  # LlamaIndex's signature
        """Add nodes that have an embedding, replacing those whose id is known; return the ids."""
        self._store.upsert([_record(node) for node in nodes])
        return [node.node_id for node in nodes]

    def delete(self, ref_doc_id: str, **delete_kwargs: Any) -> None:  # noqa: ARG002  # LlamaIndex's signature
        """Delete all nodes of a document."""
        self._store.delete(list(self._store.ids(Where.equals("ref_doc_id", ref_doc_id))))

    def delete_nodes(
        self,
        node_ids: list[str] | None = None,
        filters: MetadataFilters | None = None,
        **delete_kwargs: Any,  # noqa: ARG002  # LlamaIndex's signature
    ) -> None:
        """Delete nodes by id, by metadata, or by both together. With neither nothing is deleted; see `clear`."""
        if node_ids is not None or filters is not None:
            self._store.delete(list(self._store.ids(_where(node_ids, None, filters))))

    def clear(self) -> None:
        """Delete every node."""
        self._store.delete(list(self._store.ids()))

    def close(self) -> None:
        """Close the files and let other processes write."""
        self._store.close()

    # --- reading -----------------------------------------------------------------------------------------------------

    def get_nodes(self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None) -> list[BaseNode]:
        """Return nodes by id (in that order), by metadata, or all of them; each with its embedding."""
        found = dict.fromkeys(self._store.ids(_where(None, None, filters)))  # in the order of the store
        wanted = list(found) if node_ids is None else [name for name in node_ids if name in found]
        return [_node(record) for record in self._store.get(wanted)]

    def query(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        """Search.

        Args:
            query: Modes DEFAULT and MMR; ``node_ids``, ``doc_ids`` and ``filters`` restrict the nodes.
            **kwargs: ``exact=True`` compares all vectors. For MMR ``mmr_threshold`` (1: similarity only, 0: difference
                only; the query's own comes first) and ``mmr_prefetch_factor`` (nodes to choose from, for each one).

        Returns:
            Nodes with similarities, best first; for MMR in the order of their choice, with its scores.

        Raises:
            ValueError: On another mode, a filter that is not known, or a query without an embedding.
        """
        if query.query_embedding is None:
            raise ValueError("the query has no embedding; this store compares vectors")
        if query.mode not in {VectorStoreQueryMode.DEFAULT, VectorStoreQueryMode.MMR}:
            raise ValueError(f"query mode {query.mode.value!r} is not known; use 'default' or 'mmr'")
        mmr = query.mode == VectorStoreQueryMode.MMR
        count = query.similarity_top_k * (int(kwargs.get("mmr_prefetch_factor", 4)) if mmr else 1)
        hits = self._store.search(
            np.asarray(query.query_embedding, dtype=np.float32),
            count,
            # LlamaIndex's retriever sends an empty list where it has no wish.
            where=_where(query.node_ids or None, query.doc_ids or None, query.filters),
            exact=bool(kwargs.get("exact", False)),
        )
        scores = {hit.id: hit.score for hit in hits}
        records = {record.id: record for record in self._store.get(list(scores)) if record.id in scores}
        if mmr:
            threshold = kwargs.get("mmr_threshold") if query.mmr_threshold is None else query.mmr_threshold
            chosen, ids = get_top_k_mmr_embeddings(
                query.query_embedding,
                [record.vector.tolist() for record in records.values()],
                similarity_top_k=query.similarity_top_k,
                embedding_ids=list(records),
                mmr_threshold=threshold,
            )
            scores = dict(zip(ids, chosen, strict=True))
        order = [name for name in scores if name in records]
        return VectorStoreQueryResult(
            nodes=[_node(records[name]) for name in order], similarities=[scores[name] for name in order], ids=order
        )

    # --- the same without blocking the event loop ---------------------------------------------------------------------

    async def async_add(self, nodes: Sequence[BaseNode], **kwargs: Any) -> list[str]:
        """See `add`."""
        return await asyncio.to_thread(self.add, nodes, **kwargs)

    async def adelete(self, ref_doc_id: str, **delete_kwargs: Any) -> None:
        """See `delete`."""
        await asyncio.to_thread(self.delete, ref_doc_id, **delete_kwargs)

    async def adelete_nodes(
        self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None, **delete_kwargs: Any
    ) -> None:
        """See `delete_nodes`."""
        await asyncio.to_thread(self.delete_nodes, node_ids, filters, **delete_kwargs)

    async def aclear(self) -> None:
        """See `clear`."""
        await asyncio.to_thread(self.clear)

    async def aget_nodes(
        self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None
    ) -> list[BaseNode]:
        """See `get_nodes`."""
        return await asyncio.to_thread(self.get_nodes, node_ids, filters)

    async def aquery(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        """See `query`."""
        return await asyncio.to_thread(self.query, query, **kwargs)


def _record(node: BaseNode) -> Record:
    metadata = node_to_metadata_dict(node, remove_text=True, flat_metadata=False)
    vector = np.asarray(node.get_embedding(), dtype=np.float32)
    return Record(node.node_id, vector, node.get_content(MetadataMode.NONE), {**metadata, _ID: node.node_id})


def _node(record: Record) -> BaseNode:
    try:
        node = metadata_dict_to_node(dict(record.metadata), text=record.text)
    except ValueError as error:
        raise StoreError(
            f"record {record.id!r} is no LlamaIndex node: this folder was written by something else; use another one"
        ) from error
    node.embedding = record.vector.tolist()
    return node


def _where(
    node_ids: Sequence[str] | None, doc_ids: Sequence[str] | None, filters: MetadataFilters | None
) -> Where | None:
    parts = [Where.among(key, ids) for key, ids in ((_ID, node_ids), ("ref_doc_id", doc_ids)) if ids is not None]
    if filters is not None:
        parts.append(where_of(filters))
    return All(tuple(parts)) if parts else None
