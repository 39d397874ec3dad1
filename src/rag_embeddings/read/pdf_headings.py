"""Which lines of a PDF are headings, and of which level."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from rag_embeddings.read.pdf_lines import LEADERS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from rag_embeddings.read.pdf_lines import Line
    from rag_embeddings.read.pdf_words import Entry

_LARGER = 1.12  # times the size of the body: a heading without an outline to say so
_LONGEST = 200  # characters
_MOST_LINES = 4
_MAX_LEVEL = 6
_NUMBERING = re.compile(
    r"^(?:(?:chapter|appendix|part|section)\s+)?(?:\d+|[a-z]|[ivx]+)(?:\.\d+)*[.:)]?\s+", re.IGNORECASE
)
_BULLET = re.compile(r"[•◦▪‣●○■□➢\u2217*·\u2013\u2014-]\s")
_SENTENCE_END = re.compile(r"[.,;]$")

Style = tuple[float, bool]
"""Size in half points, and whether it is bold."""


def style(line: Line) -> Style:
    """Return what the eye tells headings by."""
    return round(line.size * 2) / 2, line.bold


def body_style(lines: Iterable[Line]) -> Style:
    """Return the style that most text has."""
    letters = Counter[Style]()
    for line in lines:
        if not line.mono:
            letters[style(line)] += len(line.text)
    return letters.most_common(1)[0][0] if letters else (0.0, False)


class Headings:
    """Tells headings from text.

    Lines that an entry of the outline points to are headings of its level. Others are if they look like one: the style
    of a heading that the outline has, or else larger than the body, or as large and bold and on lines of their own.
    Levels go by the outline's, or else by size and weight.

    Args:
        pages: For each page's number, its lines in reading order, without tables and furniture.
        outline: The entries of the outline.
    """

    def __init__(self, pages: Mapping[int, Sequence[Sequence[Line]]], outline: Iterable[Entry]) -> None:
        self.body = body_style(line for groups in pages.values() for group in groups for line in group)
        self._first: dict[int, tuple[int, int]] = {}  # id of a heading's first line -> its level, how many lines
        entries: dict[int, list[Entry]] = defaultdict(list)
        for entry in outline:
            entries[entry.page].append(entry)
        levels: dict[Style, Counter[int]] = defaultdict(Counter)
        for number, found in entries.items():
            for entry, lines in _matches(found, pages.get(number, ())):
                self._first[id(lines[0])] = (min(entry.level, _MAX_LEVEL), len(lines))
                levels[style(lines[0])][entry.level] += 1
        self._levels = {key: min(count.most_common(1)[0][0], _MAX_LEVEL) for key, count in levels.items()}
        self._outlined = bool(self._levels)
        self._rank(pages)

    def at(self, lines: Sequence[Line], index: int) -> tuple[int, int] | None:
        """Return level and number of lines of a heading that begins at ``lines[index]``, or None."""
        line = lines[index]
        if id(line) in self._first:
            return self._first[id(line)]
        within = index > 0 and id(lines[index - 1]) not in self._first and _goes_on(lines[index - 1], line)
        if within or not self._looks_like_one(lines, index):
            return None
        end = index + 1
        while (
            end < len(lines)
            and end - index <= _MOST_LINES
            and _goes_on(lines[end - 1], lines[end])
            and id(lines[end]) not in self._first
        ):
            end += 1
        text = " ".join(other.text for other in lines[index:end])
        if end - index > _MOST_LINES or len(text) > _LONGEST:
            return None
        return self._levels.get(style(line), _MAX_LEVEL), end - index

    def _looks_like_one(self, lines: Sequence[Line], index: int) -> bool:
        line, look = lines[index], style(lines[index])
        text = line.text
        if (
            look == self.body
            or line.mono
            or not any(map(str.isalpha, text))
            or LEADERS.search(text)
            or _BULLET.match(text)
        ):
            return False
        if look[0] >= _LARGER * self.body[0]:
            return True
        if not look[1] or self.body[1] or look[0] < self.body[0] or _SENTENCE_END.search(text):
            return False
        if self._outlined and (look not in self._levels or text[0].islower()):
            return False
        return _stands_alone(lines, index)

    def _rank(self, pages: Mapping[int, Sequence[Sequence[Line]]]) -> None:
        """Give levels to the styles that no entry of the outline has: by size, then weight, below larger ones."""
        styles = {
            style(group[index])
            for groups in pages.values()
            for group in groups
            for index in range(len(group))
            if self._looks_like_one(group, index)
        }
        above = 0
        for key in sorted(styles | set(self._levels), reverse=True):
            if key not in self._levels:
                self._levels[key] = min(above + 1, _MAX_LEVEL) if not self._outlined or above else 1
            above = self._levels[key]


def _stands_alone(lines: Sequence[Line], index: int) -> bool:
    """Tell whether more than a line's height separates a line from text of another style above it."""
    line = lines[index]
    if index == 0:
        return True
    above = lines[index - 1]
    return style(above) == style(line) or not 0 < line.y - above.y < 1.3 * line.size


def _goes_on(above: Line, line: Line) -> bool:
    """Tell whether a heading goes on in the next line."""
    return style(above) == style(line) and 0 < line.y - above.y < 1.6 * line.size


def _plain(text: str) -> str:
    return "".join(filter(str.isalnum, text.casefold()))


def _matches(entries: Sequence[Entry], groups: Sequence[Sequence[Line]]) -> list[tuple[Entry, list[Line]]]:
    """Find the lines that the entries of one page mean: the largest where several have the words."""
    starts: dict[str, list[list[Line]]] = defaultdict(list)
    for group in groups:
        for index in range(len(group)):
            joined = ""
            for end in range(index + 1, min(index + _MOST_LINES, len(group)) + 1):
                if end > index + 1 and not _goes_on(group[end - 2], group[end - 1]):
                    break
                joined = f"{joined} {group[end - 1].text}".strip()
                for spelling in {_plain(joined), _plain(_NUMBERING.sub("", joined, count=1))}:
                    starts[spelling].append(list(group[index:end]))
    found: list[tuple[Entry, list[Line]]] = []
    used: set[int] = set()
    for entry in entries:
        spellings = [_plain(entry.title), _plain(_NUMBERING.sub("", entry.title, count=1))]
        for spelling in spellings:
            free = [lines for lines in starts.get(spelling, ()) if used.isdisjoint(map(id, lines))]
            if spelling and free:
                best = max(free, key=lambda lines: (style(lines[0]), -lines[0].y))
                used.update(map(id, best))
                found.append((entry, best))
                break
    return found
