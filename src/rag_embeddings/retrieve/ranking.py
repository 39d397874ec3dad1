"""The best k chunks of an index for a query, exactly, however many hits that takes."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from rag_embeddings.encode.base import Role, validated
from rag_embeddings.errors import StoreError
from rag_embeddings.retrieve.filters import ChunkFilter
from rag_embeddings.retrieve.parents import Near, Probe

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from rag_embeddings.encode.base import Encoder, Vectors
    from rag_embeddings.retrieve.base import Match
    from rag_embeddings.retrieve.parents import Parent, Score
    from rag_embeddings.store.directory import IndexDirectory
    from rag_embeddings.store.version import Place
    from rag_embeddings.store.where import Where

_FIRST_FETCH = 8  # hits fetched per chunk wanted, doubled while they do not suffice
_LEAST_FETCH = 32
_FEW_PASS = 8  # how much more is fetched where less than half of what is wanted was found
_MOST_FETCH = 2_048  # beyond it, what passes a filter is looked for in the ledger and scored one by one
_ENOUGH_FETCH = 16_384  # beyond it, the best chunks so far are good enough
_BONUS_SHARE = 4  # hits fetched per chunk that is looked at for its bonus
_ATTEMPTS = 100  # how often a read is begun again because documents were committed meanwhile


class Ranked(NamedTuple):
    """A chunk in its place in a ranking."""

    place: Place
    parent: Parent
    score: float


def encoded(encoder: Encoder, query: str) -> Vectors:
    """Encode a query.

    Raises:
        VectorError: If the encoder returned something that is no vector.
    """
    return np.asarray(validated(encoder.encode([query], Role.QUERY), [query], encoder.profile.dimensions)[0])


def searched(
    directory: IndexDirectory,
    encoder: Encoder,
    vector: Vectors,
    search: Callable[[Probe, ChunkFilter], Sequence[Ranked] | None],
    *,
    score: Score,
    where: Where | None,
    pattern: str | None,
) -> list[Match]:
    """Run a search over one state of an index.

    Args:
        directory: The index.
        encoder: Of the index's space.
        vector: The query, shape (dim,).
        search: Gives the ranking, or None if documents were committed while it read; it is called again then.
        score: What a chunk is scored by.
        where: As for `ChunkFilter`.
        pattern: As for `ChunkFilter`.

    Raises:
        SpaceMismatchError: If the index holds vectors of another space.
        StoreError: If the vector has another width, or documents were committed all the time.
    """
    query = np.asarray(vector, dtype=np.float32)
    ledger = directory.ledger
    for _ in range(_ATTEMPTS):
        keep = ChunkFilter(ledger, where, pattern)
        with directory.reading(encoder.profile) as view:
            if view is None:
                return []
            probe = Probe(ledger, view, query, score, encoder.profile.similarity)
            found = search(probe, keep)
            if found is None:
                continue
            with ledger.reading():
                if ledger.generation == view.generation:
                    return [probe.match(place, parent, score) for place, parent, score in found]
    raise StoreError(f"documents were committed during each of {_ATTEMPTS} attempts to read; try again")


def best(probe: Probe, keep: ChunkFilter, k: int, bonus: Mapping[Place, float] | None = None) -> list[Ranked] | None:
    """Rank chunks by their similarity and a bonus.

    Hits are fetched until no chunk that was not seen can be among the best k, or until there are 16,384 of them.

    Args:
        probe: The query.
        keep: What may be found.
        k: Number of chunks.
        bonus: What is added to the similarity of some chunks, none of it negative, the largest first; of the state of
            the index that the probe is over.

    Returns:
        At most k chunks, best first, equal ones in the order of their best sentences' ids; None if documents were
        committed in between.
    """
    bonus = bonus or {}
    fetch = max(_FIRST_FETCH * k, _LEAST_FETCH)
    while True:
        hits = probe.hits(fetch) if keep.is_open or fetch <= _MOST_FETCH else None
        with probe.ledger.reading():
            if probe.ledger.generation != probe.view.generation:
                return None
            if hits is None:
                near = probe.all(keep.all())
            else:
                near = probe.near(*hits, fetch)
                near = near and _with_bonus(probe, keep, near, bonus, fetch // _BONUS_SHARE)
            if near is None:
                return None
            ranked = [
                Ranked(place, parent, parent.score + bonus.get(place, 0.0))
                for place, parent in near.parents.items()
                if keep.passes(place)
            ]
        ranked.sort(key=order)
        is_sure = near.bound == -np.inf or (len(ranked) >= k and ranked[k - 1].score >= near.bound)
        if is_sure or (len(ranked) >= k and fetch >= _ENOUGH_FETCH):
            return ranked[:k]
        fetch *= 2 if 2 * len(ranked) >= k else _FEW_PASS


def _with_bonus(probe: Probe, keep: ChunkFilter, near: Near, bonus: Mapping[Place, float], count: int) -> Near | None:
    """Add the chunks with the largest bonus."""
    if near.bound == -np.inf:  # there are no others
        return near
    passing = filter(keep.passes, bonus)
    largest = list(islice(passing, count))
    following = next(passing, None)
    further = probe.exact(place for place in largest if place not in near.parents)
    if further is None:
        return None
    return Near(near.parents | further, near.bound + (0.0 if following is None else bonus[following]))


def order(ranked: Ranked) -> tuple[float, str, int, int]:
    """Sort chunks by this: best first, equal ones in the order of their best sentences' ids."""
    return -ranked.score, ranked.parent.sentences[0][0], ranked.place.version, ranked.place.ordinal
