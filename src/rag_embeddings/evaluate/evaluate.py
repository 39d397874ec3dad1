"""Run a retriever over questions and measure what it found."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rag_embeddings.errors import QuestionError
from rag_embeddings.evaluate import metrics
from rag_embeddings.evaluate.budget import Sizes, within
from rag_embeddings.evaluate.intervals import Range
from rag_embeddings.evaluate.result import Evaluation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from rag_embeddings.evaluate.questions import Question
    from rag_embeddings.retrieve.base import Match
    from rag_embeddings.split.tokens import TokenCounter
    from rag_embeddings.text import Chunk, Document

    Retrieve = Callable[[str, int], Sequence[Match]]

DEFAULT_COUNTER = "cl100k_base"


def evaluate(
    retrieve: Retrieve,
    questions: Sequence[Question],
    documents: Iterable[Document],
    *,
    chunks: Iterable[Chunk] | None = None,
    ks: Sequence[int] = (1, 3, 5, 10),
    budgets: Sequence[int] = (500, 1000),
    counter: TokenCounter | None = None,
) -> Evaluation:
    """Ask every question and compare what comes back with its references.

    Args:
        retrieve: Called with a question and a number of passages; returns that many, best first (fewer if there are no
            more). It should be a ranking: asked for more passages, it begins with the same ones. Each question is asked
            for ``max(ks)`` passages, and for twice as many again and again until the largest budget is full.
        questions: What `rag_embeddings.evaluate.load_questions` returns.
        documents: The documents that questions refer to. Passages of others count as retrieved, never as found.
        chunks: Every live chunk. With them, ``precision_omega`` and ``mean_tokens_live`` are measured.
        ks: Numbers of passages at which the metrics are taken.
        budgets: Numbers of retrieved tokens at which recall, precision and IoU are taken: passages in rank order, the
            last one cut where the budget ends.
        counter: Counts tokens for budgets and sizes. None: tiktoken's ``cl100k_base``, whatever the model, so that
            figures can be compared.

    Returns:
        One row of values per question, and their means with intervals. The metrics, for each ``k`` and each budget
        ``b``: ``recall@k``, ``precision@k``, ``iou@k`` and ``recall@b_tokens``, ... in characters;
        ``reference_recall@k`` (share of references touched), ``passage_precision@k`` (share of passages that touch a
        reference), ``ndcg@k`` (gain: references touched for the first time), ``mrr`` (to depth ``max(ks)``) in
        passages; ``precision_omega``, given ``chunks``.

    Raises:
        QuestionError: If there are no questions, ``ks`` or ``budgets`` are not positive, or a question refers to a
            document that is not there.
        DocumentError: If a passage is of a document whose text is not the one given.
    """
    ks, budgets = _positive("ks", ks), _positive("budgets", budgets)
    if not questions:
        raise QuestionError("there are no questions to evaluate")
    documents = list(documents)
    _require_documents(questions, {document.id: len(document.text) for document in documents})
    if counter is None:
        from rag_embeddings.split.tokens import token_counter  # noqa: PLC0415  # loads tiktoken

        counter = token_counter(DEFAULT_COUNTER)
    sizes = Sizes(documents, counter)
    layout = None if chunks is None else _Layout(chunks, sizes)

    rows: list[dict[str, float]] = []
    passage_tokens: list[int] = []
    for question in questions:
        passages = _passages(retrieve, question.text, ks[-1], budgets[-1], sizes)
        values = _passage_values(passages, question, ks) | _character_values(passages, question, ks, budgets, sizes)
        if layout is not None:
            values["precision_omega"] = layout.precision_omega(question)
        rows.append(values)
        passage_tokens.extend(sum(sizes.of(parts)) for parts in passages[: ks[-1]])

    return Evaluation(
        questions=tuple(question.text for question in questions),
        references=tuple(tuple(reference.place for reference in question.references) for question in questions),
        values={name: np.array([row[name] for row in rows]) for name in rows[0]},
        ks=ks,
        budgets=budgets,
        counter=counter.name,
        mean_tokens_retrieved=_mean(passage_tokens),
        mean_tokens_live=None if layout is None else layout.mean_tokens,
        passages_live=None if layout is None else layout.count,
        documents=len(documents),
    )


def _passages(retrieve: Retrieve, question: str, k: int, budget: int, sizes: Sizes) -> list[tuple[Range, ...]]:
    """Ask for enough passages to fill the largest budget."""
    while True:
        passages = [_ranges(match.chunk, sizes) for match in retrieve(question, k)]
        tokens = sum(sizes.of([item for parts in passages for item in parts]))
        if len(passages) < k or tokens >= budget:
            return passages
        k *= 2


def _ranges(chunk: Chunk, sizes: Sizes) -> tuple[Range, ...]:
    sizes.add(chunk.document)
    return tuple(Range(chunk.document.id, span.start, span.end) for span in chunk.spans)


def _passage_values(passages: Sequence[Sequence[Range]], question: Question, ks: Sequence[int]) -> dict[str, float]:
    ranks = metrics.first_ranks(passages[: ks[-1]], question.references)
    relevance = metrics.relevant(passages[: ks[-1]], question.references)
    gains = metrics.novelty_gains(ranks, ks[-1])
    values = {"mrr": metrics.reciprocal_rank(relevance)}
    for k in ks:
        values[f"reference_recall@{k}"] = metrics.recall_at(ranks, k)
        values[f"passage_precision@{k}"] = metrics.precision_at(relevance, k)
        values[f"ndcg@{k}"] = metrics.ndcg(gains, k, ideal=[len(ranks)])
    return values


def _character_values(
    passages: Sequence[Sequence[Range]], question: Question, ks: Sequence[int], budgets: Sequence[int], sizes: Sizes
) -> dict[str, float]:
    ranked = [item for parts in passages for item in parts]
    cutoffs = {f"{k}": [item for parts in passages[:k] for item in parts] for k in ks}
    cutoffs |= {f"{budget}_tokens": within(ranked, budget, sizes) for budget in budgets}
    values = {}
    for name, retrieved in cutoffs.items():
        overlap = metrics.overlap(retrieved, question.references)
        values[f"recall@{name}"] = overlap.recall
        values[f"precision@{name}"] = overlap.precision
        values[f"iou@{name}"] = overlap.iou
    return values


class _Layout:
    """Every live chunk, arranged so that those near a reference are found without looking at all."""

    def __init__(self, chunks: Iterable[Chunk], sizes: Sizes) -> None:
        by_document: dict[str, list[tuple[Range, ...]]] = {}
        for chunk in chunks:
            by_document.setdefault(chunk.document.id, []).append(_ranges(chunk, sizes))
        self._chunks = by_document
        self._ends: dict[str, NDArray[np.int64]] = {
            document: np.array([(parts[0].start, parts[-1].end) for parts in chunks], dtype=np.int64)
            for document, chunks in by_document.items()
        }
        tokens = [sum(sizes.of(parts)) for chunks in by_document.values() for parts in chunks]
        self.count = len(tokens)
        self.mean_tokens = _mean(tokens)

    def precision_omega(self, question: Question) -> float:
        near: dict[tuple[Range, ...], None] = {}
        for document, start, end in (reference.place for reference in question.references):
            if document in self._chunks:
                ends = self._ends[document]
                for index in np.flatnonzero((ends[:, 0] < end) & (ends[:, 1] > start)):
                    near[self._chunks[document][index]] = None
        return metrics.precision_omega(near, question.references)


def _positive(name: str, values: Sequence[int]) -> tuple[int, ...]:
    ordered = tuple(sorted(set(values)))
    if not ordered or ordered[0] < 1:
        raise QuestionError(f"{name} needs at least one number, each at least 1, got {tuple(values)}")
    return ordered


def _require_documents(questions: Iterable[Question], lengths: Mapping[str, int]) -> None:
    for question in questions:
        for document, _, end in (reference.place for reference in question.references):
            if end > lengths.get(document, 0):
                raise QuestionError(
                    f"the question {question.text!r} refers to characters up to {end} of document {document!r}, "
                    "which are not among the documents given"
                )


def _mean(values: Sequence[int]) -> float:
    return sum(values) / len(values) if values else 0.0
