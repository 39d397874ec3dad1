"""Chunks that fill the budget and end where the text does: at paragraphs, then lines, sentences, clauses, words."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

from rag_embeddings.split.atoms import CLAUSE, GRAPHEME, WORD
from rag_embeddings.split.base import DEFAULT_MAX_TOKENS, DEFAULT_TOKENIZER
from rag_embeddings.split.packing import SentencePacker
from rag_embeddings.split.sentences import Level

if TYPE_CHECKING:
    from collections.abc import Mapping


class RecursiveSplitter(SentencePacker):
    """Splits at the strongest boundaries that keep chunks near the target size and under the budget.

    The cuts of a whole document are chosen together, so that neither a small rest nor a heading is left behind. A
    paragraph break is worth a chunk of half the target; a sentence is cut only where it exceeds the budget.

    Args:
        max_tokens: Most tokens of a chunk.
        overlap: Most tokens that a chunk repeats of the one before, in whole sentences.
        tokenizer: What counts the tokens; see `rag_embeddings.split.tokens.token_counter`. Give the encoder that will
            embed the chunks.
        language: ISO 639-1 code, for sentence boundaries.
        target: Tokens that a chunk should have; ``max_tokens`` by default.

    Raises:
        BudgetError: If max_tokens < 1, overlap < 0, overlap >= max_tokens or target is not within 1..max_tokens.
    """

    kind: ClassVar[str] = "recursive"
    costs: ClassVar[Mapping[int, float]] = MappingProxyType(
        {
            Level.PARAGRAPH: 0.0,
            Level.LINE: 0.1,
            Level.SENTENCE: 0.5,
            Level.TITLE: 1.5,
            CLAUSE: 1.0,
            WORD: 3,
            GRAPHEME: 6,
        }
    )

    def __init__(
        self,
        max_tokens: int = DEFAULT_MAX_TOKENS,
        overlap: int = 0,
        *,
        tokenizer: Any = DEFAULT_TOKENIZER,
        language: str = "en",
        target: int | None = None,
    ) -> None:
        super().__init__(max_tokens, overlap, tokenizer, language, target)
