"""Records of a `QuantizedStore`: text and metadata in SQLite, vectors in numbered slots of a file beside it.

SQLite is the truth. A record is written into slots that no record owns, and exists from the commit that says so; a
process killed before leaves bytes that nobody looks at. A record that is replaced gets another slot, so what a reader
in another process looks at is never overwritten before the commit that lets go of it; a check sum tells a reader who
was late.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from zlib import crc32

import numpy as np

from rag_embeddings.errors import RagEmbeddingsError, StoreError
from rag_embeddings.store.base import Record
from rag_embeddings.store.database import Database
from rag_embeddings.store.records import candidates, possible, prepared, ranked
from rag_embeddings.store.vector_file import VectorFile
from rag_embeddings.store.where_sql import clause, dump_metadata, load_metadata
from rag_embeddings.testing.faults import failpoint
from rag_embeddings.text import canonical_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from rag_embeddings.encode.base import Vectors
    from rag_embeddings.encode.profile import Similarity
    from rag_embeddings.store.base import Hit
    from rag_embeddings.store.vector_file import Slots
    from rag_embeddings.store.where import Where

FILE = "records.sqlite3"
_SCHEMA = 1
_TABLES = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE records (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    slot INTEGER NOT NULL UNIQUE,
    checksum INTEGER NOT NULL,
    node INTEGER,
    text TEXT NOT NULL,
    metadata TEXT NOT NULL
);
CREATE INDEX records_of_node ON records (node, slot) WHERE node IS NOT NULL;
CREATE INDEX records_without_node ON records (slot) WHERE node IS NULL;
CREATE TABLE free (slot INTEGER PRIMARY KEY)
"""
_LISTED = "IN (SELECT value FROM json_each(?))"  # any number of integers, bound as one value


class OutdatedError(RagEmbeddingsError):
    """What was read is not what the transaction saw, as when another process writes meanwhile: read again."""


class SlotRecords:
    """See the module. Every method is one transaction, or part of the one around it.

    Args:
        path: The directory, which exists.

    Raises:
        StoreError: If the file is something else or was written by a newer version.
    """

    def __init__(self, path: Path) -> None:
        self.database = Database(path / FILE, _TABLES, _SCHEMA)
        self._path = path / "vectors.f32"
        self._vectors: VectorFile | None = None
        self._cached: dict[str, tuple[object, Slots]] = {}

    # --- what the store as a whole remembers -------------------------------------------------------------------------

    def meta(self, key: str) -> Any:
        """Return a remembered value, None if there is none."""
        with self.database.reading():
            row = self.database.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if row is None else json.loads(row[0])

    def remember(self, key: str, value: object) -> None:
        """Remember a JSON-safe value."""
        with self.database.writing():
            self.database.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, canonical_json(value)))

    @property
    def vectors(self) -> VectorFile | None:
        """The file of vectors; None before the first."""
        if self._vectors is None and (width := self.meta("width")):
            self._vectors = VectorFile(self._path, width)
        return self._vectors

    @property
    def width(self) -> int | None:
        """Dimensions of the vectors; None before the first."""
        vectors = self.vectors
        return None if vectors is None else vectors.width

    # --- writing -----------------------------------------------------------------------------------------------------

    def upsert(self, records: Sequence[Record], kept: int | None, check_width: Callable[[int], None]) -> None:
        """Write records, replacing those whose id exists.

        Args:
            records: Any records.
            kept: Leading dimensions that must not be zeros only; None for all.
            check_width: Called with the width of the first vectors ever, which it may refuse.

        Raises:
            StoreError: On a vector of another width or an impossible id, with nothing written.
            VectorError: On NaN, infinity or a vector of zeros, with nothing written.
        """
        with self.database.writing():
            ready = prepared(records, self.width)
            if not ready:
                return
            matrix = np.stack([record.vector for record in ready])
            if kept is not None:
                prepared([Record(record.id, record.vector[:kept]) for record in ready], None)
            if self.width is None:
                check_width(matrix.shape[1])
                self.remember("width", matrix.shape[1])
            freed = self._forget([record.id for record in ready])
            slots = self._allocated(len(ready))
            self._file().write(slots, matrix)
            failpoint("quantized.after_vectors")
            self.database.execute_many(
                "INSERT INTO records (id, slot, checksum, text, metadata) VALUES (?, ?, ?, ?, ?)",
                (
                    (item.id, slot, _checksum(item.vector), item.text, dump_metadata(item.metadata))
                    for item, slot in zip(ready, slots.tolist(), strict=True)
                ),
            )
            self._free(freed)
        failpoint("quantized.after_commit")
        self._erase(freed)

    def delete(self, ids: Sequence[str]) -> None:
        """Remove records, and overwrite their vectors."""
        with self.database.writing():
            freed = self._forget(ids)
            self._free(freed)
        failpoint("quantized.after_commit")
        self._erase(freed)

    def _forget(self, ids: Sequence[str]) -> Slots:
        wanted = possible(ids)
        rows = self._rows_of("slot", wanted)
        self.database.execute_many("DELETE FROM records WHERE id = ?", ((identity,) for identity in wanted))
        return np.array([slot for (slot,) in rows], dtype=np.int64)

    def _allocated(self, count: int) -> Slots:
        """Take slots that were free before this transaction, and new ones behind them."""
        slots = self._slots("SELECT slot FROM free ORDER BY slot LIMIT ?", (count,))
        self.database.execute(f"DELETE FROM free WHERE slot {_LISTED}", (json.dumps(slots.tolist()),))  # noqa: S608
        end = self.meta("slots") or 0
        missing = count - len(slots)
        self.remember("slots", end + missing)
        return np.concatenate([slots, np.arange(end, end + missing)])

    def _free(self, slots: Slots) -> None:
        self.database.execute_many("INSERT INTO free VALUES (?)", ((slot,) for slot in slots.tolist()))

    def _erase(self, slots: Slots) -> None:
        """Overwrite vectors of slots that are still free."""
        if not len(slots):
            return
        with self.database.writing():
            listed = (json.dumps(slots.tolist()),)
            free = self._slots(f"SELECT slot FROM free WHERE slot {_LISTED} ORDER BY slot", listed)  # noqa: S608
            self._file().erase(free)
        failpoint("quantized.after_erase")

    def purge(self) -> None:
        """Overwrite every free slot and every freed page of SQLite's."""
        self._erase(self._slots("SELECT slot FROM free"))
        for statement in ("PRAGMA secure_delete = ON", "VACUUM", "PRAGMA wal_checkpoint(TRUNCATE)"):
            self.database.execute(statement).fetchall()

    def assign(self, numbers: Sequence[int], nodes: NDArray[np.int64]) -> None:
        """Say in which node of the index the code of each record stands.

        Args:
            numbers: Numbers of records; those that are gone are skipped.
            nodes: As many; -1 for a record that the index does not find, which goes on to be compared by itself.
        """
        found = (None if node < 0 else node for node in nodes.tolist())
        with self.database.writing():
            self.database.execute_many("UPDATE records SET node = ? WHERE number = ?", zip(found, numbers, strict=True))

    def unassign(self) -> None:
        """Say that no record is in the index."""
        with self.database.writing():
            self.database.execute("UPDATE records SET node = NULL WHERE node IS NOT NULL")

    # --- reading -----------------------------------------------------------------------------------------------------

    def get(self, ids: Sequence[str]) -> list[Record]:
        """Return the records that exist, in the order of ``ids``."""
        with self.database.reading():
            rows = self._rows_of("id, slot, checksum, text, metadata", possible(ids))
            matrix = self._read(np.array([row[1] for row in rows], dtype=np.int64))
        found = {}
        for (identity, _, checksum, text, metadata), vector in zip(rows, matrix, strict=True):
            if _checksum(vector) != checksum:
                raise OutdatedError(identity)
            found[identity] = Record(identity, vector.copy(), text, load_metadata(metadata))
        return [found[identity] for identity in ids if identity in found]

    def contains(self, ids: Sequence[str]) -> set[str]:
        """Return those of ``ids`` that exist."""
        with self.database.reading():
            return {identity for (identity,) in self._rows_of("id", possible(ids))}

    def ids(self, where: Where | None = None) -> Iterator[str]:
        """Yield ids, oldest first, a page at a time."""
        condition, values = ("1", []) if where is None else clause(where)
        sql = f"SELECT number, id FROM records WHERE number > ? AND ({condition}) ORDER BY number LIMIT 1000"  # noqa: S608
        last = -1
        while True:
            with self.database.reading():
                page = self.database.execute(sql, (last, *values)).fetchall()
            if not page:
                return
            yield from (identity for _, identity in page)
            last = page[-1][0]

    def __len__(self) -> int:
        with self.database.reading():
            return int(self.database.execute("SELECT count(*) FROM records").fetchone()[0])

    def slots(self, where: Where | None = None, *, outside: bool = False) -> Slots:
        """Return slots in ascending order.

        Args:
            where: Only of records that fulfil a condition.
            outside: Only of records that the index does not have.
        """
        condition = "node IS NULL" if outside else "1"
        if where is not None:
            filtered, values = clause(where)
            return self._slots(
                f"SELECT slot FROM records WHERE {condition} AND ({filtered}) ORDER BY slot",  # noqa: S608
                values,
            )
        with self.database.reading():
            version = self.database.version()
            if condition not in self._cached or self._cached[condition][0] != version:
                sql = f"SELECT slot FROM records WHERE {condition} ORDER BY slot"  # noqa: S608
                self._cached[condition] = (version, self._slots(sql))
            return self._cached[condition][1]

    def slots_of(self, nodes: NDArray[np.int64], where: Where | None) -> Slots:
        """Return the slots of the records whose code stands in one of some nodes."""
        condition, values = ("1", []) if where is None else clause(where)
        sql = f"SELECT slot FROM records WHERE node {_LISTED} AND ({condition}) ORDER BY slot"  # noqa: S608
        return self._slots(sql, (json.dumps(nodes.tolist()), *values))

    def numbered(self, *, outside: bool) -> tuple[list[int], Slots]:
        """Return numbers and slots of all records, or of those that the index does not have."""
        condition = "WHERE node IS NULL" if outside else ""
        with self.database.reading():
            rows = self.database.execute(f"SELECT number, slot FROM records {condition} ORDER BY slot").fetchall()  # noqa: S608
        return [row[0] for row in rows], np.array([row[1] for row in rows], dtype=np.int64)

    def outside(self) -> int:
        """Return the number of records that the index does not have."""
        with self.database.reading():
            return int(self.database.execute("SELECT count(*) FROM records WHERE node IS NULL").fetchone()[0])

    def nodes_in_use(self) -> int:
        """Return the number of nodes that some record has."""
        with self.database.reading():
            return int(self.database.execute("SELECT count(DISTINCT node) FROM records").fetchone()[0])

    def read(self, slots: Slots) -> Vectors:
        """Return vectors, float32 of shape (n, width)."""
        with self.database.reading():
            return self._read(slots)

    def best(self, slots: Slots, query: Vectors, k: int, similarity: Similarity) -> list[Hit]:
        """Compare the vectors in some slots with a query, exactly.

        Returns:
            The k best, best first, equal ones in the order of their ids.

        Raises:
            OutdatedError: If a vector is not the one that was written.
        """
        if not len(slots):
            return []
        scores = self._file().scores(slots, query, similarity)
        if np.isnan(scores).any():
            raise OutdatedError(f"the vector in slot {slots[np.isnan(scores)][0]}")
        slots = slots[candidates(scores, k)]
        sql = f"SELECT id, slot, checksum FROM records WHERE slot {_LISTED} ORDER BY slot"  # noqa: S608
        rows = self.database.execute(sql, (json.dumps(slots.tolist()),)).fetchall()
        matrix = self._read(slots)
        for (identity, _, checksum), vector in zip(rows, matrix, strict=True):
            if _checksum(vector) != checksum:
                raise OutdatedError(identity)
        return ranked([row[0] for row in rows], matrix, query, k, similarity)

    def close(self) -> None:
        """Close the files."""
        if self._vectors is not None:
            self._vectors.close()
        self.database.close()

    def _slots(self, sql: str, values: Sequence[object] = ()) -> Slots:
        with self.database.reading():
            return np.fromiter((row[0] for row in self.database.execute(sql, values)), dtype=np.int64)

    def _rows_of(self, columns: str, ids: Sequence[str]) -> list[tuple[Any, ...]]:
        """Return the rows that exist. One by one: a list bound as JSON would end ids at their first NUL."""
        sql = f"SELECT {columns} FROM records WHERE id = ?"  # noqa: S608 - columns are named in this file
        found = (self.database.execute(sql, (identity,)).fetchone() for identity in ids)
        return [row for row in found if row is not None]

    def _file(self) -> VectorFile:
        vectors = self.vectors
        if vectors is None:
            raise StoreError("the store has no vectors yet")
        return vectors

    def _read(self, slots: Slots) -> Vectors:
        return self._file().read(slots) if len(slots) else np.zeros((0, 0), dtype=np.float32)


def _checksum(vector: Vectors) -> int:
    return crc32(np.asarray(vector, dtype="<f4").tobytes())
