"""Sentences are matched, the chunks they stand in are returned."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, get_args

from rag_embeddings.retrieve.parents import Score as Score  # noqa: PLC0414 - so that it can be imported from here
from rag_embeddings.retrieve.ranking import best, encoded, searched

if TYPE_CHECKING:
    from rag_embeddings.encode.base import Encoder, Vectors
    from rag_embeddings.retrieve.base import Match
    from rag_embeddings.store.directory import IndexDirectory
    from rag_embeddings.store.where import Where


class SentenceParentSearch:
    """Finds the chunks whose sentences are most similar to a query. Thread-safe.

    Args:
        directory: The index; stays open.
        encoder: Must be of the space the index was written in.
        score: ``"best"``: the similarity of the chunk's best sentence. ``"mean"``: the mean of that and of the chunk's
            own similarity. ``"sum"``: the sum of the best sentence's and, where they are positive, of the next two.

    Raises:
        ValueError: If ``score`` is none of these.
    """

    def __init__(self, directory: IndexDirectory, encoder: Encoder, *, score: Score = "best") -> None:
        self.directory = directory
        self.encoder = encoder
        self.score: Score = checked_score(score)

    def search(self, query: str, k: int = 4, *, where: Where | None = None, pattern: str | None = None) -> list[Match]:
        """Find parents for a query, which is encoded once.

        Args:
            query: The question.
            k: Number of parents.
            where: Only chunks that fulfil a condition on their text, and on their metadata: the document's, what the
                splitter found out about the chunk, and ``source_id``.
            pattern: Only chunks in whose text this regular expression matches somewhere. It runs in linear time (RE2:
                Python's syntax without look-around and back-references; ``(?i)`` in front ignores case).

        Returns:
            At most k matches with distinct chunks, best first, equal ones in the order of their sentences' ids; fewer
            only if the index has fewer chunks that may be found. A larger k gives the same matches first (by the mean,
            up to rounding).

        Raises:
            ValueError: If ``k`` is below 1.
            PatternError: If ``pattern`` is no regular expression that RE2 can run.
            TypeError: If ``where`` is no filter.
            MissingExtraError: If there is a pattern and google-re2 is not installed.
            SpaceMismatchError: If the index holds vectors of another space.
            VectorError: If the encoder returned something that is no vector.
        """
        check_k(k)
        return self.search_vector(encoded(self.encoder, query), k, where=where, pattern=pattern)

    def search_vector(
        self, vector: Vectors, k: int = 4, *, where: Where | None = None, pattern: str | None = None
    ) -> list[Match]:
        """Find parents for the vector of a query.

        Args:
            vector: float32 of shape (dim,).
            k: Number of parents.
            where: As for `search`.
            pattern: As for `search`.

        Returns:
            As `search`.

        Raises:
            StoreError: If the vector has another width.
            ValueError: As `search`.
            PatternError: As `search`.
            TypeError: As `search`.
            MissingExtraError: As `search`.
            SpaceMismatchError: As `search`.
        """
        check_k(k)
        return searched(
            self.directory,
            self.encoder,
            vector,
            partial(best, k=k),
            score=self.score,
            where=where,
            pattern=pattern,
        )


def checked_score(score: Score) -> Score:
    """Return a score that chunks can be ranked by.

    Raises:
        ValueError: If there is none of this name.
    """
    if score not in get_args(Score):
        raise ValueError(f"score must be 'best', 'mean' or 'sum', got {score!r}")
    return score


def check_k(k: int) -> None:
    """Refuse a number of results below 1."""
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
