"""The exact store in memory: small indexes, tests, and the reference for every other store."""

from __future__ import annotations

from contextlib import contextmanager
from threading import RLock
from typing import TYPE_CHECKING

import numpy as np

from rag_embeddings.errors import StoreError
from rag_embeddings.store.records import checked_query, nearest, prepared
from rag_embeddings.store.where import checked_filter

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rag_embeddings.encode.base import Vectors
    from rag_embeddings.encode.profile import Similarity
    from rag_embeddings.store.base import Hit, Record
    from rag_embeddings.store.where import Where


class MemoryStore:
    """Vectors in memory, searched exactly. Thread-safe. Obeys `rag_embeddings.store.base.Store`.

    Args:
        similarity: How vectors are compared.
    """

    def __init__(self, similarity: Similarity = "cosine") -> None:
        self.similarity = similarity
        self._records: dict[str, Record] = {}
        self._matrix: Vectors | None = None
        self._lock = RLock()
        self._closed = False

    def upsert(self, records: Sequence[Record]) -> None:
        """Write records, replacing those whose id exists, metadata and all.

        Raises:
            StoreError: On a vector of another width or an impossible id, with nothing written.
            VectorError: On NaN, infinity or a vector of zeros, with nothing written.
        """
        with self._open():
            ready = prepared(records, self._dimensions())
            self._records.update((record.id, record) for record in ready)
            self._matrix = None

    def delete(self, ids: Sequence[str]) -> None:
        """Remove records. Ids that do not exist are ignored."""
        with self._open():
            for identity in ids:
                self._records.pop(identity, None)
            self._matrix = None

    def search(self, vector: Vectors, k: int, *, where: Where | None = None) -> list[Hit]:
        """Return the k most similar records, best first, equal ones in the order of their ids.

        Args:
            vector: The query, shape (dim,).
            k: Number of hits; fewer come where fewer match.
            where: Only records that fulfil a condition.

        Raises:
            ValueError: If ``k`` is below 1.
            StoreError: If the vector has another width.
            TypeError: If ``where`` is no filter.
        """
        with self._open():
            query = checked_query(vector, k, self._dimensions())
            checked_filter(where)
            if not self._records:
                return []
            if self._matrix is None:
                self._matrix = np.stack([record.vector for record in self._records.values()])
            ids, matrix = list(self._records), self._matrix
            if where is not None:
                rows = [row for row, record in enumerate(self._records.values()) if _fulfils(record, where)]
                ids, matrix = [ids[row] for row in rows], matrix[rows]
        return nearest(ids, matrix, query, k, self.similarity)

    def get(self, ids: Sequence[str]) -> list[Record]:
        """Return the records that exist, in the order of ``ids``."""
        with self._open():
            return [self._records[identity] for identity in ids if identity in self._records]

    def vectors(self, ids: Sequence[str]) -> dict[str, Vectors]:
        """Return the vectors of the records that exist."""
        with self._open():
            return {identity: self._records[identity].vector for identity in ids if identity in self._records}

    def contains(self, ids: Sequence[str]) -> set[str]:
        """Return those of ``ids`` that exist."""
        with self._open():
            return {identity for identity in ids if identity in self._records}

    def ids(self, where: Where | None = None) -> Iterator[str]:
        """Yield every id, or those of records that fulfil a condition, in no particular order."""
        checked_filter(where)
        with self._open():
            return iter([item.id for item in self._records.values() if where is None or _fulfils(item, where)])

    def __len__(self) -> int:
        with self._open():
            return len(self._records)

    def close(self) -> None:
        """Forget everything. A closed store raises StoreError on use."""
        with self._lock:
            self._closed = True
            self._records = {}
            self._matrix = None

    def _dimensions(self) -> int | None:
        return next((len(record.vector) for record in self._records.values()), None)

    @contextmanager
    def _open(self) -> Iterator[None]:
        with self._lock:
            if self._closed:
                raise StoreError("this store is closed")
            yield


def _fulfils(record: Record, where: Where) -> bool:
    return where.matches(record.text, record.metadata)
