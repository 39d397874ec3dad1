"""A retriever that brings along what other documents say about the same thing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rag_embeddings.llama_index.retriever import SentenceParentRetriever

if TYPE_CHECKING:
    from llama_index.core.base.embeddings.base import BaseEmbedding

    from rag_embeddings.encode.base import Encoder
    from rag_embeddings.store.directory import IndexDirectory
    from rag_embeddings.store.links import LinkRule


class LinkedChunkRetriever(SentenceParentRetriever):
    """Returns the passages that match, and behind them passages of other documents that are linked to these.

    Similar passages of different documents are linked when documents are written, from the vectors that are stored
    anyway. A document that is replaced or deleted takes its links with it; the others' are not computed again.

    It is a `SentenceParentRetriever` that writes links and follows them by default. A linked passage has
    ``linked_from`` (the id of the passage that led there) in its metadata, the similarity to that passage as score,
    and no ``matches``.

    Args:
        directory: An open index. It is closed with the retriever.
        embed_model: As for `SentenceParentRetriever`.
        link_tokens: Tokens of linked passages to fetch along, on top of ``similarity_top_k`` or ``token_budget``.
        links: Which passages are linked: True for the rule the directory has, for a new one `LinkRule` with its
            defaults; or a rule of your own.
        **options: As for `SentenceParentRetriever`.

    Examples:
        ```python
        from rag_embeddings.llama_index import InstructionEmbedding, LinkedChunkRetriever

        retriever = LinkedChunkRetriever.from_documents(
            documents, embed_model=InstructionEmbedding(), similarity_top_k=3, link_tokens=800
        )
        nodes = retriever.retrieve("Which rules apply to travel?")
        ```
    """

    def __init__(
        self,
        directory: IndexDirectory,
        embed_model: BaseEmbedding | Encoder,
        *,
        link_tokens: int = 600,
        links: LinkRule | bool | None = True,
        **options: Any,
    ) -> None:
        super().__init__(directory, embed_model, link_tokens=link_tokens, links=links, **options)
