"""A Chroma collection, and beside it the records it was given.

Chroma writes its vector index in place every thousand records. A process killed in these milliseconds leaves files that
Chroma refuses for ever ("Failed to apply logs to the hnsw segment writer": 18 of 40 kills aimed at that moment), and
with them the vectors of the whole collection. So the records are kept in SQLite as well, which survives a kill at any
moment: a damaged collection is built again from there, and nothing is encoded twice.

Small collections are searched there as well, exactly. Chroma's graph loses records when many vectors are equal,
as those of repeated sentences are: of 6,000 records, 1,000 of them equal, it did not find 773, and neither a wider
search nor more neighbours cures that. Comparing 40,000 vectors takes milliseconds.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rag_embeddings.encode.base import Vectors
    from rag_embeddings.store.base import Hit, Record, Store
    from rag_embeddings.store.sqlite import SqliteStore
    from rag_embeddings.store.where import Where

_PAGE = 1_000
_PROBES = 30
_FOUND = 0.8  # of the probes: equal vectors make even a sound graph miss some
EXACT_BYTES = 64 * 2**20  # 43,000 vectors of 384 dimensions, read in a tenth of a second


class KeptStore:
    """Records in one store, found through another. Obeys `rag_embeddings.store.base.Store`.

    A record exists when it has been kept. It is written to the index first and kept then, and forgotten before it is
    deleted from the index: after a crash the index may have a record too many, never one too few.

    Args:
        kept: Holds the records.
        index: Finds them.
    """

    def __init__(self, kept: SqliteStore, index: Store) -> None:
        self.kept = kept
        self.index = index

    def upsert(self, records: Sequence[Record]) -> None:
        """Write records, replacing those whose id exists, metadata and all."""
        self.index.upsert(records)
        self.kept.upsert(records)

    def delete(self, ids: Sequence[str]) -> None:
        """Remove records. Ids that do not exist are ignored."""
        self.kept.delete(ids)
        self.index.delete(ids)

    def search(self, vector: Vectors, k: int, *, where: Where | None = None) -> list[Hit]:
        """Return the k most similar records, best first: exact up to `EXACT_BYTES` of vectors, by the index beyond."""
        return (self.kept if is_small(self.kept) else self.index).search(vector, k, where=where)

    def get(self, ids: Sequence[str]) -> list[Record]:
        """Return the records that exist, in the order of ``ids``."""
        return self.kept.get(ids)

    def vectors(self, ids: Sequence[str]) -> dict[str, Vectors]:
        """Return the vectors of the records that exist."""
        return self.kept.vectors(ids)

    def contains(self, ids: Sequence[str]) -> set[str]:
        """Return those of ``ids`` that exist."""
        return self.kept.contains(ids)

    def ids(self, where: Where | None = None) -> Iterator[str]:
        """Yield every id, or those of records that fulfil a condition, in no particular order."""
        return self.kept.ids(where)

    def __len__(self) -> int:
        return len(self.kept)

    def close(self) -> None:
        """Close both."""
        self.index.close()
        self.kept.close()


def complete(kept: Store, index: Store) -> None:
    """Write into the index what it lacks and delete from it what was not kept.

    Args:
        kept: The records.
        index: What is to find them; an empty one is filled.
    """
    for page in _pages(kept.ids()):
        there = index.contains(page)
        index.upsert(kept.get([identity for identity in page if identity not in there]))
    extra = [identity for page in _pages(index.ids()) for identity in set(page) - kept.contains(page)]
    index.delete(extra)


def finds(kept: Store, index: Store) -> bool:
    """Whether an index finds most of a sample of the records as well as an exact search does.

    Args:
        kept: Searches exactly.
        index: What is to find the records.
    """
    step = max(1, len(kept) // _PROBES)
    outcomes = []
    for identity in islice(kept.ids(), 0, None, step):
        vector = kept.get([identity])[0].vector
        exact, found = kept.search(vector, 1)[0].score, index.search(vector, 1)
        outcomes.append(bool(found) and found[0].score >= exact - 1e-3 * max(1.0, abs(exact)))
    return sum(outcomes) >= _FOUND * len(outcomes)


def is_small(store: SqliteStore) -> bool:
    """Whether a store is searched exactly."""
    return store.size() <= EXACT_BYTES


def _pages(ids: Iterator[str]) -> Iterator[list[str]]:
    while page := list(islice(ids, _PAGE)):
        yield page
