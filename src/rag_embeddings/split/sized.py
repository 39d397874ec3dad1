"""Breakpoints against a budget: the soft minimum drops the shallow ones, the hard maximum adds the deepest valleys."""

from __future__ import annotations

from bisect import bisect_left, insort
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray


def sized_starts(
    breaks: Iterable[int],
    similarity: NDArray[np.float64],
    tokens: NDArray[np.integer],
    *,
    minimum: int,
    maximum: int,
    glued: NDArray[np.bool_] | None = None,
) -> list[int]:
    """Turn breakpoints into chunks that keep to a budget.

    Breaks are taken deepest first, and those that would leave a chunk below the minimum are dropped. What is still over
    the maximum is cut at the lowest similarity in reach, from left to right, so that every part keeps to the maximum
    and, where possible, to the minimum. Takes O(n log n) time and n times the units of one chunk.

    Args:
        breaks: Units in front of which there is a breakpoint, none of them 0.
        similarity: Of what is before and behind each inner boundary, shape (n - 1,).
        tokens: Tokens of each unit, shape (n,). None counts as less than one.
        minimum: Tokens that a chunk should at least have.
        maximum: Most tokens of a chunk. Only a single unit may have more.
        glued: Boundaries to keep whole if there is any other in reach, shape (n - 1,).

    Returns:
        The first unit of each chunk, ascending, beginning with 0. No units give none.
    """
    count = len(tokens)
    if count == 0:
        return []
    ends = np.concatenate([[0], np.cumsum(np.maximum(tokens, 1))])
    kept = [0, count]
    for place in sorted(breaks, key=lambda place: (similarity[place - 1], place)):
        index = bisect_left(kept, place)
        if ends[place] - ends[kept[index - 1]] >= minimum and ends[kept[index]] - ends[place] >= minimum:
            insort(kept, place)
    depth = similarity if glued is None else np.where(glued, similarity + 4, similarity)  # cosines differ by 2 at most
    starts = []
    for start, end in pairwise(kept):
        while True:
            starts.append(start)
            if ends[end] - ends[start] <= maximum or end - start == 1:
                break
            start = _valley(depth, ends, start, end, minimum=minimum, maximum=maximum)  # noqa: PLW2901
    return starts


def _valley(
    depth: NDArray[np.float64], ends: NDArray[np.int64], start: int, end: int, *, minimum: int, maximum: int
) -> int:
    """Return where to cut a stretch over the maximum: at least one unit behind its start, and before its end."""
    highest = min(max(int(np.searchsorted(ends, ends[start] + maximum, side="right")) - 1, start + 1), end - 1)
    lowest = min(max(int(np.searchsorted(ends, ends[start] + minimum)), start + 1), highest)
    # Leave a last part that is not below the minimum, if that is in reach.
    behind = int(np.searchsorted(ends, ends[end] - minimum, side="right")) - 1
    if lowest <= behind < highest:
        highest = behind
    return lowest + int(depth[lowest - 1 : highest].argmin())
