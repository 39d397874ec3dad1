"""Codes in a row, all compared with the query: exact for any codec and similarity, in linear time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from rag_embeddings.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from numpy.typing import NDArray

    from rag_embeddings.codec.base import Codes, VectorCodec
    from rag_embeddings.encode.base import Vectors


class CodeFile:
    """Codes in the order in which they came; the number of a code is its node.

    Args:
        codec: The fitted codec that made the codes.
        path: File of codes to begin with, which is memory-mapped; None begins with none.

    Raises:
        StoreError: If the file holds something else.
    """

    def __init__(self, codec: VectorCodec, path: Path | None = None) -> None:
        self._codec = codec
        none: Codes = np.zeros((0, codec.code_width), dtype=codec.code_dtype)
        self._parts = [none if path is None else load_array(path, (None, codec.code_width), codec.code_dtype)]

    def __len__(self) -> int:
        return sum(map(len, self._parts))

    def add(self, codes: Codes) -> NDArray[np.int64]:
        """Add codes; return the node of each, int64 of shape (n,)."""
        nodes = np.arange(len(self), len(self) + len(codes))
        self._parts.append(codes)
        return nodes

    def search(self, query: Vectors, count: int) -> NDArray[np.int64]:
        """Return the nodes whose codes score best, in no particular order; fewer if there are fewer."""
        scores = np.concatenate([self._codec.score(query, codes) for codes in self._parts])
        count = min(count, len(scores))
        return np.argpartition(scores, len(scores) - count)[len(scores) - count :].astype(np.int64)

    def save(self, path: Path) -> None:
        """Write the codes into a file."""
        save_array(path, (len(self), self._codec.code_width), self._codec.code_dtype, self._parts)

    def close(self) -> None:
        """Let go of the file."""
        self._parts = []


def load_array(path: Path, shape: tuple[int | None, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Map a file that `save_array` wrote into memory.

    Args:
        path: The file.
        shape: What the file has to hold; None for any length.
        dtype: What the file has to hold.

    Raises:
        StoreError: If it holds something else.
    """
    try:
        array = np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))  # numpy's memmap is slow to slice
    except (ValueError, OSError) as error:
        raise StoreError(f"{str(path)!r} is no file of codes: {error}") from error
    found = tuple(None if wanted is None else length for wanted, length in zip(shape, array.shape, strict=False))
    if array.ndim != len(shape) or found != shape or array.dtype != dtype:
        raise StoreError(f"{str(path)!r} holds codes of another codec")
    return array


def save_array(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any], parts: Iterable[NDArray[Any]]) -> None:
    """Write an array in numpy's format, given in parts that follow each other."""
    with path.open("wb") as file:
        header = {"descr": dtype.str, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        for part in parts:
            file.write(np.ascontiguousarray(part).tobytes())
