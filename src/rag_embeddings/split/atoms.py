"""What a document is packed from: sentences, and pieces of the sentences that are too long."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from rag_embeddings.split.graphemes import at_boundaries
from rag_embeddings.split.sentences import Level, sentence_marks

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from rag_embeddings.split.tokens import TokenCounter

CLAUSE, WORD, GRAPHEME = 4, 5, 6
"""Levels of cuts inside a sentence, below those of `sentences.Level`."""

_STOPS = "，、；：。！？…"  # noqa: RUF001
# A word with some white space behind it, a Chinese clause, or a long run of white space. Possessive, hence linear.
_WORD = re.compile(rf"[^\s{_STOPS}]*+[{_STOPS}]++\s{{0,16}}+|[^\s{_STOPS}]++\s{{0,16}}+|\s++")
_CLAUSE_ENDS = frozenset(",;:—–" + _STOPS)  # noqa: RUF001
_PIECES = 16
"""A budget is filled by about so many pieces of an oversize sentence: more would cost time and help nobody."""


@dataclass(frozen=True)
class Atoms:
    """Pieces that tile a text or a part of it.

    Attributes:
        marks: Where they begin, and the end of the last, shape (atoms + 1,), ascending.
        tokens: How many tokens each has, shape (atoms,).
        costs: What it costs to cut in front of each, shape (atoms,).
    """

    marks: NDArray[np.int64]
    tokens: NDArray[np.int64]
    costs: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.tokens)


@dataclass(frozen=True)
class Measure:
    """How a text is taken apart: its grapheme boundaries, who counts, and what each kind of cut costs.

    Attributes:
        text: The text.
        graphemes: Its `graphemes.boundaries`.
        counter: Counts tokens.
        costs: Cost by level: those of `sentences.Level`, and `CLAUSE`, `WORD`, `GRAPHEME`.
    """

    text: str
    graphemes: NDArray[np.bool_]
    counter: TokenCounter
    costs: Mapping[int, float]

    def sentences(self, maximum: int, language: str) -> Atoms:
        """Take the whole text apart.

        Args:
            maximum: Sentences with more tokens are taken apart further, into clauses, words and graphemes.
            language: ISO 639-1 code.

        Returns:
            Atoms that tile the text; only a grapheme or a run of white space may have more than ``maximum`` tokens.
        """
        marks, levels = sentence_marks(self.text, self.graphemes, language)
        tokens = np.diff(self.counter.cumulative(self.text, marks))
        return self.refined(marks, tokens, self._prices(levels), maximum)

    def refined(
        self, marks: NDArray[np.int64], tokens: NDArray[np.int64], costs: NDArray[np.float64], maximum: int
    ) -> Atoms:
        """Take apart what is too large.

        Args:
            marks: Where pieces of the text begin, and the end of the last, shape (pieces + 1,).
            tokens: How many tokens each has, shape (pieces,).
            costs: What it costs to cut in front of each, shape (pieces,).
            maximum: Pieces with more tokens are taken apart, into clauses, words and graphemes.

        Returns:
            Atoms; only a grapheme or a run of white space may have more than ``maximum`` tokens.
        """
        long = np.flatnonzero(tokens > maximum)
        if len(long) == 0:
            return Atoms(marks, tokens, costs)
        parts: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]] = []
        done = 0
        for index in long.tolist():
            parts.append((marks[done:index], tokens[done:index], costs[done:index]))
            starts, sizes, levels = self._fine(int(marks[index]), int(marks[index + 1]), maximum, Level.SENTENCE)
            prices = self._prices(levels)
            prices[0] = costs[index]
            parts.append((starts, sizes, prices))
            done = index + 1
        parts.append((marks[done:-1], tokens[done:], costs[done:]))
        starts, sizes, prices = (np.concatenate(column) for column in zip(*parts, strict=True))
        return Atoms(np.append(starts, marks[-1]), sizes, prices)

    def finer(self, start: int, end: int, maximum: int) -> Atoms:
        """Take a stretch apart that was one atom and proved too large.

        Args:
            start: Its first character.
            end: Behind its last character.
            maximum: Budget of its pieces.

        Returns:
            At least two atoms, or one if the stretch is a single grapheme.
        """
        if self._is_grapheme(start, end):
            empty = np.zeros(1, dtype=np.int64)
            return Atoms(np.array([start, end], dtype=np.int64), empty, self._prices(empty.astype(np.int8)))
        starts, tokens, levels = self._fine(start, end, maximum, Level.SENTENCE)
        if len(starts) == 1:
            starts, tokens = self._graphemes(start, end)
            levels = np.full(len(starts), GRAPHEME, dtype=np.int8)
        return Atoms(np.append(starts, end), tokens, self._prices(levels))

    def _prices(self, levels: NDArray[np.int8]) -> NDArray[np.float64]:
        prices: NDArray[np.float64] = np.array([self.costs[level] for level in range(GRAPHEME + 1)], np.float64)[levels]
        return prices

    def _fine(
        self, start: int, end: int, maximum: int, level: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int8]]:
        """Return starts, tokens and levels of the pieces of a sentence."""
        starts, levels = self._words(start, end)
        tokens = self._tokens(starts, end)
        parts: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int8]]] = []
        done = 0
        for index in np.flatnonzero(tokens > maximum).tolist():
            first = int(starts[index])
            last = int(starts[index + 1]) if index + 1 < len(starts) else end
            if self.text[first:last].isspace() or self._is_grapheme(first, last):
                continue  # white space will be a chunk of its own, and dropped
            graphemes, sizes = self._graphemes(first, last)
            kinds = np.full(len(graphemes), GRAPHEME, dtype=np.int8)
            kinds[0] = levels[index]
            parts.append((starts[done:index], tokens[done:index], levels[done:index]))
            parts.append((graphemes, sizes, kinds))
            done = index + 1
        parts.append((starts[done:], tokens[done:], levels[done:]))
        starts, tokens, levels = (np.concatenate(column) for column in zip(*parts, strict=True))
        levels[0] = level
        return _coalesced(starts, tokens, levels, max(maximum // _PIECES, 1))

    def _words(self, start: int, end: int) -> tuple[NDArray[np.int64], NDArray[np.int8]]:
        found = [start]
        clauses = [False]
        for word in _WORD.finditer(self.text, start, end):
            found.append(word.end())
            clauses.append(word.group().rstrip()[-1:] in _CLAUSE_ENDS)
        marks = np.array(found, dtype=np.int64)
        starts = at_boundaries(marks, self.graphemes)[:-1]
        levels = np.where(np.array(clauses)[np.searchsorted(marks, starts)], CLAUSE, WORD)
        return starts, levels.astype(np.int8)

    def _is_grapheme(self, start: int, end: int) -> bool:
        return not self.graphemes[start + 1 : end].any()

    def _graphemes(self, start: int, end: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        starts = np.flatnonzero(self.graphemes[start:end]).astype(np.int64) + start
        return starts, self._tokens(starts, end)

    def _tokens(self, starts: NDArray[np.int64], end: int) -> NDArray[np.int64]:
        """Count the tokens of neighbouring stretches, from one tokenisation of them all."""
        first = int(starts[0])
        return np.diff(self.counter.cumulative(self.text[first:end], np.append(starts, end) - first))


def _coalesced(
    starts: NDArray[np.int64], tokens: NDArray[np.int64], levels: NDArray[np.int8], grain: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int8]]:
    """Join neighbours into pieces of about ``grain`` tokens, at most twice as many, but not across clauses."""
    sizes = np.maximum(tokens, 1)
    bins = (np.cumsum(sizes) - sizes) // grain
    large = sizes > grain
    begins = np.ones(len(starts), dtype=np.bool_)
    begins[1:] = (bins[1:] != bins[:-1]) | large[1:] | large[:-1] | (levels[1:] == CLAUSE)
    kept = np.flatnonzero(begins)
    return starts[kept], np.add.reduceat(tokens, kept), levels[kept]
