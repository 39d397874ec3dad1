"""Tables in PDF: by ruling lines, or by cells that stand below one another."""

from __future__ import annotations

import re
from bisect import bisect, bisect_left
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from rag_embeddings.read.pdf_lines import LEADERS, Line
from rag_embeddings.read.pdf_words import Rule

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_NEAR = 3.0  # points: ruling lines this close are one
_MAX_BOXES = 50  # of a page
_MAX_GAPS = 50  # of a line, that are compared with those of the next
_FULL_GRID = 4  # stretches between ruling lines, from which each is a row
_LEAST_GAP = 0.6  # of the size: the free strip between two columns of a table
_MARKER = re.compile(r"(?:[\u2022\u25e6\u25aa\u2013\u00b7\u2217*-]|[(\[]?\w{1,4}[.)\]])$")


@dataclass(slots=True)
class Grid:
    """A table: the text of its cells, and how many rows at the top are its header."""

    rows: list[list[str]]
    headers: int = 0


def boxes(rules: Iterable[Rule]) -> list[tuple[Rule, list[Rule]]]:
    """Find where ruling lines may enclose tables: at least three level ones of the same extent.

    Returns:
        Each box, from the first line to the last, with the ruling lines in it, joined where they touch.
    """
    rules = list(rules)
    level = _joined([rule for rule in rules if rule.level])
    groups: list[list[Rule]] = []
    for rule in sorted(level, key=lambda rule: rule.y0):
        for group in groups[-20:]:
            if abs(group[-1].x0 - rule.x0) <= _NEAR and abs(group[-1].x1 - rule.x1) <= _NEAR:
                group.append(rule)
                break
        else:
            groups.append([rule])
    found = []
    several = [group for group in groups if len(group) >= 3]  # noqa: PLR2004 - above and below the header, and the end
    for group in several[:_MAX_BOXES]:
        box = Rule(group[0].x0, group[0].x1, group[0].y0, group[-1].y1)
        upright = [
            rule
            for rule in rules
            if not rule.level and box.x0 - _NEAR <= rule.x0 <= box.x1 + _NEAR and rule.y1 > box.y0 and rule.y0 < box.y1
        ]
        found.append((box, [*group, *upright]))
    return found


def _joined(level: list[Rule]) -> list[Rule]:
    """Join level lines that lie on each other or touch."""
    rows: list[list[Rule]] = []
    for rule in sorted(level, key=lambda rule: rule.y0):
        if rows and rule.y0 - rows[-1][0].y0 <= _NEAR:
            rows[-1].append(rule)
        else:
            rows.append([rule])
    found: list[Rule] = []
    for row in rows:
        row.sort(key=lambda rule: rule.x0)
        last = Rule(row[0].x0, row[0].x1, row[0].y0, row[0].y1)
        for rule in row[1:]:
            if rule.x0 <= last.x1 + _NEAR:
                last.x1 = max(last.x1, rule.x1)
            else:
                found.append(last)
                last = Rule(rule.x0, rule.x1, rule.y0, rule.y1)
        found.append(last)
    return found


def ruled_grid(lines: Sequence[Line], rules: Sequence[Rule]) -> Grid | None:
    """Lay out the lines between ruling lines as a table, or give None if they have no columns."""
    level = sorted(rule.y0 for rule in rules if rule.level)
    upright = _positions(rule.x0 for rule in rules if not rule.level)[1:-1]
    separators = upright or _strips(lines)
    if not separators or not lines:
        return None
    by_band: dict[int, list[Line]] = {}
    for line in lines:
        by_band.setdefault(bisect(level, line.y - 1), []).append(line)
    bands = [by_band[place] for place in sorted(by_band)]
    whole = len(bands) >= _FULL_GRID
    groups = [_rows(band, separators, whole=whole) for band in bands]
    rows = [row for group in groups for row in group]
    filled = sum(sum(map(bool, row)) > 1 for row in rows)
    if filled < max(2, len(rows) / 2):  # the ruling lines of a page, around text
        return None
    bold = all(line.bold for line in bands[0]) and not all(line.bold for band in bands[1:] for line in band)
    headers = len(groups[0]) if len(groups) > 1 and (bold or not whole) else 0
    return Grid(rows, headers)


def _positions(values: Iterable[float]) -> list[float]:
    found: list[float] = []
    for value in sorted(values):
        if not found or value - found[-1] > _NEAR:
            found.append(value)
    return found


def _strips(lines: Sequence[Line]) -> list[float]:
    """Return the middles of the strips that no word of any line reaches into."""
    spans = sorted((word.x0, word.x1) for line in lines for word in line.words)
    found, end = [], spans[0][1] if spans else 0.0
    size = min((line.size for line in lines), default=0.0)
    for x0, x1 in spans:
        if x0 - end > _LEAST_GAP * size:
            found.append((x0 + end) / 2)
        end = max(end, x1)
    return found


def _rows(lines: Sequence[Line], separators: Sequence[float], *, whole: bool) -> list[list[str]]:
    """Make rows of lines: one of all, or one of each line that does not go on with the row above."""
    rows: list[list[list[str]]] = []
    for line in lines:
        cells: list[list[str]] = [[] for _ in range(len(separators) + 1)]
        for word_cell in _cut(line, separators):
            middle = (word_cell.x0 + word_cell.x1) / 2
            cells[bisect_left(separators, middle)].append(word_cell.text)
        goes_on = rows and (whole or (not cells[0] and sum(map(bool, cells)) < len(cells) - 1))
        if goes_on:
            for above, cell in zip(rows[-1], cells, strict=True):
                above.extend(cell)
        else:
            rows.append(cells)
    return [[" ".join(cell) for cell in row] for row in rows]


def _cut(line: Line, separators: Sequence[float]) -> list[Line]:
    """Cut a line at the separators that stand between two of its words."""
    groups = [[line.words[0]]]
    for before, word in pairwise(line.words):
        if bisect_left(separators, (before.x0 + before.x1) / 2) < bisect_left(separators, (word.x0 + word.x1) / 2):
            groups.append([])
        groups[-1].append(word)
    return [Line(group) for group in groups]


def with_aligned_grids(lines: Sequence[Line]) -> list[list[Line] | Grid]:
    """Find tables without ruling lines: lines below one another whose gaps leave a strip free."""
    found: list[list[Line] | Grid] = []
    plain: list[Line] = []
    index = 0
    while index < len(lines):
        count = _aligned(lines, index)
        if count:
            if plain:
                found.append(plain)
            rows = lines[index : index + count]
            bold = rows[0].bold and not all(line.bold for line in rows)
            found.append(Grid(_rows(rows, _strips(rows), whole=False), headers=int(bold)))
            plain = []
            index += count
        else:
            plain.append(lines[index])
            index += 1
    return [*found, plain] if plain else found


def _aligned(lines: Sequence[Line], first: int) -> int:
    """Return how many lines from ``first`` on are a table; 0 if that one begins none."""
    gaps = _gaps(lines[first])
    if not gaps:
        return 0
    begins = several = listing = 0
    last = first
    for index in range(first, len(lines)):
        line = lines[index]
        if index > first and line.y - lines[index - 1].y > 3 * line.size:
            break
        if LEADERS.search(line.text):
            break
        kept = [gap for gap in _free(gaps, line) if gap[1] - gap[0] > _LEAST_GAP * line.size]
        if not kept:
            break
        gaps = kept
        cells = line.cells()
        if len(cells) > 1:
            several += 1
            begins += bool(_MARKER.match("".join(word.text for word in cells[0])))
            last = index
            listing += line.mono
            if several == begins == 3 or several == listing == 8:  # noqa: PLR2004 - a list, or a program's columns
                return 0
    enough = several >= 3 or (several == 2 and len(gaps) > 2)  # noqa: PLR2004 - fewer lines prove no column
    return last - first + 1 if enough and begins < several > 2 * listing else 0


def _gaps(line: Line) -> list[tuple[float, float]]:
    cells = line.cells()
    return [(max(word.x1 for word in before), after[0].x0) for before, after in pairwise(cells)][:_MAX_GAPS]


def _free(gaps: Iterable[tuple[float, float]], line: Line) -> list[tuple[float, float]]:
    """Return what a line leaves free of some gaps."""
    found = []
    for low, high in gaps:
        start = low
        for word in line.words:
            if word.x1 <= start or word.x0 >= high:
                continue
            if word.x0 > start:
                found.append((start, word.x0))
            start = word.x1
        if start < high:
            found.append((start, high))
    return found
