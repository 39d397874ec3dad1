"""What every store checks before it writes, and how similarity is computed."""

from __future__ import annotations

import math
from datetime import date
from decimal import Decimal
from pathlib import PurePath
from typing import TYPE_CHECKING, Any
from uuid import UUID

import numpy as np

from rag_embeddings.errors import StoreError, VectorError
from rag_embeddings.store.base import Hit, Record
from rag_embeddings.text import without_surrogates

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from rag_embeddings.encode.base import Vectors
    from rag_embeddings.encode.profile import Similarity

_INT64 = 2**63
_NOISE = 1e-5  # of scores calculated in float32, relative to the largest


def prepared(records: Sequence[Record], dimensions: int | None) -> list[Record]:
    """Bring records into the form that every store holds, or refuse all of them.

    Args:
        records: What is to be written. Where an id occurs twice, the last record counts.
        dimensions: Width of the vectors already in the store; None while it is empty.

    Returns:
        Records with unique ids, float32 vectors, text that UTF-8 can spell and `filterable` metadata.

    Raises:
        StoreError: On a vector of another width, or on an id that is empty or has a lone surrogate.
        VectorError: On a vector with NaN, infinity or zeros only.
    """
    unique = {record.id: record for record in records}
    ready = []
    for record in unique.values():
        checked_id(record.id)
        vector = np.array(record.vector, dtype=np.float32)
        if vector.ndim != 1 or not len(vector):
            raise StoreError(f"the vector of record {record.id!r} has shape {vector.shape}; give shape (dim,)")
        dimensions = dimensions or len(vector)
        if len(vector) != dimensions:
            raise StoreError(f"the vector of record {record.id!r} has {len(vector)} dimensions, the store {dimensions}")
        if not np.isfinite(vector).all():
            raise VectorError(f"the vector of record {record.id!r} has NaN or infinity")
        if not vector.any():
            raise VectorError(f"the vector of record {record.id!r} has zeros only")
        ready.append(Record(record.id, vector, without_surrogates(record.text), filterable(record.metadata)))
    return ready


def checked_id(identity: str) -> str:
    """Return an id that every store can hold.

    Raises:
        StoreError: If it is empty or has a lone surrogate.
    """
    if not identity or without_surrogates(identity) != identity:
        raise StoreError(f"{identity!r} cannot be the id of a record; give a text that UTF-8 can spell, not empty")
    return identity


def filterable(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of metadata that a vector store can filter by.

    Kept: booleans, integers of 64 bits, finite numbers, texts (lone surrogates replaced), lists of one of these types;
    numpy scalars as the Python values they stand for; dates, paths, UUIDs and decimals as texts. Everything else
    (None, dictionaries, empty or mixed lists, and keys that are empty or begin with ``$``, ``#`` or ``chroma:``, which
    Chroma reserves) is left out here. Nothing is lost: the ledger holds the document's metadata whole.

    Args:
        metadata: Any metadata.

    Returns:
        A new dictionary.
    """
    kept = {}
    for key, value in metadata.items():
        if not isinstance(key, str) or not key or key.startswith(("$", "#", "chroma:")):
            continue
        if without_surrogates(key) != key:
            continue
        spelled = _sequence(value) if isinstance(value, list | tuple) else _scalar(value)
        if spelled is not None:
            kept[key] = spelled
    return kept


def _scalar(value: object) -> str | int | float | bool | None:
    item = value.item() if isinstance(value, np.generic) else value
    if isinstance(item, str):
        return without_surrogates(str(item))
    if isinstance(item, bool):
        return item
    if isinstance(item, int):
        return int(item) if -_INT64 <= item < _INT64 else None
    if isinstance(item, float):
        return float(item) if math.isfinite(item) else None
    if isinstance(item, date | PurePath | UUID | Decimal):
        return str(item)
    return None


def _sequence(values: Sequence[object]) -> list[Any] | None:
    items = [_scalar(value) for value in values]
    kinds = {type(item) for item in items}
    return items if len(kinds) == 1 and type(None) not in kinds else None


def similarities(matrix: Vectors, vector: Vectors, similarity: Similarity) -> NDArray[np.float64]:
    """Compare vectors with one vector, as the model was trained to be compared.

    Args:
        matrix: float32 of shape (n, dim).
        vector: float32 of shape (dim,).
        similarity: ``"cosine"``, ``"dot"`` or ``"euclidean"`` (the negative distance).

    Returns:
        float64 of shape (n,); larger is better.
    """
    if similarity == "euclidean":
        return -np.asarray(np.linalg.norm(matrix - vector, axis=1), dtype=np.float64)
    dots = np.asarray(matrix @ vector, dtype=np.float64)
    if similarity == "dot":
        return dots
    lengths = np.asarray(np.linalg.norm(matrix, axis=1) * np.linalg.norm(vector), dtype=np.float64)
    return np.asarray(np.clip(dots / lengths, -1.0, 1.0))


def relevance(score: float, similarity: Similarity) -> float:
    """Turn a score into a number from 0 to 1, larger is better, in the same order.

    Args:
        score: Of a `Hit`: cosine, dot product, or negative Euclidean distance.
        similarity: How vectors were compared. Cosine -1 and 1 become 0 and 1; a distance of 0 becomes 1 and grows
            towards 0 as ``1 / (1 + distance)``; a dot product of 0 becomes one half, by the logistic function.
    """
    if similarity == "cosine":
        return (1.0 + score) / 2.0
    if similarity == "euclidean":
        return 1.0 / (1.0 - score)
    return 0.5 * (1.0 + math.tanh(score / 2.0))


def checked_query(vector: Vectors, k: int, dimensions: int | None) -> Vectors:
    """Return a query vector as float32, or say what is wrong with it.

    Raises:
        ValueError: If ``k`` is below 1.
        StoreError: If the vector has another width than the store.
        VectorError: If it has NaN, infinity or zeros only.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    query = np.asarray(vector, dtype=np.float32)
    if query.ndim != 1 or (dimensions is not None and len(query) != dimensions):
        raise StoreError(f"the query vector has shape {query.shape}, the store holds vectors of {dimensions}")
    if not np.isfinite(query).all() or not query.any():
        raise VectorError("the query vector has NaN, infinity or zeros only")
    return query


def nearest(ids: Sequence[str], matrix: Vectors, vector: Vectors, k: int, similarity: Similarity) -> list[Hit]:
    """Return the k most similar of some vectors, best first, equal ones in the order of their ids.

    Args:
        ids: One per vector.
        matrix: float32 of shape (n, dim).
        vector: float32 of shape (dim,).
        k: Number of hits, at least 1.
        similarity: How vectors are compared.
    """
    if not len(ids):
        return []
    rows = candidates(similarities(matrix, vector, similarity), k)
    return ranked([ids[row] for row in rows.tolist()], matrix[rows], vector, k, similarity)


def candidates(scores: NDArray[np.float64], k: int) -> NDArray[np.intp]:
    """Return the places of all scores that may belong to the k best.

    Args:
        scores: Shape (n,), of `similarities`. Equal vectors get scores that differ in their last digits, depending on
            where in the matrix they stand.
        k: Number of hits.
    """
    if k >= len(scores):
        return np.arange(len(scores))
    least = np.partition(scores, -k)[-k]
    return np.flatnonzero(scores >= least - _NOISE * max(1.0, float(np.abs(scores).max())))


def ranked(ids: Sequence[str], matrix: Vectors, vector: Vectors, k: int, similarity: Similarity) -> list[Hit]:
    """Compare few vectors, each by itself and with twice the digits, so that every store puts them in the same order.

    Args:
        ids: One per vector.
        matrix: float32 of shape (n, dim).
        vector: float32 of shape (dim,).
        k: Number of hits.
        similarity: How vectors are compared.

    Returns:
        The k best, best first, equal ones in the order of their ids.
    """
    rows, query = matrix.astype(np.float64), vector.astype(np.float64)
    if similarity == "euclidean":
        scores = -np.sqrt(np.einsum("ij,ij->i", rows - query, rows - query))
    else:
        scores = np.einsum("ij,j->i", rows, query)
    if similarity == "cosine":
        scores /= np.sqrt(np.einsum("ij,ij->i", rows, rows) * (query @ query))
        np.clip(scores, -1.0, 1.0, out=scores)
    rounded: list[float] = scores.astype(np.float32).tolist()
    return best(map(Hit, ids, rounded), k)


def best(hits: Iterable[Hit], k: int) -> list[Hit]:
    """Return the k best hits, best first, equal ones in the order of their ids."""
    return sorted(hits, key=lambda hit: (-hit.score, hit.id))[:k]


def possible(ids: Sequence[str]) -> list[str]:
    """Return ids without repetitions and without those that no record can have."""
    return [identity for identity in dict.fromkeys(ids) if identity and without_surrogates(identity) == identity]
