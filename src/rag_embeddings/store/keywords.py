"""The keyword side of an index: BM25 over its chunks, always over exactly those that are live.

Scores are those of Lucene's BM25 as bm25s computes them, which cannot add or remove a document without starting over
(Kamphuis et al., "Which BM25 do you mean?", 2020; Lù, "BM25S", 2024). They are computed at each query, so that every
count is of that moment.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from rag_embeddings.errors import StoreError
from rag_embeddings.store import postings
from rag_embeddings.store.version import Place
from rag_embeddings.store.words import Words

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from rag_embeddings.store.ledger import Ledger
    from rag_embeddings.store.postings import Counted
    from rag_embeddings.text import Chunk

K1 = 1.5
B = 0.75
_KEY = "keywords"
_ORDINALS = 2**31  # more chunks than a document has


@dataclass(frozen=True)
class KeywordHits:
    """What a query's words find.

    Attributes:
        places: The chunks that have at least one of the words, best first, equal ones in the order they were written.
        scores: float64, the BM25 score of each.
        ideal: The sum over the query's words of idf * (k1 + 1): what a chunk would score that had each of them at
            saturation, in BM25 as it was first written. Words that no chunk has count as well, and as the rarest.
            Lucene's formula leaves the factor k1 + 1 out, so that ``scores`` stay below 1 / (k1 + 1) of this.
    """

    places: list[Place]
    scores: NDArray[np.float64]
    ideal: float


def keyword_words(ledger: Ledger) -> Words | None:
    """Return what cuts the texts of an index into words; None if the index has no keywords.

    Raises:
        MissingExtraError: If what the index was written with is not installed.
    """
    settings = ledger.meta(_KEY)
    return Words(settings["language"]) if settings else None


def keyword_language(ledger: Ledger) -> str | bool | None:
    """Return the language of the keywords, False if they were turned off, None if nobody has decided."""
    settings = ledger.meta(_KEY)
    if settings is None or settings is False:
        return settings
    return str(settings["language"])


def is_on(ledger: Ledger, words: Words) -> bool:
    """Whether an index has keywords, cut into words in this way."""
    return bool(ledger.meta(_KEY) == words.settings())


def turn_on(ledger: Ledger, words: Words) -> None:
    """Give an index keywords, from the texts in its ledger; nothing is encoded.

    Args:
        ledger: The ledger of a directory that this process writes to.
        words: Cuts texts into words.
    """
    with ledger.writing():
        postings.clear(ledger)
        for number in ledger.live_versions():
            postings.add(ledger, _counted(words, {number: ledger.chunks(number)}))
        ledger.remember(_KEY, words.settings())
        ledger.advance()


def turn_off(ledger: Ledger) -> None:
    """Remove the keywords of an index, and remember that it is to have none."""
    with ledger.writing():
        postings.drop(ledger)
        ledger.remember(_KEY, False)  # noqa: FBT003 - a value, not a flag
        ledger.advance()


def counted(ledger: Ledger, chunks: Mapping[int, Sequence[Chunk]]) -> list[Counted]:
    """Count the words of chunks that are about to be live, as `postings.add` takes them.

    Args:
        ledger: Says whether there are keywords; nothing is counted if there are none.
        chunks: By the number of their version, in order.

    Raises:
        MissingExtraError: If what the index was written with is not installed.
    """
    words = keyword_words(ledger)
    return [] if words is None else _counted(words, chunks)


def _counted(words: Words, chunks: Mapping[int, Sequence[Chunk]]) -> list[Counted]:
    """Context counts: what is embedded is what is searched."""
    return [
        (number, ordinal, Counter(words.of(chunk.embedding_text)))
        for number, group in chunks.items()
        for ordinal, chunk in enumerate(group)
    ]


def keyword_hits(ledger: Ledger, query: str) -> KeywordHits:
    """Score every chunk that has a word of a query.

    Args:
        ledger: The ledger; call this inside its `reading`.
        query: The question. A word that stands there twice counts twice.

    Raises:
        StoreError: If the index has no keywords.
        MissingExtraError: If what the index was written with is not installed.
    """
    words = keyword_words(ledger)
    if words is None:
        raise StoreError(
            "this index has no keywords. Write to it with Indexer(..., keywords='en') or 'rag-embeddings index "
            "--keywords en' once: nothing is encoded for that. Languages need pip install 'rag-embeddings[keywords]'"
        )
    chunks, length = postings.totals(ledger)
    keys, scores, ideal = [], [], 0.0
    for word, times in Counter(words.of(query)).items():
        rows = postings.of_word(ledger, word)
        weight = times * float(np.log1p((chunks - len(rows) + 0.5) / (len(rows) + 0.5)))
        ideal += weight * (K1 + 1)
        if not len(rows):
            continue
        version, ordinal, count, words_of_chunk = rows.T
        keys.append(version * _ORDINALS + ordinal)
        scores.append(weight * count / (count + K1 * (1 - B + B * words_of_chunk * chunks / length)))
    if not keys:
        return KeywordHits([], np.zeros(0), ideal)
    found, rows_of = np.unique(np.concatenate(keys), return_inverse=True)
    sums = np.bincount(rows_of, weights=np.concatenate(scores)).astype(np.float64)
    order = np.argsort(-sums, kind="stable")
    places = [Place(*divmod(key, _ORDINALS)) for key in found[order].tolist()]
    return KeywordHits(places, sums[order], ideal)
