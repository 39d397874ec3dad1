"""How the text goes on: the similarity of what stands before and behind each boundary between units, and its bands.

Everything here is a pure function of vectors. A series has one value per inner boundary: value ``i`` belongs to the
boundary in front of unit ``i + 1``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Series = NDArray[np.float64]

ROUNDING = 1e-9
"""Two similarities closer than this are equal: constant series must not be cut at the noise of their arithmetic."""


def unit_length(vectors: NDArray[np.floating]) -> NDArray[np.float64]:
    """Scale vectors, shape (n, dim), to length 1. A vector of zeros stays one.

    Args:
        vectors: Any vectors.

    Returns:
        float64 of the same shape.
    """
    rows = np.asarray(vectors, dtype=np.float64)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(lengths == 0, 1, lengths)


def neighbour_similarity(vectors: NDArray[np.floating], weights: NDArray[np.integer], group: int) -> Series:
    """Compare the units before each boundary with those behind it.

    Args:
        vectors: Vectors of length 1, shape (n, dim).
        weights: What each counts for in the mean of its group, such as its tokens, shape (n,).
        group: Units on each side; fewer near the ends of the text.

    Returns:
        Cosines of the two means, shape (n - 1,).
    """
    sums = _running(vectors * np.maximum(weights, 1)[:, None])
    inner = np.arange(1, len(vectors))
    before = sums[inner] - sums[np.maximum(inner - group, 0)]
    behind = sums[np.minimum(inner + group, len(vectors))] - sums[inner]
    return _cosines(before, behind)


def buffered_distances(vectors: NDArray[np.floating], weights: NDArray[np.integer], buffer: int) -> Series:
    """Compare each unit and its neighbours with the next unit and its neighbours, as LangChain's SemanticChunker does.

    It encodes the joined texts, each sentence ``2 * buffer + 1`` times; here the mean of their vectors stands for them.

    Args:
        vectors: Vectors of length 1, shape (n, dim).
        weights: What each counts for in the mean, shape (n,).
        buffer: Neighbours taken along on each side.

    Returns:
        1 - cosine, shape (n - 1,).
    """
    count = len(vectors)
    sums = _running(vectors * np.maximum(weights, 1)[:, None])
    places = np.arange(count)
    joined = sums[np.minimum(places + buffer + 1, count)] - sums[np.maximum(places - buffer, 0)]
    return 1 - _cosines(joined[:-1], joined[1:])


def trailing_bands(series: Series, window: int, least: int) -> tuple[Series, Series]:
    """Mean and standard deviation of the values *before* each value, which is not one of them itself.

    Args:
        series: Values in order, shape (n,).
        window: How many values before each are taken, at least 1; all there are, near the beginning.
        least: Where fewer values than this lie before, there is no band.

    Returns:
        Means and population standard deviations, each of shape (n,), NaN where there is no band.
    """
    means, deviations = np.full(len(series), np.nan), np.full(len(series), np.nan)
    for index in range(max(least, 1), min(window, len(series))):
        means[index], deviations[index] = series[:index].mean(), series[:index].std()
    if len(series) > window >= least:
        behind = sliding_window_view(series[:-1], window)
        means[window:], deviations[window:] = behind.mean(axis=1), behind.std(axis=1)
    return means, deviations


def _running(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    sums = np.zeros((len(rows) + 1, rows.shape[1]))
    np.cumsum(rows, axis=0, out=sums[1:])
    return sums


def _cosines(ones: NDArray[np.float64], others: NDArray[np.float64]) -> Series:
    products: Series = (unit_length(ones) * unit_length(others)).sum(axis=1)
    return np.clip(products, -1, 1)
