"""A retriever by vectors and keywords at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llama_index.core.vector_stores.types import VectorStoreQueryMode

from rag_embeddings.llama_index.retriever import SentenceParentRetriever

if TYPE_CHECKING:
    from llama_index.core.base.embeddings.base import BaseEmbedding

    from rag_embeddings.encode.base import Encoder
    from rag_embeddings.store.directory import IndexDirectory


class HybridRetriever(SentenceParentRetriever):
    """Returns the passages that match by meaning, by words, or both.

    It is a `SentenceParentRetriever` with ``vector_store_query_mode="hybrid"``: every candidate of either side is
    scored on both, so that a name or a code that vectors blur is found, and a question in other words than the text is
    answered as without keywords. No language model is asked for more queries. Results are told apart by id.

    Args:
        directory: An open index. It is closed with the retriever.
        embed_model: As for `SentenceParentRetriever`.
        vector_store_query_mode: As there.
        **options: As for `SentenceParentRetriever`: ``similarity_top_k``, ``fusion``, ``beta``, ``filters``, ...

    Examples:
        ```python
        from rag_embeddings.llama_index import HybridRetriever, InstructionEmbedding

        retriever = HybridRetriever.from_documents(documents, embed_model=InstructionEmbedding(), similarity_top_k=4)
        nodes = retriever.retrieve("error E1047")
        ```
    """

    def __init__(
        self,
        directory: IndexDirectory,
        embed_model: BaseEmbedding | Encoder,
        *,
        vector_store_query_mode: VectorStoreQueryMode | str = VectorStoreQueryMode.HYBRID,
        **options: Any,
    ) -> None:
        super().__init__(directory, embed_model, vector_store_query_mode=vector_store_query_mode, **options)
