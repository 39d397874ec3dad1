"""Maximal marginal relevance: each next passage is relevant, and unlike those before it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rag_embeddings.store.records import similarities

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rag_embeddings.encode.base import Vectors
    from rag_embeddings.encode.profile import Similarity


def mmr_order(
    relevance: Sequence[float], vectors: Vectors, *, balance: float = 0.5, similarity: Similarity = "cosine"
) -> list[int]:
    """Order candidates by maximal marginal relevance (Carbonell and Goldstein, SIGIR 1998).

    The next candidate is the one with the greatest ``balance * relevance - (1 - balance) * (greatest similarity to one
    already taken)``; equal ones in the order given. Each prefix of the order is what a smaller number would have given.

    Args:
        relevance: How well each candidate answers the query, in the same measure as ``similarity``.
        vectors: float32 of shape (n, dim), one per candidate.
        balance: 1 keeps the order of relevance, 0 looks at difference only. Frameworks call it lambda.
        similarity: How candidates are compared with each other.

    Returns:
        Positions of all candidates, in order. Takes n matrix-vector products.

    Raises:
        ValueError: If ``balance`` is not within 0..1, or there are not as many vectors as candidates.
    """
    if not 0 <= balance <= 1:
        raise ValueError(f"the balance of relevance and difference must be within 0..1, got {balance}")
    if len(relevance) != len(vectors):
        raise ValueError(f"{len(relevance)} candidates need as many vectors, got {len(vectors)}")
    values = np.asarray(relevance, dtype=np.float64)
    nearest = np.full(len(values), -np.inf)
    open_ = np.ones(len(values), dtype=bool)
    order: list[int] = []
    while len(order) < len(values):
        marginal = balance * values - ((1 - balance) * nearest if order else 0)
        chosen = int(np.argmax(np.where(open_, marginal, -np.inf)))
        order.append(chosen)
        open_[chosen] = False
        nearest = np.maximum(nearest, similarities(vectors, vectors[chosen], similarity))
    return order
