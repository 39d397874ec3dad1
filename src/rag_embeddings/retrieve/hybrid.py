"""Similarity and keywords together."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from rag_embeddings.retrieve.ranking import Ranked, best, encoded, order, searched
from rag_embeddings.retrieve.sentence_parent import check_k, checked_score
from rag_embeddings.store.keywords import keyword_hits

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from rag_embeddings.encode.base import Encoder, Vectors
    from rag_embeddings.encode.profile import Similarity
    from rag_embeddings.retrieve.base import Match
    from rag_embeddings.retrieve.filters import ChunkFilter
    from rag_embeddings.retrieve.parents import Probe, Score
    from rag_embeddings.store.directory import IndexDirectory
    from rag_embeddings.store.keywords import KeywordHits
    from rag_embeddings.store.where import Where

Fusion = Literal["calibrated", "minmax", "rrf"]

_BETA = {"calibrated": 2.0, "minmax": 1.0, "rrf": 1.0}
_POOL = 100  # chunks of each side that are fused by their places among one another
_NOISE = 1e-6  # of similarities calculated in float32
RRF = 60  # Cormack, Clarke and Buettcher, 2009


class HybridSearch:
    """Finds chunks by similarity and by keywords at once. Thread-safe.

    Every candidate of either side is scored exactly on both. The index needs keywords, which it has by default where
    the extra ``keywords`` is installed when it is written; see `rag_embeddings.index.indexer.Indexer`.

    Args:
        directory: The index; stays open.
        encoder: Must be of the space the index was written in.
        score: The similarity of a chunk, as for `rag_embeddings.retrieve.sentence_parent.SentenceParentSearch`. Beside
            BM25, which is of whole chunks, the mean of chunk and best sentence was found better than the latter alone.
        fusion: ``"calibrated"``: the similarity plus ``beta`` times the chunk's BM25 as a share of the query's ideal
            (`KeywordHits.ideal`). Keywords speak only as loudly as they match: a question in other words than the text
            is answered by similarity alone. Where vectors are not compared by cosine, the share is of the query's
            similarity to itself (by distance, of its length). ``"minmax"``: both scaled to [0, 1] over the 100 best
            chunks of either side, added with weights 1 and ``beta``. ``"rrf"``: reciprocal rank fusion (Cormack et al.,
            2009) of the same, the second ranking weighted by ``beta``.
        beta: Weight of the keywords, at least 0. None: 2 when calibrated, else 1.

    Raises:
        ValueError: If ``score`` or ``fusion`` is unknown or ``beta`` negative.
    """

    def __init__(
        self,
        directory: IndexDirectory,
        encoder: Encoder,
        *,
        score: Score = "mean",
        fusion: Fusion = "calibrated",
        beta: float | None = None,
    ) -> None:
        if fusion not in get_args(Fusion):
            raise ValueError(f"fusion must be 'calibrated', 'minmax' or 'rrf', got {fusion!r}")
        if beta is not None and not 0 <= beta < np.inf:
            raise ValueError(f"beta must be at least 0 and finite, got {beta}")
        self.directory = directory
        self.encoder = encoder
        self.score: Score = checked_score(score)
        self.fusion: Fusion = fusion
        self.beta = _BETA[fusion] if beta is None else beta

    def search(
        self,
        query: str,
        k: int = 4,
        *,
        where: Where | None = None,
        pattern: str | None = None,
        vector: Vectors | None = None,
    ) -> list[Match]:
        """Find chunks for a query, which is encoded once.

        Args:
            query: The question.
            k: Number of chunks.
            where: Only chunks that fulfil this condition; as for `SentenceParentSearch.search`. Counts of words are of
                the whole index.
            pattern: Only chunks in whose text this regular expression matches; as there.
            vector: What to compare by similarity in place of the encoded query, float32 of shape (dim,).

        Returns:
            At most k matches with distinct chunks, best first, as `SentenceParentSearch.search`; it is that very
            ranking where the index knows no word of the query. ``score`` is the fused one. A larger k gives the same
            matches first, up to rounding; by ``"minmax"`` and ``"rrf"`` up to 100.

        Raises:
            StoreError: If the index has no keywords.
            MissingExtraError: If what its keywords need is not installed.
            ValueError: If ``k`` is below 1; further errors as `SentenceParentSearch.search`.
        """
        check_k(k)
        probed = encoded(self.encoder, query) if vector is None else vector

        def ranking(probe: Probe, keep: ChunkFilter) -> Sequence[Ranked] | None:
            with probe.ledger.reading():
                if probe.ledger.generation != probe.view.generation:
                    return None
                hits = keyword_hits(probe.ledger, query)
            if self.fusion != "calibrated" and hits.places:
                return self._pooled(probe, keep, k, hits)
            weight = self.beta * _unit(probe.vector, probe.similarity)
            points = (weight * hits.scores / hits.ideal).tolist() if hits.places else []
            return best(probe, keep, k, dict(zip(hits.places, points, strict=True)))

        return searched(self.directory, self.encoder, probed, ranking, score=self.score, where=where, pattern=pattern)

    def _pooled(self, probe: Probe, keep: ChunkFilter, k: int, hits: KeywordHits) -> Sequence[Ranked] | None:
        """Fuse the best chunks of either side by how they compare among one another."""
        size = max(_POOL, k)
        near = best(probe, keep, size)
        if near is None:
            return None
        parents = {ranked.place: ranked.parent for ranked in near}
        scores = dict(zip(hits.places, hits.scores.tolist(), strict=True))
        with probe.ledger.reading():
            if probe.ledger.generation != probe.view.generation:
                return None
            found = list(islice(filter(keep.passes, hits.places), size))
            further = probe.exact(place for place in found if place not in parents)
        if further is None:
            return None
        parents |= further
        places = list(parents)
        similarity = np.array([parents[place].score for place in places])
        keywords = np.array([scores.get(place, 0.0) for place in places])
        fuse = _min_max if self.fusion == "minmax" else _reciprocal_ranks
        fused = fuse(similarity) + self.beta * np.where(keywords > 0, fuse(keywords), 0.0)
        ranked = [Ranked(place, parents[place], float(score)) for place, score in zip(places, fused, strict=True)]
        return sorted(ranked, key=order)[:k]


def _unit(vector: Vectors, similarity: Similarity) -> float:
    """Return what calibrated keywords are a share of: the similarity of the query to itself; by distance its length."""
    length = float(np.linalg.norm(vector))
    return {"cosine": 1.0, "dot": length**2, "euclidean": length}[similarity]


def _min_max(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    span = np.ptp(scores)
    return np.zeros(len(scores)) if span == 0 else (scores - scores.min()) / span


def _reciprocal_ranks(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Equal scores share the best rank, also where they are equal but for rounding."""
    better = len(scores) - np.searchsorted(np.sort(scores), scores + _NOISE, side="right")
    return 1.0 / (RRF + 1 + better)
