"""A small encoder without a model: equal input gives equal vectors on any machine."""

from __future__ import annotations

import re
from hashlib import blake2b
from typing import TYPE_CHECKING

import numpy as np

from rag_embeddings.encode.base import Role, validated
from rag_embeddings.encode.profile import Profile

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rag_embeddings.encode.base import Vectors


class DeterministicEncoder:
    """Hashed bag of words, normalised. Texts that share words are similar; everything else is noise-free.

    Args:
        dimensions: Width of a vector.
        query_prompt: Put in front of queries; its words count.
        document_prompt: Put in front of documents; its words count.

    Attributes:
        encoded: Number of texts encoded so far, for tests that count.
    """

    def __init__(self, dimensions: int = 64, query_prompt: str = "", document_prompt: str = "") -> None:
        self.profile = Profile(
            model="deterministic",
            dimensions=dimensions,
            query_prompt=query_prompt,
            document_prompt=document_prompt,
            pooling="sum",
        )
        self.encoded = 0

    @property
    def tokenizer(self) -> Callable[[str], int]:
        """Counts characters."""
        return len

    def encode(self, texts: Sequence[str], role: Role) -> Vectors:
        """Encode texts; see `rag_embeddings.encode.base.Encoder`."""
        self.encoded += len(texts)
        prompt = self.profile.prompt(role)
        rows = [self._vector(prompt + text) for text in texts]
        return validated(rows, texts, self.profile.dimensions)

    def _vector(self, text: str) -> Vectors:
        vector = np.zeros(self.profile.dimensions, dtype=np.float32)
        for word in re.findall(r"\w+", text.lower()) or [text]:
            digest = blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest()
            sign = 1 if digest[7] & 1 else -1
            vector[int.from_bytes(digest[:4], "big") % len(vector)] += sign
        if not vector.any():  # words that cancelled out
            vector[0] = 1
        return vector / np.linalg.norm(vector)
