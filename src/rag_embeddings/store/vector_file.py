"""Rows of float32 in one file, read through a memory map."""

from __future__ import annotations

import mmap
import os
from typing import TYPE_CHECKING

import numpy as np

from rag_embeddings.errors import StoreError
from rag_embeddings.store.records import similarities

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from rag_embeddings.encode.base import Vectors
    from rag_embeddings.encode.profile import Similarity

    Slots = NDArray[np.int64]

_BLOCK = 4_096  # rows compared at a time
_TOUCHED = 32 * 2**20  # bytes after which the map is made anew, which takes read pages off the process's account
_AROUND = 64 * 2**10  # what the system maps around a row that is read


class VectorFile:
    """Vectors in numbered slots. Not thread-safe.

    Args:
        path: The file, made at the first write.
        width: Dimensions of a vector.
    """

    def __init__(self, path: Path, width: int) -> None:
        self.path = path
        self.width = width
        self._rows: Vectors | None = None
        self._touched = 0

    def write(self, slots: Slots, vectors: Vectors) -> None:
        """Write rows and wait until they are on the disk.

        Args:
            slots: Shape (n,).
            vectors: float32 of shape (n, width).

        Raises:
            StoreError: If the disk is full or the file cannot be written.
        """
        try:
            with self.path.open("r+b" if self.path.exists() else "w+b") as file:
                for first, last in _runs(slots):
                    file.seek(int(slots[first]) * self.width * 4)
                    file.write(np.ascontiguousarray(vectors[first:last], dtype="<f4").tobytes())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise StoreError(f"{str(self.path)!r} cannot be written: {error}") from error

    def erase(self, slots: Slots) -> None:
        """Overwrite rows with zeros."""
        for start in range(0, len(slots), _BLOCK):
            part = slots[start : start + _BLOCK]
            self.write(part, np.zeros((len(part), self.width), dtype=np.float32))

    def read(self, slots: Slots) -> Vectors:
        """Return rows, float32 of shape (n, width); of slots in a row a view of the file.

        Raises:
            StoreError: If the file has no such rows.
        """
        if not len(slots):
            return np.zeros((0, self.width), dtype=np.float32)
        rows = self._mapped(int(slots.max()))
        first, last = int(slots[0]), int(slots[-1])
        if last - first == len(slots) - 1 and (len(slots) < 3 or (np.diff(slots) == 1).all()):  # noqa: PLR2004
            self._touched += len(slots) * self.width * 4
            return rows[first : last + 1]
        self._touched += len(slots) * max(self.width * 4, _AROUND)
        return rows[slots]

    def scores(self, slots: Slots, query: Vectors, similarity: Similarity) -> NDArray[np.float64]:
        """Compare rows with a vector; see `similarities`. ``slots`` are best in ascending order.

        A row of zeros, which is one that was erased, may have no score (NaN).
        """
        scores = np.empty(len(slots), dtype=np.float64)
        with np.errstate(invalid="ignore"):
            for start in range(0, len(slots), _BLOCK):
                part = slots[start : start + _BLOCK]
                scores[start : start + len(part)] = similarities(self.read(part), query, similarity)
        return scores

    def close(self) -> None:
        """Let go of the map."""
        self._rows = None

    def _mapped(self, last: int) -> Vectors:
        if self._rows is None or last >= len(self._rows) or self._touched > _TOUCHED:
            self._touched = 0
            self._rows = None
            try:
                with self.path.open("rb") as file:
                    content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            except (OSError, ValueError) as error:  # a ValueError says that the file is empty
                raise StoreError(f"{str(self.path)!r} cannot be read: {error}") from error
            count = len(content) // (self.width * 4)
            self._rows = np.frombuffer(content, "<f4", count * self.width).reshape(count, self.width)
        if last >= len(self._rows):
            raise StoreError(f"{str(self.path)!r} is damaged: it ends after {len(self._rows)} vectors, before {last}")
        return self._rows


def _runs(slots: Slots) -> Iterator[tuple[int, int]]:
    """Yield ranges of indices at which the slots follow each other."""
    ends = [*(np.flatnonzero(np.diff(slots) != 1) + 1).tolist(), len(slots)] if len(slots) else []
    start = 0
    for end in ends:
        yield start, end
        start = end
