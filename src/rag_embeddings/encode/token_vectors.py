"""Vectors of every token of a text, kept as sums, so that the mean of any span is one subtraction."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rag_embeddings.errors import DocumentError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from rag_embeddings.encode.base import Vectors
    from rag_embeddings.text import Span

    Integers = NDArray[np.int64]
    Sums = NDArray[np.float64]


class SummedTokenVectors:
    """The token vectors of one text as running sums.

    A token belongs to the span that holds its last character, so that every token belongs to exactly one of a tiling
    set of spans. The prompt and the special tokens belong to no span, with one exception: a span that holds every token
    of a text which fits the model whole gets the very vector that `TransformerEncoder.encode` gives the text. There is
    nothing around such a span that it could learn from, so late and plain agree.

    A span without a token of its own (white space, a character that the tokenizer drops) gets the vector of the token
    that covers it, else of the nearest one.

    Args:
        offsets: Character ranges of the tokens, shape (tokens, 2), in the order of the text.
        sums: Running sums of the token vectors from 0, float64 of shape (tokens + 1, width), or (marks, width) at
            ``kept``.
        length: Number of characters of the text.
        after_pooling: Turns means of token vectors, (n, width), into vectors (n, dim).
        whole: Mean over everything the model itself pools, shape (width,); None if the text took several windows.
        kept: Numbers of tokens that the sums are known for, ascending, from 0 to all; None for every number.
        by_position: Running sums of the token vectors times the token's number, shaped as ``sums``, for a mean in which
            the n-th token of a span weighs n times as much as the first. None for the plain mean.
    """

    def __init__(
        self,
        offsets: Integers,
        sums: Sums,
        length: int,
        after_pooling: Callable[[Sums], Vectors],
        whole: Sums | None = None,
        *,
        kept: Integers | None = None,
        by_position: Sums | None = None,
    ) -> None:
        self._offsets = offsets
        self._sums = sums
        self._length = length
        self._after_pooling = after_pooling
        self._whole = whole
        self._kept = kept
        self._by_position = by_position
        self._last = last_characters(offsets)

    @property
    def spans(self) -> Integers:
        """Character ranges of the tokens, shape (tokens, 2)."""
        return self._offsets

    def pool(self, spans: Sequence[Span]) -> Vectors:
        """Pool the tokens of each span into one vector.

        Args:
            spans: Ranges of characters of the text that was encoded, in any order; they may overlap. Where sums are
                kept at marks only, their ends are marks.

        Returns:
            float32 of shape (len(spans), dim), after every module that follows pooling in the model.

        Raises:
            DocumentError: If a span ends behind the text, or not at a mark.
        """
        return self.pool_groups([(span,) for span in spans])

    def pool_groups(self, groups: Sequence[Sequence[Span]]) -> Vectors:
        """Pool the tokens of several spans into one vector, for chunks that are not contiguous.

        Args:
            groups: For each vector its spans, at least one, disjoint and in order.

        Returns:
            float32 of shape (len(groups), dim).

        Raises:
            DocumentError: As `pool`; or if a group is empty.
        """
        if not all(groups):
            raise DocumentError(f"group {[bool(group) for group in groups].index(False)} has no span to be pooled")
        spans = [span for group in groups for span in group]
        starts = np.array([span.start for span in spans], dtype=np.int64)
        ends = np.array([span.end for span in spans], dtype=np.int64)
        if len(ends) and ends.max() > self._length:
            raise DocumentError(f"{spans[int(ends.argmax())]} ends behind the text of {self._length} characters")
        low = np.searchsorted(self._last, starts)
        high = np.searchsorted(self._last, ends)
        sizes = np.array([len(group) for group in groups], dtype=np.int64)
        firsts = np.cumsum(sizes) - sizes
        if len(groups) and len(self._offsets):
            for index in firsts[np.add.reduceat(high - low, firsts) == 0]:
                low[index] = nearest_token(
                    self._offsets, self._last, int(low[index]), int(starts[index]), int(ends[index])
                )
                high[index] = low[index] + 1
        return self._after_pooling(self._means(low, high, sizes, firsts))

    def _means(self, low: Integers, high: Integers, sizes: Integers, firsts: Integers) -> Sums:
        if not len(sizes):
            return np.zeros((0, self._sums.shape[1]))
        below, above = self._rows(low), self._rows(high)
        counts = high - low
        totals = np.add.reduceat(counts, firsts)
        sums = self._sums[above] - self._sums[below]
        weights = totals
        if self._by_position is not None:
            weights = totals * (totals + 1) // 2
            in_front = np.cumsum(counts) - counts
            in_front -= np.repeat(in_front[firsts], sizes)  # tokens of the same group in front of this span
            sums = (self._by_position[above] - self._by_position[below]) + (in_front - low + 1)[:, None] * sums
        means: Sums = np.add.reduceat(sums, firsts, axis=0) / np.maximum(weights, 1)[:, None]
        if self._whole is not None:  # also the vector of a text that has no tokens
            means[totals == len(self._offsets)] = self._whole
        return means

    def _rows(self, boundaries: Integers) -> Integers:
        """Return where the sums up to these numbers of tokens stand."""
        if self._kept is None:
            return boundaries
        rows = np.searchsorted(self._kept, boundaries)
        wrong = self._kept[np.minimum(rows, len(self._kept) - 1)] != boundaries
        if wrong.any():
            token = int(boundaries[np.flatnonzero(wrong)[0]])
            raise DocumentError(
                f"sums are kept at the marks that were asked for, and a span ends at token {token}, which is none of "
                "them; name its ends as marks when the text is encoded"
            )
        return rows


def last_characters(offsets: Integers) -> Integers:
    """Return the last character of each token, which decides whose it is.

    Args:
        offsets: Character ranges, shape (tokens, 2).

    Returns:
        Shape (tokens,). A token of no width ends where it stands; none ends before the one in front of it, so that each
        belongs to one span.
    """
    last: Integers = np.maximum.accumulate(np.maximum(offsets[:, 1] - 1, offsets[:, 0]))
    return last


def nearest_token(offsets: Integers, last: Integers, behind: int, start: int, end: int) -> int:
    """Return the token that covers a span without a token of its own, or lies nearest.

    Args:
        offsets: Character ranges of the tokens, at least one.
        last: Their `last_characters`.
        behind: The first token that ends behind the span's start.
        start: The span's first character.
        end: Behind its last.
    """
    if behind == len(last):
        return behind - 1
    if behind == 0 or offsets[behind, 0] < end:
        return behind
    gap_before = start - last[behind - 1]
    gap_behind = offsets[behind, 0] - end + 1
    return behind - 1 if gap_before <= gap_behind else behind


def token_marks(offsets: Integers, marks: Sequence[int]) -> Integers:
    """Return at which numbers of tokens sums must be kept so that spans between marks can be pooled.

    Args:
        offsets: Character ranges of the tokens.
        marks: Characters at which spans begin and end, in any order.

    Returns:
        Ascending numbers of tokens, 0 and all among them. Where several marks fall between the same two tokens, a span
        between them has no token of its own: both neighbours can then be told.
    """
    count = len(offsets)
    places = np.searchsorted(last_characters(offsets), np.unique(np.asarray(marks, dtype=np.int64)))
    without = np.unique(places[1:][places[1:] == places[:-1]])
    kept: Integers = np.unique(np.concatenate(([0, count], places, without - 1, without + 1)))
    return kept[(kept >= 0) & (kept <= count)].astype(np.int64)


class RunningSums:
    """Sums token vectors as they arrive, in order, and keeps what was asked for.

    Args:
        kept: Numbers of tokens to keep sums at, ascending, from 0 to all; None for every number.
        count: Number of tokens.
        by_position: Whether sums weighed by position are kept too.

    Attributes:
        sums: float64 of shape (marks, width), complete when every token was added.
        weighed: The same of token vectors times the token's number; None unless ``by_position``.
    """

    def __init__(self, kept: Integers | None, count: int, *, by_position: bool) -> None:
        self._kept = np.arange(count + 1, dtype=np.int64) if kept is None else kept
        self._by_position = by_position
        self._done = 0
        self._row = 1
        self.sums: Sums = np.zeros((len(self._kept), 0))
        self.weighed: Sums | None = None

    def add(self, rows: Vectors) -> None:
        """Add the vectors of the next tokens, float32 of shape (tokens, width)."""
        if not self.sums.shape[1]:
            self.sums = np.zeros((len(self._kept), rows.shape[1]))
            self._running = np.zeros(rows.shape[1])
            if self._by_position:
                self.weighed = np.zeros_like(self.sums)
                self._running_weighed = np.zeros(rows.shape[1])
        if not len(rows):
            return
        end = self._done + len(rows)
        row = int(np.searchsorted(self._kept, end, side="right"))
        inner = self._kept[self._row : row] - self._done
        pieces = np.concatenate(([0], inner[inner < len(rows)]))
        self._running = _accumulate(rows, pieces, self.sums[self._row : row], self._running)
        if self.weighed is not None:
            numbers = np.arange(self._done, end, dtype=np.float64)[:, None]
            self._running_weighed = _accumulate(
                rows * numbers, pieces, self.weighed[self._row : row], self._running_weighed
            )
        self._row, self._done = row, end


def _accumulate(rows: NDArray[np.floating], pieces: Integers, out: Sums, before: Sums) -> Sums:
    """Write running sums at the ends of pieces; a piece that is not whole yet goes into what is returned."""
    sums = np.add.reduceat(rows, pieces, axis=0, dtype=np.float64)
    sums[0] += before
    np.cumsum(sums, axis=0, out=sums)
    out[:] = sums[: len(out)]
    last: Sums = sums[-1].copy()
    return last
