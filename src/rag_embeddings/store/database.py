"""SQLite, as this room uses it: schema, transactions, declared errors.

Write-ahead log and ``synchronous=FULL``: a committed transaction survives a killed process and a power cut.
"""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager, nullcontext
from threading import RLock
from typing import TYPE_CHECKING, Any

from rag_embeddings.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

_BOUND = 500  # values bound in one statement


class Database:
    """A SQLite file with a schema and transactions. Thread-safe; it must not be carried across a fork.

    Args:
        path: The file, made if absent; None keeps everything in memory.
        tables: Statements that make the tables, with ``;`` between them.
        schema: Number of the schema.

    Raises:
        StoreError: If the file is something else or was written by a newer version.
    """

    def __init__(self, path: Path | None, tables: str, schema: int) -> None:
        self._name = "the index in memory" if path is None else str(path)
        self._lock = RLock()
        self._depth = 0
        self._changes = 0  # data_version of SQLite leaves out what this connection wrote
        try:
            self._db = sqlite3.connect(
                ":memory:" if path is None else path, timeout=30, isolation_level=None, check_same_thread=False
            )
            try:
                self._prepare(tables, schema)
            except BaseException:
                self._db.close()
                raise
        except sqlite3.Error as error:
            raise StoreError(f"{self._name} cannot be used: {error}") from error

    def _prepare(self, tables: str, schema: int) -> None:
        self._db.execute("PRAGMA page_size = 8192")  # a vector fits into a page
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        with self.writing() if self._schema() == 0 else nullcontext():
            if self._schema() == 0:  # nobody else was faster
                for statement in tables.split(";"):
                    self._db.execute(statement)
                self._db.execute(f"PRAGMA user_version = {schema}")
        if self._schema() != schema:
            raise StoreError(
                f"{self._name} has schema {self._schema()} and this version reads {schema}; "
                "upgrade the package, or index again into another directory"
            )

    def _schema(self) -> int:
        return int(self._db.execute("PRAGMA user_version").fetchone()[0])

    def execute(self, sql: str, values: Sequence[object] = ()) -> sqlite3.Cursor:
        """Run one statement inside `reading` or `writing`."""
        return self._db.execute(sql, values)

    def execute_many(self, sql: str, rows: Iterable[Sequence[object]]) -> None:
        """Run one statement for each row inside `writing`."""
        self._db.executemany(sql, rows)

    def execute_in(self, sql: str, values: Sequence[object]) -> list[tuple[Any, ...]]:
        """Run a statement whose ``{}`` stands for a list of values, however long, and return all its rows."""
        rows: list[tuple[Any, ...]] = []
        for start in range(0, len(values), _BOUND):
            part = values[start : start + _BOUND]
            rows += self._db.execute(sql.format(",".join("?" * len(part))), part).fetchall()
        return rows

    def version(self) -> tuple[int, int]:
        """Return something that is different whenever the file has changed."""
        return self._db.execute("PRAGMA data_version").fetchone()[0], self._changes

    def close(self) -> None:
        """Close the file. Using it afterwards raises StoreError."""
        with self._lock:
            self._db.close()

    @contextmanager
    def reading(self) -> Iterator[None]:
        """See one state of the file in all calls inside, whatever other processes commit meanwhile."""
        with self._transaction("BEGIN"):
            yield

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Do all calls inside or none."""
        with self._transaction("BEGIN IMMEDIATE"):
            self._changes += 1
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
                raise StoreError(f"{self._name} is closed") from error
            except sqlite3.Error as error:
                raise StoreError(f"{self._name} cannot be used: {error}") from error
            self._depth += 1
            try:
                yield
                self._db.execute("COMMIT")
            except sqlite3.Error as error:
                self._roll_back()
                raise StoreError(f"{self._name} cannot be used: {error}") from error
            except BaseException:
                self._roll_back()
                raise
            finally:
                self._depth -= 1

    def _roll_back(self) -> None:
        if self._db.in_transaction:  # SQLite ends a transaction by itself when the disk is full
            self._db.execute("ROLLBACK")
