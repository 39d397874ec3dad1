"""Why a text was cut where it was: the series behind the cuts, for looking at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from rag_embeddings.split.tokens import token_counter

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rag_embeddings.split.base import Splitter
    from rag_embeddings.text import Chunk, Document


@dataclass(frozen=True)
class Explanation:
    """Chunks, and the series that a splitter looked at, one value per boundary between its units.

    Splitters that look at no series have none: all arrays are empty then.

    Attributes:
        document: What was split: the document that the chunks point into.
        chunks: What `Splitter.split` gives.
        tokens: Tokens of each chunk, context included, shape (chunks,).
        at: First character of the unit behind each boundary, ascending, shape (boundaries,).
        similarity: Cosine of what stands before and behind each, shape (boundaries,).
        middle: What the lower band is measured from, shape (boundaries,); NaN where there is no band.
        lower: Below this a boundary is a cut, shape (boundaries,); NaN where there is no band.
        upper: Above this a boundary is kept whole, shape (boundaries,); NaN where there is no band.
        cuts: Whether a chunk begins there, shape (boundaries,).
    """

    document: Document
    chunks: tuple[Chunk, ...]
    tokens: NDArray[np.int64]
    at: NDArray[np.int64]
    similarity: NDArray[np.float64]
    middle: NDArray[np.float64]
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    cuts: NDArray[np.bool_]


def explain(splitter: Splitter, document: Document) -> Explanation:
    """Split a document and say why.

    Args:
        splitter: Any splitter. One with an ``explain`` of its own is asked; others show their chunks alone.
        document: What to split.

    Returns:
        The explanation.
    """
    own = getattr(splitter, "explain", None)
    if own is not None:
        found: Explanation = own(document)
        return found
    chunks = tuple(splitter.split(document))
    counter = getattr(splitter, "counter", None) or token_counter(len)
    tokens = np.array(counter.count([chunk.embedding_text for chunk in chunks]), dtype=np.int64)
    none = np.zeros(0)
    places = none.astype(np.int64)
    read = chunks[0].document if chunks else document  # a splitter may read the layout first
    return Explanation(read, chunks, tokens, places, none, none, none, none, none.astype(np.bool_))
