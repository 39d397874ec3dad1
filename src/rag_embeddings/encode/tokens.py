"""How text becomes the tokens of a model: exactly as given, counted, and never truncated."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np

from rag_embeddings.errors import UnsupportedModelError, require

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Tokens = NDArray[np.int64]

_ENDLESS = 10**9  # tokenizers spell "no limit" as a number of thirty digits
_PROBE = "naïve 😀 été 河水 — the quick brown fox jumps over 12 lazy dogs\nand  so on, e\u0301 etc."


class TextInput:
    """How the texts of one role enter a model.

    Tokenizes with a copy of the model's tokenizer that never truncates, never pads and is never changed, and is
    therefore safe in threads.

    Args:
        tokenizer: The model's tokenizer, for its special tokens.
        backend: The tokenizers.Tokenizer behind it.
        prompt: Put in front of every text, to the byte.
        limit: Most tokens the model takes, prompt and special tokens included; None for no limit.
        special_tokens: Whether the model wants special tokens around a text.

    Attributes:
        overhead: Tokens that prompt and special tokens take.
        prompt_length: Leading tokens that a pooling without the prompt leaves out.
        pad: Id that stands where there is no token.
        typed: Whether the model reads token types.
    """

    def __init__(
        self, tokenizer: Any, backend: Any, prompt: str, limit: float | None, *, special_tokens: bool = True
    ) -> None:
        self.tokenizer = tokenizer
        self.prompt = prompt
        self.limit = None if limit is None or limit >= _ENDLESS else int(limit)
        self._special_tokens = special_tokens
        self._backend = require("tokenizers", "local").Tokenizer.from_str(backend.to_str())
        self._backend.no_truncation()
        self._backend.no_padding()
        self._backend.encode_special_tokens = getattr(tokenizer, "split_special_tokens", False)
        framed = self.encoding("")
        self.overhead = len(framed.ids)
        ends_special = bool(framed.ids) and framed.ids[-1] in getattr(tokenizer, "all_special_ids", ())
        self.prompt_length = self.overhead - ends_special if prompt else 0
        self.pad: int = getattr(tokenizer, "pad_token_id", None) or 0
        self.typed = "token_type_ids" in getattr(tokenizer, "model_input_names", ())
        if self.typed and any(framed.type_ids):
            raise UnsupportedModelError("the model's tokenizer gives a single text token types other than 0")

    def tokens(self, texts: Sequence[str]) -> list[Tokens]:
        """Return the token ids of each text behind its prompt, with special tokens."""
        prompted = [self.prompt + text for text in texts]
        encodings = self._backend.encode_batch_fast(prompted, add_special_tokens=self._special_tokens)
        return [np.array(encoding.ids, dtype=np.int64) for encoding in encodings]

    def encoding(self, text: str) -> Any:
        """Return the tokenizers.Encoding of one text behind its prompt; its offsets count from the prompt's start."""
        return self._backend.encode(self.prompt + text, add_special_tokens=self._special_tokens)


def own_tokens(entry: TextInput, text: str) -> tuple[NDArray[np.int64], slice, Tokens]:
    """Tokenize one text and tell its own tokens from those of the prompt and the special ones.

    Args:
        entry: How texts enter the model.
        text: The text, without its prompt.

    Returns:
        Character ranges of the text's own tokens, relative to the text, shape (tokens, 2); where they stand among all
        tokens; the ids of all tokens. A token that begins in the prompt and ends in the text is the text's.
    """
    encoding = entry.encoding(text)
    ids = np.array(encoding.ids, dtype=np.int64)
    offsets = np.array(encoding.offsets, dtype=np.int64).reshape(-1, 2)
    ordinary = np.flatnonzero(np.array(encoding.special_tokens_mask) == 0)
    start, end = (int(ordinary[0]), int(ordinary[-1]) + 1) if len(ordinary) else (len(ids), len(ids))
    lead = len(entry.prompt)
    while start < end and offsets[start, 1] <= lead and lead:
        start += 1
    return np.maximum(offsets[start:end] - lead, 0), slice(start, end), ids


def why_not_offsets(entry: TextInput) -> str:
    """Return what is wrong with a tokenizer's offsets on a text with everything in it, or an empty string."""
    lead = len(entry.prompt)
    encoding = entry.encoding(_PROBE)
    behind = 0
    covered = [False] * len(_PROBE)
    for token, special, (start, end) in zip(
        encoding.tokens, encoding.special_tokens_mask, encoding.offsets, strict=True
    ):
        if special or end <= lead:
            continue
        if not behind <= end <= lead + len(_PROBE) or start > end:
            return f"token {token!r} lies at {start}-{end} of {lead + len(_PROBE)} characters, behind {behind}"
        behind = end
        start = max(start - lead, 0)  # noqa: PLW2901
        end -= lead  # noqa: PLW2901
        covered[start:end] = [True] * (end - start)
        letters = re.fullmatch(r"(?:##|[▁Ġ])?([A-Za-z0-9]+)", token)
        text = _PROBE[start:end].strip()
        if letters and text.isascii() and letters[1].lower() != text.lower():
            return f"token {token!r} is said to stand for {text!r}"
    missed = [char for char, seen in zip(_PROBE, covered, strict=True) if char.isalnum() and not seen]
    return f"no token stands for {missed[0]!r}" if missed else ""
