"""Sentence-to-passage retrieval over a plain vector store, and a key-value store of passages."""

import asyncio
import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Annotated, Any
from uuid import uuid4

from langchain_core.callbacks import AsyncCallbackManagerForRetrieverRun, CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from langchain_core.stores import BaseStore
from langchain_core.vectorstores import VectorStore
from langchain_text_splitters import TextSplitter
from pydantic import ConfigDict, Field, PrivateAttr, SkipValidation, field_validator

from rag_embeddings.encode.wrap import wrap
from rag_embeddings.index.splitter import index_splitter
from rag_embeddings.langchain.convert import to_core
from rag_embeddings.langchain.door import SLICE, Steps, VectorDoor, arun, drawn, removing, replacing, run
from rag_embeddings.langchain.late import LateChunkingEmbeddings
from rag_embeddings.langchain.parent_keywords import PassageWords, fused
from rag_embeddings.langchain.parent_units import CutDocument, cut_document, embedded_sentences, places, spelled
from rag_embeddings.langchain.splitters import core_splitter, exact_splitter
from rag_embeddings.retrieve.parents import Parent, grouped
from rag_embeddings.split.base import Splitter
from rag_embeddings.store.base import Hit
from rag_embeddings.text import Document as CoreDocument
from rag_embeddings.text import canonical_json, content_id

_FIRST_FETCH = 8  # sentences fetched per passage wanted, doubled while they do not suffice
_LEAST_FETCH = 32
_GROUP = 32  # documents written at a time
_SHOWN = 5  # sentences shown with a passage
_SOURCE = "sources/"
_STATE = "passages/state"
_POOL = 100  # passages of each side whose ranks are joined


class _Work:
    """Calls what keeps the processor busy; async callers have it done in a thread."""

    def call(self, function: Any, *arguments: Any) -> Any:
        return function(*arguments)

    async def acall(self, function: Any, *arguments: Any) -> Any:
        return await asyncio.to_thread(function, *arguments)


_WORK = _Work()


class SentenceParentRetriever(BaseRetriever):
    """Finds single sentences in any vector store, returns the passages they stand in from any key-value store.

    For those who cannot move: sentences go to the vector store you have, passages to a LangChain ``BaseStore`` beside
    it. Where you can choose, `SentenceParentIndex` does more: calibrated hybrid search, all ways to retrieve, a lock
    against a second writer.

    Unlike ``ParentDocumentRetriever``: adding a document again replaces it and leaves no sentence of the former version
    behind, an unchanged one costs no embedding, documents are deleted by id, ``k`` counts passages, and a passage comes
    with its score, its place and the sentences that matched. A write that is cut off leaves the former version to be
    found; adding the document again finishes it.

    Setup:
        ``pip install 'rag-embeddings[langchain]'``

    Instantiate:
        ```python
        from langchain_core.stores import InMemoryByteStore
        from langchain_core.vectorstores import InMemoryVectorStore

        from rag_embeddings.langchain import InstructionEmbeddings, SentenceParentRetriever

        store = InMemoryVectorStore(InstructionEmbeddings())
        retriever = SentenceParentRetriever(vectorstore=store, byte_store=InMemoryByteStore(), k=4)
        ```

    Use:
        ```python
        retriever.add_documents([Document(page_content="...", id="report.md")])
        passages = retriever.invoke("What did the report say?")
        ```

    Async:
        ```python
        await retriever.aadd_documents([Document(page_content="...", id="report.md")])
        passages = await retriever.ainvoke("What did the report say?", k=2)
        ```

    Results have the slice as ``page_content``, the passage's id as ``id``, and in ``metadata`` the document's own plus
    ``source_id``, ``start_index``, ``end_index``, ``chunk_id``, ``score`` and ``matches``, as those of
    `SentenceParentIndex`; ``score`` is what the vector store gives its best sentence, which may be a distance.

    One thread of one process at a time should write; any number may read.
    """

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)

    vectorstore: VectorStore
    """Where sentences are found. Made with `LateChunkingEmbeddings`, it gets late vectors; with any embeddings of this
    package, vectors of sentences with their passage's context (headings, notes)."""
    byte_store: BaseStore[str, bytes]
    """Where passages are kept, such as ``LocalFileStore`` or ``InMemoryByteStore``; as JSON, under keys of letters,
    digits, ``-`` and ``/``."""
    splitter: Annotated[TextSplitter | Splitter | None, SkipValidation] = None
    """How documents become passages: a splitter of this package. None: a recursive one that counts with the
    embeddings' own tokenizer, or with tiktoken's ``"cl100k_base"`` if they have none."""
    k: int = Field(default=4, ge=1)
    """Number of passages to return. ``invoke(query, k=...)`` overrides it."""
    search_kwargs: dict[str, Any] = Field(default_factory=dict, frozen=True)
    """Handed to the store's ``similarity_search_with_score``, such as ``{"filter": ...}``: sentences have the metadata
    of their document."""
    context_in_content: bool = False
    """Whether ``page_content`` begins with the passage's context."""
    keywords: str | None = Field(default=None, frozen=True)
    """Search for the words of the query, too: the language of the texts as an ISO 639-1 code, ``""`` for words as they
    stand. The words are counted in memory, anew after each write; BM25 and the order of the store are joined by
    reciprocal rank fusion, which helps where question and passage share words and hurts where they do not. None: by
    vectors alone. Not together with ``search_kwargs``: words would be found past the store's filter."""

    _words: PassageWords | None = PrivateAttr(default=None)

    _exact_splitter = field_validator("splitter")(exact_splitter)

    def model_post_init(self, context: Any, /) -> None:
        """Make what cuts texts into words, so that an unknown language is refused at once."""
        super().model_post_init(context)
        if self.keywords is not None and self.search_kwargs:
            raise ValueError("search_kwargs reach the vector store alone, and words would be found past its filter")
        self._words = None if self.keywords is None else PassageWords(self.keywords)

    def add_documents(self, documents: Iterable[Document]) -> list[str]:
        """Add documents, replacing those whose id is known; unchanged ones are not embedded again.

        Args:
            documents: Whole documents, drawn as needed. One without an id gets one derived from its text and metadata.

        Returns:
            Their ids, in order.

        Raises:
            DocumentError: If a document's metadata is not JSON.
        """
        splitter = self._splitter()
        return [id_ for group in _groups(documents) for id_ in run(self._adding(group, splitter))]

    async def aadd_documents(self, documents: Iterable[Document]) -> list[str]:
        """Add documents through the async methods of both stores; see `add_documents`."""
        splitter = await asyncio.to_thread(self._splitter)
        return [id_ async for group in drawn(_groups(documents)) for id_ in await arun(self._adding(group, splitter))]

    def delete(self, ids: Sequence[str]) -> None:
        """Delete documents with all their passages and sentences.

        Args:
            ids: Ids of documents; unknown ones are ignored.
        """
        run(self._deleting(ids))

    async def adelete(self, ids: Sequence[str]) -> None:
        """Delete documents through the async methods of both stores; see `delete`."""
        await arun(self._deleting(ids))

    def document_ids(self) -> list[str]:
        """Return the ids of all documents."""
        keys = list(self.byte_store.yield_keys(prefix=_SOURCE))
        found = [_loaded(data) for data in self.byte_store.mget(keys)]
        return [entry["source_id"] for entry in found if entry and entry["version"]]

    def _get_relevant_documents(
        self,
        query: str,
        *,
        run_manager: CallbackManagerForRetrieverRun,  # noqa: ARG002  # LangChain's signature
        k: int | None = None,
    ) -> list[Document]:
        return run(self._searching(query, self.k if k is None else k))

    async def _aget_relevant_documents(
        self,
        query: str,
        *,
        run_manager: AsyncCallbackManagerForRetrieverRun,  # noqa: ARG002  # LangChain's signature
        k: int | None = None,
    ) -> list[Document]:
        return await arun(self._searching(query, self.k if k is None else k))

    # --- the steps, made by sync and async callers alike -------------------------------------------------------------

    def _adding(self, documents: Sequence[CoreDocument], splitter: Splitter) -> Steps[list[str]]:
        entries = yield from self._entries([document.id for document in documents])
        settings = yield _WORK, "call", (self._settings, splitter), {}  # may load the model
        changed: list[tuple[str, CutDocument]] = []
        for document in {document.id: document for document in documents}.values():
            version = content_id("parents", document.digest, canonical_json(document.metadata), settings)
            entry = entries[document.id]
            if entry["version"] != version or entry["rest"]["parents"] or entry["rest"]["sentences"]:
                cut = yield _WORK, "call", (cut_document, document, splitter), {}
                changed.append((version, cut))
        if not changed:
            return [document.id for document in documents]
        for _, cut in changed:  # from here on everything that may be written is known to the next call
            _note(entries[cut.id], parents=list(cut.parents), sentences=list(cut.sentences))
        yield from self._remember(entries, [cut.id for _, cut in changed])
        yield self.byte_store, "mset", ([(key, data) for _, cut in changed for key, data in cut.parents.items()],), {}
        yield from self._write([cut for _, cut in changed])
        for version, cut in changed:  # the moment from which the new version is found, and the former is not
            entry = entries[cut.id]
            _note(entry, entry["parents"], entry["sentences"])
            entry |= {"version": version, "parents": list(cut.parents), "sentences": list(cut.sentences)}
        yield from self._remember(entries, [cut.id for _, cut in changed])
        yield from self._clean_up(entries, [cut.id for _, cut in changed])
        return [document.id for document in documents]

    def _deleting(self, ids: Sequence[str]) -> Steps[None]:
        found = yield from self._entries(ids)
        entries = {id_: entry for id_, entry in found.items() if entry != _new(id_)}
        for entry in entries.values():
            _note(entry, entry["parents"], entry["sentences"])
            entry |= {"version": "", "parents": [], "sentences": []}
        if entries:
            yield from self._remember(entries, list(entries))
            yield from self._clean_up(entries, list(entries))
            yield self.byte_store, "mdelete", ([_key(id_) for id_ in entries],), {}

    def _searching(self, query: str, k: int) -> Steps[list[Document]]:
        if k < 1:
            raise ValueError(f"k must be at least 1, got {k}")
        if self._words is None:
            near, live = yield from self._near(query, k)
            return [self._document(id_, live[id_], near[id_], near[id_].score) for id_ in near]
        near, live = yield from self._near(query, max(k, _POOL))
        words = yield _WORK, "call", (self.scored_by_words, query, max(k, _POOL)), {}
        live |= yield from self._live([id_ for id_ in words if id_ not in live])
        scores = {id_: score for id_, score in fused(near, words).items() if id_ in live}
        return [self._document(id_, live[id_], near.get(id_), score) for id_, score in islice(scores.items(), k)]

    def _near(self, query: str, k: int) -> Steps[tuple[dict[str, Parent], dict[str, dict[str, Any]]]]:
        """Return the k passages whose sentences the vector store finds first, and what is kept of them."""
        fetch = max(_FIRST_FETCH * k, _LEAST_FETCH)
        while True:
            options = {**self.search_kwargs, "k": fetch}
            scored = yield self.vectorstore, "similarity_search_with_score", (query,), options
            where = {str(rank): places(document) for rank, (document, _) in enumerate(scored)}
            parents = grouped([Hit(str(rank), float(score)) for rank, (_, score) in enumerate(scored)], where)
            live = yield from self._live(list(parents))
            best = [id_ for id_ in parents if id_ in live][:k]
            if len(best) == k or len(scored) < fetch:
                return {id_: parents[id_] for id_ in best}, live
            fetch *= 2

    def scored_by_words(self, query: str, count: int) -> dict[str, float]:
        """Return the BM25 scores of the passages that have words of a query, by id, best first."""
        if self._words is None:
            raise ValueError("this retriever does not search for words; give it keywords=")
        (state,) = self.byte_store.mget([_STATE])
        return self._words.scores(state, self._passages, query, count)

    def _passages(self) -> Iterator[tuple[str, str]]:
        """Yield id and text of each live passage."""
        keys = iter(list(self.byte_store.yield_keys(prefix=_SOURCE)))
        while part := list(islice(keys, _GROUP)):
            ids = [id_ for data in self.byte_store.mget(part) if data for id_ in _loaded(data)["parents"]]
            for id_, data in zip(ids, self.byte_store.mget(ids), strict=True):
                if data is not None:
                    passage = _loaded(data)
                    yield id_, "\n\n".join(filter(None, (passage["metadata"].get("context"), passage["text"])))

    def _live(self, ids: list[str]) -> Steps[dict[str, dict[str, Any]]]:
        """Return the passages of live versions."""
        found = yield self.byte_store, "mget", (ids,), {}
        parents = {id_: _loaded(data) for id_, data in zip(ids, found, strict=True) if data is not None}
        entries = yield from self._entries(parent["document"] for parent in parents.values())
        live = {id_ for entry in entries.values() for id_ in entry["parents"]}
        return {id_: parent for id_, parent in parents.items() if id_ in live}

    def _entries(self, ids: Iterable[str]) -> Steps[dict[str, dict[str, Any]]]:
        """Return what is known of documents."""
        wanted = list(dict.fromkeys(ids))
        found = yield self.byte_store, "mget", ([_key(id_) for id_ in wanted],), {}
        return {id_: _loaded(data) if data else _new(id_) for id_, data in zip(wanted, found, strict=True)}

    def _remember(self, entries: dict[str, dict[str, Any]], ids: list[str]) -> Steps[None]:
        state = (_STATE, uuid4().bytes)  # those who have counted the words see that they have to do so again
        yield self.byte_store, "mset", ([*((_key(id_), spelled(entries[id_])) for id_ in ids), state],), {}

    def _clean_up(self, entries: dict[str, dict[str, Any]], ids: list[str]) -> Steps[None]:
        """Delete what is not live."""
        dead: dict[str, list[str]] = {
            kind: [id_ for name in ids for id_ in entries[name]["rest"][kind] if id_ not in set(entries[name][kind])]
            for kind in ("parents", "sentences")
        }
        for start in range(0, len(dead["sentences"]), SLICE):
            part = dead["sentences"][start : start + SLICE]
            try:
                yield from removing(self.vectorstore, part)
            except NotImplementedError:
                yield self.vectorstore, "delete", (part,), {}
        if dead["parents"]:
            yield self.byte_store, "mdelete", (dead["parents"],), {}
        for name in ids:
            entries[name]["rest"] = {"parents": [], "sentences": []}
        yield from self._remember(entries, ids)

    def _write(self, cuts: Sequence[CutDocument]) -> Steps[None]:
        embeddings: Any = self.vectorstore.embeddings
        if isinstance(embeddings, VectorDoor):
            yield embeddings, "add_ready", (self.vectorstore, embedded_sentences(embeddings, cuts)), {}
            return
        documents = [document for cut in cuts for document in cut.sentences.values()]
        for start in range(0, len(documents), SLICE):
            yield from replacing(self.vectorstore, documents[start : start + SLICE], {})

    def _document(self, id_: str, stored: dict[str, Any], parent: Parent | None, score: float) -> Document:
        metadata = dict(stored["metadata"])
        matches = [[span.start, span.end] for _, span in parent.sentences[:_SHOWN]] if parent else []
        context = metadata.get("context") if self.context_in_content else None
        content = f"{context}\n\n{stored['text']}" if context else stored["text"]
        metadata |= {"chunk_id": id_, "score": score, "matches": matches}
        return Document(page_content=content, id=id_, metadata=metadata)

    def _settings(self, splitter: Splitter) -> str:
        """Spell what decides on passages and late vectors."""
        embeddings = self.vectorstore.embeddings
        late = embeddings.late_pass.settings() if isinstance(embeddings, LateChunkingEmbeddings) else None
        return canonical_json([splitter.settings(), late])

    def _splitter(self) -> Splitter:
        if self.splitter is not None:
            return core_splitter(self.splitter)
        return index_splitter(wrap(self.vectorstore.embeddings), {})


def _new(id_: str) -> dict[str, Any]:
    """Return what is known of a document that was never written: what is live of it, and what else there may be."""
    rest: dict[str, list[str]] = {"parents": [], "sentences": []}
    return {"source_id": id_, "version": "", "parents": [], "sentences": [], "rest": rest}


def _note(entry: dict[str, Any], parents: Sequence[str], sentences: Sequence[str]) -> None:
    """Add what may be there and is not live to the rest."""
    for name, ids in (("parents", parents), ("sentences", sentences)):
        entry["rest"][name] = list(dict.fromkeys([*entry["rest"][name], *ids]))


def _groups(documents: Iterable[Document]) -> Iterator[list[CoreDocument]]:
    iterator = iter(documents)
    while part := list(islice(iterator, _GROUP)):
        yield [to_core(document) for document in part]


def _key(source_id: str) -> str:
    return _SOURCE + content_id("source", source_id)


def _loaded(data: bytes | None) -> dict[str, Any]:
    return {} if data is None else dict(json.loads(data.decode("utf-8", "surrogatepass")))
