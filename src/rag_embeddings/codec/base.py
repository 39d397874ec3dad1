"""What every codec is: truncate, normalise, quantise, in this order, with a state fitted on a sample."""

from __future__ import annotations

from abc import ABC, abstractmethod
from copy import copy
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from rag_embeddings.errors import CodecError, VectorError
from rag_embeddings.text import canonical_json, content_id

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self

    from numpy.typing import ArrayLike, NDArray

    from rag_embeddings.encode.base import Vectors
    from rag_embeddings.encode.profile import Similarity

    Codes = NDArray[Any]
    State = Mapping[str, NDArray[Any]]

_BLOCK = 16_384  # codes that are made or compared at a time, so that their float form stays small


class VectorCodec(ABC):
    """Makes codes from vectors and compares a float query with codes. Immutable; `fit` returns another codec.

    A vector is truncated to ``dimensions``, brought to length 1 if compared by cosine, and quantised, in this order:
    normalising first would leave truncated vectors of other lengths. Queries go the same way up to the last step, and
    are compared as floats ("asymmetric"), which costs nothing and is more exact than comparing two codes.

    Args:
        dimensions: Keep that many leading dimensions; None keeps all. Only models trained for it (Matryoshka, Kusupati
            et al. 2022) keep most of their quality; see docs/compression.md for what others lose.
        similarity: How vectors are compared.
    """

    kind: ClassVar[str]
    """Name of the kind, in saved files."""
    least_sample: ClassVar[int] = 2
    """Number of vectors that `fit` needs."""

    def __init__(self, *, dimensions: int | None = None, similarity: Similarity = "cosine") -> None:
        if dimensions is not None and dimensions < 1:
            raise ValueError(f"dimensions must be at least 1, got {dimensions}")
        self.dimensions = dimensions
        self.similarity: Similarity = similarity
        self._state: State = {}

    # --- what a kind defines ----------------------------------------------------------------------------------------

    @abstractmethod
    def _learn(self, vectors: Vectors) -> State:
        """Return the state for a sample of truncated, normalised vectors."""

    @abstractmethod
    def _shapes(self, width: int) -> Mapping[str, tuple[tuple[int, ...], str]]:
        """Return shape and dtype of each array of the state, for truncated vectors of ``width``."""

    @abstractmethod
    def _quantise(self, vectors: Vectors) -> Codes: ...

    @abstractmethod
    def _restore(self, codes: Codes) -> Vectors: ...

    @abstractmethod
    def _dots(self, query: Vectors, codes: Codes) -> Vectors:
        """Return the dot products of a query with the vectors that a block of codes stands for."""

    @property
    @abstractmethod
    def code_width(self) -> int:
        """Number of elements of one code."""

    @property
    @abstractmethod
    def code_dtype(self) -> np.dtype[Any]:
        """Type of the elements of a code."""

    def settings(self) -> dict[str, Any]:
        """Return the arguments of the constructor, JSON-safe."""
        return {"dimensions": self.dimensions, "similarity": self.similarity}

    # --- what all share ---------------------------------------------------------------------------------------------

    @property
    def fitted(self) -> bool:
        """Whether `fit` made this codec, or it was loaded."""
        return bool(self._state)

    @property
    def input_width(self) -> int:
        """Dimensions of the vectors it was fitted on, before truncation."""
        return int(self.state()["input_width"][0])

    @property
    def width(self) -> int:
        """Dimensions that are kept."""
        return self.dimensions or self.input_width

    @property
    def bytes_per_vector(self) -> int:
        """Size of one code in bytes."""
        return self.code_width * self.code_dtype.itemsize

    @property
    def fingerprint(self) -> str:
        """Stamp of kind, settings and state: the same vectors give the same codes."""
        digest = blake2b(digest_size=16)
        for name, array in sorted(self.state().items()):
            digest.update(f"{name} {array.dtype.str} {array.shape} ".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
        return content_id("codec", self.kind, canonical_json(self.settings()), digest.hexdigest())

    def state(self) -> State:
        """Return what `fit` learned, as arrays.

        Raises:
            CodecError: If the codec is not fitted.
        """
        if not self._state:
            raise CodecError(f"this {type(self).__name__} is not fitted; call fit with a sample of vectors first")
        return self._state

    def fit(self, vectors: ArrayLike) -> Self:
        """Fit to a sample of vectors.

        Args:
            vectors: Shape (n, dim); some thousand that are like those to come. One is refused.

        Returns:
            A fitted codec; this one stays as it is.

        Raises:
            CodecError: If there are too few vectors, or fewer dimensions than are to be kept.
            VectorError: If a vector has NaN, infinity or zeros only.
        """
        matrix = np.asarray(vectors, dtype=np.float32)
        if matrix.ndim != 2 or len(matrix) < self.least_sample:  # noqa: PLR2004
            raise CodecError(
                f"a codec of this kind is fitted on a sample of at least {self.least_sample} vectors, better some "
                f"thousand; got the shape {matrix.shape}"
            )
        self._check_kept(matrix.shape[1])
        width = np.array([matrix.shape[1]], dtype=np.int64)
        return self.with_state({"input_width": width, **self._learn(self._shortened(matrix))})

    def check_width(self, width: int) -> None:
        """Refuse vectors of a width that this codec can make no codes of.

        Raises:
            CodecError: If they have fewer dimensions than are to be kept, cannot be cut as the kind does, or are not
                as wide as those of `fit`.
        """
        if self.fitted and width != self.input_width:
            raise CodecError(f"the codec was fitted on vectors of {self.input_width} dimensions, got {width}")
        self._check_kept(width)

    def _check_kept(self, width: int) -> None:
        if self.dimensions is not None and width < self.dimensions:
            raise CodecError(f"{self.dimensions} dimensions are to be kept and the vectors have {width}")
        self._shapes(self.dimensions or width)

    def with_state(self, state: State) -> Self:
        """Return this codec with a state that `state` gave.

        Raises:
            CodecError: If arrays are missing, superfluous, of another shape or type, or not finite.
        """
        fitted = copy(self)
        fitted._state = dict(state)  # noqa: SLF001 - of the same class
        given = {name: (array.shape, array.dtype.str) for name, array in state.items()}
        if given.pop("input_width", None) != ((1,), "<i8"):
            raise CodecError("the state of the codec lacks the width of the vectors")
        if not fitted.width <= fitted.input_width <= 2**20:
            raise CodecError(f"the state of the codec is for vectors of {fitted.input_width} dimensions")
        wanted = self._shapes(fitted.width)
        if given != dict(wanted):
            raise CodecError(f"the state of a codec of kind {self.kind!r} has {given} where {dict(wanted)} is needed")
        if not all(np.isfinite(array).all() for array in state.values()):
            raise CodecError(f"the state of this {type(self).__name__} has NaN or infinity")
        return fitted

    def prepared(self, vectors: ArrayLike) -> Vectors:
        """Truncate and normalise, as `encode` does before it quantises.

        Args:
            vectors: Shape (n, dim) or (dim,).

        Returns:
            float32 of the same number of dimensions, ``width`` wide.

        Raises:
            CodecError: If the vectors have another width than those of `fit`.
            VectorError: If one has NaN or infinity, or zeros only in the dimensions that are kept.
        """
        matrix = np.asarray(vectors, dtype=np.float32)
        if matrix.ndim not in {1, 2} or matrix.shape[-1] != self.input_width:
            raise CodecError(f"the codec was fitted on vectors of {self.input_width} dimensions, got {matrix.shape}")
        return self._shortened(matrix)

    def _shortened(self, matrix: Vectors) -> Vectors:
        kept = matrix[..., : self.dimensions]
        if not np.isfinite(kept).all():
            raise VectorError("a vector has NaN or infinity")
        if self.similarity != "cosine":
            return np.array(kept)
        # In two steps: the squares of very small numbers are 0.
        largest = np.abs(kept).max(axis=-1, keepdims=True, initial=0.0)
        if not largest.all():
            raise VectorError(f"a vector has zeros only in its first {kept.shape[-1]} dimensions")
        scaled = kept / largest
        return np.asarray(scaled / np.linalg.norm(scaled, axis=-1, keepdims=True), dtype=np.float32)

    def encode(self, vectors: ArrayLike) -> Codes:
        """Make codes.

        Args:
            vectors: Shape (n, dim).

        Returns:
            ``code_dtype`` of shape (n, ``code_width``).

        Raises:
            CodecError: If the codec is not fitted, or on vectors of another width or shape.
            VectorError: If a vector has NaN or infinity, or zeros only in the dimensions that are kept.
        """
        matrix = np.asarray(vectors)
        if matrix.ndim != 2 and matrix.size:  # noqa: PLR2004
            raise CodecError(f"codes are made of vectors of shape (n, dim), got {matrix.shape}")
        codes = np.empty((len(matrix), self.code_width), dtype=self.code_dtype)
        for start in range(0, len(matrix), _BLOCK):
            codes[start : start + _BLOCK] = self._quantise(self.prepared(matrix[start : start + _BLOCK]))
        return codes

    def decode(self, codes: Codes) -> Vectors:
        """Return the vectors that codes stand for, float32 of shape (n, ``width``)."""
        return np.asarray(self._restore(self._checked(codes)), dtype=np.float32)

    def score(self, query: ArrayLike, codes: Codes) -> Vectors:
        """Compare a float query with codes.

        Args:
            query: Shape (dim,), as wide as the vectors of `fit`.
            codes: Shape (n, ``code_width``); a memory-mapped array is read block by block.

        Returns:
            float32 of shape (n,), larger is better: an estimate of the cosine, of the dot product, or of the negative
            Euclidean distance, in the dimensions that are kept.
        """
        vector = self.prepared(query)
        self._checked(codes)
        scores = np.empty(len(codes), dtype=np.float32)
        for start in range(0, len(codes), _BLOCK):
            block = codes[start : start + _BLOCK]
            if self.similarity == "euclidean":
                scores[start : start + _BLOCK] = -np.linalg.norm(self._restore(block) - vector, axis=1)
            else:
                scores[start : start + _BLOCK] = self._dots(vector, block)
        return scores

    def _checked(self, codes: Codes) -> Codes:
        if codes.ndim != 2 or codes.shape[1] != self.code_width or codes.dtype != self.code_dtype:  # noqa: PLR2004
            raise CodecError(
                f"codes of shape (n, {self.code_width}) and type {self.code_dtype} were expected, "
                f"got {codes.shape} and {codes.dtype}"
            )
        return codes


def table_sums(tables: Vectors, codes: Codes) -> Vectors:
    """Add up, for each code, the entries of the tables that its bytes point to.

    Args:
        tables: float32 of shape (bytes, 256): what each value of each byte adds.
        codes: uint8 of shape (n, bytes).

    Returns:
        float32 of shape (n,).
    """
    sums = np.zeros(len(codes), dtype=np.float32)
    for table, column in zip(tables, np.ascontiguousarray(codes.T), strict=True):
        sums += table.take(column)
    return sums
