"""The rows of the vector cache: writing, checking, noting uses, making room. All SQL on vectors stands here."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

from rag_embeddings.encode.cache_file import PAGE
from rag_embeddings.errors import CacheUnavailableError

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Row = tuple[bytes, int, int, bytes]  # key, dim, crc32(key + data), data

_LOW = 0.9  # share of the bound that eviction goes down to, so that it is rare
_BESIDE = 50  # bytes of a row beside its floats
_INDEXES = 80  # bytes of a row in the indexes, half-filled pages allowed for
_SPARE = 4 * PAGE  # kept free for the pages of an index that split when uses are noted, after room was made


def row_bytes(dimensions: int) -> int:
    """Return about how much of the file a vector takes, in bytes."""
    payload = 4 * dimensions + _BESIDE
    whole = PAGE - 35  # the largest row that stands on a page of the table
    pages = 1 / (whole // payload) if payload <= whole else 1 + -(-payload // (PAGE - 4))
    return int(PAGE * pages) + _INDEXES


def row(key: bytes, vector: NDArray[np.float32]) -> Row:
    """Return the row of one vector, little-endian."""
    data = vector.astype("<f4", copy=False).tobytes()
    return key, len(vector), zlib.crc32(data, zlib.crc32(key)), data


def select(db: sqlite3.Connection, keys: Sequence[bytes]) -> list[tuple[Any, ...]]:
    """Return id, key, dim, crc and data of the rows with these keys; any of them may be damaged."""
    marks = ",".join("?" * len(keys))
    # Only question marks are put into the statement.
    return db.execute(f"SELECT id, key, dim, crc, data FROM vectors WHERE key IN ({marks})", keys).fetchall()  # noqa: S608


def checked(
    rows: Sequence[tuple[Any, ...]], dimensions: int
) -> tuple[list[tuple[int, bytes, NDArray[np.float32]]], list[int]]:
    """Separate sound rows from damaged ones.

    Args:
        rows: From `select`.
        dimensions: The width that a vector must have.

    Returns:
        Id, key and vector of each sound row, and the ids of the damaged rows.
    """
    width = 4 * dimensions
    sound, bad = [], []
    for item in rows:
        number, key, dim, crc, data = item
        whole = isinstance(key, bytes) and isinstance(data, bytes) and len(data) == width and dim == dimensions
        if whole and zlib.crc32(data, zlib.crc32(key)) == crc:
            sound.append(item)
        else:
            bad.append(number)
    matrix = np.frombuffer(b"".join(item[4] for item in sound), dtype="<f4").reshape(-1, dimensions)
    finite = np.isfinite(matrix).all(axis=1)
    if not finite.all():
        bad += [item[0] for item, good in zip(sound, finite, strict=True) if not good]
    matrix = matrix.astype(np.float32)  # the caller's own, in this machine's byte order
    triples = zip(sound, matrix, finite, strict=True)
    return [(item[0], item[1], vector) for item, vector, good in triples if good], bad


def delete(db: sqlite3.Connection, numbers: Sequence[int]) -> None:
    """Delete rows."""
    some = [(number,) for number in numbers]
    db.executemany("DELETE FROM vectors WHERE id = ?", some)
    db.executemany("DELETE FROM uses WHERE vector = ?", some)


def insert(db: sqlite3.Connection, rows: Sequence[Row], max_bytes: int) -> int:
    """Store rows, after making room for them.

    Returns:
        How many others were evicted.
    """
    evicted = _make_room(db, max_bytes, sum(row_bytes(dim) for _, dim, _, _ in rows))
    last = db.execute("SELECT max(id) FROM vectors").fetchone()[0] or 0
    db.executemany(
        "INSERT INTO vectors (key, dim, crc, data) VALUES (?, ?, ?, ?) "
        "ON CONFLICT (key) DO UPDATE SET dim = excluded.dim, crc = excluded.crc, data = excluded.data",
        rows,
    )
    db.execute("INSERT OR REPLACE INTO uses SELECT id, (SELECT tick FROM clock) FROM vectors WHERE id > ?", (last,))
    return evicted


def note(db: sqlite3.Connection, numbers: Sequence[int]) -> None:
    """Note that rows were used. What is stored in the same transaction counts as used after them."""
    db.execute("UPDATE clock SET tick = tick + 2")
    db.executemany(
        "UPDATE uses SET tick = (SELECT tick - 1 FROM clock) WHERE vector = ?", [(number,) for number in numbers]
    )


def count(db: sqlite3.Connection) -> int:
    """Return the number of vectors."""
    return int(db.execute("SELECT count(*) FROM vectors").fetchone()[0])


def delete_all(db: sqlite3.Connection) -> None:
    """Delete every row."""
    db.execute("DELETE FROM vectors")
    db.execute("DELETE FROM uses")


def shrink(db: sqlite3.Connection, max_bytes: int) -> None:
    """Give free space back to the disk if the file is larger than that. Not inside a transaction.

    Raises:
        CacheUnavailableError: If another process is reading all the while.
    """
    if _pragma(db, "page_count") * PAGE <= max_bytes:
        return
    db.execute("VACUUM")
    if db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
        raise CacheUnavailableError("the file of the vector cache is in use by another process and could not shrink")


def _make_room(db: sqlite3.Connection, max_bytes: int, needed: int) -> int:
    """Delete the vectors used longest ago until so many bytes fit under the bound."""
    max_bytes -= _SPARE
    if _used(db) + needed <= max_bytes:
        return 0
    target = max(0, int(max_bytes * _LOW) - needed)
    evicted = 0
    while (used := _used(db)) > target:
        rows = count(db)
        if not rows:
            break
        some = 1 + int((used - target) / used * rows)
        chosen = "(SELECT vector FROM uses ORDER BY tick, vector LIMIT ?)"
        db.execute(f"DELETE FROM vectors WHERE id IN {chosen}", (some,))  # noqa: S608 - a constant
        if not db.execute(f"DELETE FROM uses WHERE vector IN {chosen}", (some,)).rowcount:  # noqa: S608 - a constant
            # Vectors without a use, which only damage can leave behind.
            db.execute("DELETE FROM vectors WHERE id IN (SELECT id FROM vectors LIMIT ?)", (some,))
        evicted += rows - count(db)
    return evicted


def _used(db: sqlite3.Connection) -> int:
    return (_pragma(db, "page_count") - _pragma(db, "freelist_count")) * PAGE


def _pragma(db: sqlite3.Connection, name: str) -> int:
    return int(db.execute(f"PRAGMA {name}").fetchone()[0])
