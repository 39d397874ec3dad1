"""Vectors in a Chroma directory, or on a Chroma server.

What Chroma does by itself is switched off or made good here. It gets our vectors only, never an embedding function, and
what its files say about one is not read. Telemetry is off. Its upsert merges metadata (keys that are gone survive), so
those keys are set to None. It accepts vectors of zeros and then finds them nowhere, so they are refused. One call takes
5,461 records, so calls are cut into slices. What it means by filters differs here and there; see `where_chroma`.
"""

from __future__ import annotations

import math
from contextlib import contextmanager, nullcontext
from itertools import islice
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Any

import numpy as np

from rag_embeddings.errors import ChromaDamagedError, IndexNotFoundError, SpaceMismatchError, StoreError, require
from rag_embeddings.store.base import Hit, Record
from rag_embeddings.store.chroma_client import (
    FILE,
    ChromaServer,
    connect,
    disconnect,
    names_function,
    refuse_fork,
)
from rag_embeddings.store.records import best, checked_query, nearest, possible, prepared
from rag_embeddings.store.turns import Guarded, Turns
from rag_embeddings.store.where_chroma import as_kept, translated

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from rag_embeddings.encode.base import Vectors
    from rag_embeddings.encode.profile import Similarity
    from rag_embeddings.store.turns import Access
    from rag_embeddings.store.where import Where

_SPACES = {"cosine": "cosine", "dot": "ip", "euclidean": "l2"}
# Of the ten nearest neighbours of 20,000 vectors of 384 dimensions, Chroma's defaults (search 100, 16 neighbours) found
# 94.6 %, a search of 400 found 99.9 %, and these values all, at 2.2 ms a query and 1,900 records written a second. More
# neighbours also keep records in reach that lie near some dozens of equal ones.
_EF_SEARCH = 400
_EF_CONSTRUCTION = 200
_NEIGHBORS = 32
_PAGE = 1_000


class ChromaStore:
    """A Chroma collection. Thread-safe. Obeys `rag_embeddings.store.base.Store`.

    One process at a time may write to a directory, from its first write until `close`; another one that has it open is
    told to open it again. Any number may write to a server.

    Args:
        path: The Chroma directory, made if absent, or a `ChromaServer`.
        collection: Name of the collection, 3 to 512 of ``a-zA-Z0-9._-``.
        similarity: How vectors are compared; must agree with an existing collection.
        create: Whether to make the collection if it is absent.
        space: `Profile.space` of the vectors, stamped on a new collection and compared with that of an existing one;
            empty to go without.
        guard: Entered around every write and around the first read, where somebody else (as
            `rag_embeddings.store.directory.IndexDirectory`) sees to it that one process writes.

    Raises:
        MissingExtraError: If chromadb is not installed.
        IndexNotFoundError: If the collection is absent and ``create`` is False.
        SpaceMismatchError: If the collection holds vectors of another space.
        ChromaDamagedError: If Chroma cannot read its files.
        StoreError: If the collection compares its vectors in another way, or no server answers.

    After a write that failed, such as on a full disk, Chroma waits for ever every other time it is asked. So a store of
    a directory then raises StoreError until every store of that directory was closed and is opened again.
    """

    def __init__(
        self,
        path: str | Path | ChromaServer,
        collection: str,
        *,
        similarity: Similarity = "cosine",
        create: bool = True,
        space: str = "",
        guard: Callable[[], AbstractContextManager[Any]] | None = None,
    ) -> None:
        chromadb = require("chromadb", "chroma")
        httpx = require("httpx", "chroma")
        if not isinstance(path, ChromaServer):
            refuse_fork()
            if not create and not (Path(path) / FILE).is_file():
                raise IndexNotFoundError(f"there is no Chroma directory in {str(path)!r}; write some records first")
        self.similarity = similarity
        self._errors = (chromadb.errors.ChromaError, httpx.HTTPError)
        self._lock = RLock()
        self._closed = False
        self._failed = False
        self._is_local = not isinstance(path, ChromaServer)
        self._width: int | None = None
        self._client: Any = None
        self._access = _access(path, guard)
        try:
            with self._access.opening():
                self._client = connect(path)
                self._collection = self._opened(chromadb, collection, create=create, space=space)
                self._slice: int = self._client.get_max_batch_size()
                self._load(chromadb)
        except BaseException:
            self.close()
            raise

    def _opened(self, chromadb: Any, name: str, *, create: bool, space: str) -> Any:
        by = _SPACES[self.similarity]
        try:
            collection = self._client.get_collection(name, embedding_function=None)
        except chromadb.errors.NotFoundError:
            if not create:
                raise IndexNotFoundError(f"there is no collection {name!r} in Chroma") from None
            hnsw = {
                "space": by,
                "ef_search": _EF_SEARCH,
                "ef_construction": _EF_CONSTRUCTION,
                "max_neighbors": _NEIGHBORS,
            }
            with self._access.writing():
                return self._client.create_collection(
                    name,
                    embedding_function=None,
                    configuration={"hnsw": hnsw},
                    metadata={"space": space} if space else None,
                )
        # Reading `collection.schema`, as Chroma does at every upsert, builds the embedding function stored there,
        # whatever we say: from a foreign directory that would be code of somebody else's choice.
        schema = collection._model.serialized_schema  # noqa: SLF001 - the public property builds
        if names_function(collection.configuration_json) or names_function(schema):
            raise StoreError(f"collection {name!r} brings an embedding function of its own, which is never run")
        found = (collection.configuration_json.get("hnsw") or {}).get("space")
        if found != by:
            known = next((ours for ours, theirs in _SPACES.items() if theirs == found), found)
            raise StoreError(
                f"collection {name!r} compares vectors by {known}, and these would be compared by {self.similarity}; "
                f"give similarity={known!r}, or another collection"
            )
        stamp = (collection.metadata or {}).get("space", "")
        if space and stamp != space:
            raise SpaceMismatchError(
                f"collection {name!r} holds vectors of "
                f"{'another space' if stamp else 'a space that is not stamped on it'}; use the same model and prompts, "
                "or another collection"
            )
        return collection

    @property
    def space(self) -> str:
        """Stamp of the embedding space; empty if there is none."""
        return str((self._open().metadata or {}).get("space", ""))

    def upsert(self, records: Sequence[Record]) -> None:
        """Write records, replacing those whose id exists, metadata and all.

        Raises:
            StoreError: On a vector of another width or an impossible id, with nothing written; on a full disk or a
                server that fails, with some slices written, which writing again completes (a directory: once it was
                opened again).
            StoreLockedError: If another process is writing.
            VectorError: On NaN, infinity or a vector of zeros, with nothing written.
        """
        with self._lock:
            collection = self._open()
            ready = prepared(records, self._width)
            for start in range(0, len(ready), self._slice):
                part = ready[start : start + self._slice]
                ids = [record.id for record in part]
                with self._writing():
                    found = collection.get(ids=ids, include=["metadatas"])
                    before = dict(zip(found["ids"], found["metadatas"], strict=True))
                    collection.upsert(
                        ids=ids,
                        embeddings=np.stack([record.vector for record in part]),
                        documents=[record.text for record in part],
                        metadatas=[_replacing(record.metadata, before.get(record.id)) for record in part],
                    )
                self._width = len(part[0].vector)

    def delete(self, ids: Sequence[str]) -> None:
        """Remove records. Ids that do not exist are ignored."""
        with self._lock:
            collection = self._open()
            wanted = possible(ids)
            for start in range(0, len(wanted), self._slice):
                with self._writing():
                    collection.delete(ids=wanted[start : start + self._slice])

    def search(self, vector: Vectors, k: int, *, where: Where | None = None) -> list[Hit]:
        """Return the k most similar records, best first (fewer if the store holds fewer).

        Args:
            vector: The query, shape (dim,).
            k: Number of hits; fewer come where fewer match.
            where: Only records that fulfil a condition. Where Chroma cannot express it, or finds too few, the vectors
                of all that do are compared.

        Raises:
            ValueError: If ``k`` is below 1.
            StoreError: If the vector has another width.
        """
        collection = self._open()
        query = checked_query(vector, k, self._width)
        asked = translated(where)
        if asked.where is False:
            return []
        with self._declared():
            if asked.exact:
                found = collection.query(
                    query_embeddings=query[np.newaxis], n_results=int(k), where=asked.where, include=["distances"]
                )
                if where is None or len(found["ids"][0]) == k:
                    rows = zip(found["ids"][0], found["distances"][0], strict=True)
                    return best((Hit(identity, self._score(distance)) for identity, distance in rows), k)
            return self._compared(query, k, self.ids(where))

    def _compared(self, query: Vectors, k: int, ids: Iterator[str]) -> list[Hit]:
        """Compare the vectors of some records, a page at a time."""
        hits: list[Hit] = []
        while page := list(islice(ids, _PAGE)):
            found = self._open().get(ids=page, include=["embeddings"])
            matrix = np.asarray(found["embeddings"], dtype=np.float32)
            hits = best([*hits, *nearest(found["ids"], matrix, query, k, self.similarity)], k)
        return hits

    def _score(self, distance: float) -> float:
        if self.similarity == "euclidean":
            return -math.sqrt(max(distance, 0.0))
        if self.similarity == "dot":
            return 1.0 - distance
        return min(1.0, max(-1.0, 1.0 - distance))

    def get(self, ids: Sequence[str]) -> list[Record]:
        """Return the records that exist, in the order of ``ids``."""
        collection = self._open()
        wanted = possible(ids)
        records: dict[str, Record] = {}
        for start in range(0, len(wanted), self._slice):
            part = wanted[start : start + self._slice]
            with self._declared():
                found = collection.get(ids=part, include=["embeddings", "documents", "metadatas"])
            rows = zip(found["ids"], found["embeddings"], found["documents"], found["metadatas"], strict=True)
            for identity, vector, text, metadata in rows:
                row = np.asarray(vector, dtype=np.float32)
                records[identity] = Record(identity, row, text or "", dict(metadata or {}))
        return [records[identity] for identity in ids if identity in records]

    def contains(self, ids: Sequence[str]) -> set[str]:
        """Return those of ``ids`` that exist."""
        collection = self._open()
        wanted = possible(ids)
        found: set[str] = set()
        for start in range(0, len(wanted), self._slice):
            with self._declared():
                found.update(collection.get(ids=wanted[start : start + self._slice], include=[])["ids"])
        return found

    def ids(self, where: Where | None = None) -> Iterator[str]:
        """Yield every id, or those of records that fulfil a condition, in no particular order, a page at a time.

        Writing meanwhile may let some be skipped.
        """
        asked = translated(where)
        checked = None if where is None or asked.exact else as_kept(where)
        offset = 0
        while asked.where is not False:
            with self._declared():
                page = self._open().get(
                    where=asked.where,
                    limit=_PAGE,
                    offset=offset,
                    include=[] if checked is None else ["documents", "metadatas"],
                )
            if not page["ids"]:
                return
            if checked is None:
                yield from page["ids"]
            else:
                rows = zip(page["ids"], page["documents"], page["metadatas"], strict=True)
                yield from (name for name, text, metadata in rows if checked.matches(text or "", metadata or {}))
            offset += len(page["ids"])

    def __len__(self) -> int:
        collection = self._open()
        with self._declared():
            return int(collection.count())

    def close(self) -> None:
        """Release files and memory, and let other processes write. A closed store raises StoreError on use."""
        with self._lock:
            if not self._closed:
                self._closed = True
                try:
                    if self._client is not None:
                        disconnect(self._client)
                finally:
                    self._access.close()

    def _open(self) -> Any:
        if self._closed:
            raise StoreError("this store is closed")
        if self._failed:
            raise StoreError("Chroma failed while it wrote; close every store of this directory and open it again")
        self._access.check()
        return self._collection

    @contextmanager
    def _writing(self) -> Iterator[None]:
        with self._access.writing(), self._declared():
            try:
                yield
            except self._errors:
                self._failed = self._is_local
                raise

    @contextmanager
    def _declared(self) -> Iterator[None]:
        try:
            yield
        except self._errors as error:
            raise StoreError(f"Chroma failed: {error}") from error

    def _load(self, chromadb: Any) -> None:
        """Make Chroma read its vectors and replay its log now, where a damage shows and the guard protects."""
        try:
            found = self._collection.get(limit=1, include=["embeddings"])["embeddings"]
            if found is not None and len(found):
                self._width = len(found[0])
                self._collection.query(query_embeddings=found, n_results=1, include=[])
        except chromadb.errors.ChromaError as error:
            raise ChromaDamagedError(f"Chroma cannot read collection {self._collection.name!r}: {error}") from error


def _access(path: str | Path | ChromaServer, guard: Callable[[], AbstractContextManager[Any]] | None) -> Access:
    if guard is not None:
        return Guarded(guard)
    return Guarded(nullcontext) if isinstance(path, ChromaServer) else Turns(path)


def _replacing(metadata: Mapping[str, Any], before: Mapping[str, Any] | None) -> dict[str, Any] | None:
    gone = dict.fromkeys(set(before or ()) - set(metadata))
    return {**metadata, **gone} or None
