"""One forward pass over whole texts: tokens, windows, batches, sums."""

from __future__ import annotations

import re
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from math import ceil
from typing import TYPE_CHECKING

import numpy as np

from rag_embeddings.encode.fitting import share
from rag_embeddings.encode.token_vectors import RunningSums, SummedTokenVectors, token_marks
from rag_embeddings.encode.tokens import own_tokens
from rag_embeddings.encode.windows import Frame, frames, paper_frames
from rag_embeddings.errors import BudgetError, TextTooLongError, VectorError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from concurrent.futures import Future

    from numpy.typing import NDArray

    from rag_embeddings.encode.base import Vectors
    from rag_embeddings.encode.tokens import TextInput, Tokens
    from rag_embeddings.encode.windows import Windows

    Integers = NDArray[np.int64]
    Sums = NDArray[np.float64]
    _Batch = list[tuple["_Layout", Frame]]

_PIECE = 1 << 16  # characters tokenized at once: the tokenizer takes about 150 bytes for each
_CUT = re.compile(r"(?<=[A-Za-z0-9,]) (?=[A-Za-z0-9])")
_PROBE = "The river rose, and 40 carts of copper stood at the mill, which nobody had seen before 1085 in this valley"


@dataclass(frozen=True)
class TokenModel:
    """What a pass needs of a model.

    Attributes:
        entry: How texts become tokens.
        states: Token ids of windows of one length to float32 (windows, tokens, width). The second argument says that
            nothing else runs: the batch may take the whole machine.
        after_pooling: Means of states, float64 (n, width), to vectors (n, dim).
        averages: Whether the model itself takes the plain mean over all tokens, special ones included, so that the
            vector of a whole text is known.
        skips_prompt: Whether that mean leaves out the prompt.
        by_position: Whether the n-th token of a span weighs n times as much as the first.
        lanes: Batches that may run at once.
    """

    entry: TextInput
    states: Callable[[list[Tokens], bool], Vectors]
    after_pooling: Callable[[Sums], Vectors]
    averages: bool = True
    skips_prompt: bool = False
    by_position: bool = False
    lanes: int = 1


@dataclass(frozen=True)
class TokenText:
    """A text to be encoded.

    Attributes:
        text: The text, without lone surrogates.
        marks: Characters at which spans will begin and end; None for any.
        context: Stands in front of the text in every window, and is pooled into no span.
    """

    text: str
    marks: Sequence[int] | None = None
    context: str = ""


def token_vectors(
    model: TokenModel, texts: Sequence[TokenText], windows: Windows, batch_tokens: int
) -> list[SummedTokenVectors]:
    """Encode texts of any length into token vectors.

    A text longer than a window runs in several, each behind the prompt, the context and the special tokens. Windows of
    equal length share batches, whatever their text; there is no padding. Beside the sums at the marks, memory holds
    the states of one batch per lane, and about 50 bytes per token.

    Args:
        model: The model.
        texts: The texts.
        windows: How long ones are laid out.
        batch_tokens: Most tokens in a batch.

    Returns:
        The token vectors of each text.

    Raises:
        BudgetError: If a window is larger than what the model takes.
        TextTooLongError: If prompt, context and special tokens leave less than half of a window to a long text.
        VectorError: If a text has no tokens, special ones included.
    """
    laid = [_Layout(model, text, windows) for text in texts]
    by_length: dict[int, list[tuple[_Layout, Frame]]] = {}
    for layout in laid:
        for frame in layout.frames:
            by_length.setdefault(layout.window_length(frame), []).append((layout, frame))
    batches = []
    even = share(sum(length * len(items) for length, items in by_length.items()), batch_tokens, model.lanes)
    for length in sorted(by_length, reverse=True):  # memory peaks at once or never
        items, number = by_length[length], max(1, min(batch_tokens // length, ceil(even / length)))
        batches += [items[start : start + number] for start in range(0, len(items), number)]
    for batch, states in _run(model, batches):
        for (layout, frame), rows in zip(batch, states, strict=True):
            layout.take(frame, rows)
    return [layout.result() for layout in laid]


def _run(model: TokenModel, batches: Sequence[_Batch]) -> Iterator[tuple[_Batch, Vectors]]:
    """Yield batches with their states, in order; as many run at once as there are lanes."""

    def states(batch: _Batch, alone: bool) -> Vectors:  # noqa: FBT001
        return model.states([layout.window(frame) for layout, frame in batch], alone)

    lanes = min(model.lanes, len(batches))
    if lanes <= 1:
        yield from ((batch, states(batch, True)) for batch in batches)  # noqa: FBT003
        return
    with ThreadPoolExecutor(lanes, "rag-embeddings") as pool:
        running: deque[tuple[_Batch, Future[Vectors]]] = deque()
        try:
            for batch in batches:
                if len(running) > lanes:  # one is ready when a lane falls free, and no more states than that wait
                    first, future = running.popleft()
                    yield first, future.result()
                running.append((batch, pool.submit(states, batch, False)))  # noqa: FBT003
            while running:
                first, future = running.popleft()
                yield first, future.result()
        finally:
            for _, future in running:
                future.cancel()


class _Layout:
    """One text on its way through the model; its windows are to be taken in order."""

    def __init__(self, model: TokenModel, text: TokenText, windows: Windows) -> None:
        entry = model.entry
        if text.context:
            entry = entry.framed(entry.prompt + text.context, suffix=entry.suffix, adapter=entry.adapter)
        self._model, self._entry, self._text = model, entry, text
        self._paper = windows.paper_compat
        size = _size(entry, windows)
        before, content, after, offsets = _tokenized(entry, text.text)
        if not len(before) + len(content) + len(after):
            raise VectorError(f"the text has no tokens for this model: {text.text[:60]!r}")
        if self._paper:
            end = len(text.text)
            first = np.zeros((len(before), 2), dtype=np.int64)
            last = np.tile(np.array([max(end - 1, 0), end], dtype=np.int64), (len(after), 1))
            content = np.concatenate((before, content, after))
            offsets = np.concatenate((first, offsets, last))
            before = after = content[:0]
        self._before, self._content, self._after, self._offsets = before, content, after, offsets
        fits = size is None or len(before) + len(content) + len(after) <= size
        room = len(content) if fits else (size or 0) - len(before) - len(after)
        taken = len(before) + len(after)
        if not fits and room < max(1, (size or 0) // 2 if text.context else 1):
            what = "prompt and special tokens alone take"
            if text.context:
                what = f"prompt, special tokens and what stands in front of the text ({text.context[:40]!r} ...) take"
            raise TextTooLongError(
                f"{what} {taken} of the {size} tokens of a window, which leaves too few to the text that begins "
                f"{text.text[:40]!r}; put less in front of it, or take a model that reads more"
            )
        lay = paper_frames if self._paper else frames
        self.frames = lay(len(content), room, windows.overlap)
        kept = None if text.marks is None else token_marks(offsets, text.marks)
        self._kept = kept
        self._sums = RunningSums(kept, len(content), by_position=model.by_position)
        self._whole: Sums | None = None

    def window_length(self, frame: Frame) -> int:
        return len(self._before) + frame.stop - frame.start + len(self._after)

    def window(self, frame: Frame) -> Tokens:
        return np.concatenate((self._before, self._content[frame.start : frame.stop], self._after))

    def take(self, frame: Frame, states: Vectors) -> None:
        """Take the states of the next window."""
        lead = len(self._before) - frame.start
        self._sums.add(states[lead + frame.keep : lead + frame.until])
        if len(self.frames) > 1 or self._paper:
            return
        if not len(self._content) or (self._model.averages and not self._text.context):
            skipped = min(self._entry.prompt_length, len(states) - 1) if self._model.skips_prompt else 0
            self._whole = states[skipped:].mean(axis=0, dtype=np.float64)

    def result(self) -> SummedTokenVectors:
        return SummedTokenVectors(
            self._offsets,
            self._sums.sums,
            len(self._text.text),
            self._model.after_pooling,
            self._whole,
            kept=self._kept,
            by_position=self._sums.weighed,
        )


def _size(entry: TextInput, windows: Windows) -> int | None:
    if windows.size is None:
        return entry.limit
    if entry.limit is not None and windows.size > entry.limit:
        raise BudgetError(f"windows of {windows.size} tokens were asked for, and the model takes {entry.limit}")
    return windows.size


def _tokenized(entry: TextInput, text: str) -> tuple[Tokens, Tokens, Tokens, Integers]:
    """Tokenize a text of any length, piece by piece where that changes nothing.

    Returns:
        Ids in front of the text's own, its own, those behind; and the character ranges of its own.
    """
    cuts = _cuts(text) if len(text) > _PIECE and _cut_in_pieces_alike(entry) else [len(text)]
    # The first piece comes with what stands around a text, the others alone.
    offsets, place, ids = own_tokens(entry, text[: cuts[0]])
    own, ranges = [ids[place]], [offsets]
    for start, end in pairwise(cuts):
        encoding = entry.bare(text[start:end])
        own.append(np.array(encoding.ids, dtype=np.int64))
        ranges.append(np.array(encoding.offsets, dtype=np.int64).reshape(-1, 2) + start)
    return ids[: place.start], np.concatenate(own), ids[place.stop :], np.concatenate(ranges)


def _cuts(text: str) -> list[int]:
    """Return ends of pieces, the text's own included: in front of a space between words, at most where one is found."""
    found = []
    at = 0
    while len(text) - at > _PIECE:
        match = _CUT.search(text, at + _PIECE)
        if match is None:
            break
        at = match.start()
        found.append(at)
    return [*found, len(text)]


def _cut_in_pieces_alike(entry: TextInput) -> bool:
    """Try it out: do pieces of a text have the tokens of the text? Some tokenizers begin every text with a mark."""
    whole = entry.bare(_PROBE).ids
    return all(entry.bare(_PROBE[:at]).ids + entry.bare(_PROBE[at:]).ids == whole for at in _probe_cuts())


def _probe_cuts() -> Iterator[int]:
    return (match.start() for match in _CUT.finditer(_PROBE))
