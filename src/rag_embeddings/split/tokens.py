"""Counting tokens: one call that accepts whatever a user counts with.

A document is tokenised once and asked for the number of tokens before any position (`TokenCounter.cumulative`); the
chunks that come out are counted once more as they are (`TokenCounter.count`), because a text cut out of another one may
have a few tokens more than it had inside.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from rag_embeddings.errors import UnsupportedModelError
from rag_embeddings.text import without_surrogates

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

PIECE = 16_384
"""Longest text given to a tokenizer at once, in characters. Bounds memory, and time where a tokenizer is not linear."""


@runtime_checkable
class TokenCounter(Protocol):
    """Counts the tokens of texts, without special tokens.

    Attributes:
        name: A stable spelling of what is counted with, for fingerprints.
    """

    @property
    def name(self) -> str: ...  # noqa: D102

    def count(self, texts: Sequence[str]) -> list[int]:
        """Count the tokens of each text, each on its own.

        Args:
            texts: Any texts; lone surrogates count as U+FFFD.

        Returns:
            One number per text.
        """
        ...

    def cumulative(self, text: str, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Count the tokens before each position, from one tokenisation of the whole text.

        Args:
            text: Any text.
            positions: Ascending character positions.

        Returns:
            For each position ``p`` the number of tokens whose last character lies before ``p``, int64.
        """
        ...


def token_counter(source: Any) -> TokenCounter:
    """Build a counter from what the caller counts with.

    Args:
        source: The name of a tiktoken encoding (``"cl100k_base"``) or a ``tiktoken.Encoding``; a Hugging Face tokenizer
            (a fast one of transformers, or a ``tokenizers.Tokenizer``: copied, never changed); an `Encoder`, whose
            tokenizer is used; a callable from a text to its number of tokens (``len`` counts characters); or a
            `TokenCounter`.

    Returns:
        The counter. It may be used from several threads.

    Raises:
        UnsupportedModelError: If nothing can be counted with ``source``.
        ModelNotFoundError: If a tiktoken table is neither cached nor to be had.
        MissingExtraError: If tiktoken is asked for and not installed.
    """
    if isinstance(source, str):
        from rag_embeddings.split.tokens_tiktoken import TiktokenCounter, load  # noqa: PLC0415

        return TiktokenCounter(load(source))
    if callable(getattr(source, "count", None)) and callable(getattr(source, "cumulative", None)):
        counter: TokenCounter = source
        return counter
    if hasattr(source, "encode_ordinary"):
        from rag_embeddings.split.tokens_tiktoken import TiktokenCounter  # noqa: PLC0415

        return TiktokenCounter(source)
    fast = getattr(source, "backend_tokenizer", source)
    if hasattr(fast, "encode_batch") and hasattr(fast, "no_truncation"):
        from rag_embeddings.split.tokens_huggingface import HuggingFaceCounter  # noqa: PLC0415

        return HuggingFaceCounter(fast)
    if hasattr(source, "convert_tokens_to_ids"):
        raise UnsupportedModelError(
            f"{type(source).__name__} is a tokenizer without offsets. Load the fast one (use_fast=True), "
            "or give a function that returns the number of tokens of a text"
        )
    if hasattr(source, "profile") and hasattr(source, "encode"):
        inner = source.tokenizer
        if inner is None:
            raise UnsupportedModelError(
                f"{type(source).__name__} ({source.profile.model}) has no tokenizer of its own. "
                "Give tokenizer='cl100k_base' or another tiktoken encoding, a tokenizer, or a function that counts"
            )
        return token_counter(inner)
    if callable(source):
        return CallableCounter(source)
    raise UnsupportedModelError(
        f"cannot count tokens with {source!r}: give a tiktoken encoding's name, a Hugging Face tokenizer, an encoder, "
        "or a function from a text to its number of tokens"
    )


class CallableCounter:
    """Counts with a function.

    Inside a document it is asked about each piece between two positions, so a tokenizer that merges across them is
    overcounted: chunks are within the budget and may be a little smaller than they could be. Pass the tokenizer itself
    where there is one.

    Args:
        function: From a text to its number of tokens.
    """

    def __init__(self, function: Callable[[str], int]) -> None:
        self._function = function
        self._name = spelling(function)

    @property
    def name(self) -> str:
        """``"characters"`` for `len`, otherwise module and name. Two lambdas of one module share a name: name them."""
        return self._name

    def count(self, texts: Sequence[str]) -> list[int]:
        """Count the tokens of each text; see `TokenCounter`."""
        return [self._number(without_surrogates(text)) for text in texts]

    def cumulative(self, text: str, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Count the tokens before each position; see `TokenCounter`."""
        if self._function is len:
            return positions.copy()
        text = without_surrogates(text)
        ends = positions.tolist()
        pieces = (text[start:end] for start, end in zip([0, *ends], ends, strict=False))
        numbers = (self._number(piece) if piece else 0 for piece in pieces)
        return np.cumsum(np.fromiter(numbers, dtype=np.int64, count=len(ends)))

    def _number(self, text: str) -> int:
        number = self._function(text)
        if isinstance(number, bool) or not isinstance(number, int | np.integer) or number < 0:
            raise UnsupportedModelError(
                f"{self._name} was asked for the number of tokens of a text and returned {number!r}, not a count"
            )
        return int(number)


def spelling(function: Callable[..., Any]) -> str:
    """Name a function for a fingerprint: ``"characters"`` for `len`, otherwise module and name."""
    if function is len:
        return "characters"
    if isinstance(function, partial):
        return f"{spelling(function.func)}(*{function.args!r}, **{function.keywords!r})"
    named = function if hasattr(function, "__qualname__") else type(function)
    return f"{named.__module__}.{named.__qualname__}"


def pieces(text: str) -> Iterator[tuple[int, int]]:
    """Cut a text into stretches of at most `PIECE` characters, in front of white space where there is some.

    A tokenizer that takes the space together with the word behind it sees what it would have seen.

    Args:
        text: Any text.

    Yields:
        Start and end of each stretch; together they tile the text.
    """
    start = 0
    while len(text) - start > PIECE:
        limit = start + PIECE
        space = max(text.rfind(" ", start + PIECE // 2, limit), text.rfind("\n", start + PIECE // 2, limit))
        end = space if space > 0 else limit
        yield start, end
        start = end
    if start < len(text):
        yield start, len(text)
