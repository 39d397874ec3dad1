"""Measuring retrieval on a user's own questions: character intervals, token budgets, ranks, paired intervals."""

from __future__ import annotations

from rag_embeddings.evaluate.bootstrap import Interval, bootstrap_mean, paired_bootstrap
from rag_embeddings.evaluate.evaluate import evaluate
from rag_embeddings.evaluate.intervals import Range
from rag_embeddings.evaluate.metrics import Overlap, Reference, overlap
from rag_embeddings.evaluate.questions import Question, load_questions
from rag_embeddings.evaluate.result import Comparison, Evaluation, compare

__all__ = [
    "Comparison",
    "Evaluation",
    "Interval",
    "Overlap",
    "Question",
    "Range",
    "Reference",
    "bootstrap_mean",
    "compare",
    "evaluate",
    "load_questions",
    "overlap",
    "paired_bootstrap",
]
