"""What the splitters that pack sentences share."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from rag_embeddings.split.atoms import Measure
from rag_embeddings.split.fit import fit
from rag_embeddings.split.graphemes import boundaries
from rag_embeddings.split.pack import check_budget, pack
from rag_embeddings.split.tokens import TokenCounter, token_counter

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rag_embeddings.split.atoms import Atoms
    from rag_embeddings.text import Chunk, Document


class SentencePacker:
    """Sentences, packed into chunks under a budget of tokens. Subclasses say what each kind of cut costs.

    Immutable once built, safe to use from several threads, and as picklable as its ``tokenizer``.

    Attributes:
        kind: Name of the splitter in `settings`.
        costs: What a cut costs, by level: those of `sentences.Level`, then `atoms.CLAUSE`, ``WORD`` and ``GRAPHEME``.
    """

    kind: ClassVar[str]
    costs: ClassVar[Mapping[int, float]]

    def __init__(self, max_tokens: int, overlap: int, tokenizer: Any, language: str, target: int | None) -> None:
        check_budget(max_tokens, overlap, target)
        self.max_tokens = max_tokens
        self.overlap = overlap
        self.tokenizer = tokenizer
        self.language = language
        self.target = max_tokens if target is None else target

    @cached_property
    def counter(self) -> TokenCounter:
        """Counts tokens; built at first use, because it may have to load a model's tokenizer."""
        return token_counter(self.tokenizer)

    def split(self, document: Document) -> list[Chunk]:
        """Split a document; see `rag_embeddings.split.base.Splitter`. Takes linear time."""
        measure = Measure(document.text, boundaries(document.text), self.counter, self.costs)
        atoms = self.atoms(measure)
        packs = pack(atoms, self.max_tokens, target=self.target, overlap=self.overlap)
        return fit(document, measure, atoms, packs, self.max_tokens)

    def atoms(self, measure: Measure) -> Atoms:
        """Take a document apart, with what it costs to cut in front of each piece."""
        return measure.sentences(self.max_tokens, self.language)

    def settings(self) -> dict[str, Any]:
        """Return everything that changes the result; see `rag_embeddings.split.base.Splitter`."""
        return {
            "splitter": self.kind,
            "max_tokens": self.max_tokens,
            "overlap": self.overlap,
            "target": self.target,
            "language": self.language,
            "tokenizer": self.counter.name,
        }

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "counter"}

    def __repr__(self) -> str:
        return f"{type(self).__name__}(max_tokens={self.max_tokens}, overlap={self.overlap})"
