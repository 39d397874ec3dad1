"""What a document with layout is packed from, sentences, rows, lines, headings, and what a cut between them costs."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from rag_embeddings.split.atoms import CLAUSE, GRAPHEME, WORD
from rag_embeddings.split.graphemes import at_boundaries
from rag_embeddings.split.segments import FURNITURE, HEADING, TABLE_KINDS
from rag_embeddings.split.sentences import Level, sentence_marks

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from numpy.typing import NDArray

    from rag_embeddings.split.atoms import Atoms, Measure
    from rag_embeddings.split.segments import Outline, Segment

# A chunk that misses the target size costs the square of its relative distance: 0.25 at half the target, at most 1.
# What costs more than 2 is cut only where the budget leaves no other way.
PROSE: Mapping[int, float] = {
    Level.PARAGRAPH: 0.4,
    Level.LINE: 0.45,
    Level.SENTENCE: 0.7,
    Level.TITLE: 1.5,
    CLAUSE: 4.0,
    WORD: 5.0,
    GRAPHEME: 8.0,
}
_SECTION_STEP, _SECTION_MOST = 0.12, 0.36  # in front of a heading, by its depth below the highest one
_BELOW_HEADING = 2.0
_BLOCK = 0.4
_ITEM, _NESTED_ITEM = 0.45, 0.7
_IN_FRONT_OF_TERM, _BEHIND_TERM = 0.3, 1.5  # a list item without a mark: what the paragraph behind it explains
_INTRODUCED = 1.0  # behind a colon
_CAPTIONED = 1.5  # between a table and its caption
_BLANK_LINE = 2.5  # inside code
_INSIDE = 3.0  # list items, between rows, between lines of code, inside a sentence that a page break interrupts
_BELOW_HEADER = 4.0  # of a table

_MARK = re.compile(r"\s*(?:[-*+\u2022\u2023\u25e6\u2013\u2014]|\(?\w{1,4}[.)])\s")
_LINES = frozenset({"code", "table"})  # cut between lines only
_SOLID = frozenset({HEADING, FURNITURE, "table_row", "table_header"})  # not cut at sentences


def layout_atoms(
    measure: Measure, outline: Outline, maximum: int, *, language: str = "en", places: Iterable[int] = ()
) -> Atoms:
    """Take a document apart.

    Args:
        measure: How its text is taken apart, and what a cut in running text costs.
        outline: Its segments.
        maximum: What has more tokens is taken apart further.
        language: ISO 639-1 code, for sentence boundaries.
        places: More positions at which an atom begins. None may lie inside a grapheme.

    Returns:
        Atoms that tile the text. Page furniture is an atom without tokens.
    """
    text, segments, costs = measure.text, outline.segments, measure.costs
    starts = np.array([segment.start for segment in segments], dtype=np.int64)
    furniture = np.array([segment.kind == FURNITURE for segment in segments])
    prose = np.array([segment.kind not in _LINES | _SOLID for segment in segments])
    whole = np.array([segment.kind == "list_item" for segment in segments])
    price: dict[int, float] = dict.fromkeys(places, costs[Level.SENTENCE])

    sentences, levels = sentence_marks(text, measure.graphemes, language)
    owner = np.searchsorted(starts, sentences[:-1], side="right") - 1
    kept = np.flatnonzero(prose[owner])
    table = np.array([costs[level] for level in range(GRAPHEME + 1)])
    inner = np.where(whole[owner[kept]], _INSIDE, table[levels[kept]])
    price.update(zip(sentences[kept].tolist(), inner.tolist(), strict=True))
    price.update(_lines(measure, segments))
    price.update((segment.start, cost) for segment, cost in zip(segments, _prices(text, segments), strict=True))

    order = sorted(price)
    marks = np.array([*order, len(text)], dtype=np.int64)
    tokens = np.diff(measure.counter.cumulative(text, marks))
    tokens[furniture[np.searchsorted(starts, marks[:-1], side="right") - 1]] = 0
    return measure.refined(marks, tokens, np.array([price[at] for at in order]), maximum)


def _lines(measure: Measure, segments: list[Segment]) -> Iterator[tuple[int, float]]:
    """Yield the starts of lines inside code and inside tables whose rows are not known."""
    text = measure.text
    for segment in segments:
        if segment.kind not in _LINES:
            continue
        blank = False
        position = segment.start
        for line in text[segment.start : segment.end].splitlines(keepends=True):
            if position > segment.start and not line.isspace() and measure.graphemes[position]:
                yield position, _BLANK_LINE if blank else _INSIDE
            blank = line.isspace()
            position += len(line)


def _prices(text: str, segments: list[Segment]) -> Iterator[float]:
    """Yield what a cut in front of each segment costs."""
    top = min((segment.level for segment in segments if segment.kind == HEADING), default=1)
    before: Segment | None = None
    for segment in segments:
        if before is None or segment.kind == FURNITURE:
            yield np.inf  # furniture stays with what is before it
        else:
            yield _price(text, before, segment, top)
        if segment.kind != FURNITURE:
            before = segment


def _price(text: str, before: Segment, segment: Segment, top: int) -> float:  # noqa: PLR0911 - one line per rule
    kinds = {before.kind, segment.kind}
    if before.kind == HEADING:
        return _BELOW_HEADING
    if segment.kind == HEADING:
        return min(_SECTION_STEP * (segment.level - top), _SECTION_MOST)
    if before.table >= 0 and before.table == segment.table:
        return _BELOW_HEADER if before.kind == "table_header" else _INSIDE
    if "caption" in kinds and kinds & TABLE_KINDS:
        return _CAPTIONED
    last = text[max(before.end - 64, before.start) : before.end].rstrip()[-1:]
    if before.block == segment.block or before.kind == segment.kind == "paragraph":
        first = text[segment.start : segment.start + 64].lstrip()[:1]
        if first.islower() and (last.isalnum() or last in ",;-\u2010\u2013("):
            return _INSIDE
    if last == ":" and before.kind != segment.kind:
        return _INTRODUCED
    return _item_price(text, before, segment) if "list_item" in kinds else _BLOCK


def _item_price(text: str, before: Segment, segment: Segment) -> float:
    if before.kind == segment.kind:
        return _NESTED_ITEM if segment.level > before.level else _ITEM
    item = before if before.kind == "list_item" else segment
    if _MARK.match(text, item.start, item.end):
        return _BLOCK
    return _BEHIND_TERM if item is before else _IN_FRONT_OF_TERM


def mark_places(places: Iterable[int], graphemes: NDArray[np.bool_]) -> list[int]:
    """Move positions that lie inside a grapheme in front of it, and leave out the end of the text."""
    positions = np.array(sorted(set(places)), dtype=np.int64)
    marks: list[int] = at_boundaries(positions, graphemes).tolist() if len(positions) else []
    return [at for at in marks if at < len(graphemes) - 1]
