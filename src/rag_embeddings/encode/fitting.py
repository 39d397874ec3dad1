"""Texts against a model's limits: batches of a token budget, parts of a text that is too long."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Integers = NDArray[np.int64]

SMALLEST = 256
"""Tokens in a batch below which splitting it costs more than it gains."""

_BATCH_COST = 64  # tokens that could have been run in the time that a batch takes whatever its size


def share(tokens: int, budget: int, lanes: int) -> int:
    """Return how large batches should be so that every lane has as much to do.

    Args:
        tokens: All there is to do.
        budget: Most tokens in a batch.
        lanes: Batches that run at once.

    Returns:
        The budget, or less where so many lanes would otherwise end with some of them idle; not below `SMALLEST`.
    """
    turns = max(1, -(-tokens // (budget * lanes)))
    return min(budget, max(-(-tokens // (turns * lanes)), SMALLEST))


def batches(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Group items of similar length, so that padding and the number of batches together cost least.

    Args:
        lengths: Length of each item in tokens.
        budget: Most tokens in a batch, padding included. An item that is longer makes a batch of its own.

    Returns:
        Indices into ``lengths``, longest items first, so that memory peaks at once or never.
    """
    count = len(lengths)
    order = sorted(range(count), key=lambda index: -lengths[index])
    numbers = np.arange(1, count + 1)
    least = np.full(count + 1, np.inf)  # cost of the first so many items
    least[0] = 0
    begins = np.zeros(count + 1, dtype=np.int64)  # with which item the last batch of so many items begins
    for first, index in enumerate(order):
        size = min(count - first, max(1, budget // max(1, lengths[index])))
        costs = least[first] + _BATCH_COST + numbers[:size] * lengths[index]
        cheaper = np.flatnonzero(costs <= least[first + 1 : first + 1 + size])
        least[first + 1 + cheaper] = costs[cheaper]
        begins[first + 1 + cheaper] = first
    found = []
    end = count
    while end:
        found.append(order[begins[end] : end])
        end = int(begins[end])
    return found[::-1]


def parts(text: str, offsets: Integers, room: int) -> list[tuple[int, int]]:
    """Cut a text that has too many tokens.

    Args:
        text: The text.
        offsets: Character ranges of its tokens, shape (tokens, 2).
        room: Most tokens in a part.

    Returns:
        Character ranges that tile the text, as few as fit: each ends at white space where some stands in the second
        half of what fits, else between two tokens. One range if there is no place to cut.
    """
    starts, ends = offsets[:, 0], offsets[:, 1]
    marks = [0]
    first, count = 0, len(offsets)
    while count - first > room:
        latest = first + room
        at = _last_cut(text, starts, ends, first + (room + 1) // 2, latest, at_space=True)
        at = at or _last_cut(text, starts, ends, first + 1, latest, at_space=False)
        if at is None:  # one character of more tokens than fit: take it whole, the caller will say that it is too long
            at = next((j for j in range(latest + 1, count) if starts[j] >= ends[j - 1]), count)
        if at >= count:
            break
        if starts[at] > marks[-1]:
            marks.append(int(starts[at]))
        first = at
    return list(zip(marks, [*marks[1:], len(text)], strict=True))


def _last_cut(text: str, starts: Integers, ends: Integers, low: int, high: int, *, at_space: bool) -> int | None:
    """Return the last token in [low, high] that a part may begin with."""
    for j in range(high, low - 1, -1):
        at = int(starts[j])
        if at > 0 and at >= ends[j - 1] and (not at_space or text[at - 1].isspace() or text[at].isspace()):
            return j
    return None
