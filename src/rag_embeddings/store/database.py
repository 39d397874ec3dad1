"""The file under the ledger: schema, transactions, remembered values.

SQLite with a write-ahead log and ``synchronous=FULL``: a committed transaction survives a killed process and a power
cut.
"""

from __future__ import annotations

import json
import sqlite3
from contextlib import contextmanager
from threading import RLock
from typing import TYPE_CHECKING, Any

from rag_embeddings.errors import StoreError
from rag_embeddings.text import canonical_json

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SCHEMA = 1
_TABLES = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE versions (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    document BLOB NOT NULL,
    version TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('pending', 'live', 'dead')),
    text BLOB NOT NULL,
    metadata TEXT NOT NULL,
    blocks TEXT NOT NULL
);
CREATE INDEX versions_by_document ON versions (document, state);
CREATE UNIQUE INDEX one_live_version ON versions (document) WHERE state = 'live';
CREATE INDEX versions_not_live ON versions (state) WHERE state <> 'live';
CREATE TABLE chunks (
    version INTEGER NOT NULL,
    ordinal INTEGER NOT NULL,
    id TEXT NOT NULL,
    spans TEXT NOT NULL,
    headings TEXT NOT NULL,
    context BLOB NOT NULL,
    metadata TEXT NOT NULL,
    PRIMARY KEY (version, ordinal)
) WITHOUT ROWID;
CREATE INDEX chunks_by_id ON chunks (id);
CREATE TABLE sentences (
    version INTEGER NOT NULL,
    chunk INTEGER NOT NULL,
    start INTEGER NOT NULL,
    "end" INTEGER NOT NULL,
    id TEXT NOT NULL,
    PRIMARY KEY (version, chunk, start)
) WITHOUT ROWID;
CREATE INDEX sentences_by_id ON sentences (id);
"""


class Database:
    """A SQLite file with a schema and transactions. Thread-safe; it must not be carried across a fork.

    Args:
        path: The SQLite file, made if absent; None keeps everything in memory.

    Raises:
        StoreError: If the file is not a ledger or was written by a newer version.
    """

    def __init__(self, path: Path | None) -> None:
        self._lock = RLock()
        self._depth = 0
        self._db = sqlite3.connect(
            ":memory:" if path is None else path, timeout=30, isolation_level=None, check_same_thread=False
        )
        try:
            self._prepare(path)
        except BaseException as error:
            self._db.close()
            if isinstance(error, sqlite3.DatabaseError):
                raise StoreError(f"{path} cannot be used as the ledger of an index: {error}") from error
            raise

    def _prepare(self, path: Path | None) -> None:
        if path is not None:
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
        found = self._db.execute("PRAGMA user_version").fetchone()[0]
        if found == 0:
            with self.writing():
                if self._db.execute("PRAGMA user_version").fetchone()[0] == 0:
                    for statement in _TABLES.split(";"):
                        self._db.execute(statement)
                    self._db.execute(f"PRAGMA user_version = {SCHEMA}")
            found = self._db.execute("PRAGMA user_version").fetchone()[0]
        if found != SCHEMA:
            raise StoreError(f"{path} has schema {found}, this version reads schema {SCHEMA}; index again or upgrade")

    def close(self) -> None:
        """Close the file. Using the ledger afterwards raises StoreError."""
        with self._lock:
            self._db.close()

    @contextmanager
    def reading(self) -> Iterator[None]:
        """See one state of the ledger in all calls inside, whatever other processes commit meanwhile."""
        with self._transaction("BEGIN"):
            yield

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Do all calls inside or none."""
        with self._transaction("BEGIN IMMEDIATE"):
            yield

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[None]:
        with self._lock:
            if self._depth:  # inside another transaction of this thread
                yield
                return
            try:
                self._db.execute(begin)
            except sqlite3.ProgrammingError as error:
                raise StoreError("this index is closed") from error
            self._depth += 1
            try:
                yield
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            else:
                self._db.execute("COMMIT")
            finally:
                self._depth -= 1

    # --- what the index as a whole remembers ---------------------------------------------------------------------

    def meta(self, key: str) -> Any:
        """Return a remembered value, None if there is none."""
        with self.reading():
            row = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if row is None else json.loads(row[0])

    def remember(self, key: str, value: object) -> None:
        """Remember a JSON-safe value."""
        with self.writing():
            self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, canonical_json(value)))

    @property
    def generation(self) -> int:
        """A number that grows whenever what a reader may find has changed."""
        return int(self.meta("generation") or 0)

    def advance(self) -> None:
        """Make the generation grow, so that readers in other processes open their stores again."""
        with self.writing():
            self.remember("generation", self.generation + 1)
