"""Texts against a model's limits: batches of a token budget, parts of a text that is too long."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    Integers = NDArray[np.int64]

SMALLEST = 256
"""Tokens in a batch below which splitting it costs more than it gains."""


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


def batches(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Group items of similar length.

    Args:
        lengths: Length of each item in tokens.
        budget: Most tokens in a batch, padding included. An item that is longer makes a batch of its own.

    Yields:
        Indices into ``lengths``, longest items first, so that memory peaks at once or never.
    """
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if batch and lengths[batch[0]] * (len(batch) + 1) > budget:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


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
