"""What the splitters that look at meaning share: units, one vector each, and cuts that are handed to the packer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from rag_embeddings.encode.base import Role
from rag_embeddings.errors import BudgetError, VectorError
from rag_embeddings.split.atoms import Measure
from rag_embeddings.split.base import Cut
from rag_embeddings.split.explain import Explanation
from rag_embeddings.split.fit import fit
from rag_embeddings.split.graphemes import boundaries
from rag_embeddings.split.pack import check_budget, pack
from rag_embeddings.split.recursive import RecursiveSplitter
from rag_embeddings.split.tokens import TokenCounter, token_counter
from rag_embeddings.split.units import Units, units_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from rag_embeddings.encode.base import Encoder
    from rag_embeddings.text import Chunk, Document


class Proposal(NamedTuple):
    """Where a method cuts, and what it looked at.

    Attributes:
        starts: The first unit of each chunk, ascending, beginning with 0.
        similarity: See `rag_embeddings.split.explain.Explanation`, as for the other three.
        middle: The middle band.
        lower: The lower band.
        upper: The upper band.
    """

    starts: list[int]
    similarity: NDArray[np.float64]
    middle: NDArray[np.float64]
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]


def check_vectors(units: Units, vectors: NDArray[np.floating]) -> None:
    """Refuse vectors that say nothing of where to cut: one NaN would hide all that comes behind it.

    Args:
        units: The units of a document.
        vectors: Of ``units.texts``, shape (len(units.texts), dim).

    Raises:
        VectorError: If there are not as many vectors as texts, or one is not finite. Zeros, which models with a small
            vocabulary give to what they do not know, are like nothing else, and no harm.
    """
    if np.ndim(vectors) != 2 or len(vectors) != len(units.texts):  # noqa: PLR2004
        raise VectorError(f"{len(units.texts)} units have text, got vectors of shape {np.shape(vectors)}")
    good = np.isfinite(vectors).all(axis=1)
    if not good.all():
        raise VectorError(f"the vector of {units.texts[int(np.argmin(good))][:60]!r} has NaN or infinity")


class UnitPacker:
    """Sentences that get a vector each.

    Every sentence is encoded once, alone: a model's states of a long text know what is behind a boundary before it
    comes. Headings are joined to what is below them, and where sentences are very short, so are they to a neighbour, so
    that special tokens stay below a fifth of what goes through the model. A document of one unit is not encoded at
    all.

    Immutable once built, safe to use from several threads if its encoder is.

    Attributes:
        kind: Name of the splitter in `settings`.
        costs: What a cut costs, by level, as in `RecursiveSplitter`.
    """

    kind: ClassVar[str]
    costs: ClassVar[Mapping[int, float]] = RecursiveSplitter.costs

    def __init__(
        self, encoder: Encoder, max_tokens: int, min_tokens: int | None, tokenizer: Any, language: str
    ) -> None:
        check_budget(max_tokens)
        self.encoder = encoder
        self.max_tokens = max_tokens
        self.min_tokens = max_tokens // 4 if min_tokens is None else min_tokens
        if not 0 <= self.min_tokens <= max_tokens // 2:
            raise BudgetError(
                f"min_tokens must be at least 0 and at most half of max_tokens ({max_tokens}), got {min_tokens}"
            )
        self.tokenizer = tokenizer
        self.language = language

    @cached_property
    def counter(self) -> TokenCounter:
        """Counts tokens as the encoder does; built at first use, because it may have to load the model's tokenizer."""
        return token_counter(self.encoder if self.tokenizer is None else self.tokenizer)

    def units(self, document: Document) -> Units:
        """Take a document apart into what gets a vector each; ``units.texts`` is what is encoded.

        Args:
            document: The document.

        Returns:
            Units that tile its text.
        """
        measure = Measure(document.text, boundaries(document.text), self.counter, self.costs)
        atoms = measure.sentences(self.max_tokens, self.language)
        return units_of(measure, atoms, self.max_tokens)

    def settings(self) -> dict[str, Any]:
        """Return everything that changes the result; see `rag_embeddings.split.base.Splitter`. Loads the model."""
        return {
            "splitter": self.kind,
            "max_tokens": self.max_tokens,
            "min_tokens": self.min_tokens,
            "language": self.language,
            "tokenizer": self.counter.name,
            "space": self.encoder.profile.space,
        }

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "counter"}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.encoder!r}, max_tokens={self.max_tokens})"


class MeaningPacker(UnitPacker, ABC):
    """Chunks that begin where a method says so. Subclasses are the methods."""

    @abstractmethod
    def propose(self, vectors: NDArray[np.float64], tokens: NDArray[np.int64], costs: NDArray[np.float64]) -> Proposal:
        """Choose where chunks begin: a pure function of vectors, whatever they come from.

        Args:
            vectors: Vectors of length 1 of the units, shape (units, dim), at least one.
            tokens: Tokens of each unit, shape (units,).
            costs: What it costs to cut in front of each unit, shape (units,).

        Returns:
            The cuts, no chunk over ``max_tokens`` unless it is a single unit, and the series behind them.
        """

    def split(self, document: Document) -> list[Chunk]:
        """Split a document; see `rag_embeddings.split.base.Splitter`. Takes linear time beside the encoder's.

        Raises:
            VectorError: As for `split_vectors`.
        """
        units = self.units(document)
        return self._chunks(document, units, self._starts(units))

    def split_vectors(self, document: Document, units: Units, vectors: NDArray[np.floating]) -> list[Chunk]:
        """Split a document whose units have vectors already.

        Args:
            document: The document.
            units: Its `units`.
            vectors: Of ``units.texts``, shape (len(units.texts), dim), of any length but 0.

        Returns:
            The chunks that `split` gives if these are the encoder's vectors.

        Raises:
            VectorError: If there are not as many vectors as texts, or one is not finite.
        """
        return self._chunks(document, units, self._proposal(units, vectors).starts)

    def explain(self, document: Document) -> Explanation:
        """Split a document and return the series behind the cuts as well.

        Args:
            document: What to split.

        Returns:
            The chunks of `split`, their sizes, and similarities, bands and cuts, one per boundary between units.
        """
        units = self.units(document)
        if len(units) > 1 and units.texts:
            proposal = self._proposal(units, self.encoder.encode(units.texts, Role.DOCUMENT))
        else:
            none = np.zeros(max(len(units) - 1, 0))
            proposal = Proposal(self._starts(units), none, none, none, none)
        chunks = self._chunks(document, units, proposal.starts)
        begins = {chunk.start for chunk in chunks}
        return Explanation(
            document=document,
            chunks=tuple(chunks),
            tokens=np.array(self.counter.count([chunk.embedding_text for chunk in chunks]), dtype=np.int64),
            at=np.array([span.start for span in units.spans[1:]], dtype=np.int64),
            similarity=proposal.similarity,
            middle=proposal.middle,
            lower=proposal.lower,
            upper=proposal.upper,
            cuts=np.array([span.start in begins for span in units.spans[1:]], dtype=np.bool_),
        )

    def _starts(self, units: Units) -> list[int]:
        if len(units) < 2 or len(units.texts) < 2:  # noqa: PLR2004  # nothing to compare
            return [0] if len(units) else []
        return self._proposal(units, self.encoder.encode(units.texts, Role.DOCUMENT)).starts

    def _proposal(self, units: Units, vectors: NDArray[np.floating]) -> Proposal:
        check_vectors(units, vectors)
        return self.propose(units.spread(vectors), units.tokens, units.costs)

    def _chunks(self, document: Document, units: Units, starts: list[int]) -> list[Chunk]:
        cuts = [Cut(int(units.marks[start]), forced=True) for start in starts[1:]]
        packs = pack(units.atoms, self.max_tokens, cuts=cuts)
        return fit(document, units.measure, units.atoms, packs, self.max_tokens)
