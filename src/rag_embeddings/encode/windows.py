"""Overlapping windows over the tokens of a text that is longer than the model."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import ceil
from typing import TYPE_CHECKING, Any, NamedTuple

from rag_embeddings.errors import BudgetError

if TYPE_CHECKING:
    from collections.abc import Sequence

_PRICE = 1.4  # most tokens in windows per token of the text, as long as the overlap alone does not cost more


class Frame(NamedTuple):
    """A window over tokens, and which of them take their states from it.

    Attributes:
        start: First token of the window.
        stop: Behind its last token.
        keep: First token that takes its state from this window.
        until: Behind the last one.
    """

    start: int
    stop: int
    keep: int
    until: int


@dataclass(frozen=True, slots=True)
class Windows:
    """How a text longer than the model is laid out.

    Attributes:
        size: Tokens in a window, prompt and special tokens included. None: as many as the model takes. Windows longer
            than a model was trained for make its vectors worse, even where it accepts them.
        overlap: Least share of a window that the next one repeats.
        paper_compat: Lay windows as "Late Chunking" (Günther et al., arXiv 2409.04701, algorithms 1 and 2) does, to
            compare with it: slices of the whole token sequence, special tokens at its two ends only, every later window
            giving up the states of its overlap; prompt and special tokens are pooled into the first and last span.

    Raises:
        BudgetError: If ``size`` is less than 1 or ``overlap`` is not within 0 and 1.
    """

    size: int | None = None
    overlap: float = 0.25
    paper_compat: bool = False

    def __post_init__(self) -> None:
        if self.size is not None and self.size < 1:
            raise BudgetError(f"a window needs at least 1 token, got size={self.size}")
        if not 0 <= self.overlap < 1:
            raise BudgetError(f"overlap is a share of a window, at least 0 and less than 1, got {self.overlap}")

    def settings(self) -> dict[str, Any]:
        """Return everything that changes a vector, as JSON-safe values."""
        return {"size": self.size, "overlap": self.overlap, "paper_compat": self.paper_compat}


def frames(count: int, size: int, overlap: float = 0.25) -> list[Frame]:
    """Lay windows over tokens so that each token has context on both sides.

    Args:
        count: Number of tokens.
        size: Most tokens in a window.
        overlap: Least share of a window that the next one repeats.

    Returns:
        Windows of equal length at equal distances. The kept ranges tile ``range(count)``; each token is kept in the
        window in which the nearer edge is farther away (the ends of the text are no edges). Where fewer than ``size``
        tokens suffice for the overlap, windows are as long as 1.4 tokens per token of the text allow.
    """
    if count <= size:
        return [Frame(0, count, 0, count)]
    step = max(1, size - round(size * overlap))
    number = ceil((count - size) / step) + 1
    # Windows of this length overlap by the share that was asked for, no more: the longer, the more context.
    least = ceil(count / (number - (number - 1) * overlap))
    length = min(size, max(least, int(_PRICE * count / number)))
    starts = [round(index * (count - length) / (number - 1)) for index in range(number)]
    # The middle of what two windows share is equally far from the end of the one and the start of the other.
    middles = [(later + earlier + length) // 2 for earlier, later in pairwise(starts)]
    return _kept(starts, length, [0, *middles, count])


def paper_frames(count: int, size: int, overlap: float = 0.25) -> list[Frame]:
    """Lay windows as algorithm 2 of arXiv 2409.04701 does: context on the left only.

    Args:
        count: Number of tokens, special ones included.
        size: Tokens in a window (the paper's l_max); the last one may be shorter.
        overlap: Share of a window that the next one repeats (the paper's omega, in tokens, by l_max).

    Returns:
        Windows whose kept ranges tile ``range(count)``: the first keeps everything, later ones what is new.
    """
    if count <= size:
        return [Frame(0, count, 0, count)]
    repeated = min(round(size * overlap), size - 1)
    starts = list(range(0, count - repeated, size - repeated))
    return [
        Frame(start, min(start + size, count), start + (repeated if start else 0), min(start + size, count))
        for start in starts
    ]


def _kept(starts: Sequence[int], length: int, bounds: Sequence[int]) -> list[Frame]:
    return [
        Frame(start, start + length, keep, until) for start, (keep, until) in zip(starts, pairwise(bounds), strict=True)
    ]
