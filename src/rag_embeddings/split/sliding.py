"""A window of sentences that moves over the text, so that each sentence stands in several chunks."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

from rag_embeddings.split.atoms import CLAUSE, GRAPHEME, WORD
from rag_embeddings.split.base import DEFAULT_MAX_TOKENS, DEFAULT_TOKENIZER
from rag_embeddings.split.packing import SentencePacker
from rag_embeddings.split.sentences import Level

if TYPE_CHECKING:
    from collections.abc import Mapping


class SlidingWindowSplitter(SentencePacker):
    """Fills windows with whole sentences; each window repeats the last sentences of the one before.

    All cuts between sentences cost the same, whatever stands between them.

    Args:
        max_tokens: Most tokens of a window.
        overlap: Most tokens that a window repeats; half of ``max_tokens`` by default.
        tokenizer: What counts the tokens; see `rag_embeddings.split.tokens.token_counter`. Give the encoder that will
            embed the chunks.
        language: ISO 639-1 code, for sentence boundaries.

    Raises:
        BudgetError: If max_tokens < 1, overlap < 0 or overlap >= max_tokens.
    """

    kind: ClassVar[str] = "sliding_window"
    costs: ClassVar[Mapping[int, float]] = MappingProxyType(
        {**dict.fromkeys(Level, 0.5), CLAUSE: 1.0, WORD: 3.0, GRAPHEME: 6.0}
    )

    def __init__(
        self,
        max_tokens: int = DEFAULT_MAX_TOKENS,
        overlap: int | None = None,
        *,
        tokenizer: Any = DEFAULT_TOKENIZER,
        language: str = "en",
    ) -> None:
        super().__init__(max_tokens, max_tokens // 2 if overlap is None else overlap, tokenizer, language, None)
