"""Codes that are found by a graph of neighbours (HNSW, Malkov and Yashunin 2016), by usearch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from rag_embeddings.errors import StoreError, require

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from rag_embeddings.codec.base import Codes, VectorCodec
    from rag_embeddings.encode.base import Vectors

# usearch's type of element, by kind of codec. Codes of vectors of length 1 lie in the order of their cosines when
# compared by Euclidean distance. Not binary codes, although usearch has them: comparing all of a million takes 6 ms,
# where a graph takes many minutes to build and nearly thrice the memory, and finds less.
_TYPES = {"int8": "i8", "truncate": "f32"}
_NEIGHBORS = 8  # on each level; twice as many on the lowest: 90 bytes a node
_EF_CONSTRUCTION = 128
_EF_SEARCH = 256
_ALONE = 1_000  # nodes added by one thread


class Graph:
    """Nodes, numbered from 0, each with a code that no other has (equal ones would keep others out of reach).

    Args:
        codec: The fitted codec that made the codes.
        path: File of a graph to begin with; None begins with an empty one.
        writable: Whether to read the file into memory so that `add` works; otherwise it is mapped.

    Raises:
        MissingExtraError: If usearch is not installed.
        StoreError: If the file is something else.
    """

    def __init__(self, codec: VectorCodec, path: Path | None = None, *, writable: bool = False) -> None:
        self._codec = codec
        self._graph: Any = require_usearch().Index(
            ndim=codec.code_width,
            dtype=_TYPES[codec.kind],
            metric="l2sq",
            connectivity=_NEIGHBORS,
            expansion_add=_EF_CONSTRUCTION,
            expansion_search=_EF_SEARCH,
            enable_key_lookups=False,
        )
        if path is not None:
            try:
                self._graph.load(str(path)) if writable else self._graph.view(str(path))
            except (RuntimeError, ValueError) as error:
                raise StoreError(f"{str(path)!r} is no graph of codes: {error}") from error
            self._graph.expansion_search = _EF_SEARCH

    @staticmethod
    def suits(codec: VectorCodec) -> bool:
        """Whether distances between codes of this codec rank as the similarity does."""
        return codec.kind in _TYPES and codec.similarity != "dot"

    def __len__(self) -> int:
        return len(self._graph)

    def add(self, codes: Codes) -> NDArray[np.int64]:
        """Add codes.

        Args:
            codes: Shape (n, ``code_width``).

        Returns:
            int64 of shape (n,), the node of each: a new one, or the one that has the same code; -1 for a code that the
            graph does not find, although it is there.
        """
        flat = np.ascontiguousarray(codes).view(np.dtype((np.void, codes.shape[1] * codes.itemsize))).ravel()
        _, firsts, inverse = np.unique(flat, return_index=True, return_inverse=True)
        unique = np.ascontiguousarray(codes[firsts])
        nodes = self._same(unique)
        new = np.flatnonzero(nodes < 0)
        keys = np.arange(len(self), len(self) + len(new), dtype=np.uint64)
        # Threads that add to an almost empty graph do not see each other's nodes, and leave some without neighbours.
        alone = max(0, min(_ALONE - len(self), len(new)))
        if alone:
            self._graph.add(keys[:alone], unique[new[:alone]], copy=True, threads=1)
        if alone < len(new):
            self._graph.add(keys[alone:], unique[new[alone:]], copy=True)
        nodes[new] = self._same(unique[new])
        return nodes[inverse]

    def _same(self, codes: Codes) -> NDArray[np.int64]:
        """Return for each code the node that has it, -1 where none is found."""
        nodes = np.full(len(codes), -1, dtype=np.int64)
        if len(self) and len(codes):
            found = self._graph.search(codes, 1)
            same = np.reshape(found.distances, len(codes)) == 0
            nodes[same] = np.reshape(found.keys, len(codes))[same]
        return nodes

    def search(self, query: Vectors, count: int) -> NDArray[np.int64]:
        """Return the nodes whose codes are nearest to the query's, best first; fewer if there are fewer."""
        code = self._codec.encode(query[np.newaxis])[0]
        found = self._graph.search(code, min(count, len(self)))
        return np.asarray(found.keys, dtype=np.int64)

    def save(self, path: Path) -> None:
        """Write the graph into a file."""
        self._graph.save(str(path))

    def close(self) -> None:
        """Let go of the file."""
        self._graph.reset()


def require_usearch() -> Any:
    """Import usearch, or say which extra brings it."""
    return require("usearch.index", "quantized")
