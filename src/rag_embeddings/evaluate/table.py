"""Metrics with intervals as aligned text."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rag_embeddings.evaluate.bootstrap import Interval

_CHARACTERS = (("recall", "R"), ("precision", "P"), ("iou", "IoU"))
_PASSAGES = (("reference_recall", "references found"), ("passage_precision", "passages relevant"), ("ndcg", "nDCG"))
_WHOLE = (("mrr", "MRR"), ("precision_omega", "P_Omega"))


def render(
    intervals: Mapping[str, Interval], ks: Sequence[int], budgets: Sequence[int], *, signed: bool = False
) -> str:
    """Lay out metrics as tables: characters by cutoff, passages by cutoff, then those without a cutoff.

    Args:
        intervals: Metric to its mean and interval, as fractions; shown in per cent.
        ks: Numbers of passages, a row each.
        budgets: Token budgets, a row each in the first table.
        signed: Whether a plus sign stands in front of positive values.

    Returns:
        Lines joined by newlines. Metrics that are not there are left blank.
    """

    def cell(name: str) -> str:
        interval = intervals.get(name)
        if interval is None:
            return ""
        sign = "+" if signed else ""
        # Adding 0 turns -0.0 into 0.0.
        mean, low, high = (round(100 * value, 1) + 0.0 for value in (interval.mean, interval.low, interval.high))
        return f"{mean:{sign}.1f} [{low:{sign}.1f}, {high:{sign}.1f}]"

    cutoffs = [(f"@{k}", f"{k}") for k in ks] + [(f"@{budget} tokens", f"{budget}_tokens") for budget in budgets]
    tables = [
        _aligned(
            [["characters", *(title for _, title in _CHARACTERS)]]
            + [[label, *(cell(f"{name}@{suffix}") for name, _ in _CHARACTERS)] for label, suffix in cutoffs]
        ),
        _aligned(
            [["passages", *(title for _, title in _PASSAGES)]]
            + [[f"@{k}", *(cell(f"{name}@{k}") for name, _ in _PASSAGES)] for k in ks]
        ),
        _aligned([[title, cell(name)] for name, title in _WHOLE if name in intervals]),
    ]
    return "\n\n".join(table for table in tables if table)


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
