"""Words on one baseline."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rag_embeddings.read.pdf_words import Word

SAME_LINE = 0.5
"""How far baselines of one line may lie apart, in sizes of the font."""

CELL_GAP = 1.4
"""Gaps wider than this, in sizes of the font, do not stand between words of a sentence."""

LEADERS = re.compile(r"(?:\.\s?){4}|(?:\s\.){2,}\s*\w+$")
"""The dots of a table of contents."""


@dataclass(slots=True)
class Line:
    """Words on one baseline, from left to right."""

    words: list[Word]
    x0: float = field(init=False)
    x1: float = field(init=False)
    y: float = field(init=False)
    size: float = field(init=False)
    bold: bool = field(init=False)
    mono: bool = field(init=False)

    def __post_init__(self) -> None:
        self.words.sort(key=lambda word: word.x0)
        self.x0, self.x1 = self.words[0].x0, max(word.x1 for word in self.words)
        letters = Counter[tuple[float, bool, bool, float]]()
        for word in self.words:
            letters[word.size, word.bold, word.mono, word.y] += len(word.text)
        total = letters.total()
        self.size, _, _, self.y = letters.most_common(1)[0][0]
        self.bold = sum(count for (_, bold, _, _), count in letters.items() if bold) > 0.8 * total
        self.mono = sum(count for (_, _, mono, _), count in letters.items() if mono) > 0.8 * total

    @property
    def text(self) -> str:
        """The words with a space between, none where they touch."""
        parts = [self.words[0].text]
        for before, word in pairwise(self.words):
            touches = word.x0 - before.x1 < 0.05 * self.size
            parts.append(word.text if touches else f" {word.text}")
        return "".join(parts)

    def cells(self) -> list[list[Word]]:
        """Return the words in groups with wide gaps between."""
        groups = [[self.words[0]]]
        end = self.words[0].x1
        for word in self.words[1:]:
            if word.x0 - end > CELL_GAP * self.size:
                groups.append([])
            groups[-1].append(word)
            end = max(end, word.x1)
        return groups


def lines_of(words: Iterable[Word]) -> list[Line]:
    """Gather words into lines, from top to bottom."""
    open_: list[list[Word]] = []
    base = None  # the largest word of the line: smaller ones may be raised or lowered beside it
    for word in sorted(words, key=lambda word: (word.y, word.x0)):
        if base and abs(word.y - base.y) <= SAME_LINE * max(word.size, base.size):
            open_[-1].append(word)
            base = max(base, word, key=lambda other: other.size)
        else:
            open_.append([word])
            base = word
    return [Line(group) for group in open_]
