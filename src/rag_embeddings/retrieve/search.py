"""One search with everything that may happen to what it finds: order, merging, windows, budget, links."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from rag_embeddings.errors import StoreError
from rag_embeddings.retrieve.budget import Sizes, budget_counter, checked_budget
from rag_embeddings.retrieve.hybrid import HybridSearch
from rag_embeddings.retrieve.links import linked
from rag_embeddings.retrieve.merge import Merge, Sections, joined
from rag_embeddings.retrieve.mmr import mmr_order
from rag_embeddings.retrieve.ranking import encoded
from rag_embeddings.retrieve.rerank import reranked
from rag_embeddings.retrieve.sentence_parent import SentenceParentSearch
from rag_embeddings.retrieve.window import Window, widened

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rag_embeddings.encode.base import Encoder, Vectors
    from rag_embeddings.retrieve.base import Match
    from rag_embeddings.retrieve.hybrid import Fusion
    from rag_embeddings.retrieve.rerank import Reranker
    from rag_embeddings.retrieve.sentence_parent import Score
    from rag_embeddings.split.tokens import TokenCounter
    from rag_embeddings.store.directory import IndexDirectory
    from rag_embeddings.store.ledger import Ledger
    from rag_embeddings.store.version import Place
    from rag_embeddings.store.where import Where

SearchType = Literal["similarity", "hybrid", "mmr"]

_FIRST = 16  # chunks looked at first where a budget is to be filled
_ATTEMPTS = 100  # how often a read is begun again because documents were committed meanwhile


@dataclass(frozen=True)
class Retrieval:
    """Finds passages, and shapes them. Thread-safe.

    What happens, in this order: chunks are found and ranked (``search_type``, ``where``, ``pattern``); a ``reranker``
    may rank them anew; each grows by its ``window``; ``merge`` makes sections whole, and passages that touch become
    one; the best are taken, ``k`` of them or as many as ``token_budget`` holds; the ``link_tokens`` are filled with
    chunks linked to those.

    More chunks are looked at until there are ``k`` passages or the budget is spent, or the index is. Passages are
    slices of the document in any case. Without any option this is `SentenceParentSearch`.

    Attributes:
        directory: The index; stays open.
        encoder: Must be of the space the index was written in.
        k: Number of passages. Where passages are united, each takes up what touches it until one more would begin.
        token_budget: Instead of ``k``: how many tokens the passages may have together, contexts included. The first
            passage is returned even if it alone has more; otherwise the budget is never exceeded.
        tokenizer: Counts tokens, see `rag_embeddings.split.tokens.token_counter`. None: the encoder's own tokenizer, or
            tiktoken's ``"cl100k_base"`` if it has none.
        search_type: ``"similarity"``: by vectors. ``"hybrid"``: by vectors and keywords, see `HybridSearch`.
            ``"mmr"``: by vectors, each next passage unlike those before it; see `mmr_order`.
        score: What ranks a chunk; see `SentenceParentSearch`. None: ``"mean"`` with ``"hybrid"``, else ``"best"``.
        where: Only chunks that fulfil this.
        pattern: Only chunks in whose text this regular expression matches.
        fusion: How ``"hybrid"`` joins similarity and keywords; None: calibrated. See `HybridSearch`.
        beta: Weight of the keywords with ``"hybrid"``; None: the usual one of the fusion.
        fetch_k: Chunks that ``"mmr"`` or the ``reranker`` choose from, where that is more than are asked for.
        balance: Relevance against difference with ``"mmr"``, 1 to 0.
        reranker: Scores the passages anew; see `Reranker`.
        window: Sentences added on both sides, or a `Window`. 0: none.
        merge: True for `Merge` with its defaults, or one of the caller's own. False: chunks stay apart, unless windows
            make them overlap.
        link_tokens: Tokens of linked chunks to fetch along, beyond ``k`` and ``token_budget``; see `linked`. 0: none.

    Raises:
        ValueError: If a number or word is impossible, or both ``"mmr"`` and a reranker are to decide on the order.
        TypeError: If ``window`` or ``merge`` is something else.
    """

    directory: IndexDirectory
    encoder: Encoder
    k: int = 4
    token_budget: int | None = None
    tokenizer: Any = None
    search_type: SearchType = "similarity"
    score: Score | None = None
    where: Where | None = None
    pattern: str | None = None
    fusion: Fusion | None = None
    beta: float | None = None
    fetch_k: int = 20
    balance: float = 0.5
    reranker: Reranker | None = None
    window: int | Window = 0
    merge: bool | Merge = False
    link_tokens: int = 0

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ValueError(f"k must be at least 1, got {self.k}")
        if self.token_budget is not None:
            checked_budget(self.token_budget)
        if self.search_type not in get_args(SearchType):
            raise ValueError(f"search_type must be 'similarity', 'hybrid' or 'mmr', got {self.search_type!r}")
        if self.fetch_k < 1:
            raise ValueError(f"fetch_k must be at least 1, got {self.fetch_k}")
        if not 0 <= self.balance <= 1:
            raise ValueError(f"the balance of relevance and difference must be within 0..1, got {self.balance}")
        if self.search_type == "mmr" and self.reranker is not None:
            raise ValueError("a reranker would undo the order of 'mmr': give one of the two")
        if self.search_type != "hybrid" and (self.fusion is not None or self.beta is not None):
            raise ValueError("fusion and beta have an effect in a hybrid search only")
        if self.link_tokens < 0:
            raise ValueError(f"link_tokens must not be negative, got {self.link_tokens}")
        if not isinstance(self.window, int | Window) or not isinstance(self.merge, bool | Merge):
            given = f"window={self.window!r}, merge={self.merge!r}"  # type: ignore[unreachable]  # callers without mypy
            raise TypeError(f"window is a number of sentences or a Window, merge a bool or a Merge, got {given}")
        _ = self._window, self._by_both, self._by_similarity  # which refuse what is impossible

    def search(self, query: str, vector: Vectors | None = None) -> list[Match]:
        """Find passages for a query, which is encoded once.

        Args:
            query: The question.
            vector: Searched with in place of the query's own, shape (dim,); keywords and a reranker still go by the
                words.

        Returns:
            Passages, best first, and behind them the linked ones.

        Raises:
            SpaceMismatchError: If the index holds vectors of another space.
            StoreError: If links or keywords are asked for and the index has none.
            VectorError: If the encoder or the reranker returned something impossible.
        """
        if vector is None:
            vector = encoded(self.encoder, query)
        scores: dict[str, float] = {}
        number = self._first_number()
        for _ in range(_ATTEMPTS):
            generation = self.directory.ledger.generation
            found = self._found(query, vector, number)
            if self.reranker is not None:
                found = reranked(query, found, self.reranker, scores)
            passages, enough = self._shaped(found, generation)
            if passages is None:  # documents were committed meanwhile
                continue
            if enough or len(found) < number:
                return passages
            number *= 2
        raise StoreError(f"documents were committed during each of {_ATTEMPTS} attempts to read; try again")

    # --- what is found -----------------------------------------------------------------------------------------------

    def _first_number(self) -> int:
        wanted = _FIRST if self.token_budget is not None else self.k * (2 if self._unites else 1)
        chooses = self.search_type == "mmr" or self.reranker is not None
        return max(wanted, self.fetch_k) if chooses else wanted

    @cached_property
    def _by_both(self) -> HybridSearch:
        fusion = self.fusion or "calibrated"
        return HybridSearch(self.directory, self.encoder, score=self.score or "mean", fusion=fusion, beta=self.beta)

    @cached_property
    def _by_similarity(self) -> SentenceParentSearch:
        return SentenceParentSearch(self.directory, self.encoder, score=self.score or "best")

    def _found(self, query: str, vector: Vectors, number: int) -> list[Match]:
        if self.search_type == "hybrid":
            return self._by_both.search(query, number, where=self.where, pattern=self.pattern, vector=vector)
        return self._by_similarity.search_vector(vector, number, where=self.where, pattern=self.pattern)

    # --- what becomes of it ------------------------------------------------------------------------------------------

    @cached_property
    def _window(self) -> Window | None:
        return (Window(self.window) if self.window else None) if isinstance(self.window, int) else self.window

    @cached_property
    def _merge(self) -> Merge | None:
        return (Merge() if self.merge else None) if isinstance(self.merge, bool) else self.merge

    @cached_property
    def _counter(self) -> TokenCounter:
        return budget_counter(self.tokenizer, self.encoder)

    @property
    def _unites(self) -> bool:
        return self._window is not None or self._merge is not None

    def _shaped(self, found: list[Match], generation: int) -> tuple[list[Match] | None, bool]:
        """Make passages of chunks.

        Args:
            found: Chunks, best first.
            generation: The ledger's when they were found.

        Returns:
            The passages, None if the index has changed since; and whether more chunks would change nothing.
        """
        if not (self._unites or self.token_budget or self.link_tokens or self.search_type == "mmr"):
            return found[: self.k], len(found) >= self.k
        ledger = self.directory.ledger
        with self.directory.reading(self.encoder.profile) as view, ledger.reading():
            if ledger.generation != generation:
                return None, False
            if view is not None and self.search_type == "mmr":
                vectors = view.chunks.vectors([match.chunk.id for match in found])
                if any(match.chunk.id not in vectors for match in found):
                    return None, False
                found = self._diverse(found, [vectors[match.chunk.id] for match in found])
            places = ledger.live_chunks([match.chunk.id for match in found])
            passages, used, enough = self._taken([(match, places[match.chunk.id]) for match in found], ledger)
            if self.link_tokens and passages:
                passages = [*passages, *linked(passages, used, self.link_tokens, ledger, self._counter)]
        return passages, enough

    def _diverse(self, found: Sequence[Match], vectors: Sequence[Vectors]) -> list[Match]:
        if not found:
            return []
        similarity = self.encoder.profile.similarity
        relevance = [match.score for match in found]
        order = mmr_order(relevance, np.stack(vectors), balance=self.balance, similarity=similarity)
        return [found[position] for position in order]

    def _taken(
        self, found: Sequence[tuple[Match, Place]], ledger: Ledger
    ) -> tuple[list[Match], list[tuple[Match, Place]], bool]:
        """Take chunks in rank order until one more would be too much."""
        sections = None if self._merge is None else Sections(ledger, self._merge, self._counter)
        is_over = self._limit()
        passages: list[Match] = []
        for number, (match, place) in enumerate(found):
            passage = match if self._window is None else widened(match, place, self._window, ledger)
            if sections is not None:
                passage = sections.completed(passage, place)
            more = joined(passages, passage) if self._unites else [*passages, passage]
            if passages and is_over(more):
                return passages, list(found[:number]), True
            passages = more
        enough = not self._unites and self.token_budget is None and len(passages) == self.k
        return passages, list(found), enough

    def _limit(self) -> Callable[[list[Match]], bool]:
        if self.token_budget is None:
            return lambda passages: len(passages) > self.k
        budget, sizes = self.token_budget, Sizes(self._counter)
        return lambda passages: sizes.of(passages) > budget
