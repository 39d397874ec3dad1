"""The exact store on disk: records in a SQLite table, compared one by one.

Beside a Chroma collection it keeps what Chroma cannot be trusted with; see `rag_embeddings.store.kept`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from rag_embeddings.errors import StoreError
from rag_embeddings.store.base import Hit, Record
from rag_embeddings.store.database import Database
from rag_embeddings.store.records import checked_query, nearest, possible, prepared
from rag_embeddings.store.where_sql import clause, dump_metadata, load_metadata

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from rag_embeddings.encode.base import Vectors
    from rag_embeddings.encode.profile import Similarity
    from rag_embeddings.store.where import Where

SCHEMA = 1
_TABLES = """
CREATE TABLE records (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    vector BLOB NOT NULL,
    text TEXT NOT NULL,
    metadata TEXT NOT NULL
)
"""


class _Loaded(NamedTuple):
    """What a search reads: the whole table, in the order of its numbers."""

    version: object
    numbers: NDArray[np.int64]
    ids: list[str]
    matrix: Vectors


class SqliteStore:
    """Vectors in a SQLite file, searched exactly. Thread-safe. Obeys `rag_embeddings.store.base.Store`.

    A search reads all vectors into memory and keeps them until the file changes.

    Args:
        path: The file, made if absent; None keeps everything in memory.
        similarity: How vectors are compared.

    Raises:
        StoreError: If the file is something else or was written by a newer version.
    """

    def __init__(self, path: Path | None, *, similarity: Similarity = "cosine") -> None:
        self.similarity = similarity
        self._database = Database(path, _TABLES, SCHEMA)
        self._loaded: _Loaded | None = None
        self._sized: tuple[object, int] | None = None

    def upsert(self, records: Sequence[Record]) -> None:
        """Write records, replacing those whose id exists, metadata and all.

        Raises:
            StoreError: On a vector of another width or an impossible id, with nothing written.
            VectorError: On NaN, infinity or a vector of zeros, with nothing written.
        """
        with self._database.writing():
            ready = prepared(records, self._dimensions())
            self._database.execute_many(
                "INSERT INTO records (id, vector, text, metadata) VALUES (?, ?, ?, ?) ON CONFLICT (id)"
                " DO UPDATE SET vector = excluded.vector, text = excluded.text, metadata = excluded.metadata",
                ((item.id, item.vector.tobytes(), item.text, dump_metadata(item.metadata)) for item in ready),
            )

    def delete(self, ids: Sequence[str]) -> None:
        """Remove records. Ids that do not exist are ignored."""
        with self._database.writing():
            self._database.execute_in("DELETE FROM records WHERE id IN ({})", possible(ids))

    def search(self, vector: Vectors, k: int, *, where: Where | None = None) -> list[Hit]:
        """Return the k most similar records, best first, equal ones in the order of their ids.

        Args:
            vector: The query, shape (dim,).
            k: Number of hits; fewer come where fewer match.
            where: Only records that fulfil a condition.

        Raises:
            ValueError: If ``k`` is below 1.
            StoreError: If the vector has another width.
        """
        with self._database.reading():
            query = checked_query(vector, k, self._dimensions())
            loaded = self._all()
            ids, matrix = loaded.ids, loaded.matrix
            if where is not None:
                condition, values = clause(where)
                sql = f"SELECT number FROM records WHERE {condition} ORDER BY number"  # noqa: S608 - values are bound
                numbers = np.fromiter((row[0] for row in self._database.execute(sql, values)), dtype=np.int64)
                rows = np.searchsorted(loaded.numbers, numbers)
                ids, matrix = [ids[row] for row in rows.tolist()], matrix[rows]
        return nearest(ids, matrix, query, k, self.similarity)

    def get(self, ids: Sequence[str]) -> list[Record]:
        """Return the records that exist, in the order of ``ids``."""
        found = {}
        with self._database.reading():
            sql = "SELECT id, vector, text, metadata FROM records WHERE id IN ({})"
            for identity, vector, text, metadata in self._database.execute_in(sql, possible(ids)):
                row = np.frombuffer(vector, dtype=np.float32)
                found[identity] = Record(identity, row, text, load_metadata(metadata))
        return [found[identity] for identity in ids if identity in found]

    def vectors(self, ids: Sequence[str]) -> dict[str, Vectors]:
        """Return the vectors of the records that exist, without reading what stands beside them."""
        with self._database.reading():
            rows = self._database.execute_in("SELECT id, vector FROM records WHERE id IN ({})", possible(ids))
        return {identity: np.frombuffer(vector, dtype=np.float32) for identity, vector in rows}

    def contains(self, ids: Sequence[str]) -> set[str]:
        """Return those of ``ids`` that exist."""
        with self._database.reading():
            rows = self._database.execute_in("SELECT id FROM records WHERE id IN ({})", possible(ids))
            return {row[0] for row in rows}

    def ids(self, where: Where | None = None) -> Iterator[str]:
        """Yield every id, or those of records that fulfil a condition, oldest first, a page at a time."""
        condition, values = ("1", []) if where is None else clause(where)
        sql = f"SELECT number, id FROM records WHERE number > ? AND ({condition}) ORDER BY number LIMIT 1000"  # noqa: S608
        last = -1
        while True:
            with self._database.reading():
                page = self._database.execute(sql, (last, *values)).fetchall()
            if not page:
                return
            yield from (identity for _, identity in page)
            last = page[-1][0]

    def __len__(self) -> int:
        with self._database.reading():
            return int(self._database.execute("SELECT count(*) FROM records").fetchone()[0])

    def size(self) -> int:
        """Return the number of bytes of all vectors."""
        with self._database.reading():
            version = self._database.version()
            if self._sized is None or self._sized[0] != version:
                row = self._database.execute("SELECT count(*) FROM records").fetchone()
                self._sized = (version, row[0] * 4 * (self._dimensions() or 0))
            return self._sized[1]

    def close(self) -> None:
        """Close the file. A closed store raises StoreError on use."""
        self._database.close()
        self._loaded = None

    def _dimensions(self) -> int | None:
        row = self._database.execute("SELECT length(vector) FROM records LIMIT 1").fetchone()
        return None if row is None else row[0] // 4

    def _all(self) -> _Loaded:
        version = self._database.version()
        if self._loaded is None or self._loaded.version != version:
            rows = self._database.execute("SELECT number, id, vector FROM records ORDER BY number").fetchall()
            matrix = np.frombuffer(b"".join(vector for *_, vector in rows), dtype=np.float32)
            if rows and matrix.size % len(rows):
                raise StoreError("the file of vectors is damaged: they differ in width; index again")
            self._loaded = _Loaded(
                version,
                np.array([number for number, *_ in rows], dtype=np.int64),
                [identity for _, identity, _ in rows],
                matrix.reshape(len(rows), -1) if rows else matrix,
            )
        return self._loaded
