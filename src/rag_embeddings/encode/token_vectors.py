"""Vectors of every token of a text, kept as sums, so that the mean of any span is one subtraction."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rag_embeddings.encode.fitting import batches, windows
from rag_embeddings.encode.tokens import own_tokens
from rag_embeddings.errors import DocumentError, TextTooLongError, UnsupportedModelError, VectorError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from rag_embeddings.encode.base import Role, Vectors
    from rag_embeddings.encode.model import LocalModel
    from rag_embeddings.text import Span

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
        sums: Running sums of the token vectors from 0, float64 of shape (tokens + 1, width).
        length: Number of characters of the text.
        after_pooling: Turns means of token vectors, (n, width), into vectors (n, dim).
        whole: Mean over everything the model itself pools, shape (width,); None if the text took several windows.
    """

    def __init__(
        self,
        offsets: NDArray[np.int64],
        sums: Sums,
        length: int,
        after_pooling: Callable[[Sums], Vectors],
        whole: Sums | None = None,
    ) -> None:
        self._offsets = offsets
        self._sums = sums
        self._length = length
        self._after_pooling = after_pooling
        self._whole = whole
        # A token of no width ends where it stands; none ends before the one in front of it, so that each counts once.
        self._last = np.maximum.accumulate(np.maximum(offsets[:, 1] - 1, offsets[:, 0]))

    @property
    def spans(self) -> NDArray[np.int64]:
        """Character ranges of the tokens, shape (tokens, 2)."""
        return self._offsets

    def pool(self, spans: Sequence[Span]) -> Vectors:
        """Pool the tokens of each span into one vector.

        Args:
            spans: Ranges of characters of the text that was encoded, in any order; they may overlap.

        Returns:
            float32 of shape (len(spans), dim), after every module that follows pooling in the model.

        Raises:
            DocumentError: If a span ends behind the text.
        """
        starts = np.array([span.start for span in spans], dtype=np.int64)
        ends = np.array([span.end for span in spans], dtype=np.int64)
        if len(ends) and ends.max() > self._length:
            raise DocumentError(f"{spans[int(ends.argmax())]} ends behind the text of {self._length} characters")
        low = np.searchsorted(self._last, starts)
        high = np.searchsorted(self._last, ends)
        if len(self._offsets):
            for index in np.flatnonzero(low == high):
                low[index] = self._nearest(int(low[index]), int(starts[index]), int(ends[index]))
                high[index] = low[index] + 1
        counts = np.maximum(high - low, 1)
        means = (self._sums[high] - self._sums[low]) / counts[:, None]
        if self._whole is not None:  # also the vector of a text that has no tokens
            means[(high - low) == len(self._offsets)] = self._whole
        return self._after_pooling(means)

    def _nearest(self, behind: int, start: int, end: int) -> int:
        """Return the token nearest to a span that lies between two last characters."""
        if behind == len(self._last):
            return behind - 1
        if behind == 0 or self._offsets[behind, 0] < end:
            return behind
        gap_before = start - self._last[behind - 1]
        gap_behind = self._offsets[behind, 0] - end + 1
        return behind - 1 if gap_before <= gap_behind else behind


def encode_tokens(
    model: LocalModel, text: str, role: Role, batch_tokens: int, finish: Callable[[Vectors], Vectors]
) -> SummedTokenVectors:
    """Encode one text of any length into token vectors.

    A text longer than the model runs in windows of full size that overlap by a quarter, each with the prompt and the
    special tokens around it; every token is taken from the window in which it has most context on both sides.

    Args:
        model: The loaded model.
        text: The text, without lone surrogates.
        role: Whose prompt stands in front.
        batch_tokens: Most tokens in a batch.
        finish: Truncates and normalises what leaves the model's modules.

    Returns:
        The token vectors.

    Raises:
        UnsupportedModelError: If the model does not allow it; see `LocalModel.why_not_tokens`.
        TextTooLongError: If prompt and special tokens leave no room for the text.
        VectorError: If the text has no tokens, special ones included.
    """
    entry = model.inputs[role]
    if reason := model.why_not_tokens(role):
        raise UnsupportedModelError(
            f"token vectors of this model must not be averaged span by span: {reason}. Encode each span's text instead"
        )
    own, place, ids = own_tokens(entry, text)
    if len(ids) == 0:
        raise VectorError(f"the text has no tokens for this model: {text[:60]!r}")
    before, after = ids[: place.start], ids[place.stop :]
    whole = None
    if entry.limit is None or len(ids) <= entry.limit:
        (states,) = model.states([ids], role)
        skipped = 0 if model.pools_prompt(role) else min(entry.prompt_length, len(ids) - 1)
        whole = states[skipped:].mean(axis=0, dtype=np.float64)
        rows = states[place]
    else:
        room = entry.limit - len(before) - len(after)
        if room < 1:
            raise TextTooLongError(
                f"the model takes {entry.limit} tokens, and prompt and special tokens alone take {entry.limit - room}"
            )
        content = ids[place]
        frames = windows(len(content), room)
        wrapped = [np.concatenate((before, content[start:end], after)) for start, end, _, _ in frames]
        rows = np.empty((len(content), 0), dtype=np.float32)
        for batch in batches([len(window) for window in wrapped], batch_tokens):
            for index, states in zip(batch, model.states([wrapped[index] for index in batch], role), strict=True):
                start, _, keep, stop = frames[index]
                if not rows.shape[1]:
                    rows = np.empty((len(content), states.shape[1]), dtype=np.float32)
                rows[keep:stop] = states[len(before) + keep - start : len(before) + stop - start]
    sums = np.zeros((len(rows) + 1, rows.shape[1]), dtype=np.float64)
    np.cumsum(rows, axis=0, dtype=np.float64, out=sums[1:])
    return SummedTokenVectors(
        own, sums, len(text), lambda means: finish(model.after_pooling(means.astype(np.float32), role)), whole
    )
