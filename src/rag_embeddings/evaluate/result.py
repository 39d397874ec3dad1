"""What an evaluation found: values per question, means with intervals, comparison with another run."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from rag_embeddings.errors import QuestionError
from rag_embeddings.evaluate.bootstrap import Interval, bootstrap_mean, paired_bootstrap
from rag_embeddings.evaluate.intervals import Range
from rag_embeddings.evaluate.table import render

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

_FORMAT = "rag-embeddings evaluation 1"


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Values of every metric for every question. Metrics are named in `rag_embeddings.evaluate.evaluate`.

    Attributes:
        questions: The questions, in order.
        references: Places of each question's references.
        values: For each metric one value in [0, 1] per question, float64 of shape (questions,).
        ks: Numbers of passages at which metrics were taken, ascending.
        budgets: Numbers of tokens at which metrics were taken, ascending.
        counter: Name of what counted the tokens.
        mean_tokens_retrieved: Mean tokens of a passage among the first ``max(ks)`` of each question.
        mean_tokens_live: Mean tokens of a chunk of the index; None if the chunks were not given.
        passages_live: Number of chunks of the index; None if they were not given.
        documents: Number of documents.
    """

    questions: tuple[str, ...]
    references: tuple[tuple[Range, ...], ...]
    values: Mapping[str, NDArray[np.float64]]
    ks: tuple[int, ...]
    budgets: tuple[int, ...]
    counter: str
    mean_tokens_retrieved: float
    mean_tokens_live: float | None
    passages_live: int | None
    documents: int

    def rows(self) -> list[dict[str, Any]]:
        """Return one dictionary per question: ``question`` and the value of every metric."""
        return [
            {"question": question, **{name: float(values[index]) for name, values in self.values.items()}}
            for index, question in enumerate(self.questions)
        ]

    def mean(self, metric: str) -> float:
        """Return the mean of a metric over the questions, in [0, 1]."""
        return float(self._metric(metric).mean())

    def interval(self, metric: str) -> Interval:
        """Return the mean of a metric and its 95 % bootstrap interval."""
        return bootstrap_mean(self._metric(metric))

    def intervals(self) -> dict[str, Interval]:
        """Return `interval` of every metric."""
        return {name: self.interval(name) for name in self.values}

    def table(self) -> str:
        """Return means and intervals as text, in per cent, ending with the sizes of passages."""
        head = f"questions: {len(self.questions)}, documents: {self.documents}; mean in % [95 % interval]"
        size = (
            f"mean passage: {self.mean_tokens_retrieved:.0f} tokens ({self.counter}) over the first {self.ks[-1]} found"
        )
        if self.mean_tokens_live is not None:
            size += f", {self.mean_tokens_live:.0f} over all {self.passages_live} in the index"
        return f"{head}\n\n{render(self.intervals(), self.ks, self.budgets)}\n\n{size}"

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON-safe values.

        Returns:
            ``format``; ``means``: for each metric ``mean``, ``low`` and ``high`` (95 % interval), all in [0, 1];
            ``questions``: a list with ``question``, ``references`` (``[document, start, end]``) and ``values`` (metric
            to value); and ``ks``, ``budgets``, ``counter``, ``mean_tokens_retrieved``, ``mean_tokens_live``,
            ``passages_live``, ``documents``, as the attributes.
        """
        return {
            "format": _FORMAT,
            "means": {name: _spelled(interval) for name, interval in self.intervals().items()},
            "mean_tokens_retrieved": self.mean_tokens_retrieved,
            "mean_tokens_live": self.mean_tokens_live,
            "passages_live": self.passages_live,
            "documents": self.documents,
            "ks": list(self.ks),
            "budgets": list(self.budgets),
            "counter": self.counter,
            "questions": [
                {
                    "question": question,
                    "references": [list(place) for place in places],
                    "values": {name: float(values[index]) for name, values in self.values.items()},
                }
                for index, (question, places) in enumerate(zip(self.questions, self.references, strict=True))
            ],
        }

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> Evaluation:
        """Rebuild an evaluation from `to_dict`.

        Raises:
            QuestionError: If it is not one.
        """
        if not isinstance(saved, dict) or saved.get("format") != _FORMAT:
            raise QuestionError(f"this is no saved evaluation: its 'format' is not {_FORMAT!r}")
        try:
            rows = saved["questions"]
            plain = {field.name: saved[field.name] for field in fields(cls) if field.name not in _REBUILT}
            return cls(
                questions=tuple(row["question"] for row in rows),
                references=tuple(tuple(Range(*place) for place in row["references"]) for row in rows),
                values={name: np.array([row["values"][name] for row in rows], float) for name in rows[0]["values"]},
                ks=tuple(saved["ks"]),
                budgets=tuple(saved["budgets"]),
                **plain,
            )
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            raise QuestionError(f"this saved evaluation is damaged: {error!r}") from error

    def _metric(self, name: str) -> NDArray[np.float64]:
        if name not in self.values:
            raise QuestionError(f"there is no metric {name!r}; there are {', '.join(self.values)}")
        return self.values[name]


_REBUILT = {"questions", "references", "values", "ks", "budgets"}


@dataclass(frozen=True)
class Comparison:
    """Paired differences between two evaluations of the same questions.

    Attributes:
        differences: For each metric both have, the mean of ``one - other`` and its 95 % interval.
        ks: Numbers of passages both have.
        budgets: Token budgets both have.
        questions: Number of questions.
    """

    differences: Mapping[str, Interval]
    ks: tuple[int, ...]
    budgets: tuple[int, ...]
    questions: int

    def table(self) -> str:
        """Return the differences as text, in percentage points."""
        head = (
            f"paired differences over {self.questions} questions, in points [95 % interval]; "
            "where 0 lies inside, they do not tell the two apart"
        )
        return f"{head}\n\n{render(self.differences, self.ks, self.budgets, signed=True)}"

    def to_dict(self) -> dict[str, Any]:
        """Return, for each metric, ``mean``, ``low`` and ``high`` of the difference, in [-1, 1]."""
        return {name: _spelled(interval) for name, interval in self.differences.items()}


def compare(one: Evaluation, other: Evaluation) -> Comparison:
    """Compare two evaluations of the same questions by the paired bootstrap.

    Args:
        one: What is judged.
        other: What it is judged against.

    Returns:
        ``one - other``: positive where ``one`` is better.

    Raises:
        QuestionError: If questions or references differ, the token counters differ, or no metric is common.
    """
    if one.questions != other.questions or one.references != other.references:
        raise QuestionError(
            f"the two evaluations are not of the same questions and references ({len(one.questions)} and "
            f"{len(other.questions)} questions), so that differences cannot be paired"
        )
    if one.counter != other.counter:
        raise QuestionError(f"the two evaluations counted tokens with {one.counter!r} and {other.counter!r}")
    # To a smaller depth, a first relevant passage further down is not seen: mrr to different depths is not comparable.
    skipped = set() if one.ks[-1] == other.ks[-1] else {"mrr"}
    names = [name for name in one.values if name in other.values and name not in skipped]
    if not names:
        raise QuestionError("the two evaluations have no metric in common")
    return Comparison(
        differences={name: paired_bootstrap(one.values[name], other.values[name]) for name in names},
        ks=tuple(k for k in one.ks if k in other.ks),
        budgets=tuple(budget for budget in one.budgets if budget in other.budgets),
        questions=len(one.questions),
    )


def _spelled(interval: Interval) -> dict[str, float]:
    return {"mean": interval.mean, "low": interval.low, "high": interval.high}
