"""How far to trust a mean, and a difference of means, over a few hundred questions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from rag_embeddings.errors import QuestionError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

_BLOCK = 1_000_000  # random indices held at a time


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean and its confidence interval.

    Attributes:
        mean: The mean of the sample.
        low: Lower end of the interval.
        high: Upper end.
    """

    mean: float
    low: float
    high: float

    def scaled(self, factor: float) -> Interval:
        """Return the same in other units (100 for per cent)."""
        return Interval(self.mean * factor, self.low * factor, self.high * factor)


def bootstrap_mean(values: ArrayLike, *, resamples: int = 10_000, confidence: float = 0.95, seed: int = 0) -> Interval:
    """Estimate the interval of a mean by the percentile bootstrap.

    Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13.

    Args:
        values: One value per question, shape (n,).
        resamples: Number of samples drawn with replacement.
        confidence: Probability mass between the two ends, in (0, 1).
        seed: Of ``numpy.random.default_rng``: equal input gives equal intervals.

    Returns:
        The mean of ``values`` and the interval.

    Raises:
        QuestionError: If there are no values, or one is not finite.
    """
    sample = np.asarray(values, dtype=np.float64)
    if sample.ndim != 1 or not len(sample):
        raise QuestionError(f"a mean needs at least one value in one dimension, got an array of shape {sample.shape}")
    if not np.isfinite(sample).all():
        raise QuestionError(f"value {int(np.argmin(np.isfinite(sample)))} is NaN or infinity")
    if not 0 < confidence < 1 or resamples < 1:
        raise ValueError(f"0 < confidence < 1 and resamples >= 1 are needed, got {confidence} and {resamples}")
    draw = np.random.default_rng(seed)
    rows = max(1, _BLOCK // len(sample))
    means = [
        sample[draw.integers(len(sample), size=(min(rows, resamples - done), len(sample)))].mean(axis=1)
        for done in range(0, resamples, rows)
    ]
    tail = (1 - confidence) / 2
    low, high = np.quantile(np.concatenate(means), [tail, 1 - tail])
    return Interval(float(sample.mean()), float(low), float(high))


def paired_bootstrap(
    one: ArrayLike, other: ArrayLike, *, resamples: int = 10_000, confidence: float = 0.95, seed: int = 0
) -> Interval:
    """Estimate the interval of the mean difference ``one - other`` over the same questions.

    Pairing removes what makes a question hard for everybody, so the interval is much narrower than the difference of
    two independent means.

    Args:
        one: One value per question, shape (n,).
        other: Values of the same questions in the same order, shape (n,).
        resamples: Number of samples drawn with replacement.
        confidence: Probability mass between the two ends.
        seed: Of ``numpy.random.default_rng``.

    Returns:
        The mean difference and its interval. If 0 lies inside, these questions do not tell the two apart.

    Raises:
        QuestionError: If the two have different shapes, no values, or values that are not finite.
    """
    first, second = np.asarray(one, dtype=np.float64), np.asarray(other, dtype=np.float64)
    if first.shape != second.shape:
        raise QuestionError(f"paired values need equal shapes, got {first.shape} and {second.shape}")
    return bootstrap_mean(first - second, resamples=resamples, confidence=confidence, seed=seed)
