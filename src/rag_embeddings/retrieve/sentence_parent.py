"""Sentences are matched, the chunks they stand in are returned."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from rag_embeddings.encode.base import Role, validated
from rag_embeddings.errors import StoreError
from rag_embeddings.retrieve.base import Match
from rag_embeddings.store.records import similarities

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from rag_embeddings.encode.base import Encoder, Vectors
    from rag_embeddings.encode.profile import Similarity
    from rag_embeddings.store.base import Hit, Store
    from rag_embeddings.store.directory import IndexDirectory
    from rag_embeddings.store.ledger import Ledger, Place
    from rag_embeddings.store.shared import View
    from rag_embeddings.text import Span

Score = Literal["best", "mean"]
_SENTENCES = 5  # shown with a match
_FIRST_FETCH = 8  # hits fetched per parent wanted, doubled while they do not suffice
_LEAST_FETCH = 32
_ATTEMPTS = 100  # how often a read is begun again because documents were committed meanwhile


@dataclass
class _Parent:
    score: float
    sentences: list[Span] = field(default_factory=list)


class SentenceParentSearch:
    """Finds the chunks whose sentences are most similar to a query. Thread-safe.

    Args:
        directory: The index; stays open.
        encoder: Must be of the space the index was written in.
        score: ``"best"``: the similarity of the chunk's best sentence. ``"mean"``: the mean of that and of the chunk's
            own similarity, both exact.

    Raises:
        ValueError: If ``score`` is neither.
    """

    def __init__(self, directory: IndexDirectory, encoder: Encoder, *, score: Score = "best") -> None:
        if score not in get_args(Score):
            raise ValueError(f"score must be 'best' or 'mean', got {score!r}")
        self.directory = directory
        self.encoder = encoder
        self.score: Score = score

    def search(self, query: str, k: int = 4) -> list[Match]:
        """Find parents for a query, which is encoded once.

        Args:
            query: The question.
            k: Number of parents.

        Returns:
            At most k matches with distinct chunks, best first, equal ones in the order of their sentences' ids; fewer
            only if the index has fewer chunks. A larger k gives the same matches first (by the mean, up to rounding).

        Raises:
            ValueError: If ``k`` is below 1.
            SpaceMismatchError: If the index holds vectors of another space.
            VectorError: If the encoder returned something that is no vector.
        """
        _check_k(k)
        vectors = validated(self.encoder.encode([query], Role.QUERY), [query], self.encoder.profile.dimensions)
        return self.search_vector(vectors[0], k)

    def search_vector(self, vector: Vectors, k: int = 4) -> list[Match]:
        """Find parents for the vector of a query.

        Args:
            vector: float32 of shape (dim,).
            k: Number of parents.

        Returns:
            As `search`.

        Raises:
            ValueError: If ``k`` is below 1.
            SpaceMismatchError: If the index holds vectors of another space.
            StoreError: If the vector has another width.
        """
        _check_k(k)
        query = np.asarray(vector, dtype=np.float32)
        for _ in range(_ATTEMPTS):
            with self.directory.reading(self.encoder.profile) as view:
                if view is None:
                    return []
                similarity = self.encoder.profile.similarity
                matches = _read(self.directory.ledger, view, query, k=k, score=self.score, similarity=similarity)
            if matches is not None:
                return matches
        raise StoreError(f"documents were committed during each of {_ATTEMPTS} attempts to read; try again")


def _check_k(k: int) -> None:
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")


def _read(
    ledger: Ledger, view: View, query: Vectors, *, k: int, score: Score, similarity: Similarity
) -> list[Match] | None:
    """Search the stores, then join with the ledger; None if documents were committed in between."""
    fetch = max(_FIRST_FETCH * k, _LEAST_FETCH)
    while True:
        hits = view.sentences.search(query, fetch)
        chunk_hits = view.chunks.search(query, fetch) if score == "mean" else []
        with ledger.reading():
            if ledger.generation != view.generation:
                return None
            parents = _parents(ledger, hits)
            exhausted = len(hits) < fetch and len(chunk_hits) < fetch
            bound = -np.inf
            if score == "mean":
                places = [*parents, *ledger.live_chunks([hit.id for hit in chunk_hits]).values()]
                rescored = _means(ledger, view, dict.fromkeys(places), parents, query=query, similarity=similarity)
                if rescored is None:
                    return None
                parents = rescored
                # No chunk outside both lists can have a better mean than this.
                bound = (hits[-1].score + chunk_hits[-1].score) / 2 if hits and chunk_hits else -np.inf
            # Stable: equal scores stay in the order of the hits, which is the same however many were fetched.
            best = sorted(parents, key=lambda place: -parents[place].score)[:k]
            if exhausted or (len(best) == k and parents[best[-1]].score >= bound):
                return [
                    Match(ledger.chunk(place), parents[place].score, tuple(parents[place].sentences[:_SENTENCES]))
                    for place in best
                ]
        fetch *= 2


def _parents(ledger: Ledger, hits: Sequence[Hit]) -> dict[Place, _Parent]:
    """Group hits by the chunks they stand in; the first hit of a chunk is its best. Dead hits fall out."""
    places = ledger.live_sentences([hit.id for hit in hits])
    parents: dict[Place, _Parent] = {}
    for hit in hits:
        for place, span in places.get(hit.id, ()):
            parents.setdefault(place, _Parent(hit.score)).sentences.append(span)
    return parents


def _means(
    ledger: Ledger,
    view: View,
    places: Iterable[Place],
    found: Mapping[Place, _Parent],
    *,
    query: Vectors,
    similarity: Similarity,
) -> dict[Place, _Parent] | None:
    """Score candidates by the mean of chunk and best sentence, from stored vectors; None if some are gone already."""
    units = {place: (ledger.chunk_id(place), ledger.sentences(place)) for place in places}
    chunks = _scores(view.chunks, [chunk for chunk, _ in units.values()], query, similarity)
    wanted = {sentence.id for _, sentences in units.values() for sentence in sentences}
    scores = _scores(view.sentences, sorted(wanted), query, similarity)
    if chunks.keys() != {chunk for chunk, _ in units.values()} or scores.keys() != wanted:
        return None
    parents = {}
    for place, (chunk, sentences) in units.items():
        if not sentences:  # a chunk of white space, as a splitter of the caller's own may give
            continue
        best = max(sentences, key=lambda sentence: scores[sentence.id])
        matched = found[place].sentences if place in found else [best.span]
        parents[place] = _Parent((chunks[chunk] + scores[best.id]) / 2, matched)
    return parents


def _scores(store: Store, ids: Sequence[str], query: Vectors, similarity: Similarity) -> dict[str, float]:
    records = store.get(ids)
    if not records:
        return {}
    scores = similarities(np.stack([record.vector for record in records]), query, similarity)
    return {record.id: float(score) for record, score in zip(records, scores, strict=True)}
