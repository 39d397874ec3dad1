"""One bit a dimension."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from rag_embeddings.codec.base import VectorCodec, table_sums
from rag_embeddings.errors import CodecError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from rag_embeddings.codec.base import Codes, State
    from rag_embeddings.encode.base import Vectors

_BITS = np.unpackbits(np.arange(256, dtype=np.uint8)[:, np.newaxis], axis=1)  # (256, 8), the first bit is the highest


class BinaryCodec(VectorCodec):
    """Whether each dimension is above its mean in the sample, eight dimensions to a byte.

    A bit stands for the mean of the sample's values on its side, so that codes can be compared with a float query. Two
    codes are compared by `hamming`. `sentence_transformers.quantize_embeddings` with ``precision="ubinary"`` is the
    case where all means are 0.

    Args:
        dimensions: Keep that many leading dimensions; None keeps all. Their number must be divisible by 8.
        similarity: How vectors are compared.
    """

    kind = "binary"

    @property
    def code_width(self) -> int:
        """One byte for eight dimensions."""
        return self.width // 8

    @property
    def code_dtype(self) -> np.dtype[Any]:
        """uint8."""
        return np.dtype(np.uint8)

    def _learn(self, vectors: Vectors) -> State:
        threshold = vectors.mean(axis=0, dtype=np.float64).astype(np.float32)
        above = vectors > threshold
        sums = [np.where(side, vectors, 0.0).sum(axis=0, dtype=np.float64) for side in (~above, above)]
        counts = [np.maximum(side.sum(axis=0), 1) for side in (~above, above)]
        # In a constant dimension nothing lies above.
        low, high = (
            np.where(side.any(axis=0), total / count, threshold)
            for side, total, count in zip((~above, above), sums, counts, strict=True)
        )
        return {"threshold": threshold, "low": low.astype(np.float32), "high": high.astype(np.float32)}

    def _shapes(self, width: int) -> Mapping[str, tuple[tuple[int, ...], str]]:
        if width % 8:
            raise CodecError(f"a binary codec packs 8 dimensions into a byte, and {width} is not divisible by 8")
        return dict.fromkeys(("threshold", "low", "high"), ((width,), "<f4"))

    def _quantise(self, vectors: Vectors) -> Codes:
        return np.packbits(vectors > self.state()["threshold"], axis=1)

    def _restore(self, codes: Codes) -> Vectors:
        state = self.state()
        return np.where(np.unpackbits(codes, axis=1).astype(bool), state["high"], state["low"])

    def _dots(self, query: Vectors, codes: Codes) -> Vectors:
        state = self.state()
        low, high = ((query * state[side]).reshape(-1, 1, 8) for side in ("low", "high"))
        return table_sums(np.where(_BITS, high, low).sum(axis=2, dtype=np.float32), codes)


def hamming(code: Codes, codes: Codes) -> NDArray[np.int32]:
    """Count the bits in which codes differ from one code.

    Args:
        code: uint8 of shape (bytes,).
        codes: uint8 of shape (n, bytes).

    Returns:
        int32 of shape (n,).
    """
    return np.asarray(np.bitwise_count(codes ^ code).sum(axis=1, dtype=np.int32))
