"""A budget of tokens instead of a number of passages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rag_embeddings.split.base import DEFAULT_TOKENIZER
from rag_embeddings.split.tokens import token_counter

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rag_embeddings.encode.base import Encoder
    from rag_embeddings.retrieve.base import Match
    from rag_embeddings.split.tokens import TokenCounter


class Sizes:
    """Sizes of passages in tokens, context included, each counted once.

    Args:
        counter: Counts the tokens.
    """

    def __init__(self, counter: TokenCounter) -> None:
        self._counter = counter
        self._known: dict[tuple[str, str], int] = {}

    def of(self, matches: Iterable[Match]) -> int:
        """Return the tokens of some passages together."""
        chunks = {(match.chunk.id, match.chunk.context): match.chunk for match in matches}
        unknown = [key for key in chunks if key not in self._known]
        counts = self._counter.count([chunks[key].embedding_text for key in unknown])
        self._known.update(zip(unknown, counts, strict=True))
        return sum(self._known[key] for key in chunks)


def within(matches: Sequence[Match], tokens: int, counter: TokenCounter) -> list[Match]:
    """Take passages in rank order while they fit into a budget.

    Args:
        matches: Best first.
        tokens: The budget. A passage counts with its context.
        counter: Counts the tokens.

    Returns:
        The longest beginning of ``matches`` that fits; the first passage in any case, so that an answer is not empty
        because its passage is long.

    Raises:
        ValueError: If the budget is below 1.
    """
    checked_budget(tokens)
    sizes = Sizes(counter)
    taken: list[Match] = []
    left = tokens
    for match in matches:
        left -= sizes.of([match])
        if left < 0 and taken:
            break
        taken.append(match)
    return taken


def checked_budget(tokens: int) -> int:
    """Return a budget, or say that it is none.

    Raises:
        ValueError: If it is below 1.
    """
    if tokens < 1:
        raise ValueError(f"a token budget must be at least 1, got {tokens}")
    return tokens


def budget_counter(tokenizer: Any, encoder: Encoder) -> TokenCounter:
    """Return what counts a budget: the tokenizer given, else the encoder's, as its splitters do, else tiktoken's."""
    if tokenizer is None:
        tokenizer = DEFAULT_TOKENIZER if encoder.tokenizer is None else encoder
    return token_counter(tokenizer)
