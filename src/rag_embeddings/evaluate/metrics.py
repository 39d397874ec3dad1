"""Retrieval metrics as pure functions of character ranges and ranks.

The character metrics are those of Smith and Troynikov, "Evaluating Chunking Strategies for Retrieval" (Chroma technical
report, 2024). For one question let ``R`` be the set of characters of its reference excerpts, ``t_1 ... t_k`` the
retrieved passages, and ``T`` the set of characters in any of them:

- recall = ``|R & T| / |R|``
- precision = ``|R & T| / (|t_1| + ... + |t_k|)``: characters retrieved twice count twice below the line
- IoU = ``|R & T| / (|t_1| + ... + |t_k| + |R - T|)``
- P_Omega = precision if exactly those chunks were retrieved that touch a reference: the best that these chunks allow

One thing is added: where an excerpt stands in the collection more than once, word for word, a retrieved copy answers
the question as well as the place its author happened to quote. Retrieving a copy, or part of one, covers the same
characters of the excerpt. Covering them twice still counts once.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log2
from typing import TYPE_CHECKING

from rag_embeddings.errors import QuestionError
from rag_embeddings.evaluate.intervals import Range, intersect, merge, total

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


@dataclass(frozen=True)
class Reference:
    """An excerpt that answers a question.

    Attributes:
        place: Where it stands.
        copies: Every place where the same text stands, ``place`` included. Left empty, ``place`` alone.

    Raises:
        QuestionError: If the excerpt is empty, or a copy has another length.
    """

    place: Range
    copies: tuple[Range, ...] = ()

    def __post_init__(self) -> None:
        size = self.place.end - self.place.start
        if size < 1 or self.place.start < 0:
            raise QuestionError(f"a reference needs 0 <= start < end, got {self.place.start} and {self.place.end}")
        if any(copy.end - copy.start != size for copy in self.copies):
            raise QuestionError(f"a copy of the reference at {self.place} has another length")
        object.__setattr__(self, "copies", tuple(dict.fromkeys((self.place, *self.copies))))

    def covered_by(self, passage: Range) -> list[Range]:
        """Return the ranges of ``place`` that a passage holds, there or in a copy (unmerged)."""
        found = []
        for copy in self.copies:
            shared = intersect(copy, passage)
            if shared is not None:
                shift = self.place.start - copy.start
                found.append(Range(self.place.document, shared.start + shift, shared.end + shift))
        return found


@dataclass(frozen=True)
class Overlap:
    """How many characters retrieved passages and references share, and the metrics that follow.

    Attributes:
        reference: Characters of the references, each counted once.
        retrieved: Characters of the passages; what is retrieved twice counts twice.
        covered: Characters of the references that were retrieved, there or in a verbatim copy.
        useful: Retrieved characters that were worth retrieving. It equals ``covered``, except where one retrieved
            character covers two references (both quote the same words in different places): it is still one.
    """

    reference: int
    retrieved: int
    covered: int
    useful: int

    @property
    def recall(self) -> float:
        """``covered / reference``, in [0, 1]."""
        return _ratio(self.covered, self.reference)

    @property
    def precision(self) -> float:
        """``useful / retrieved``, in [0, 1]; 0 if nothing was retrieved."""
        return _ratio(self.useful, self.retrieved)

    @property
    def iou(self) -> float:
        """``useful / (retrieved + missed)`` with ``missed = reference - covered``, in [0, 1]."""
        return _ratio(self.useful, self.retrieved + self.reference - self.covered)


def overlap(retrieved: Iterable[Range], references: Sequence[Reference]) -> Overlap:
    """Compare retrieved ranges with references, character by character.

    Args:
        retrieved: Ranges of the retrieved passages, in any order. A passage of several spans gives several ranges.
        references: The question's references.

    Returns:
        The four counts.
    """
    retrieved = list(retrieved)
    covered: list[Range] = []
    hit: list[Range] = []
    for passage in merge(retrieved):
        for reference in references:
            covered.extend(reference.covered_by(passage))
            hit.extend(shared for copy in reference.copies if (shared := intersect(copy, passage)))
    covers = total(merge(covered))
    return Overlap(
        reference=total(merge(reference.place for reference in references)),
        retrieved=total(retrieved),
        covered=covers,
        useful=min(covers, total(merge(hit))),
    )


def precision_omega(chunks: Iterable[Sequence[Range]], references: Sequence[Reference]) -> float:
    """Return the precision of retrieving exactly the chunks that touch a reference.

    Args:
        chunks: Every chunk of the collection (or at least those of the references' documents) as its ranges.
        references: The question's references; only their own places count here, not copies.

    Returns:
        In [0, 1]; 0 if no chunk touches a reference.
    """
    places = [Reference(reference.place) for reference in references]
    touching = [chunk for chunk in chunks if any(place.covered_by(part) for place in places for part in chunk)]
    return overlap((part for chunk in touching for part in chunk), places).precision


def first_ranks(passages: Sequence[Sequence[Range]], references: Sequence[Reference]) -> list[int | None]:
    """Return, for each reference, the rank of the first passage that touches it or a copy.

    Args:
        passages: Retrieved passages, best first, each as its ranges.
        references: The question's references.

    Returns:
        Ranks from 1, None where no passage touches the reference.
    """
    return [
        next((rank for rank, parts in enumerate(passages, 1) if any(map(reference.covered_by, parts))), None)
        for reference in references
    ]


def relevant(passages: Sequence[Sequence[Range]], references: Sequence[Reference]) -> list[bool]:
    """Return, for each passage, whether it touches a reference or a copy of one."""
    return [any(reference.covered_by(part) for reference in references for part in parts) for parts in passages]


def recall_at(ranks: Sequence[int | None], k: int) -> float:
    """Return the share of references touched by the first ``k`` passages: ``|{r : rank_r <= k}| / |{r}|``."""
    return _ratio(sum(rank is not None and rank <= k for rank in ranks), len(ranks))


def precision_at(relevance: Sequence[bool], k: int) -> float:
    """Return ``(relevant among the first k) / k``. Passages that were not returned count as irrelevant."""
    return _ratio(sum(relevance[:k]), k)


def reciprocal_rank(relevance: Sequence[bool]) -> float:
    """Return ``1 / (rank of the first relevant passage)``, 0 if there is none. Its mean over questions is the MRR."""
    return next((1 / rank for rank, good in enumerate(relevance, 1) if good), 0.0)


def dcg(gains: Sequence[float], k: int) -> float:
    """Return the discounted cumulative gain: the sum of ``gain_i / log2(i + 1)`` over ranks ``i = 1 ... k``."""
    return sum(gain / log2(rank + 1) for rank, gain in enumerate(gains[:k], 1))


def ndcg(gains: Sequence[float], k: int, ideal: Sequence[float] | None = None) -> float:
    """Return the normalised discounted cumulative gain: ``DCG@k(gains) / DCG@k(best order of ideal)``.

    Järvelin and Kekäläinen, "Cumulated gain-based evaluation of IR techniques", ACM TOIS 20(4), 2002.

    Args:
        gains: Gain of each retrieved passage, in rank order.
        k: Number of ranks that count.
        ideal: Gains of everything that could have been retrieved, in any order. None: ``gains`` themselves.

    Returns:
        In [0, 1]; 0 if nothing could be gained.
    """
    best = dcg(sorted(gains if ideal is None else ideal, reverse=True), k)
    return _ratio(dcg(gains, k), best)


def novelty_gains(ranks: Sequence[int | None], depth: int) -> list[int]:
    """Return how many references each of the first ``depth`` passages is the first to touch.

    As gains of `ndcg`, with ``ideal=[len(ranks)]`` (one passage that touches everything), they make pipelines with
    chunks of different sizes comparable: the ideal does not depend on the chunks, and finding the same reference again
    in an overlapping chunk gains nothing. With one reference this is the usual nDCG with one relevant document.

    Args:
        ranks: What `first_ranks` returned.
        depth: Number of ranks.

    Returns:
        ``depth`` counts, in rank order.
    """
    gains = [0] * depth
    for rank in ranks:
        if rank is not None and rank <= depth:
            gains[rank - 1] += 1
    return gains


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0
