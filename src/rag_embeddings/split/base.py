"""The protocol of every splitter, and the place between atoms where a text may be split."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from rag_embeddings.text import Chunk, Document

DEFAULT_MAX_TOKENS = 254
"""Budget of a chunk where the caller names none: what all-MiniLM-L6-v2 takes beside its two special tokens."""
DEFAULT_TOKENIZER = "cl100k_base"
"""What counts tokens where the caller names nothing: a tiktoken encoding."""


@dataclass(frozen=True, slots=True)
class Cut:
    """A place between atoms where the text may be split.

    Attributes:
        at: Character index, the start of the atom behind the cut.
        cost: What splitting here costs: 0 is free, larger is worse, infinite only if the budget demands it.
        forced: Whether the text must be split here.
    """

    at: int
    cost: float = inf
    forced: bool = False


@runtime_checkable
class Splitter(Protocol):
    """Document in, chunks out."""

    def split(self, document: Document) -> list[Chunk]:
        """Split a document.

        Args:
            document: What to split.

        Returns:
            Chunks in the order of the text, each within the splitter's budget (only a single grapheme larger than the
            budget may exceed it). Together they cover every character that is not white space. A document of white
            space alone gives none.
        """
        ...

    def settings(self) -> dict[str, Any]:
        """Return everything that changes the result, as JSON-safe values, under ``"splitter"`` the kind's name.

        Part of `Pipeline.fingerprint`: changing any of it re-indexes a document.
        """
        ...
