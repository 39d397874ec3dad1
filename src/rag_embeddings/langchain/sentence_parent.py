"""Sentence-level search that returns the passage, as a LangChain document index and retriever."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from threading import RLock
from typing import Annotated, Any, Self

from langchain_core.callbacks import AsyncCallbackManagerForRetrieverRun, CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.indexing import DeleteResponse, DocumentIndex, UpsertResponse
from langchain_core.retrievers import LangSmithRetrieverParams
from langchain_text_splitters import TextSplitter
from pydantic import ConfigDict, Field, PrivateAttr, SkipValidation, field_validator

from rag_embeddings.encode.base import Encoder
from rag_embeddings.encode.wrap import wrap
from rag_embeddings.errors import IndexNotFoundError
from rag_embeddings.index.indexer import Indexer
from rag_embeddings.index.late import index_late
from rag_embeddings.index.pipeline import Pipeline
from rag_embeddings.index.splitter import index_splitter
from rag_embeddings.langchain.convert import from_core, from_match, to_core
from rag_embeddings.langchain.late import LateChunkingEmbeddings
from rag_embeddings.langchain.searching import SearchSettings
from rag_embeddings.langchain.splitters import core_splitter, exact_splitter
from rag_embeddings.split.base import Splitter
from rag_embeddings.split.recursive import RecursiveSplitter
from rag_embeddings.store.directory import IndexDirectory
from rag_embeddings.store.links import LinkRule

_opening = RLock()


class SentenceParentIndex(SearchSettings, DocumentIndex):
    """Finds single sentences, returns the passages they stand in.

    Each document is split into passages and each passage into sentences; both are embedded, and kept beside the whole
    document in a directory. A query is matched against sentences, so that one telling sentence is enough; what comes
    back is the passage, with the places of the sentences that matched. ``k`` counts passages.

    It is a retriever (usable in any chain), and a document index: `upsert` by id leaves nothing of the former version,
    and `langchain_core.indexing.index` accepts it. Documents that did not change are not embedded again.

    Setup:
        ``pip install 'rag-embeddings[langchain,local,chroma]'``

    Instantiate:
        ```python
        from rag_embeddings.langchain import InstructionEmbeddings, SentenceParentIndex

        index = SentenceParentIndex(embeddings=InstructionEmbeddings(), directory="rag-index", k=4)
        ```

    Add documents:
        ```python
        from langchain_core.documents import Document

        index.upsert([Document(page_content="...", id="report.md", metadata={"title": "Report"})])
        ```

    Use:
        ```python
        for passage in index.invoke("What did the report say?"):
            print(passage.metadata["source_id"], passage.metadata["start_index"], passage.page_content)
        ```

    Search in other ways, for one call or, given to the constructor or `as_retriever`, for all:
        ```python
        index.invoke("What did the report say?", search_type="mmr", filter={"title": "Report"})
        index.invoke("What did the report say?", token_budget=2000, merge=True, window=2)
        retriever = index.as_retriever(search_type="mmr", k=6)
        ```

    Async:
        ```python
        passages = await index.ainvoke("What did the report say?", k=3)
        ```

    Results have the slice as ``page_content``, the passage's id as ``id``, and in ``metadata`` the document's own plus
    ``source_id`` (the document's id, for `get` and `delete`), ``start_index`` and ``end_index`` (where the passage
    stands in that document), ``score``, and ``matches``: the sentences that matched, best first, as ``[start, end]``
    in the same characters. Where the document brought keys of these names, `get` still has them.

    One process at a time may write to a directory, from its first write until `close`; reading is free to all. Objects
    of one process that name the same directory share it, and it is released with the last of them.
    """

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)

    embeddings: Annotated[Embeddings | Encoder, SkipValidation] = Field(frozen=True)
    """Any LangChain embeddings, or an encoder of `rag_embeddings`."""
    directory: str | Path | IndexDirectory | None = Field(default=None, frozen=True)
    """Where the index lives, made at the first `upsert`. None: in memory, for as long as this object lives (the field
    then holds the open index). An open `IndexDirectory` is used as it is, and left open."""
    splitter: Annotated[TextSplitter | Splitter | None, SkipValidation] = Field(default=None, frozen=True)
    """How documents become passages: a splitter of `rag_embeddings`, LangChain's or the core's. None: the one
    the directory was last written with; for a new one, a recursive splitter that counts with the embeddings' own
    tokenizer, or with tiktoken's ``"cl100k_base"`` if they have none."""
    context_in_content: bool = False
    """Whether ``page_content`` begins with the passage's context (headings, notes), for chains that show nothing else
    of a passage to the model. It then ends with the slice that ``start_index`` and ``end_index`` name."""
    late: bool | None = Field(default=None, frozen=True)
    """Whether vectors of sentences and passages know their whole document (late chunking). None: as the directory was
    last written; for a new one they do not. `LateChunkingEmbeddings` brings its own windows and mix."""
    keywords: str | bool | None = Field(default=None, frozen=True)
    """Whether ``search_type="hybrid"`` finds words in this index, and in which language; see `Indexer`. None: as the
    directory has been so far; for a new one it does, if the extra ``keywords`` is installed."""
    link_rule: LinkRule | bool | None = Field(default=None, frozen=True)
    """Which passages are linked when documents are written, for ``links``: True for similar ones of other documents, or
    a `LinkRule` with another threshold; False for none. None: as the directory has been so far."""

    _encoder: Encoder = PrivateAttr()
    _opened: IndexDirectory | None = PrivateAttr(default=None)  # ours to close; closes itself when collected
    _pipeline: Pipeline | None = PrivateAttr(default=None)

    @field_validator("embeddings")
    @classmethod
    def _known_embeddings(cls, value: Any) -> Any:
        try:
            wrap(value)
        except TypeError as error:  # pydantic turns a ValueError into one that names the field
            raise ValueError(str(error)) from error
        return value

    _exact_splitter = field_validator("splitter")(exact_splitter)

    def model_post_init(self, context: Any, /) -> None:
        """Open an index in memory at once, so that copies with other settings see the same documents."""
        super().model_post_init(context)
        self.retrieval(None, None, {})  # refuses at once what could never be searched for
        self._encoder = wrap(self.embeddings)
        if self.late:
            index_late(self._encoder, {}, late=True)  # refuses at once what could never be late
        if self.directory is None:
            self._opened = IndexDirectory.open(None)
            self.__dict__["directory"] = self._opened  # frozen for everybody else

    @classmethod
    def from_documents(
        cls,
        documents: Iterable[Document],
        embeddings: Embeddings | Encoder,
        *,
        ids: Sequence[str] | None = None,
        **options: Any,
    ) -> Self:
        """Make an index and add documents; ``options`` are the fields of the class. For `ids` see `add_documents`."""
        index = cls(embeddings=embeddings, **options)
        try:
            index.add_documents(documents, ids=ids)
        except BaseException:
            index.close()
            raise
        return index

    @classmethod
    async def afrom_documents(
        cls,
        documents: Iterable[Document],
        embeddings: Embeddings | Encoder,
        *,
        ids: Sequence[str] | None = None,
        **options: Any,
    ) -> Self:
        """Make an index and add documents without blocking the event loop; see `from_documents`."""
        return await asyncio.to_thread(cls.from_documents, documents, embeddings, ids=ids, **options)

    def as_retriever(self, *, search_kwargs: Mapping[str, Any] | None = None, **settings: Any) -> Self:
        """Return a retriever over the same documents with other settings for its searches.

        Args:
            search_kwargs: Settings, as vector stores take them.
            **settings: Settings, and ``name``, ``tags`` and ``metadata`` as every retriever has them.

        Raises:
            TypeError: If there is no setting of that name.
        """
        changes = {**settings, **(search_kwargs or {})}
        own = {name: changes.pop(name) for name in ("name", "tags", "metadata") if name in changes}
        self.retrieval(None, None, changes)
        if "k" in changes:
            changes.setdefault("token_budget", None)
        return self._with(changes | own)

    def upsert(self, items: Sequence[Document], /, **kwargs: Any) -> UpsertResponse:
        """Add documents, replacing those whose id is known; unchanged ones cost nothing.

        Args:
            items: Documents. One without an id gets one derived from its text and metadata.
            **kwargs: None are known.

        Returns:
            The ids, in order, under ``"succeeded"``. ``"failed"`` is always empty: a document that cannot be indexed
            raises, because `langchain_core.indexing.index` does not look at ``"failed"`` and would never retry it.
            Documents before it stay indexed.

        Raises:
            DocumentError: If a document's metadata is not JSON.
            SpaceMismatchError: If the directory holds vectors of another model.
            StoreLockedError: If another process is writing to the directory.
            VectorError: If the embeddings return something that is not a vector.
        """
        _refuse("upsert", kwargs)
        documents = [to_core(item) for item in items]
        self._indexer().upsert(documents)
        return {"succeeded": list(dict.fromkeys(document.id for document in documents)), "failed": []}

    def add_documents(self, documents: Iterable[Document], *, ids: Sequence[str] | None = None) -> list[str]:
        """Add documents as to a vector store; `upsert` with other words.

        Args:
            documents: As for `upsert`.
            ids: Ids to use instead of the documents' own.

        Returns:
            The ids, in order.

        Raises:
            ValueError: If there are not as many ids as documents.
        """
        items = list(documents)
        if ids is not None:
            if len(ids) != len(items):
                raise ValueError(f"{len(items)} documents need as many ids, got {len(ids)}")
            items = [item.model_copy(update={"id": id_}) for item, id_ in zip(items, ids, strict=True)]
        return list(self.upsert(items)["succeeded"])

    def delete(self, ids: list[str] | None = None, **kwargs: Any) -> DeleteResponse:
        """Delete documents with all their passages and sentences.

        Args:
            ids: Ids of documents. Unknown ones are ignored.
            **kwargs: None are known.

        Returns:
            The ids that were deleted, and their number.

        Raises:
            ValueError: If ``ids`` is not given.
        """
        _refuse("delete", kwargs)
        if ids is None:
            raise ValueError("delete needs ids; to delete everything, remove the directory")
        try:
            deleted = self._remover().delete(ids)
        except IndexNotFoundError:  # nothing was ever written, so no id exists
            deleted = []
        return {"succeeded": deleted, "num_deleted": len(deleted), "failed": [], "num_failed": 0}

    def get(self, ids: Sequence[str], /, **kwargs: Any) -> list[Document]:
        """Return whole documents, as they were upserted.

        Args:
            ids: Ids of documents. Unknown ones are ignored.
            **kwargs: None are known.

        Returns:
            The documents found, in the order of ``ids``.
        """
        _refuse("get", kwargs)
        try:
            found = self._handle(create=False).ledger.live_documents(list(dict.fromkeys(ids)))
        except IndexNotFoundError:  # nothing was ever written, so no id exists
            return []
        return [from_core(document) for document in found]

    def document_ids(self) -> list[str]:
        """Return the ids of all documents in the index."""
        try:
            return self._handle(create=False).ledger.document_ids()
        except IndexNotFoundError:  # nothing was ever written, so no id exists
            return []

    def prune(self, keep: Iterable[str | None]) -> list[str]:
        """Delete every document but some.

        Args:
            keep: Ids of the documents that stay.

        Returns:
            The ids that were deleted.
        """
        try:
            return self._remover().prune({id_ for id_ in keep if id_ is not None})
        except IndexNotFoundError:  # nothing was ever written, so there is nothing to delete
            return []

    async def aupsert(self, items: Sequence[Document], /, **kwargs: Any) -> UpsertResponse:
        """Add documents without blocking the event loop; see `upsert`."""
        return await asyncio.to_thread(self.upsert, items, **kwargs)

    async def aadd_documents(self, documents: Iterable[Document], *, ids: Sequence[str] | None = None) -> list[str]:
        """Add documents without blocking the event loop; see `add_documents`."""
        return await asyncio.to_thread(self.add_documents, documents, ids=ids)

    async def adelete(self, ids: list[str] | None = None, **kwargs: Any) -> DeleteResponse:
        """Delete documents without blocking the event loop; see `delete`."""
        return await asyncio.to_thread(self.delete, ids, **kwargs)

    async def aget(self, ids: Sequence[str], /, **kwargs: Any) -> list[Document]:
        """Return whole documents without blocking the event loop; see `get`."""
        return await asyncio.to_thread(self.get, ids, **kwargs)

    async def aprune(self, keep: Iterable[str | None]) -> list[str]:
        """Delete every document but some without blocking the event loop; see `prune`."""
        return await asyncio.to_thread(self.prune, keep)

    def close(self) -> None:
        """Release the directory, and with it the right to write. A later call opens it again.

        An index in memory is gone with it; an `IndexDirectory` that was given stays open.
        """
        with _opening:
            if self._opened is not None:
                self._opened.close()
                self._opened = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self.close)

    def _get_relevant_documents(
        self,
        query: str,
        *,
        run_manager: CallbackManagerForRetrieverRun,  # noqa: ARG002  # LangChain's signature
        **settings: Any,
    ) -> list[Document]:
        return self._search(query, settings)

    async def _aget_relevant_documents(
        self,
        query: str,
        *,
        run_manager: AsyncCallbackManagerForRetrieverRun,  # noqa: ARG002  # LangChain's signature
        **settings: Any,  # the same extras as the sync method, or ainvoke(query, k=...) is a TypeError
    ) -> list[Document]:
        return await asyncio.to_thread(self._search, query, settings)

    def _get_ls_params(self, **kwargs: Any) -> LangSmithRetrieverParams:
        params = super()._get_ls_params(**kwargs)
        params["ls_vector_store_provider"] = type(self).__name__
        params["ls_embedding_provider"] = type(self.embeddings).__name__
        model = getattr(self.embeddings, "model_name", None) or getattr(self.embeddings, "model", None)
        if isinstance(model, str):
            params["ls_embedding_model"] = model
        return params

    def _search(self, query: str, settings: Mapping[str, Any]) -> list[Document]:
        found = self.retrieval(self._handle(create=False), self._encoder, settings).search(query)
        return [from_match(match, context_in_content=self.context_in_content) for match in found]

    def _remover(self) -> Indexer:
        """Delete without the splitter of the index, which has to be given only where something is to be split."""
        return Indexer(self._handle(create=False), Pipeline(self._encoder, RecursiveSplitter()))

    def _indexer(self) -> Indexer:
        handle = self._handle(create=True)
        if self._pipeline is None:
            if self.splitter is not None:
                splitter = core_splitter(self.splitter)
            else:
                splitter = index_splitter(self._encoder, handle.settings)
            late = index_late(self._encoder, handle.settings, late=self.late)
            if late is not None and isinstance(self.embeddings, LateChunkingEmbeddings):
                late = self.embeddings.late_pass
            self._pipeline = Pipeline(self._encoder, splitter, late)
        return Indexer(handle, self._pipeline, keywords=self.keywords, links=self.link_rule)

    def _handle(self, *, create: bool) -> IndexDirectory:
        if isinstance(self.directory, IndexDirectory):
            return self.directory
        with _opening:
            if self._opened is None:
                self._opened = IndexDirectory.open(self.directory, create=create)
            return self._opened


def _refuse(method: str, unknown: dict[str, Any]) -> None:
    """LangChain's signatures let any keyword in; one that would have no effect is a mistake."""
    if unknown:
        raise TypeError(f"SentenceParentIndex.{method} got unknown arguments: {', '.join(sorted(unknown))}")
