"""Counting with a Hugging Face tokenizer. Imported only when one was given."""

from __future__ import annotations

import json
from hashlib import blake2b
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

import numpy as np
from tokenizers import Tokenizer

from rag_embeddings.errors import UnsupportedModelError
from rag_embeddings.split.tokens import pieces
from rag_embeddings.text import without_surrogates

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

WIDEST = 128
"""Characters that one token may stand for. A wider one counts once for every 128 characters it covers.

WordPiece makes any word of more than 100 characters one unknown token, Unigram any run of unknown characters: counted
as one, a million characters without a space would be a single chunk. The longest tokens of real vocabularies, runs of
spaces, have 128 characters.
"""

_AT_ONCE = 64


class HuggingFaceCounter:
    """Counts with a copy of a tokenizer, without special tokens, truncation and padding.

    Args:
        tokenizer: The tokenizer. Later changes to it do not matter here, and it is not changed.

    Raises:
        UnsupportedModelError: If the tokenizer has parts written in Python, which cannot be copied.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        try:
            settings = json.loads(tokenizer.to_str())
        except Exception as error:  # the Rust side raises a bare Exception
            raise UnsupportedModelError(
                f"this tokenizer cannot be copied ({error}); give a function that counts the tokens of a text"
            ) from error
        # Models set these anew at every call; they change no count here.
        settings["truncation"] = settings["padding"] = None
        spelling = json.dumps(settings, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
        self._tokenizer = Tokenizer.from_str(spelling)
        self._name = "huggingface:" + blake2b(spelling.encode(), digest_size=16).hexdigest()

    @property
    def name(self) -> str:
        """A digest of vocabulary, normaliser and rules: the same tokenizer has the same name wherever it came from."""
        return self._name

    def count(self, texts: Sequence[str]) -> list[int]:
        """Count the tokens of each text; see `TokenCounter`."""
        cut = [(index, text[a:b]) for index, text in enumerate(map(without_surrogates, texts)) for a, b in pieces(text)]
        counts = [0] * len(texts)
        rest = iter(cut)
        while batch := list(islice(rest, _AT_ONCE)):
            encodings = self._tokenizer.encode_batch([text for _, text in batch], add_special_tokens=False)
            for (index, text), encoding in zip(batch, encodings, strict=True):
                counts[index] += len(encoding) if len(text) <= WIDEST else len(_ends(encoding))
        return counts

    def cumulative(self, text: str, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Count the tokens before each position; see `TokenCounter`."""
        text = without_surrogates(text)
        counts = np.zeros(len(positions), dtype=np.int64)
        before = 0
        rest = pieces(text)
        while batch := list(islice(rest, _AT_ONCE)):
            encodings = self._tokenizer.encode_batch([text[a:b] for a, b in batch], add_special_tokens=False)
            for (start, end), encoding in zip(batch, encodings, strict=True):
                ends = _ends(encoding) + start
                low, high = np.searchsorted(positions, (start, end), side="right")
                counts[low:high] = before + np.searchsorted(ends, positions[low:high], side="right")
                before += len(ends)
        counts[np.searchsorted(positions, len(text)) :] = before
        return counts


def _ends(encoding: Any) -> NDArray[np.int64]:
    """Return the ascending ends of an encoding's tokens; a wide token has several."""
    count = len(encoding)
    offsets = np.fromiter(chain.from_iterable(encoding.offsets), dtype=np.int64, count=2 * count).reshape(count, 2)
    starts, ends = offsets[:, 0], offsets[:, 1]
    wide = np.flatnonzero(ends - starts > WIDEST)
    if len(wide):
        ends = np.concatenate([ends, *(np.arange(starts[i] + WIDEST, ends[i], WIDEST) for i in wide)])
    return np.maximum(np.sort(ends), 1)
