"""Product quantisation: some dimensions at a time, as the number of the nearest of 256 centres."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from rag_embeddings.codec.base import VectorCodec, table_sums
from rag_embeddings.errors import CodecError, require

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rag_embeddings.codec.base import Codes, State
    from rag_embeddings.encode.base import Vectors
    from rag_embeddings.encode.profile import Similarity

_CENTRES = 256
_SEED = 1234


class ProductCodec(VectorCodec):
    """Cuts a vector into parts and stores of each the nearest of 256 centres (Jegou, Douze and Schmid 2011).

    faiss finds the centres when fitting; encoding and scoring do without it.

    Args:
        dimensions: Keep that many leading dimensions; None keeps all.
        similarity: How vectors are compared.
        part_width: Dimensions of a part, one byte each; the dimensions that are kept must be divisible by it.
    """

    kind = "product"
    least_sample = _CENTRES

    def __init__(
        self, *, dimensions: int | None = None, similarity: Similarity = "cosine", part_width: int = 8
    ) -> None:
        super().__init__(dimensions=dimensions, similarity=similarity)
        if part_width < 1:
            raise ValueError(f"part_width must be at least 1, got {part_width}")
        self.part_width = part_width

    def settings(self) -> dict[str, Any]:
        """Return the arguments of the constructor, JSON-safe."""
        return {**super().settings(), "part_width": self.part_width}

    @property
    def code_width(self) -> int:
        """One byte for each part."""
        return self.width // self.part_width

    @property
    def code_dtype(self) -> np.dtype[Any]:
        """uint8."""
        return np.dtype(np.uint8)

    def _learn(self, vectors: Vectors) -> State:
        width = vectors.shape[1]
        parts = self._shapes(width)["centres"][0][0]
        faiss = require("faiss", "product-quantization")
        quantiser = faiss.ProductQuantizer(width, parts, 8)
        quantiser.cp.min_points_per_centroid = 1  # says nothing on standard error
        quantiser.cp.seed = _SEED
        quantiser.train(np.ascontiguousarray(vectors))
        centres = faiss.vector_to_array(quantiser.centroids)
        return {"centres": centres.reshape(parts, _CENTRES, self.part_width).copy()}

    def _shapes(self, width: int) -> Mapping[str, tuple[tuple[int, ...], str]]:
        if width % self.part_width:
            raise CodecError(f"{width} dimensions cannot be cut into parts of {self.part_width}")
        return {"centres": ((width // self.part_width, _CENTRES, self.part_width), "<f4")}

    def _quantise(self, vectors: Vectors) -> Codes:
        codes = np.empty((len(vectors), self.code_width), dtype=np.uint8)
        for part, centres in enumerate(self.state()["centres"]):
            values = vectors[:, part * self.part_width : (part + 1) * self.part_width]
            # The square of the value itself is the same for all centres.
            codes[:, part] = (np.square(centres).sum(axis=1) - 2 * (values @ centres.T)).argmin(axis=1)
        return codes

    def _restore(self, codes: Codes) -> Vectors:
        centres = self.state()["centres"]
        return np.asarray(centres[np.arange(self.code_width), codes].reshape(len(codes), self.width))

    def _dots(self, query: Vectors, codes: Codes) -> Vectors:
        parts = query.reshape(self.code_width, self.part_width, 1)
        return table_sums(np.matmul(self.state()["centres"], parts)[:, :, 0], codes)
