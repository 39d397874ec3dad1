"""How text becomes the tokens of a model: exactly as given, counted, and never truncated."""

from __future__ import annotations

import re
from copy import copy
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from rag_embeddings.encode.base import Role
from rag_embeddings.errors import UnsupportedModelError, require

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Tokens = NDArray[np.int64]

_ENDLESS = 10**9  # tokenizers spell "no limit" as a number of thirty digits
_PROBE = "naïve 😀 été 河水 — the quick brown fox jumps over 12 lazy dogs\nand  so on, e\u0301 etc."


class Route(NamedTuple):
    """What a model is told of the texts in a batch, beside their tokens.

    Attributes:
        role: Whether they are queries or documents.
        adapter: What they are for, where the model runs an adapter for it; else empty.
        skipped: Leading tokens that pooling leaves out.
    """

    role: Role
    adapter: str = ""
    skipped: int = 0


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
        role: Whose texts these are.
        skip_prompt: Whether pooling leaves out the tokens of the prompt.
        skip_first: Whether pooling leaves out the first token, and no other.

    Attributes:
        suffix: Put behind every text, to the byte.
        adapter: What the model is told the texts are for; empty for models that are told nothing but the role.
        overhead: Tokens that prompt, suffix and special tokens take.
        prompt_length: Leading tokens that a pooling without the prompt, or the first token, leaves out.
        pad: Id that stands where there is no token.
        typed: Whether the model reads token types.
    """

    def __init__(
        self,
        tokenizer: Any,
        backend: Any,
        prompt: str,
        limit: float | None,
        *,
        special_tokens: bool = True,
        role: Role = Role.DOCUMENT,
        skip_prompt: bool = False,
        skip_first: bool = False,
    ) -> None:
        self.tokenizer = tokenizer
        self.role = role
        self.adapter = ""
        self.limit = None if limit is None or limit >= _ENDLESS else int(limit)
        self._special_tokens = special_tokens
        self._skip_prompt = skip_prompt
        self._skip_first = skip_first
        self._backend = require("tokenizers", "local").Tokenizer.from_str(backend.to_str())
        self._backend.no_truncation()
        self._backend.no_padding()
        self._backend.encode_special_tokens = getattr(tokenizer, "split_special_tokens", False)
        self._frame(prompt, "")
        self.pad: int = getattr(tokenizer, "pad_token_id", None) or 0
        self.typed = "token_type_ids" in getattr(tokenizer, "model_input_names", ())
        if self.typed and any(self.encoding("").type_ids):
            raise UnsupportedModelError("the model's tokenizer gives a single text token types other than 0")

    def _frame(self, prompt: str, suffix: str) -> None:
        self.prompt, self.suffix = prompt, ""
        ids = self.encoding("").ids
        ends_special = bool(ids) and ids[-1] in getattr(self.tokenizer, "all_special_ids", ())
        self.prompt_length = 1 if self._skip_first else len(ids) - ends_special if prompt else 0
        self.suffix = suffix
        self.overhead = len(self.encoding("").ids) if suffix else len(ids)

    def framed(self, prompt: str, *, suffix: str = "", adapter: str = "", limit: int | None = None) -> TextInput:
        """Return how texts enter with another prompt, suffix and adapter; it shares the tokenizer.

        Args:
            prompt: Put in front of every text, to the byte.
            suffix: Put behind every text, to the byte.
            adapter: What the model is told the texts are for.
            limit: Most tokens, where that is less than the model takes; None for as many as it takes.
        """
        other = copy(self)
        other.adapter = adapter
        other.limit = min((most for most in (self.limit, limit) if most is not None), default=None)
        other._frame(prompt, suffix)  # noqa: SLF001  (of this class)
        return other

    @property
    def route(self) -> Route:
        """What the model is told of these texts; those of equal routes may share a batch."""
        return Route(self.role, self.adapter, self.prompt_length if self._skip_prompt or self._skip_first else 0)

    def tokens(self, texts: Sequence[str]) -> list[Tokens]:
        """Return the token ids of each text behind its prompt, with special tokens."""
        prompted = [self.prompt + text + self.suffix for text in texts]
        encodings = self._backend.encode_batch_fast(prompted, add_special_tokens=self._special_tokens)
        return [np.array(encoding.ids, dtype=np.int64) for encoding in encodings]

    def bare(self, text: str) -> Any:
        """Return the tokenizers.Encoding of a text alone, without prompt and special tokens."""
        return self._backend.encode(text, add_special_tokens=False)

    def encoding(self, text: str) -> Any:
        """Return the tokenizers.Encoding of one text behind its prompt; its offsets count from the prompt's start."""
        return self._backend.encode(self.prompt + text + self.suffix, add_special_tokens=self._special_tokens)


def own_tokens(entry: TextInput, text: str) -> tuple[NDArray[np.int64], slice, Tokens]:
    """Tokenize one text and tell its own tokens from those of the prompt and the special ones.

    Args:
        entry: How texts enter the model.
        text: The text, without its prompt.

    Returns:
        Character ranges of the text's own tokens, relative to the text, shape (tokens, 2); where they stand among all
        tokens; the ids of all tokens. A token that begins in the prompt and ends in the text is the text's, as is one
        that begins in the text and ends in the suffix.
    """
    encoding = entry.encoding(text)
    ids = np.array(encoding.ids, dtype=np.int64)
    offsets = np.array(encoding.offsets, dtype=np.int64).reshape(-1, 2)
    ordinary = np.flatnonzero(np.array(encoding.special_tokens_mask) == 0)
    start, end = (int(ordinary[0]), int(ordinary[-1]) + 1) if len(ordinary) else (len(ids), len(ids))
    lead = len(entry.prompt)
    while start < end and offsets[start, 1] <= lead and lead:
        start += 1
    behind = lead + len(text)
    while start < end and offsets[end - 1, 0] >= behind and entry.suffix:
        end -= 1
    return np.clip(offsets[start:end] - lead, 0, len(text)), slice(start, end), ids


def why_not_offsets(entry: TextInput) -> str:
    """Return what is wrong with a tokenizer's offsets on a text with everything in it, or an empty string."""
    lead = len(entry.prompt)
    encoding = entry.encoding(_PROBE)
    behind = 0
    covered = [False] * len(_PROBE)
    for token, special, (start, end) in zip(
        encoding.tokens, encoding.special_tokens_mask, encoding.offsets, strict=True
    ):
        if special or end <= lead or start >= lead + len(_PROBE):
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
