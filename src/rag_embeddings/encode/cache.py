"""Vectors on disk by key. A cache can change speed, never results."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Self
from weakref import finalize

import numpy as np

from rag_embeddings.encode import cache_rows
from rag_embeddings.encode.cache_file import CacheFile, default_path
from rag_embeddings.errors import BudgetError, CacheUnavailableError, VectorError

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator, Sequence
    from os import PathLike

    from numpy.typing import ArrayLike, NDArray


_LOGGER = logging.getLogger(__name__)
_READ = 500  # keys in one statement
_WRITE = 4 << 20  # bytes in one transaction
_NOTED = 4096  # uses remembered in memory before they are noted in the file
_SMALLEST = 1 << 20  # bytes


@dataclass(frozen=True, slots=True)
class CacheInfo:
    """What a cache holds, and what became of the calls through this object.

    Attributes:
        path: The file.
        vectors: Number of vectors in it.
        bytes: Size of the file on disk, its write-ahead log included.
        max_bytes: The bound on its size.
        damaged_files: Damaged files that were set aside.
        hits: Vectors found.
        misses: Vectors not found.
        stored: Vectors written.
        evicted: Vectors dropped to keep the bound.
        damaged: Damaged rows found, deleted and taken as misses.
        set_aside: Damaged files renamed.
        skipped: Vectors neither read nor written because the file could not be used at the moment.
    """

    path: str
    vectors: int
    bytes: int
    max_bytes: int
    damaged_files: tuple[str, ...] = ()
    hits: int = 0
    misses: int = 0
    stored: int = 0
    evicted: int = 0
    damaged: int = 0
    set_aside: int = 0
    skipped: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return all fields as JSON-safe values."""
        return {**asdict(self), "damaged_files": list(self.damaged_files)}


class VectorCache:
    """Vectors in one SQLite file, by key. Safe under threads, forks and concurrent processes.

    The file opens at first use. A row that is damaged is deleted and counts as missing; a damaged file is renamed to
    ``<name>.corrupt-<n>`` and begun anew, logged as an error. When the disk is full or the file stays locked, calls do
    nothing and a warning is logged: a cache that cannot be used costs time, not the run.

    Pickling takes the path along, not the content.

    Args:
        path: The file. None is ``rag-embeddings/vectors.sqlite`` in the user's cache directory. A directory that has to
            be made gets mode 0700, the file 0600.
        max_bytes: Bound on the size of the file; the vectors used longest ago are dropped to keep it. The write-ahead
            log adds a few megabytes while the file is in use.

    Raises:
        BudgetError: If ``max_bytes`` is less than 1 MiB.
    """

    def __init__(self, path: str | PathLike[str] | None = None, *, max_bytes: int = 4 << 30) -> None:
        if max_bytes < _SMALLEST:
            raise BudgetError(f"max_bytes must be at least {_SMALLEST}, got {max_bytes}")
        self.path = (default_path() if path is None else Path(path)).absolute()
        self.max_bytes = max_bytes
        self._uses: dict[int, None] = {}  # rows used since the last note
        self._counts = dict.fromkeys(("hits", "misses", "stored", "evicted", "damaged", "skipped"), 0)
        self._counting = Lock()
        self._warned = False
        uses = self._uses
        self._file = CacheFile(self.path, before_closing=lambda db: cache_rows.note(db, _taken(uses)) if uses else None)
        finalize(self, self._file.close)

    def __repr__(self) -> str:
        return f"VectorCache({str(self.path)!r}, max_bytes={self.max_bytes})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (str(self.path), self.max_bytes)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file. The next use opens it again."""
        self._file.close()

    def get_many(self, keys: Sequence[bytes], dimensions: int) -> dict[bytes, NDArray[np.float32]]:
        """Look vectors up.

        Args:
            keys: Keys from `rag_embeddings.encode.cached.vector_keys`, in any order.
            dimensions: Width of the vectors; a row of another width is damaged.

        Returns:
            The vectors that are there, by key: float32 of shape (dimensions,), finite.

        Raises:
            StoreError: If the file cannot be opened, or is not a vector cache.
        """
        wanted = list(dict.fromkeys(keys))
        found: dict[bytes, NDArray[np.float32]] = {}
        for some in _slices(wanted, _READ):
            try:
                sound, bad = cache_rows.checked(self._file.read(partial(cache_rows.select, keys=some)), dimensions)
                self._uses.update(dict.fromkeys(number for number, _, _ in sound))
                found.update((key, vector) for _, key, vector in sound)
                if bad:
                    self._count(damaged=len(bad))
                    _LOGGER.warning("%d damaged rows in the vector cache %s: deleted", len(bad), self.path)
                    self._file.write(partial(cache_rows.delete, numbers=bad))
            except CacheUnavailableError as error:
                self._skip(error, len(some))
        self._count(hits=len(found), misses=len(wanted) - len(found))
        if len(self._uses) >= _NOTED:
            try:
                self._file.write(partial(cache_rows.note, numbers=_taken(self._uses)))
            except CacheUnavailableError as error:
                self._skip(error, 0)
        return found

    def put_many(self, keys: Sequence[bytes], vectors: ArrayLike) -> None:
        """Store vectors, over those stored under the same keys.

        Args:
            keys: Keys from `rag_embeddings.encode.cached.vector_keys`.
            vectors: Shape (len(keys), dim); stored as float32.

        Raises:
            VectorError: If the shape is wrong or a vector holds NaN or infinity. Nothing is stored then.
            StoreError: If the file cannot be opened, or is not a vector cache.
        """
        if not len(keys):
            return
        matrix = np.ascontiguousarray(vectors, dtype="<f4")
        if matrix.ndim != 2 or len(matrix) != len(keys) or not matrix.shape[1]:  # noqa: PLR2004
            raise VectorError(f"{len(keys)} keys were given with vectors of shape {matrix.shape}")
        if not np.isfinite(matrix).all():
            raise VectorError("a vector with NaN or infinity was offered to the cache; nothing was stored")
        some = max(1, min(_WRITE, self.max_bytes // 8) // cache_rows.row_bytes(matrix.shape[1]))
        for part in _slices(range(len(keys)), some):
            try:
                self._store([cache_rows.row(keys[index], matrix[index]) for index in part])
            except CacheUnavailableError as error:
                self._skip(error, len(part))

    def info(self) -> CacheInfo:
        """Say what is in the cache and what became of the calls through this object. Makes no file.

        Raises:
            StoreError: If the file cannot be opened, or is not a vector cache.
        """
        there = self.path.exists()
        vectors = self._file.read(cache_rows.count) if there else 0
        sizes = [Path(f"{self.path}{suffix}") for suffix in ("", "-wal")]
        return CacheInfo(
            path=str(self.path),
            vectors=vectors,
            bytes=sum(item.stat().st_size for item in sizes if item.exists()),
            max_bytes=self.max_bytes,
            damaged_files=tuple(str(item) for item in self._file.damaged_files()),
            set_aside=self._file.set_aside,
            **self._counts,
        )

    def clear(self) -> None:
        """Delete every vector, so that no byte of one is left in our files, and every damaged file set aside.

        Raises:
            CacheUnavailableError: If another process is using the file for too long.
            StoreError: If the file cannot be opened, or is not a vector cache.
        """
        self._uses.clear()
        if self.path.exists():
            self._file.write(cache_rows.delete_all)
            self._file.read(partial(cache_rows.shrink, max_bytes=0))
        self._file.remove_damaged()

    # --- inside --------------------------------------------------------------------------------------------------

    def _store(self, rows: list[cache_rows.Row]) -> None:
        uses = _taken(self._uses)

        def store(db: sqlite3.Connection) -> int:
            cache_rows.note(db, uses)
            return cache_rows.insert(db, rows, self.max_bytes)

        evicted = self._file.write(store)
        self._count(stored=len(rows), evicted=evicted)
        if evicted:  # the bound may have been larger before
            self._file.read(partial(cache_rows.shrink, max_bytes=self.max_bytes + self.max_bytes // 8))

    def _count(self, **changes: int) -> None:
        with self._counting:
            for name, change in changes.items():
                self._counts[name] += change

    def _skip(self, error: CacheUnavailableError, vectors: int) -> None:
        self._count(skipped=vectors)
        if not self._warned:
            self._warned = True
            _LOGGER.warning("%s; going on without it (said once)", error)


def _restored(path: str, max_bytes: int) -> VectorCache:
    return VectorCache(path, max_bytes=max_bytes)


def _taken(uses: dict[int, None]) -> list[int]:
    """Empty the uses into a list. Another thread may add to them meanwhile; losing one costs nothing."""
    taken = list(uses)
    uses.clear()
    return taken


def _slices(items: Any, size: int) -> Iterator[Any]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
