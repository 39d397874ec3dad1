"""Counting with a tiktoken encoding. Imported only when one was asked for."""

from __future__ import annotations

import os
import threading
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rag_embeddings.errors import ModelNotFoundError, UnsupportedModelError, require
from rag_embeddings.split.tokens import pieces
from rag_embeddings.text import without_surrogates

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_CACHE = "TIKTOKEN_CACHE_DIR"
# File names in a tiktoken cache (SHA-1 of a table's address) of the tables that llama-index-core ships.
_SHIPPED = {
    "cl100k_base": "9b5ad71b2ce5302211f9c61530b329a4922fc6a4",
    "o200k_base": "fb374d419588a4632f3f557e76b4b70aebbca790",
}
_environment = threading.Lock()
_TOP_BITS, _CONTINUATION = 0xC0, 0x80  # a byte of UTF-8 continues a character if its two highest bits are 10


def load(name: str) -> Any:
    """Load a tiktoken encoding.

    The table comes from tiktoken's cache, or from llama-index-core where that is installed and ships it, or from the
    network.

    Args:
        name: Such as ``"cl100k_base"`` or ``"o200k_base"``.

    Returns:
        The ``tiktoken.Encoding``.

    Raises:
        UnsupportedModelError: If tiktoken knows no such encoding.
        ModelNotFoundError: If its table cannot be read or loaded.
        MissingExtraError: If tiktoken is not installed.
    """
    tiktoken = require("tiktoken", "tiktoken")
    known = tiktoken.list_encoding_names()
    if name not in known:
        raise UnsupportedModelError(
            f"tiktoken has no encoding {name!r}. Give one of {', '.join(sorted(known))}, or, to count as a model does, "
            "the encoder or its tokenizer itself"
        )
    with _environment:
        shipped = None if os.environ.get(_CACHE) or os.environ.get("DATA_GYM_CACHE_DIR") else _shipped(name)
        before = os.environ.get(_CACHE)
        if shipped:
            os.environ[_CACHE] = str(shipped)
        try:
            return tiktoken.get_encoding(name)
        except (OSError, ValueError) as error:  # no connection, or a table that is not what it should be
            raise ModelNotFoundError(
                f"the table of tiktoken's encoding {name!r} is not cached and could not be loaded: {error}. "
                f"Point {_CACHE} to a folder that has it, install llama-index-core (it ships cl100k_base), "
                "or count with the encoder itself (tokenizer=encoder)"
            ) from error
        finally:
            if shipped and before is None:
                del os.environ[_CACHE]
            elif shipped and before is not None:
                os.environ[_CACHE] = before


def _shipped(name: str) -> Path | None:
    """Return the cache folder inside llama-index-core if it has the table, without importing llama-index."""
    spec = find_spec("llama_index")
    for place in (spec.submodule_search_locations or ()) if spec else ():
        folder = Path(place) / "core" / "_static" / "tiktoken_cache"
        if name in _SHIPPED and (folder / _SHIPPED[name]).is_file():
            return folder
    return None


class TiktokenCounter:
    """Counts with a tiktoken encoding. Special tokens in a text are text.

    Args:
        encoding: The ``tiktoken.Encoding``.
    """

    def __init__(self, encoding: Any) -> None:
        self._encoding = encoding
        self._lengths: NDArray[np.int64] | None = None

    @property
    def name(self) -> str:
        """``"tiktoken:"`` and the encoding's name."""
        return f"tiktoken:{self._encoding.name}"

    def count(self, texts: Sequence[str]) -> list[int]:
        """Count the tokens of each text; see `TokenCounter`."""
        encode = self._encoding.encode_ordinary
        clean = map(without_surrogates, texts)
        return [sum(len(encode(text[start:end])) for start, end in pieces(text)) for text in clean]

    def cumulative(self, text: str, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Count the tokens before each position; see `TokenCounter`."""
        text = without_surrogates(text)
        counts = np.zeros(len(positions), dtype=np.int64)
        before = 0
        for start, end in pieces(text):
            ends = self._ends(text[start:end]) + start
            low, high = np.searchsorted(positions, (start, end), side="right")
            counts[low:high] = before + np.searchsorted(ends, positions[low:high], side="right")
            before += len(ends)
        counts[np.searchsorted(positions, len(text)) :] = before
        return counts

    def _ends(self, piece: str) -> NDArray[np.int64]:
        """Return the ascending ends of the tokens; one that ends inside a character ends with it."""
        tokens = self._encoding.encode_to_numpy(piece, disallowed_special=())
        ends: NDArray[np.int64] = np.cumsum(self._widths()[tokens])
        if piece.isascii():
            return ends
        data = np.frombuffer(piece.encode(), dtype=np.uint8)
        characters: NDArray[np.int64] = np.cumsum((data & _TOP_BITS) != _CONTINUATION, dtype=np.int64)
        last: NDArray[np.int64] = characters[ends - 1]
        return last

    def _widths(self) -> NDArray[np.int64]:
        """Bytes of each token of the vocabulary."""
        if self._lengths is None:
            widths = np.zeros(self._encoding.n_vocab, dtype=np.int64)
            tokens = self._encoding.token_byte_values()
            ids = [self._encoding.encode_single_token(token) for token in tokens]
            widths[ids] = [len(token) for token in tokens]
            self._lengths = widths
        return self._lengths
