"""A passage, or the sentence that matched, grows by what stands beside it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, get_args

from rag_embeddings.retrieve.merge import closed, grown
from rag_embeddings.store.neighbours import end_after, parts, start_before
from rag_embeddings.text import Span

if TYPE_CHECKING:
    from rag_embeddings.retrieve.base import Match
    from rag_embeddings.store.ledger import Ledger
    from rag_embeddings.store.version import Place

Unit = Literal["sentence", "chunk"]
Around = Literal["passage", "match"]


@dataclass(frozen=True)
class Window:
    """How much is added on both sides.

    Attributes:
        size: Number of units added before and behind.
        unit: ``"sentence"``, as the index has cut them, or whole ``"chunk"``s in the splitter's order.
        around: ``"passage"``: the chunk grows. ``"match"``: the passage is replaced by the sentence that matched best
            and the sentences beside it, as with LlamaIndex's sentence windows; chunks are not a unit there.

    Raises:
        ValueError: If the size is below 1 or a word unknown.
    """

    size: int = 1
    unit: Unit = "sentence"
    around: Around = "passage"

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"the size of a window must be at least 1, got {self.size}")
        if self.unit not in get_args(Unit) or self.around not in get_args(Around):
            raise ValueError(f"unit is 'sentence' or 'chunk', around 'passage' or 'match', got {self}")
        if self.around == "match" and self.unit == "chunk":
            raise ValueError("a window around the matched sentence counts sentences; use unit='sentence'")


def widened(match: Match, place: Place, window: Window, ledger: Ledger) -> Match:
    """Let a passage grow inside its document.

    Args:
        match: A match, its chunk as it was indexed.
        place: Where that chunk stands.
        window: How far it grows.
        ledger: Knows what stands beside it.

    Returns:
        The match with a larger chunk, whose text is still a slice of the document (several, where the chunk was).
    """
    chunk = match.chunk
    if window.unit == "chunk":
        beside = parts(ledger, place.version, max(place.ordinal - window.size, 0), place.ordinal + window.size)
        return replace(match, chunk=grown(chunk, [span for part in beside for span in part.spans]))
    at_match = window.around == "match" and match.sentences
    middles = match.sentences[:1] if at_match else chunk.spans
    spans = [
        Span(
            start_before(ledger, place.version, span.start, window.size),
            end_after(ledger, place.version, span.end, window.size),
        )
        for span in middles
    ]
    return replace(match, chunk=replace(chunk, spans=closed(chunk.document, spans)))
