"""The protocol of every store: vectors to disk and back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from rag_embeddings.encode.base import Vectors
    from rag_embeddings.store.where import Where


@dataclass(frozen=True, slots=True)
class Record:
    """What a store holds under one id.

    Attributes:
        id: Identity; writing it again replaces the record whole.
        vector: float32 of shape (dim,).
        text: The unit's text, a derived copy for document filters.
        metadata: Scalars and lists of scalars, for metadata filters.
    """

    id: str
    vector: Vectors
    text: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Hit:
    """One result of a search.

    Attributes:
        id: The record's id.
        score: Similarity as the model was trained for (cosine, dot product, or negative Euclidean distance);
            larger is better.
    """

    id: str
    score: float


@runtime_checkable
class Store(Protocol):
    """Vectors under ids. Every implementation obeys `rag_embeddings.testing.check_store`."""

    def upsert(self, records: Sequence[Record]) -> None:
        """Write records, replacing those whose id exists, metadata and all.

        Raises:
            StoreError: On a vector of another width, with nothing written.
        """
        ...

    def delete(self, ids: Sequence[str]) -> None:
        """Remove records. Ids that do not exist are ignored."""
        ...

    def search(self, vector: Vectors, k: int, *, where: Where | None = None) -> list[Hit]:
        """Return the k most similar records, best first; fewer if fewer are there.

        Args:
            vector: The query, shape (dim,).
            k: Number of hits.
            where: Only records that fulfil a condition.
        """
        ...

    def get(self, ids: Sequence[str]) -> list[Record]:
        """Return the records that exist, in the order of ``ids``."""
        ...

    def contains(self, ids: Sequence[str]) -> set[str]:
        """Return those of ``ids`` that exist."""
        ...

    def ids(self, where: Where | None = None) -> Iterator[str]:
        """Yield every id, or those of records that fulfil a condition, in no particular order."""
        ...

    def __len__(self) -> int:
        """Return the number of records."""
        ...

    def close(self) -> None:
        """Release files and memory. A closed store raises StoreError on use."""
        ...


class VectorReader(Store, Protocol):
    """A store of an index, which is asked for the vectors of thousands of units at a query."""

    def vectors(self, ids: Sequence[str]) -> dict[str, Vectors]:
        """Return the vectors of the records that exist, without reading what stands beside them."""
        ...
