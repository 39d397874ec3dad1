"""One byte a dimension."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from rag_embeddings.codec.base import VectorCodec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rag_embeddings.codec.base import Codes, State
    from rag_embeddings.encode.base import Vectors

_STEPS = 255
_ZERO = 128


class Int8Codec(VectorCodec):
    """256 even steps between the smallest and the largest value that each dimension has in the sample.

    The steps are those of `sentence_transformers.quantize_embeddings` with ``precision="int8"`` and ranges from the
    same sample; it cuts a value down to the step below where this codec takes the nearest, and values beyond the
    sample's range wrap around there and stay at the end here. A value inside the range is off by half a step at most.

    Args:
        dimensions: Keep that many leading dimensions; None keeps all.
        similarity: How vectors are compared.
    """

    kind = "int8"

    @property
    def code_width(self) -> int:
        """One element for each dimension that is kept."""
        return self.width

    @property
    def code_dtype(self) -> np.dtype[Any]:
        """int8."""
        return np.dtype(np.int8)

    def _learn(self, vectors: Vectors) -> State:
        exact = vectors.astype(np.float64)
        least = exact.min(axis=0)
        step = (exact.max(axis=0) - least) / _STEPS
        return {"least": least, "step": np.where(step > 0, step, 1.0)}  # a constant dimension is always its least

    def _shapes(self, width: int) -> Mapping[str, tuple[tuple[int, ...], str]]:
        return {"least": ((width,), "<f8"), "step": ((width,), "<f8")}

    def _quantise(self, vectors: Vectors) -> Codes:
        state = self.state()
        steps = np.rint((vectors - state["least"]) / state["step"])
        return (np.clip(steps, 0, _STEPS) - _ZERO).astype(np.int8)

    def _restore(self, codes: Codes) -> Vectors:
        state = self.state()
        return np.asarray((codes + float(_ZERO)) * state["step"] + state["least"], dtype=np.float32)

    def _dots(self, query: Vectors, codes: Codes) -> Vectors:
        # query · (least + (code + 128) * step), with what does not depend on the code taken out
        state = self.state()
        weights = query * state["step"]
        constant = float(query @ state["least"] + _ZERO * weights.sum())
        return np.asarray(codes.astype(np.float32) @ weights.astype(np.float32) + np.float32(constant))
