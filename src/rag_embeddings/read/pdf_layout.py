"""The words of a page in reading order: columns one after the other, tables whole."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from statistics import median
from typing import TYPE_CHECKING

from rag_embeddings.read.pdf_lines import CELL_GAP, SAME_LINE, Line, lines_of
from rag_embeddings.read.pdf_tables import Grid, boxes, ruled_grid, with_aligned_grids

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rag_embeddings.read.pdf_words import Rule, Word

_COLUMN_LINES = 5  # lines that a column of text has at least
_MAX_SPLITS = 4  # of a page into columns, inside each other


@dataclass(slots=True)
class _Item:
    """Words that follow one another on a line, or a table, and its place."""

    x0: float
    x1: float
    y: float
    words: list[Word]
    grid: Grid | None = None


def regions(words: Sequence[Word], rules: Sequence[Rule]) -> list[list[Line] | Grid]:
    """Order a page: column after column, tables whole.

    Args:
        words: The words of a page, as the file orders them.
        rules: Its ruling lines.

    Returns:
        Lines that follow one another in one column, and tables.
    """
    items: list[_Item] = []
    rest = list(words)
    for box, inside in boxes(rules):
        held = [word for word in rest if box.x0 - 3 <= word.x0 and word.x1 <= box.x1 + 3 and box.y0 < word.y < box.y1]
        grid = ruled_grid(lines_of(held), inside)
        if grid is not None:
            chosen = set(map(id, held))
            rest = [word for word in rest if id(word) not in chosen]
            items.append(_Item(box.x0, box.x1, box.y0, [], grid))
    items.extend(_segments(rest))
    return [group for column in _columns(items, _MAX_SPLITS) for group in _stacked(column)]


def _segments(words: Iterable[Word]) -> list[_Item]:
    """Join words that follow one another in the file and on a line. Columns stay apart by either."""
    found: list[_Item] = []
    for word in words:
        last = found[-1] if found else None
        size = max(word.size, last.words[-1].size) if last else 0.0
        if last and abs(word.y - last.y) <= SAME_LINE * size and -0.3 * size < word.x0 - last.x1 < CELL_GAP * size:
            last.words.append(word)
            last.x1 = max(last.x1, word.x1)
        else:
            found.append(_Item(word.x0, word.x1, word.y, [word]))
    return found


def _columns(items: list[_Item], splits: int) -> list[list[_Item]]:
    """Split a page at the gutters between columns; what crosses a gutter stands between what is above and below it."""
    gutter = _gutter(items) if splits else None
    if gutter is None:
        return [items]
    found: list[list[_Item]] = []
    sides: tuple[list[_Item], list[_Item]] = ([], [])
    across: list[_Item] = []
    for item in sorted(items, key=lambda item: item.y):
        if item.x0 < gutter < item.x1:
            found.extend(column for side in sides if side for column in _columns(list(side), splits - 1))
            sides = ([], [])
            across.append(item)
        else:
            if across:
                found.append(across)
                across = []
            sides[item.x0 >= gutter].append(item)
    if across:
        found.append(across)
    found.extend(column for side in sides if side for column in _columns(list(side), splits - 1))
    return found


def _gutter(items: Sequence[_Item]) -> float | None:
    """Return where the strip without text between two columns runs, if there are two columns of running text."""
    if len(items) < 2 * _COLUMN_LINES:
        return None
    left, right = min(item.x0 for item in items), max(item.x1 for item in items)
    width = int(right - left) + 2
    if not 0 < width < 20_000:  # noqa: PLR2004 - points; PDF allows 14,400
        return None
    steps = [0] * (width + 1)
    for item in items:
        steps[int(item.x0 - left)] += 1
        steps[int(item.x1 - left) + 1] -= 1
    cover = list(accumulate(steps))
    first, last = int(0.15 * width), int(0.85 * width)
    least = min(cover[first:last], default=0)
    run = max(_runs(cover, first, last, least), key=len, default=range(0))
    if not run:
        return None
    gutter = left + (run.start + run.stop) / 2
    sides = [item for item in items if item.x1 <= gutter], [item for item in items if item.x0 >= gutter]
    crossing = len(items) - len(sides[0]) - len(sides[1])
    spans = [(min(item.y for item in side), max(item.y for item in side)) for side in sides if side]
    if crossing > (len(items) - crossing) / 2 or not all(
        _is_column(side, right - left) or _gutter(side) for side in sides
    ):
        return None
    shared = min(end for _, end in spans) - max(start for start, _ in spans)
    return gutter if shared > 0.5 * min(end - start for start, end in spans) else None


def _runs(cover: Sequence[int], first: int, last: int, value: int) -> list[range]:
    found, start = [], -1
    for index in range(first, last + 1):
        if index < last and cover[index] == value:
            start = index if start < 0 else start
        elif start >= 0:
            found.append(range(start, index))
            start = -1
    return found


def _is_column(side: Sequence[_Item], page_width: float) -> bool:
    """Tell whether the items on one side of a gutter are lines of running text, not cells."""
    rows: dict[int, list[_Item]] = {}
    for item in side:
        if item.words:
            rows.setdefault(round(item.y), []).append(item)
    if len(rows) < _COLUMN_LINES:
        return False
    width = max(item.x1 for item in side) - min(item.x0 for item in side)
    reach = [max(item.x1 for item in row) - min(item.x0 for item in row) for row in rows.values()]
    ink = [sum(item.x1 - item.x0 for item in row) for row in rows.values()]
    full = median(reach) > 0.55 * width and median(ink) > 0.8 * median(reach)
    words = median(sum(len(item.words) for item in row) for row in rows.values())
    return full and width > 0.15 * page_width and words >= 3  # noqa: PLR2004 - fewer are cells


def _stacked(items: list[_Item]) -> list[list[Line] | Grid]:
    """Order what stands in one column from top to bottom."""
    found: list[list[Line] | Grid] = []
    words: list[Word] = []
    for item in sorted(items, key=lambda item: item.y):
        if item.grid is None:
            words.extend(item.words)
        else:
            found.extend(with_aligned_grids(lines_of(words)))
            words = []
            found.append(item.grid)
    found.extend(with_aligned_grids(lines_of(words)))
    return found
