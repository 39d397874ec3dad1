"""Breakpoints where a distance is large, as people know them from LangChain's SemanticChunker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from rag_embeddings.errors import BudgetError

if TYPE_CHECKING:
    from numpy.typing import NDArray

ThresholdType = Literal["percentile", "standard_deviation", "interquartile", "gradient"]

DEFAULT_AMOUNTS: dict[ThresholdType, float] = {
    "percentile": 95.0,
    "standard_deviation": 3.0,
    "interquartile": 1.5,
    "gradient": 95.0,
}
"""What `breakpoints` takes where no amount is named: LangChain's own defaults."""


def check_threshold(kind: str, amount: float) -> None:
    """Refuse a threshold that does not exist.

    Args:
        kind: One of `DEFAULT_AMOUNTS`.
        amount: A percentage for ``"percentile"`` and ``"gradient"``, else a factor.

    Raises:
        BudgetError: If there is no such kind, or a percentage is not within 0..100.
    """
    if kind not in DEFAULT_AMOUNTS:
        raise BudgetError(f"breakpoint_threshold_type is one of {', '.join(DEFAULT_AMOUNTS)}, got {kind!r}")
    if not np.isfinite(amount) or (kind in {"percentile", "gradient"} and not 0 <= amount <= 100):  # noqa: PLR2004
        raise BudgetError(f"breakpoint_threshold_amount={amount} is not possible for {kind!r}")


def breakpoints(
    distances: NDArray[np.float64], kind: ThresholdType, amount: float
) -> tuple[list[int], NDArray[np.float64], float]:
    """Find the boundaries whose distance is above a threshold of the whole document.

    The four rules of ``langchain_experimental.text_splitter.SemanticChunker``: a percentile of the distances; their
    mean plus standard deviations; their mean plus interquartile ranges; a percentile of their gradient.

    Args:
        distances: One per inner boundary, shape (n,).
        kind: The rule.
        amount: Percentage or factor.

    Returns:
        Indices of the boundaries above the threshold, ascending; what was compared with it (the distances, or their
        gradient), shape (n,); the threshold (infinite where there is nothing to compare).
    """
    values = distances
    if kind == "gradient":
        values = np.gradient(distances) if len(distances) > 1 else np.zeros(len(distances))
    if len(values) == 0:
        return [], values, np.inf
    if kind in {"percentile", "gradient"}:
        threshold = float(np.percentile(values, amount))
    elif kind == "standard_deviation":
        threshold = float(np.mean(values) + amount * np.std(values))
    else:
        first, third = np.percentile(values, [25, 75])
        threshold = float(np.mean(values) + amount * (third - first))
    return np.flatnonzero(values > threshold).tolist(), values, threshold
