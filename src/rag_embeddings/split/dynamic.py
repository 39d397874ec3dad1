"""The best way to cut a sequence of vectors: a dynamic programme with prefix sums.

Change-point detection by least squares (Fisher, "On Grouping for Maximum Homogeneity", 1958; Killick et al., "Optimal
Detection of Changepoints", 2012), with two priors: chunks are near a target size, and end where the text does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rag_embeddings.split.pack import chunk_starts

if TYPE_CHECKING:
    from numpy.typing import NDArray


def segment(
    vectors: NDArray[np.floating],
    tokens: NDArray[np.integer],
    costs: NDArray[np.floating],
    *,
    maximum: int,
    target: int,
    minimum: int = 0,
    weight: float = 1.0,
) -> list[int]:
    r"""Cut a sequence of units into chunks that are alike inside.

    Minimises, over all ways to cut, the sum over chunks of

    - ``weight * scatter * mean_tokens / target``, where scatter, :math:`m - |\sum v|^2 / m` for a chunk of ``m`` unit
      vectors, is the sum of squared distances from their mean (one subtraction of prefix sums);
    - ``(size / target - 1)^2``, the prior on size, and for a chunk below the minimum ``1 - size / minimum`` on top;

    and of the cost of each cut. Takes time linear in the number of units, times the number that fit into one chunk.

    Args:
        vectors: Vectors of length 1 of the units, shape (n, dim).
        tokens: Tokens of each unit, shape (n,). None counts as less than one.
        costs: What it costs to cut in front of each unit, shape (n,), finite; the first is not used.
        maximum: Most tokens of a chunk. Only a single unit may have more.
        target: Tokens that a chunk should have.
        minimum: Tokens that a chunk should at least have.
        weight: How much meaning counts against size.

    Returns:
        The first unit of each chunk, ascending, beginning with 0. No units give none.
    """
    count = len(vectors)
    if count == 0:
        return []
    sizes = np.maximum(tokens, 1).astype(np.float64)
    weight = weight * float(sizes.mean()) / target
    ends = np.concatenate([[0.0], np.cumsum(sizes)])
    sums = np.zeros((count + 1, vectors.shape[1]))
    np.cumsum(vectors, axis=0, dtype=np.float64, out=sums[1:])
    squares = (sums * sums).sum(axis=1)
    lows = np.searchsorted(ends, ends - maximum)
    lows[1:] = np.minimum(lows[1:], np.arange(count))  # a unit over the maximum stands alone
    prices = [*costs[1:].tolist(), 0.0]
    best = np.zeros(count + 1)
    previous = [0] * (count + 1)
    for end in range(1, count + 1):
        low = int(lows[end])
        units = np.arange(end - low, 0, -1, dtype=np.float64)
        scatter = units - (squares[end] - 2 * (sums[low:end] @ sums[end]) + squares[low:end]) / units
        size = ends[end] - ends[low:end]
        totals = best[low:end] + weight * scatter + (size / target - 1) ** 2
        if minimum > 1:
            totals += np.maximum(1 - size / minimum, 0)
        choice = int(totals.argmin())
        previous[end] = low + choice
        best[end] = totals[choice] + prices[end - 1]
    return chunk_starts(previous)
