"""Sentences to the chunks they stand in, and how similar these are to a query: what every search of an index shares."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np

from rag_embeddings.retrieve.base import Match
from rag_embeddings.store.records import similarities

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Mapping, Sequence
    from typing import TypeVar

    from rag_embeddings.encode.base import Vectors
    from rag_embeddings.encode.profile import Similarity
    from rag_embeddings.store.base import Hit, VectorReader
    from rag_embeddings.store.ledger import Ledger
    from rag_embeddings.store.shared import View
    from rag_embeddings.store.version import Place
    from rag_embeddings.text import Span

    Key = TypeVar("Key", bound=Hashable)

Score = Literal["best", "mean", "sum"]

SUMMED = 3  # sentences whose similarities are added up
_SHOWN = 5  # sentences shown with a match
_PLACES = 1_000  # chunks whose vectors are read at a time


@dataclass
class Parent:
    """A chunk that may be returned.

    Attributes:
        score: How similar it is to the query.
        sentences: Its sentences, most similar first, with their ids; not all of them.
    """

    score: float
    sentences: list[tuple[str, Span]]


@dataclass(frozen=True)
class Near:
    """Chunks near a query, by similarity.

    Attributes:
        parents: Their places and exact scores.
        bound: No other chunk has a better score than this.
    """

    parents: dict[Place, Parent]
    bound: float


@dataclass(frozen=True)
class Probe:
    """A query over one state of an index.

    Attributes:
        ledger: The ledger.
        view: The stores.
        vector: The query, shape (dim,).
        score: What a chunk is scored by.
        similarity: How vectors are compared.
    """

    ledger: Ledger
    view: View
    vector: Vectors
    score: Score
    similarity: Similarity
    _known: dict[Place, Parent] = field(default_factory=dict, init=False)  # scored already, when fewer were fetched

    def hits(self, fetch: int) -> tuple[list[Hit], list[Hit]]:
        """Ask the stores for the most similar sentences, and chunks where they count. Not inside `Ledger.reading`.

        Args:
            fetch: How many of each.
        """
        chunks = self.view.chunks.search(self.vector, fetch) if self.score == "mean" else []
        return self.view.sentences.search(self.vector, fetch), chunks

    def near(self, sentences: Sequence[Hit], chunks: Sequence[Hit], fetch: int) -> Near | None:
        """Join hits with the ledger, inside `Ledger.reading`; dead ones fall out.

        Args:
            sentences: Hits on sentences.
            chunks: Hits on chunks.
            fetch: How many of each were asked for.

        Returns:
            None if vectors are gone already, since documents were committed in between.
        """
        parents = grouped(sentences, self.ledger.live_sentences([hit.id for hit in sentences]))
        everything = len(sentences) < fetch and len(chunks) < fetch
        if self.score == "best":
            return Near(parents, -np.inf if everything or not sentences else sentences[-1].score)
        places = [*parents, *self.ledger.live_chunks([hit.id for hit in chunks]).values()]
        exact = self.exact(dict.fromkeys(places))
        if exact is None:
            return None
        if everything or not sentences:
            return Near(exact, -np.inf)
        last = sentences[-1].score
        if self.score == "mean":
            return Near(exact, (last + chunks[-1].score) / 2 if chunks else -np.inf)
        return Near(exact, last + (SUMMED - 1) * max(0.0, last))

    def all(self, places: Iterable[Place]) -> Near | None:
        """Score chunks beside which no other counts, inside `Ledger.reading`; None if some are gone already."""
        parents = self.exact(places)
        return None if parents is None else Near(parents, -np.inf)

    def exact(self, places: Iterable[Place]) -> dict[Place, Parent] | None:
        """Score chunks from their stored vectors, inside `Ledger.reading`; None if some are gone already.

        A chunk without sentences, of white space, as a splitter of the caller's own may give, falls out.
        """
        wanted = list(places)
        new = [place for place in wanted if place not in self._known]
        for start in range(0, len(new), _PLACES):
            part = self._scored(new[start : start + _PLACES])
            if part is None:
                return None
            self._known.update(part)
        return {place: self._known[place] for place in wanted if place in self._known}

    def _scored(self, places: Sequence[Place]) -> dict[Place, Parent] | None:
        units = {place: self.ledger.sentences(place) for place in places}
        wanted = {sentence.id for sentences in units.values() for sentence in sentences}
        scores = self._similarities(self.view.sentences, sorted(wanted))
        if scores.keys() != wanted:
            return None
        own: dict[Place, float] = {}
        if self.score == "mean":
            ids = {place: self.ledger.chunk_id(place) for place in places}
            chunks = self._similarities(self.view.chunks, sorted(set(ids.values())))
            if chunks.keys() != set(ids.values()):
                return None
            own = {place: chunks[identity] for place, identity in ids.items()}
        parents = {}
        for place, sentences in units.items():
            if sentences:
                ranked = sorted(sentences, key=lambda sentence: (-scores[sentence.id], sentence.id))
                score = _combined([scores[sentence.id] for sentence in ranked], self.score, own.get(place, 0.0))
                parents[place] = Parent(score, [(sentence.id, sentence.span) for sentence in ranked[:_SHOWN]])
        return parents

    def _similarities(self, store: VectorReader, ids: Sequence[str]) -> dict[str, float]:
        vectors = store.vectors(ids)
        if not vectors:
            return {}
        scores = similarities(np.stack(list(vectors.values())), self.vector, self.similarity)
        return dict(zip(vectors, scores.tolist(), strict=True))

    def match(self, place: Place, parent: Parent, score: float) -> Match:
        """Make a result, inside `Ledger.reading`."""
        return Match(self.ledger.chunk(place), score, tuple(span for _, span in parent.sentences[:_SHOWN]))


def grouped(hits: Sequence[Hit], places: Mapping[str, Sequence[tuple[Key, Span]]]) -> dict[Key, Parent]:
    """Group hits on sentences by the chunks they stand in; the first hit of a chunk is its best.

    Args:
        hits: Best first.
        places: For each hit's id the chunks it stands in, and where; one that stands in none falls out.
    """
    parents: dict[Key, Parent] = {}
    for hit in hits:
        for place, span in places.get(hit.id, ()):
            parents.setdefault(place, Parent(hit.score, [])).sentences.append((hit.id, span))
    return parents


def _combined(scores: Sequence[float], score: Score, own: float) -> float:
    """Combine the similarities of a chunk's sentences, best first, with its own."""
    if score == "mean":
        return (own + scores[0]) / 2
    if score == "sum":
        return scores[0] + sum(max(0.0, other) for other in scores[1:SUMMED])
    return scores[0]
