"""Running headers, footers and page numbers: what stands at the edge of many pages."""

from __future__ import annotations

import re
from collections import Counter
from operator import itemgetter
from typing import TYPE_CHECKING, NamedTuple

from rag_embeddings.read.pdf_lines import lines_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rag_embeddings.read.pdf_lines import Line
    from rag_embeddings.read.pdf_words import Page

_EDGE = 2  # lines looked at, at the top and at the bottom
_PAGES = 3  # on which something stands at least, to be furniture
_NUMBER = re.compile(r"[-\u2013|(\[]*(?:(\d{1,5})|([ivxlc]{1,7}))[-\u2013|)\]]*", re.IGNORECASE)
_ALONE = re.compile(r"\W*(?:page\s+)?(\d{1,5})(?:\s*(?:/|of)\s*\d{1,5})?\W*", re.IGNORECASE)
_END_NUMBER = re.compile(r"^\d+(?=\s|$)|(?<!\S)\d+$")
_ROMAN = {"i": 1, "v": 5, "x": 10, "l": 50, "c": 100}


class _Edge(NamedTuple):
    line: Line
    outermost: bool
    text: tuple[str, int]  # numbers replaced, and the height in steps of 4 points
    numbers: tuple[tuple[bool, int], ...]  # Roman or not, and what to add to the page's number


def furniture(pages: Sequence[Page]) -> dict[int, tuple[list[Line], list[Line]]]:
    """Take the furniture off pages.

    A line at the edge of a page is furniture if the same text, numbers aside, stands at the same height of three pages,
    or if it is the outermost and has a page number in front or at its end: one that is as far from the number of the
    page as on most pages, or that is alone on the line and right.

    Args:
        pages: The pages; the words of their furniture are removed from them.

    Returns:
        For each page's number the lines taken from its top and from its bottom.
    """
    edges = {page.number: _edges(page) for page in pages}
    texts = Counter(edge.text for ends in edges.values() for end in ends for edge in end)
    shifts = Counter(shift for ends in edges.values() for end in ends for edge in end for shift in set(edge.numbers))
    usual = set[tuple[bool, int]]()
    for roman in (False, True):
        shift, count = max(
            ((key, n) for key, n in shifts.items() if key[0] == roman), key=itemgetter(1), default=(None, 0)
        )
        if shift is not None and count >= _PAGES:
            usual.add(shift)
    taken: dict[int, tuple[list[Line], list[Line]]] = {}
    for page in pages:
        top, bottom = ([edge.line for edge in _taken(end, page, texts, usual)] for end in edges[page.number])
        taken[page.number] = (top, bottom[::-1])
        gone = {id(word) for line in (*top, *bottom) for word in line.words}
        page.words = [word for word in page.words if id(word) not in gone]
    return taken


def _edges(page: Page) -> tuple[list[_Edge], list[_Edge]]:
    """Return the lines at the top and those at the bottom of a page, the outermost first."""
    lines = lines_of(page.words)
    top, bottom = lines[:_EDGE], lines[len(lines) - min(_EDGE, max(len(lines) - _EDGE, 0)) :][::-1]
    return _end(top, page), _end(bottom, page)


def _end(lines: Sequence[Line], page: Page) -> list[_Edge]:
    found = []
    for index, line in enumerate(lines):
        text = line.text
        key = _END_NUMBER.sub("#", text), round(line.y / 4)
        found.append(_Edge(line, index == 0, key, tuple(_shifts(text, page.number))))
    return found


def _shifts(text: str, page: int) -> Iterator[tuple[bool, int]]:
    words = text.split()
    for word in {words[0], words[-1]}:
        match = _NUMBER.fullmatch(word)
        if match:
            yield (False, int(match[1]) - page) if match[1] else (True, _roman(match[2]) - page)


def _roman(numeral: str) -> int:
    values = [_ROMAN[letter] for letter in numeral.lower()]
    return sum(-value if value < after else value for value, after in zip(values, [*values[1:], 0], strict=True))


def _taken(
    end: Sequence[_Edge], page: Page, texts: Counter[tuple[str, int]], usual: set[tuple[bool, int]]
) -> Iterator[_Edge]:
    """Give the lines of one end of a page that are furniture: from outside, as far as each is."""
    for edge in end:
        alone = _ALONE.fullmatch(edge.line.text)
        numbered = edge.outermost and (
            not usual.isdisjoint(edge.numbers) or (alone is not None and int(alone[1]) == page.number)
        )
        if not numbered and texts[edge.text] < _PAGES:
            return
        yield edge
