"""Rows of float32 in one file.

They are read, not mapped into memory: where the system keeps files in large pieces, a row that is touched maps up to
2 MiB around it, and some searches later all floats count as the process's memory.
"""

from __future__ import annotations

import os
import weakref
from typing import TYPE_CHECKING

import numpy as np

from rag_embeddings.errors import StoreError
from rag_embeddings.store.records import similarities

if TYPE_CHECKING:
    from collections.abc import Iterator
    from io import FileIO
    from pathlib import Path

    from numpy.typing import NDArray

    from rag_embeddings.encode.base import Vectors
    from rag_embeddings.encode.profile import Similarity

    Slots = NDArray[np.int64]

_BLOCK = 2**19  # bytes compared at a time: larger pieces of memory are new each time, which takes longer than comparing
_ERASED = 4_096  # rows overwritten at a time
_DENSE = 2  # rows are read together if they are at least half of what lies between the first and the last


class VectorFile:
    """Vectors in numbered slots. Not thread-safe.

    Args:
        path: The file, made at the first write.
        width: Dimensions of a vector.
    """

    def __init__(self, path: Path, width: int) -> None:
        self.path = path
        self.width = width
        self._block = max(1, _BLOCK // (4 * width))
        self._file: FileIO | None = None

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
        for start in range(0, len(slots), _ERASED):
            part = slots[start : start + _ERASED]
            self.write(part, np.zeros((len(part), self.width), dtype=np.float32))

    def read(self, slots: Slots) -> Vectors:
        """Return rows, float32 of shape (n, width).

        Raises:
            StoreError: If the file has no such rows.
        """
        if not len(slots):
            return np.zeros((0, self.width), dtype=np.float32)
        low, high = int(slots.min()), int(slots.max())
        if high - low < len(slots) * _DENSE:
            span = np.empty((high - low + 1, self.width), dtype="<f4")
            self._fill(span, low)
            return span if len(span) == len(slots) and (np.diff(slots) == 1).all() else span[slots - low]
        rows = np.empty((len(slots), self.width), dtype="<f4")
        for row, slot in enumerate(slots.tolist()):
            self._fill(rows[row], slot)
        return rows

    def scores(self, slots: Slots, query: Vectors, similarity: Similarity) -> NDArray[np.float64]:
        """Compare rows with a vector; see `similarities`. ``slots`` are best in ascending order.

        A row of zeros, which is one that was erased, may have no score (NaN).
        """
        scores = np.empty(len(slots), dtype=np.float64)
        with np.errstate(invalid="ignore"):
            for start in range(0, len(slots), self._block):
                part = slots[start : start + self._block]
                scores[start : start + len(part)] = similarities(self.read(part), query, similarity)
        return scores

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _fill(self, rows: Vectors, slot: int) -> None:
        """Read rows that follow each other, from a slot on."""
        missing = rows.reshape(-1).view(np.uint8).data
        try:
            if self._file is None:
                self._file = self.path.open("rb", buffering=0)
                weakref.finalize(self, self._file.close)  # a store may be let go without being closed
            self._file.seek(slot * self.width * 4)
            while missing and (count := self._file.readinto(missing)):
                missing = missing[count:]
            end = os.fstat(self._file.fileno()).st_size // (self.width * 4) if missing else 0
        except OSError as error:
            raise StoreError(f"{str(self.path)!r} cannot be read: {error}") from error
        if missing:
            raise StoreError(f"{str(self.path)!r} is damaged: it ends after {end} vectors, and slot {slot} is in use")


def _runs(slots: Slots) -> Iterator[tuple[int, int]]:
    """Yield ranges of indices at which the slots follow each other."""
    ends = [*(np.flatnonzero(np.diff(slots) != 1) + 1).tolist(), len(slots)] if len(slots) else []
    start = 0
    for end in ends:
        yield start, end
        start = end
