"""Sentence-level search that returns the passage, as a LlamaIndex retriever."""

from __future__ import annotations

import asyncio
from copy import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.vector_stores.types import VectorStoreQueryMode
from tqdm.auto import tqdm  # type: ignore[import-untyped]

from rag_embeddings.encode.base import Role
from rag_embeddings.encode.wrap import wrap
from rag_embeddings.index.indexer import Indexer
from rag_embeddings.index.late import index_late
from rag_embeddings.index.pipeline import Pipeline
from rag_embeddings.index.splitter import index_splitter
from rag_embeddings.llama_index.convert import from_core, from_match, to_core
from rag_embeddings.llama_index.node_parsers import core_splitter
from rag_embeddings.llama_index.searching import search_settings
from rag_embeddings.retrieve.search import Retrieval
from rag_embeddings.split.recursive import RecursiveSplitter
from rag_embeddings.store.directory import IndexDirectory

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from typing import Self

    from llama_index.core.base.embeddings.base import BaseEmbedding
    from llama_index.core.callbacks import CallbackManager
    from llama_index.core.node_parser import NodeParser
    from llama_index.core.schema import BaseNode, IndexNode, NodeWithScore, QueryBundle
    from llama_index.core.schema import Document as LlamaIndexDocument
    from llama_index.core.vector_stores.types import MetadataFilters

    from rag_embeddings.encode.base import Encoder
    from rag_embeddings.index.indexer import Summary
    from rag_embeddings.retrieve.merge import Merge
    from rag_embeddings.retrieve.rerank import Reranker
    from rag_embeddings.retrieve.window import Window
    from rag_embeddings.split.base import Splitter
    from rag_embeddings.store.links import LinkRule
    from rag_embeddings.store.where import Where


class SentenceParentRetriever(BaseRetriever):
    """Finds single sentences, returns the passages they stand in.

    Each document is split into passages and each passage into sentences; both are embedded, and kept beside the whole
    document in a directory. A query is matched against sentences, so that one telling sentence is enough; what comes
    back is the passage. ``similarity_top_k`` counts passages. Documents that did not change are not embedded again.

    Results are ``TextNode``s under the passage's id, with exact ``start_char_idx`` and ``end_char_idx``, the document
    as SOURCE, and in ``metadata`` the document's own plus ``source_id``, ``start_index``, ``end_index``, ``chunk_id``,
    ``score`` and ``matches``: the sentences that matched, best first, as ``[start, end]`` in characters of the
    document. A language model sees the document's own metadata only.

    The directory is the same that LangChain's ``SentenceParentIndex`` and the command line use. One process at a time
    may write to it, from its first write until `close`; reading is free to all.

    Args:
        directory: An open index. It is closed with the retriever.
        embed_model: The embedding model the directory was or will be built with: `InstructionEmbedding`, any other
            LlamaIndex embedding, or an `Encoder`.
        node_parser: How documents become passages when some are inserted: `RecursiveNodeParser`,
            `SlidingWindowNodeParser` or a splitter of the core. None: the one the directory was last written
            with; for a new one, a recursive splitter that counts with the model's own tokenizer, or with tiktoken's
            ``"cl100k_base"`` if it has none.
        similarity_top_k: Number of passages to return. Linked ones come on top.
        token_budget: Instead of ``similarity_top_k``: how many tokens the passages may have together, contexts
            included. The first passage is returned even if it alone has more.
        tokenizer: Counts tokens: the name of a tiktoken encoding, a tokenizer, a function. None: the model's own
            tokenizer, or tiktoken's ``"cl100k_base"`` if it has none.
        vector_store_query_mode: ``"default"``: by vectors. ``"hybrid"``: by vectors and keywords. ``"mmr"``: by
            vectors, each next passage unlike those before it (maximal marginal relevance).
        score: What ranks a passage: its ``"best"`` sentence, the ``"mean"`` of that and the passage itself, or the
            ``"sum"`` of its three best sentences. None: the mean with ``"hybrid"``, the best sentence otherwise.
        filters: Only passages whose metadata fulfil these: LlamaIndex's ``MetadataFilters``, or a `Where`.
        pattern: Only passages in whose text this regular expression matches; it runs in linear time.
        fusion: How ``"hybrid"`` joins similarity and keywords; None: calibrated. See `HybridSearch`.
        beta: Weight of the keywords with ``"hybrid"``; None: the usual one of the fusion.
        mmr_threshold: Relevance against difference with ``"mmr"``: 1 is relevance alone.
        fetch_k: Passages that ``"mmr"`` or the ``reranker`` choose from.
        reranker: Scores the passages anew: `CrossEncoderReranker`, or any callable from a query and texts to scores.
        window: Sentences added on both sides of each passage, or a `Window`. Passages that touch become one.
        merge: Whether passages that stand side by side become one, and sections of which most was found come back
            whole. True: more than half; or a `Merge`.
        link_tokens: Tokens of linked passages (similar ones of other documents) to fetch along. Their metadata have
            ``linked_from``, the passage that led there; their score is the similarity to it.
        keywords: Whether ``"hybrid"`` finds words in this index; see `Indexer`.
        links: Which passages are linked when documents are written; see `Indexer`.
        late: Whether vectors of sentences and passages know their whole document (late chunking). None: as the
            directory was last written; for a new one they do not.
        callback_manager: As in every LlamaIndex retriever.
        object_map: As in every LlamaIndex retriever.
        objects: As in every LlamaIndex retriever.
        verbose: As in every LlamaIndex retriever.

    Raises:
        ValueError: If a setting is impossible or unknown, or ``node_parser`` not one of ours.

    Examples:
        ```python
        from llama_index.core.query_engine import RetrieverQueryEngine
        from rag_embeddings.llama_index import InstructionEmbedding, SentenceParentRetriever

        embed_model = InstructionEmbedding()
        retriever = SentenceParentRetriever.from_documents(documents, embed_model=embed_model, directory="rag-index")
        engine = RetrieverQueryEngine.from_args(retriever, llm=llm)
        ```
    """

    def __init__(
        self,
        directory: IndexDirectory,
        embed_model: BaseEmbedding | Encoder,
        *,
        node_parser: NodeParser | Splitter | None = None,
        similarity_top_k: int = 4,
        token_budget: int | None = None,
        tokenizer: Any = None,
        vector_store_query_mode: VectorStoreQueryMode | str = VectorStoreQueryMode.DEFAULT,
        score: Literal["best", "mean", "sum"] | None = None,
        filters: MetadataFilters | Where | None = None,
        pattern: str | None = None,
        fusion: Literal["calibrated", "minmax", "rrf"] | None = None,
        beta: float | None = None,
        mmr_threshold: float = 0.5,
        fetch_k: int = 20,
        reranker: Reranker | None = None,
        window: int | Window = 0,
        merge: bool | Merge = False,
        link_tokens: int = 0,
        keywords: str | bool | None = None,
        links: LinkRule | bool | None = None,
        late: bool | None = None,
        callback_manager: CallbackManager | None = None,
        object_map: dict[str, Any] | None = None,
        objects: list[IndexNode] | None = None,
        verbose: bool = False,
    ) -> None:
        super().__init__(callback_manager, object_map, objects, verbose)
        self._directory = directory
        self._encoder = wrap(embed_model)
        self._splitter = None if node_parser is None else core_splitter(node_parser)
        self._late = index_late(self._encoder, directory.settings, late=late)
        self._keywords = keywords
        self._links = links
        self._owns = True  # whether the directory is closed with this object
        self._retrieval = Retrieval(
            directory,
            self._encoder,
            token_budget=token_budget,
            tokenizer=tokenizer,
            score=score,
            pattern=pattern,
            fusion=fusion,
            beta=beta,
            fetch_k=fetch_k,
            reranker=reranker,
            window=window,
            merge=merge,
            link_tokens=link_tokens,
            **search_settings(
                similarity_top_k=similarity_top_k,
                vector_store_query_mode=vector_store_query_mode,
                filters=filters,
                mmr_threshold=mmr_threshold,
            ),
        )

    @property
    def similarity_top_k(self) -> int:
        """Number of passages to return; may be set."""
        return self._retrieval.k

    @similarity_top_k.setter
    def similarity_top_k(self, number: int) -> None:
        self._retrieval = replace(self._retrieval, **search_settings(similarity_top_k=number))

    def with_settings(self, **settings: Any) -> SentenceParentRetriever:
        """Return a retriever over the same open index that searches otherwise.

        Args:
            **settings: Those of the constructor from ``similarity_top_k`` to ``link_tokens``. A ``similarity_top_k``
                puts a ``token_budget`` out of force that is not given with it.

        Returns:
            A retriever that works until this one is closed.

        Raises:
            TypeError: If there is no setting of that name.
            ValueError: If a setting is impossible.
        """
        if "similarity_top_k" in settings:
            settings.setdefault("token_budget", None)
        other = copy(self)
        vars(other).update(_owns=False, _retrieval=replace(self._retrieval, **search_settings(**settings)))
        return other

    @classmethod
    def from_directory(
        cls, directory: str | Path, *, embed_model: BaseEmbedding | Encoder, **options: Any
    ) -> SentenceParentRetriever:
        """Open an index that exists.

        Args:
            directory: Where it lives.
            embed_model: The embedding model it was built with.
            **options: As for the constructor: ``similarity_top_k``, ``score``, ``node_parser``, ...

        Returns:
            A retriever.

        Raises:
            IndexNotFoundError: If there is no index in the directory.
            SpaceMismatchError: At the first query, if the index was built with another model.
        """
        return cls._opened(IndexDirectory.open(directory), embed_model, options)

    @classmethod
    def from_documents(
        cls,
        documents: Sequence[BaseNode],
        *,
        embed_model: BaseEmbedding | Encoder,
        directory: str | Path | None = None,
        show_progress: bool = False,
        **options: Any,
    ) -> SentenceParentRetriever:
        """Index documents, and keep those that the directory already holds; see `upsert`.

        Args:
            documents: Documents with ids of their own; LlamaIndex gives a document without one a new id each time.
            embed_model: The embedding model.
            directory: Where the index lives, made if it does not exist. None: in memory, for as long as the retriever.
            show_progress: Show a progress bar.
            **options: As for the constructor: ``similarity_top_k``, ``score``, ``node_parser``, ...

        Returns:
            A retriever.

        Raises:
            SpaceMismatchError: If the directory holds vectors of another model.
            StoreLockedError: If another process is writing to the directory.
            DocumentError: If a document's metadata is not JSON.
        """
        retriever = cls._opened(IndexDirectory.open(directory, create=True), embed_model, options)
        try:
            retriever.upsert(documents, show_progress=show_progress)
        except BaseException:
            retriever.close()
            raise
        return retriever

    @classmethod
    def _opened(
        cls, directory: IndexDirectory, embed_model: BaseEmbedding | Encoder, options: dict[str, Any]
    ) -> SentenceParentRetriever:
        try:
            return cls(directory, embed_model, **options)
        except BaseException:
            directory.close()
            raise

    def upsert(self, documents: Sequence[BaseNode], *, show_progress: bool = False) -> Summary:
        """Add documents, replacing those whose id is known; unchanged ones cost nothing.

        Args:
            documents: Any number of documents.
            show_progress: Show a progress bar.

        Returns:
            Which ids were added, replaced and unchanged, and how many texts were embedded.
        """
        items = [to_core(document) for document in documents]
        with tqdm(total=len(items), desc="Indexing documents", unit="doc", disable=not show_progress) as bar:

            def advance(done: int, total: int | None) -> None:
                bar.total = total
                bar.update(done - bar.n)

            return self._indexer().upsert(items, progress=advance)

    def insert(self, document: BaseNode) -> None:
        """Add one document, or replace the one with its id; see `upsert`."""
        self.upsert([document])

    def refresh_ref_docs(self, documents: Sequence[BaseNode]) -> list[bool]:
        """Add documents, replace those that changed.

        Args:
            documents: Any number of documents.

        Returns:
            For each document whether it was new or changed.
        """
        unchanged = set(self.upsert(documents).unchanged)
        return [document.node_id not in unchanged for document in documents]

    def delete_ref_doc(self, ref_doc_id: str) -> bool:
        """Delete a document with all its passages and sentences.

        Args:
            ref_doc_id: The document's id, which is every passage's ``ref_doc_id``.

        Returns:
            Whether there was such a document.
        """
        # Deleting splits nothing: the splitter of the index may be one that has to be given.
        remover = Indexer(self._directory, Pipeline(self._encoder, RecursiveSplitter()))
        return bool(remover.delete([ref_doc_id]))

    def ref_doc_ids(self) -> list[str]:
        """Return the ids of all documents in the index."""
        return self._directory.ledger.document_ids()

    def get_documents(self, ref_doc_ids: Sequence[str]) -> list[LlamaIndexDocument]:
        """Return whole documents, as they were inserted.

        Args:
            ref_doc_ids: Ids of documents. Unknown ones are ignored.

        Returns:
            The documents found, in the order of ``ref_doc_ids``.
        """
        return [from_core(document) for document in self._directory.ledger.live_documents(ref_doc_ids)]

    async def aupsert(self, documents: Sequence[BaseNode], *, show_progress: bool = False) -> Summary:
        """Add documents without blocking the event loop; see `upsert`."""
        return await asyncio.to_thread(self.upsert, documents, show_progress=show_progress)

    async def ainsert(self, document: BaseNode) -> None:
        """Add one document without blocking the event loop; see `insert`."""
        await asyncio.to_thread(self.insert, document)

    async def arefresh_ref_docs(self, documents: Sequence[BaseNode]) -> list[bool]:
        """Add documents without blocking the event loop; see `refresh_ref_docs`."""
        return await asyncio.to_thread(self.refresh_ref_docs, documents)

    async def adelete_ref_doc(self, ref_doc_id: str) -> bool:
        """Delete a document without blocking the event loop; see `delete_ref_doc`."""
        return await asyncio.to_thread(self.delete_ref_doc, ref_doc_id)

    def close(self) -> None:
        """Release the directory, and with it the right to write. An index in memory is gone then."""
        if self._owns:
            self._directory.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        vector = None
        if query_bundle.embedding is not None:
            vector = np.asarray(query_bundle.embedding, dtype=np.float32)
        elif query_bundle.custom_embedding_strs:
            # What other retrievers do with several strings (HyDE): search with their mean.
            vector = self._encoder.encode(query_bundle.custom_embedding_strs, Role.QUERY).mean(axis=0)
        return [from_match(match) for match in self._retrieval.search(query_bundle.query_str, vector)]

    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return await asyncio.to_thread(self._retrieve, query_bundle)

    def _indexer(self) -> Indexer:
        if self._splitter is None:
            self._splitter = index_splitter(self._encoder, self._directory.settings)
        pipeline = Pipeline(self._encoder, self._splitter, self._late)
        return Indexer(self._directory, pipeline, keywords=self._keywords, links=self._links)
