"""What gets a vector of its own when a splitter looks at meaning: sentences, very short ones joined to a neighbour."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from rag_embeddings.split.fit import trim
from rag_embeddings.split.series import unit_length

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rag_embeddings.split.atoms import Atoms, Measure
    from rag_embeddings.text import Span

_LEAST = (4, 6, 8, 10, 12)
_SPECIAL, _SHARE = 2, 0.19  # a model adds about two special tokens to a text: in all no more than this share
_BOUND = 1.5  # what costs so much to cut is kept together: a heading and what is below it, words of a sentence


@dataclass(frozen=True)
class Units:
    """Units of a document that tile it, each of one atom or more.

    Attributes:
        measure: How the text is taken apart.
        atoms: Its atoms.
        firsts: Index of the first atom of each unit, shape (units,).
    """

    measure: Measure
    atoms: Atoms
    firsts: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.firsts)

    @cached_property
    def marks(self) -> NDArray[np.int64]:
        """Where the units begin, and the end of the last, shape (units + 1,)."""
        marks: NDArray[np.int64] = self.atoms.marks[np.append(self.firsts, len(self.atoms))]
        return marks

    @cached_property
    def tokens(self) -> NDArray[np.int64]:
        """Tokens of each unit, an atom without any counting as one, shape (units,)."""
        if len(self) == 0:
            return np.zeros(0, dtype=np.int64)
        sums: NDArray[np.int64] = np.add.reduceat(np.maximum(self.atoms.tokens, 1), self.firsts)
        return sums

    @cached_property
    def costs(self) -> NDArray[np.float64]:
        """What it costs to cut in front of each unit, shape (units,)."""
        return self.atoms.costs[self.firsts]

    @cached_property
    def spans(self) -> list[Span]:
        """The units without outer white space; empty for one that is nothing else."""
        text, graphemes = self.measure.text, self.measure.graphemes
        return [trim(text, start, end, graphemes) for start, end in pairwise(self.marks.tolist())]

    @cached_property
    def texts(self) -> list[str]:
        """The text of each unit that is not white space alone: what an encoder is asked for."""
        return [span.of(self.measure.text) for span in self.spans if len(span)]

    def spread(self, vectors: NDArray[np.floating]) -> NDArray[np.float64]:
        """Turn the vectors of `texts` into one of length 1 per unit; white space takes that of the unit before it.

        Args:
            vectors: Shape (len(texts), dim), at least one.

        Returns:
            float64 of shape (units, dim).
        """
        present = np.array([len(span) > 0 for span in self.spans])
        rows: NDArray[np.float64] = unit_length(vectors)[np.maximum(np.cumsum(present) - 1, 0)]
        return rows


def units_of(measure: Measure, atoms: Atoms, maximum: int) -> Units:
    """Join the shortest atoms until special tokens are less than a fifth of what goes through a model.

    Sentences of ordinary length stay as they are; a list of single words is read a dozen tokens at a time.

    Args:
        measure: How the text is taken apart.
        atoms: Its atoms.
        maximum: Most tokens of a unit of several atoms.

    Returns:
        The units. Takes linear time.
    """
    firsts = np.zeros(0, dtype=np.int64)
    for least in _LEAST:
        firsts = join_short(atoms, least, maximum)
        if _SPECIAL * len(firsts) <= _SHARE * atoms.tokens.sum():
            break
    return Units(measure, atoms, firsts)


def join_short(atoms: Atoms, least: int, maximum: int) -> NDArray[np.int64]:
    """Join atoms with fewer than ``least`` tokens to the neighbour from which it costs more to cut them.

    A heading is joined to what is below it, whatever its length, and so are the pieces of one sentence.

    Args:
        atoms: The atoms.
        least: Tokens that a unit should have.
        maximum: Most tokens of a unit of several atoms.

    Returns:
        Index of the first atom of each unit. Takes linear time.
    """
    # An atom without tokens takes room, yet gives a model nothing to read.
    tokens, room, costs = atoms.tokens.tolist(), np.maximum(atoms.tokens, 1).tolist(), atoms.costs.tolist()
    units: list[_Open] = []
    current = _Open(0)
    for index in range(len(tokens)):
        if index > current.first:
            before = units[-1] if units else None
            full = current.tokens >= least and costs[index] < _BOUND
            if full or current.room + room[index] > maximum:
                units.append(current)
                current = _Open(index)
            elif before and costs[current.first] > costs[index] and before.room + current.room <= maximum:
                before.take(current.tokens, current.room)
                current = _Open(index)
        current.take(tokens[index], room[index])
    if len(tokens):
        short = current.tokens < least and units and units[-1].room + current.room <= maximum
        if not short:
            units.append(current)
    return np.array([unit.first for unit in units], dtype=np.int64)


class _Open:
    """A unit that is being filled."""

    __slots__ = ("first", "room", "tokens")

    def __init__(self, first: int) -> None:
        self.first = first
        self.tokens = 0
        self.room = 0

    def take(self, tokens: int, room: int) -> None:
        self.tokens += tokens
        self.room += room
