"""Ready vectors into any LangChain vector store, through the store's own way of adding documents.

A store asks its embeddings for the vector of each text that it writes. While `add_documents` here is at work, the
answer is the vector that was made beforehand: one that knows the text's document, or its heading path.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections import deque
from collections.abc import Generator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import cached_property
from itertools import islice
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from rag_embeddings.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator, Sequence

    from langchain_core.documents import Document
    from langchain_core.vectorstores import VectorStore
    from langchain_text_splitters import TextSplitter

    from rag_embeddings.split.base import Splitter

    Vector = list[float]
    Pairs = Iterator[tuple[Document, Vector]]

Result = TypeVar("Result")
Item = TypeVar("Item")
Step: TypeAlias = tuple[Any, str, tuple[Any, ...], dict[str, Any]]
"""A call to make: whose method, its name, arguments, keywords."""
Steps: TypeAlias = Generator[Step, Any, Result]

SLICE = 5_000
"""Most documents that a store gets at a time; Chroma takes 5,461."""
_POLL = 0.005  # seconds between two looks at a lock that another task holds


class ReadyVectors:
    """Vectors waiting for their texts. Thread-safe.

    Args:
        owner: Whose `embed_documents` hands them out.
        texts: The texts; a text may stand there several times.
        vectors: Their vectors.
    """

    def __init__(self, owner: object, texts: Sequence[str], vectors: Sequence[Vector]) -> None:
        self.owner = owner
        self._lock = Lock()
        self._waiting: dict[str, deque[Vector]] = {}
        for text, vector in zip(texts, vectors, strict=True):
            self._waiting.setdefault(text, deque()).append(vector)

    def take(self, texts: Sequence[str]) -> list[Vector]:
        """Hand out the vectors of texts, each once, in order.

        Raises:
            StoreError: If one is not waiting (any more). None is handed out then.
        """
        with self._lock:
            wanted: dict[str, int] = {}
            for text in texts:
                wanted[text] = wanted.get(text, 0) + 1
                if len(self._waiting.get(text, ())) < wanted[text]:
                    raise StoreError(
                        "the store asks for the vector of a text that is not being written; it seems to change texts "
                        f"before it embeds them, and cannot be given ready vectors. The text begins {text[:60]!r}"
                    )
            return [self._waiting[text].popleft() for text in texts]

    def rest(self) -> list[str]:
        """Return the texts that nobody asked for."""
        with self._lock:
            return [text for text, vectors in self._waiting.items() for _ in vectors]


# The object is mutable, and set before the store is called: stores embed in copies of this context (executors, tasks),
# and what is set in a copy is lost.
_READY: ContextVar[ReadyVectors | None] = ContextVar("rag_embeddings_ready_vectors", default=None)


def ready_vectors(owner: object, texts: Sequence[str]) -> list[Vector] | None:
    """Return the vectors made beforehand, or None if none are being written in this context."""
    ready = _READY.get()
    return None if ready is None or ready.owner is not owner else ready.take(texts)


class VectorDoor:
    """What writes documents with ready vectors; a base of this package's embeddings."""

    @abstractmethod
    def _embedded(self, documents: Iterable[Document], splitter: TextSplitter | Splitter) -> Pairs:
        """Yield each chunk with its vector."""

    @cached_property
    def _writing(self) -> Lock:
        """Held while a store writes.

        Stores that live in this process (Qdrant's local mode, FAISS) take the next free row without a lock, and two
        threads would take the same.
        """
        return Lock()

    def split_and_embed(
        self, documents: Iterable[Document], splitter: TextSplitter | Splitter
    ) -> tuple[list[Document], list[Vector]]:
        """Split documents and embed the chunks.

        Args:
            documents: Whole documents.
            splitter: A text splitter of this package, or a splitter of `rag_embeddings.split`.

        Returns:
            The chunks, as the splitter's ``split_documents`` gives them, and as many vectors.
        """
        pairs = list(self._embedded(documents, splitter))
        return [chunk for chunk, _ in pairs], [vector for _, vector in pairs]

    def add_documents(
        self,
        vectorstore: VectorStore,
        documents: Iterable[Document],
        splitter: TextSplitter | Splitter,
        **options: Any,
    ) -> list[str]:
        """Split and embed documents and write them into a vector store, with these vectors.

        Chunks that the store already holds are deleted and written again: not every store replaces them. Chunks of a
        former version of a document are not looked for; `SentenceParentIndex` does that.

        Args:
            vectorstore: Any store whose ``embeddings`` is this very object.
            documents: Whole documents, drawn as needed.
            splitter: As for `split_and_embed`.
            **options: Handed to the store's ``add_documents``.

        Returns:
            The ids of the chunks.

        Raises:
            StoreError: If the store embeds with another object, does not ask for the vectors, or asks for others.
            ValueError: If ``ids`` is among the options.
        """
        return self.add_ready(vectorstore, self._embedded(documents, splitter), **options)

    def add_ready(
        self, vectorstore: VectorStore, pairs: Iterable[tuple[Document, Vector]], **options: Any
    ) -> list[str]:
        """Write chunks into a vector store, with vectors made beforehand; nothing is encoded.

        Args:
            vectorstore: Any store whose ``embeddings`` is this very object.
            pairs: Chunks with distinct ids, and the vector of each; drawn as needed.
            **options: Handed to the store's ``add_documents``.

        Returns:
            The ids of the chunks.

        Raises:
            StoreError: As `add_documents`.
            ValueError: If ``ids`` is among the options.
        """
        _check(self, vectorstore, options)
        ids: list[str] = []
        for part in _slices(iter(pairs)):
            with _turn(self._writing):
                ids += run(_steps(self, vectorstore, part, options))
        return ids

    async def aadd_documents(
        self,
        vectorstore: VectorStore,
        documents: Iterable[Document],
        splitter: TextSplitter | Splitter,
        **options: Any,
    ) -> list[str]:
        """Write documents through the store's own async methods; see `add_documents`."""
        return await self.aadd_ready(vectorstore, self._embedded(documents, splitter), **options)

    async def aadd_ready(
        self, vectorstore: VectorStore, pairs: Iterable[tuple[Document, Vector]], **options: Any
    ) -> list[str]:
        """Write chunks with vectors made beforehand through the store's own async methods; see `add_ready`."""
        _check(self, vectorstore, options)
        ids: list[str] = []
        async for part in drawn(_slices(iter(pairs))):
            # Threads write too, so no asyncio lock will do; and waiting in threads could use up those that the store
            # needs to finish.
            while not self._writing.acquire(blocking=False):  # noqa: ASYNC110
                await asyncio.sleep(_POLL)
            try:
                ids += await arun(_steps(self, vectorstore, part, options))
            finally:
                self._writing.release()
        return ids


def _check(embeddings: object, vectorstore: VectorStore, options: dict[str, Any]) -> None:
    if "ids" in options:
        raise ValueError("chunks have ids already, made of their document's id and their place; leave out ids=")
    found = vectorstore.embeddings
    if found is not embeddings:
        raise StoreError(
            f"{type(vectorstore).__name__}.embeddings is {found!r:.80}, and not the object that add_documents was "
            "called on: it would never ask for the vectors. Make the store with this object"
        )


def _steps(
    embeddings: object, store: VectorStore, pairs: Sequence[tuple[Document, Vector]], options: dict[str, Any]
) -> Steps[list[str]]:
    chunks = {chunk.id or "": chunk for chunk, _ in pairs}
    vectors = {chunk.id or "": vector for chunk, vector in pairs}
    texts = [chunk.page_content for chunk in chunks.values()]
    with _handing_out(embeddings, texts, list(vectors.values())) as ready:
        ids = yield from replacing(store, list(chunks.values()), options)
    if rest := ready.rest():
        raise StoreError(
            f"the store was given {len(chunks)} chunks and did not ask for the vectors of {len(rest)} of them; what it "
            f"wrote for these does not know its document. The first begins {rest[0][:60]!r}"
        )
    return ids


def replacing(store: VectorStore, documents: Sequence[Document], options: dict[str, Any]) -> Steps[list[str]]:
    """Write documents with ids of their own, in place of those that the store holds under them.

    Args:
        store: Any vector store.
        documents: At most `SLICE`.
        options: Handed to the store's ``add_documents``.

    Returns:
        The ids.
    """
    ids = [document.id or "" for document in documents]
    with suppress(NotImplementedError):  # it cannot say what it holds; the contract of add_documents is to replace
        yield from removing(store, ids)
    yield store, "add_documents", (list(documents),), {"ids": ids, **options}
    return ids


def removing(store: VectorStore, ids: Sequence[str]) -> Steps[None]:
    """Delete those of some ids that a store holds; FAISS would fail on the others.

    Raises:
        NotImplementedError: If the store cannot say what it holds.
    """
    asked = set(ids)
    found = yield store, "get_by_ids", (list(ids),), {}
    if existing := [document.id for document in found if document.id in asked]:
        yield store, "delete", (existing,), {}


@contextmanager
def _handing_out(owner: object, texts: Sequence[str], vectors: Sequence[Vector]) -> Iterator[ReadyVectors]:
    ready = ReadyVectors(owner, texts, vectors)
    token = _READY.set(ready)
    try:
        yield ready
    finally:
        _READY.reset(token)


def run(steps: Steps[Result]) -> Result:
    """Make the calls that a generator yields, and send it what they returned; return what it returns."""
    try:
        target, name, args, options = next(steps)
        while True:
            try:
                result = getattr(target, name)(*args, **options)
            except Exception as error:  # noqa: BLE001  # the steps decide
                target, name, args, options = steps.throw(error)
            else:
                target, name, args, options = steps.send(result)
    except StopIteration as done:
        value: Result = done.value
        return value
    finally:
        steps.close()  # a call that was cancelled or interrupted ends them here, in the context they began in


async def arun(steps: Steps[Result]) -> Result:
    """Make the calls by the methods of the same names with an ``a`` in front; see `run`."""
    try:
        target, name, args, options = next(steps)
        while True:
            try:
                result = await getattr(target, f"a{name}")(*args, **options)
            except Exception as error:  # noqa: BLE001  # the steps decide
                target, name, args, options = steps.throw(error)
            else:
                target, name, args, options = steps.send(result)
    except StopIteration as done:
        value: Result = done.value
        return value
    finally:
        steps.close()  # a call that was cancelled or interrupted ends them here, in the context they began in


@contextmanager
def _turn(lock: Lock) -> Iterator[None]:
    """Wait for the lock; where that would stop the event loop in which its holder has to go on, say so instead."""
    if not lock.acquire(blocking=False):
        if _in_event_loop():
            raise StoreError("a task of this event loop is writing with these embeddings; await aadd_documents instead")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _in_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _slices(pairs: Pairs) -> Iterator[list[tuple[Document, Vector]]]:
    while part := list(islice(pairs, SLICE)):
        yield part


async def drawn(items: Iterator[Item]) -> AsyncIterator[Item]:
    """Draw from an iterator that works long and never yields None, without blocking the event loop."""
    while (item := await asyncio.to_thread(next, items, None)) is not None:
        yield item
