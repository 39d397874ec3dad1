"""Codes in a row, all compared with the query: exact for any codec and similarity, in linear time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rag_embeddings.errors import StoreError

if TYPE_CHECKING:
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
        codes: Codes = np.zeros((0, codec.code_width), dtype=codec.code_dtype)
        if path is not None:
            try:
                codes = np.load(path, mmap_mode="r", allow_pickle=False)
            except (ValueError, OSError) as error:
                raise StoreError(f"{str(path)!r} is no file of codes: {error}") from error
            if codes.ndim != 2 or codes.shape[1] != codec.code_width or codes.dtype != codec.code_dtype:  # noqa: PLR2004
                raise StoreError(f"{str(path)!r} holds codes of another codec")
        self._parts = [codes]

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
        with path.open("wb") as file:
            np.lib.format.write_array_header_1_0(
                file,
                {
                    "descr": self._codec.code_dtype.str,
                    "fortran_order": False,
                    "shape": (len(self), self._codec.code_width),
                },
            )
            for codes in self._parts:
                file.write(np.ascontiguousarray(codes).tobytes())

    def close(self) -> None:
        """Let go of the file."""
        self._parts = []
