"""Fewer dimensions, as floats."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from rag_embeddings.codec.base import VectorCodec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rag_embeddings.codec.base import Codes, State
    from rag_embeddings.encode.base import Vectors


class TruncateCodec(VectorCodec):
    """Keeps the leading dimensions as float32 ("Matryoshka", Kusupati et al. 2022) and loses nothing else.

    Args:
        dimensions: Keep that many; None keeps all.
        similarity: How vectors are compared; vectors compared by cosine are normalised again after truncation.
    """

    kind = "truncate"

    @property
    def code_width(self) -> int:
        """Dimensions that are kept."""
        return self.width

    @property
    def code_dtype(self) -> np.dtype[Any]:
        """float32."""
        return np.dtype(np.float32)

    def _learn(self, vectors: Vectors) -> State:  # noqa: ARG002 - there is nothing to learn
        return {}

    def _shapes(self, width: int) -> Mapping[str, tuple[tuple[int, ...], str]]:  # noqa: ARG002
        return {}

    def _quantise(self, vectors: Vectors) -> Codes:
        return vectors

    def _restore(self, codes: Codes) -> Vectors:
        return codes

    def _dots(self, query: Vectors, codes: Codes) -> Vectors:
        return np.asarray(codes @ query)
