r"""Sentence boundaries with exact offsets.

The boundaries inside a stretch of prose come from `sentencex`: rules for many languages, abbreviations, quotations and
numbers; MIT licence, no dependencies, no model, character offsets, and about 40 MB/s on short input. Four habits of it
are worked around here:

- it is quadratic in the length of a text that is not ASCII, so it sees windows of `WINDOW` characters, wider ones only
  where no sentence ends in it; the last, incomplete sentence of each is carried over to the next, with those before
  it as far as they are one quotation;
- it does not break at single newlines, which glues a heading to the paragraph below. A newline counts as a break
  unless the line was wrapped, that is, the first word of the next line would not have fitted into the longest line of
  its paragraph;
- it breaks at a full stop without white space behind it (``example.org``), which is ignored;
- it leaves gaps at blank lines. Sentences here tile the text: white space belongs to the sentence before it.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from enum import IntEnum
from itertools import chain, pairwise
from typing import TYPE_CHECKING

import numpy as np
from sentencex import get_sentence_boundaries

from rag_embeddings.split.graphemes import at_boundaries, boundaries
from rag_embeddings.text import Span, without_surrogates

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from rag_embeddings.text import Chunk

WINDOW = 2048
"""Characters that `sentencex` sees at once."""
LONGEST = 8192
"""Longest sentence, in characters. What goes on longer is cut, behind white space where there is some."""

# Nobody wraps lines outside these widths: shorter ones are lists and verses, longer ones paragraphs.
_NARROWEST, _WIDEST = 40, 200
_LONGEST_TITLE = 80
# What starts a line of its own: list items, headings, tables, quotations.
_MARKER = re.compile(r"\s*(?:[-*+•‣◦–—]\s|\d{1,4}[.)]\s|[A-Za-z][.)]\s|#{1,6}\s|[|>=~`:])")  # noqa: RUF001
_WORD = re.compile(r"\S+")
# What looks like a sentence and is the number of a list item.
_NUMBER = re.compile(r"\(?(?:\d{1,4}|[A-Za-z]|[ivxIVX]{1,5})[.)]\s*")
# Where no mark closes a quotation, `sentencex` leaves the opening one with the sentence before.
_OPENING = frozenset("\"“«'`")


class Level(IntEnum):
    """What stands in front of a sentence, the stronger the smaller."""

    PARAGRAPH = 0
    LINE = 1
    SENTENCE = 2
    TITLE = 3
    """A heading stands directly above: the two belong together."""


def sentence_spans(text: str, language: str = "en") -> list[Span]:
    """Cut a text into sentences.

    Args:
        text: Any text; lone surrogates are fine.
        language: ISO 639-1 code. A language without rules of its own gets those of a related one, or of English.

    Returns:
        Spans that tile the text, white space at the end of the sentence before it, no boundary inside a grapheme.
        Headings, list items and other lines of their own are sentences. An empty text gives none. Takes linear time.
    """
    marks, _ = sentence_marks(text, boundaries(text), language)
    return [Span(start, end) for start, end in pairwise(marks.tolist())]


def sentences_of(chunk: Chunk, tiles: Sequence[Span]) -> list[Span]:
    """Return the sentences of a chunk.

    Args:
        chunk: The chunk.
        tiles: The `sentence_spans` of its document's text.

    Returns:
        Without white space around them. Of a sentence that the chunk's edge cuts, the part inside.
    """
    text = chunk.document.text
    found = []
    for span in chunk.spans:
        index = max(0, bisect_right(tiles, span.start, key=lambda tile: tile.start) - 1)
        while index < len(tiles) and tiles[index].start < span.end:
            start, end = max(tiles[index].start, span.start), min(tiles[index].end, span.end)
            piece = text[start:end]
            start, end = start + len(piece) - len(piece.lstrip()), end - (len(piece) - len(piece.rstrip()))
            if start < end:
                found.append(Span(start, end))
            index += 1
    return found


def sentence_marks(
    text: str, graphemes: NDArray[np.bool_], language: str = "en"
) -> tuple[NDArray[np.int64], NDArray[np.int8]]:
    """Cut a text into sentences, as arrays.

    Args:
        text: Any text.
        graphemes: The text's `graphemes.boundaries`.
        language: ISO 639-1 code.

    Returns:
        The boundaries, from 0 to ``len(text)``, shape (sentences + 1,); and the `Level` of what stands in front of each
        sentence, shape (sentences,).
    """
    if not text:
        return np.zeros(1, dtype=np.int64), np.zeros(0, dtype=np.int8)
    clean = without_surrogates(text)
    starts: list[int] = []
    levels: list[int] = []
    for start, end, level in _stretches(clean):
        before = len(starts)
        starts.extend(_prose(clean, start, end, language))
        levels.append(level)
        levels.extend([Level.SENTENCE] * (len(starts) - before - 1))
    found = np.array([0, *starts[1:], len(text)], dtype=np.int64)
    marks = at_boundaries(found, graphemes)
    # Where two starts fell into one grapheme, the first one's level stays.
    kept = np.searchsorted(found, marks[:-1])
    return marks, np.array(levels or [Level.PARAGRAPH], dtype=np.int8)[kept]


def _stretches(text: str) -> Iterator[tuple[int, int, Level]]:
    """Yield stretches of running prose: start, end (trailing white space excluded), and what stands in front."""
    above = Level.PARAGRAPH
    block: list[tuple[int, str]] = []
    position = 0
    for line in chain(text.splitlines(keepends=True), ("\n",)):
        if not line.isspace():
            block.append((position, line))
        elif block:
            found = list(_unwrapped(block))
            for index, (start, end) in enumerate(found):
                yield start, end, above
                above = Level.TITLE if _is_title(text, start, end, alone=len(found) == 1) else Level.LINE
                if index + 1 == len(found) and above is Level.LINE:
                    above = Level.PARAGRAPH
            block = []
        position += len(line)


def _unwrapped(block: list[tuple[int, str]]) -> Iterator[tuple[int, int]]:
    """Join the wrapped lines of one paragraph."""
    widths = [len(line.rstrip()) for _, line in block]
    widest = max(widths)
    wrapped = _NARROWEST <= widest <= _WIDEST
    start = _content(*block[0])
    for index, (position, line) in enumerate(block[:-1]):
        below = block[index + 1][1]
        word = _WORD.search(below)
        fits = widths[index] + 1 + (len(word.group()) if word else 0) <= widest
        if not wrapped or fits or line.startswith("#") or _MARKER.match(below):
            yield start, position + widths[index]
            start = _content(*block[index + 1])
    yield start, block[-1][0] + widths[-1]


def _is_title(text: str, start: int, end: int, *, alone: bool) -> bool:
    """Tell a heading: marked as one, or a short line between blank lines that does not end like a sentence."""
    if text[start] in "#=":
        return True
    return alone and end - start <= _LONGEST_TITLE and text[end - 1].isalnum()


def _content(position: int, line: str) -> int:
    return position + len(line) - len(line.lstrip())


def _prose(text: str, start: int, end: int, language: str) -> Iterator[int]:
    """Yield the starts of the sentences in ``text[start:end]``, which begins and ends without white space."""
    window = WINDOW
    while True:
        stop = min(start + window, end)
        piece = text[start:stop]
        found = [start]
        for item in get_sentence_boundaries(language, piece)[1:]:
            sentence = item["text"].lstrip()
            at = item["end_index"] - len(sentence)
            if sentence and piece[at - 1] != "." and not (len(found) == 1 and _NUMBER.fullmatch(piece, 0, at)):
                found.append(start + at)
        if stop == end:
            yield from found
            return
        if len(found) == 1 and window < LONGEST:
            window *= 2
            continue
        if len(found) == 1:
            found.append(start + _last_space(piece))
        carried = _carried(piece, [at - start for at in found])
        yield from found[:carried]
        start = found[carried]
        window = WINDOW


def _carried(piece: str, starts: list[int]) -> int:
    """Return from which sentence of a window on the next window sees them again.

    The last one may go on behind the window. One that begins inside a quotation shows the next window its closing mark
    alone, which is then taken for an opening one, and what stands between quotations for quoted. So it is the last that
    does not, if there is one in the second half of the window (a bound to the work).
    """
    marks = piece.count('"', 0, starts[-1])
    for index in range(len(starts) - 1, 0, -1):
        at = starts[index]
        if at < len(piece) // 2:
            break
        if marks % 2 == 0 and piece[at - 1] not in _OPENING:
            return index
        marks -= piece.count('"', starts[index - 1], at)
    return len(starts) - 1


def _last_space(piece: str) -> int:
    """Where to cut a window that holds no end of a sentence: behind its last white space, if that is near its end."""
    tail = piece[-1024:]
    words = tail.rsplit(maxsplit=1)
    return len(piece) - len(words[1]) if len(words) == 2 and not piece[-1].isspace() else len(piece)  # noqa: PLR2004
