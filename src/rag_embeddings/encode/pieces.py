"""Texts longer than a model takes: cut into pieces that fit, and put together again."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np

from rag_embeddings.encode.fitting import parts
from rag_embeddings.encode.tokens import own_tokens
from rag_embeddings.errors import TextTooLongError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from rag_embeddings.encode.base import Vectors
    from rag_embeddings.encode.tokens import TextInput, Tokens


def tokens_of(entries: Sequence[TextInput], texts: Sequence[str]) -> Iterator[Tokens]:
    """Yield the token ids of each text in its own frame; neighbours of one frame are tokenized together."""
    for _, group in groupby(zip(entries, texts, strict=True), key=lambda pair: id(pair[0])):
        pairs = list(group)
        yield from pairs[0][0].tokens([text for _, text in pairs])


def too_long(entry: TextInput, text: str, name: object, tokens: int, *, refuse: bool) -> str:
    """Say of a text that it is too long.

    Args:
        entry: How the text enters the model; its limit is set.
        text: The text.
        name: What the caller knows it by.
        tokens: How many it has, prompt and special tokens included.
        refuse: Whether that is an error.

    Returns:
        The beginning of a message.

    Raises:
        TextTooLongError: If it is, or if prompt and special tokens alone are too many.
    """
    limit = entry.limit or 0
    message = f"text {name} has {tokens} tokens, prompt and special tokens included; the model takes {limit}"
    if refuse:
        raise TextTooLongError(f"{message}. Split it, or use too_long='split'. It begins {text[:60]!r}")
    if entry.overhead >= limit:
        raise TextTooLongError(f"{message}, and prompt and special tokens alone take {entry.overhead}")
    return message


def fitting_pieces(entry: TextInput, text: str, message: str) -> list[Tokens]:
    """Cut a text that is too long.

    Args:
        entry: How the text enters the model; its limit is set.
        text: The text.
        message: What to say of the text where it cannot be cut.

    Returns:
        Token ids of pieces that tile the text, each in its frame and within the limit.

    Raises:
        TextTooLongError: If something in the text cannot be cut.
    """
    limit = entry.limit or 0
    done: list[Tokens] = []
    todo = [text]
    while todo:
        part = todo.pop()
        (ids,) = entry.tokens([part])
        if len(ids) <= limit:
            done.append(ids)
            continue
        # Cut inside a word, a part may take a few more tokens than the whole text gave it: then it is cut again.
        offsets = own_tokens(entry, part)[0]
        ranges = parts(part, offsets, limit - entry.overhead)
        if len(ranges) == 1:
            raise TextTooLongError(f"{message}, and {part[:20]!r} in it cannot be cut")
        todo.extend(part[start:end] for start, end in reversed(ranges))
    return done


def finish(vectors: Vectors, dimensions: int, *, normalize: bool) -> Vectors:
    """Truncate, then normalise. A vector of zeros stays one; `validated` refuses it."""
    kept = vectors[:, :dimensions]
    if not normalize:
        return np.ascontiguousarray(kept)
    lengths = np.linalg.norm(kept.astype(np.float64), axis=1, keepdims=True)
    finished: Vectors = (kept / np.where(lengths == 0, 1, lengths)).astype(np.float32)
    return finished


def weighted_means(vectors: Vectors, owners: NDArray[np.int64], weights: NDArray[np.float64], count: int) -> Vectors:
    """Average the pieces of each text; a single one stays as it is, to the bit.

    Args:
        vectors: float32 of shape (pieces, width).
        owners: Which text each piece belongs to, shape (pieces,).
        weights: How much each counts, shape (pieces,).
        count: Number of texts.

    Returns:
        float32 of shape (count, width).
    """
    means = np.zeros((count, vectors.shape[1]), dtype=np.float64)
    totals = np.zeros(count)
    single = np.bincount(owners, minlength=count) == 1
    shares = np.where(single[owners], 1.0, weights)
    np.add.at(means, owners, vectors * shares[:, None])
    np.add.at(totals, owners, shares)
    averaged: Vectors = (means / totals[:, None]).astype(np.float32)
    return averaged
