"""Keyword search over the passages of a key-value store: BM25, counted in memory."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from threading import Lock
from typing import TYPE_CHECKING, Any

from rag_embeddings.retrieve.hybrid import RRF
from rag_embeddings.store import postings
from rag_embeddings.store.keywords import keyword_hits, turn_on
from rag_embeddings.store.ledger import Ledger
from rag_embeddings.store.words import Words

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


class PassageWords:
    """The words of passages, counted again when these have changed. Thread-safe; a copy counts for itself.

    Args:
        language: As for `rag_embeddings.store.words.Words`.
    """

    def __init__(self, language: str) -> None:
        self.language = language
        self._words = Words(language)
        self._lock = Lock()
        self._counted: tuple[object, Ledger, list[str]] | None = None

    def scores(
        self, state: object, passages: Callable[[], Iterable[tuple[str, str]]], query: str, count: int
    ) -> dict[str, float]:
        """Score passages by the words of a query.

        Args:
            state: Equal for as long as the passages are the same.
            passages: Yields the id and the text of each passage.
            query: The question.
            count: Most passages to return.

        Returns:
            The BM25 score of the best passages, by id, best first.
        """
        with self._lock:
            if self._counted is None or self._counted[0] != state:
                self._counted = (state, *self._count(passages()))
            _, ledger, ids = self._counted
            with ledger.reading():
                hits = keyword_hits(ledger, query)
        found = zip(hits.places, hits.scores.tolist(), strict=True)
        return {ids[place.version]: score for place, score in islice(found, count)}

    def _count(self, passages: Iterable[tuple[str, str]]) -> tuple[Ledger, list[str]]:
        ledger, ids = Ledger(None), []
        turn_on(ledger, self._words)
        with ledger.writing():
            for number, (identity, text) in enumerate(passages):
                ids.append(identity)
                postings.add(ledger, [(number, 0, Counter(self._words.of(text)))])
        return ledger, ids

    def __deepcopy__(self, memo: dict[int, Any]) -> PassageWords:
        return PassageWords(self.language)

    def __reduce__(self) -> tuple[Any, ...]:
        return PassageWords, (self.language,)


def fused(*rankings: Iterable[str]) -> dict[str, float]:
    """Join rankings by reciprocal rank fusion (Cormack, Clarke and Buettcher, 2009).

    Args:
        *rankings: Ids, best first.

    Returns:
        All ids with the fused score, best first.
    """
    scores: dict[str, float] = {}
    for ranking in rankings:
        for rank, identity in enumerate(ranking):
            scores[identity] = scores.get(identity, 0.0) + 1 / (RRF + 1 + rank)
    return dict(sorted(scores.items(), key=lambda item: -item[1]))
