"""Which chunk has which word how often, in tables of the ledger's file.

There are postings of live versions only: they are added in the transaction that makes a version live and removed in
the one that makes it dead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from rag_embeddings.store.database import Database

    Counted = tuple[int, int, Mapping[str, int]]  # version, ordinal of the chunk, how often it has each word

# `length` is the number of a chunk's words, beside every posting so that a query reads one range of one table. `words`
# lists them, so that a chunk's postings are found again whatever the stemmer makes of its text by then.
_TABLES = (
    """
    CREATE TABLE postings (
        word TEXT NOT NULL,
        version INTEGER NOT NULL,
        ordinal INTEGER NOT NULL,
        count INTEGER NOT NULL,
        length INTEGER NOT NULL,
        PRIMARY KEY (word, version, ordinal)
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE keyword_chunks (
        version INTEGER NOT NULL,
        ordinal INTEGER NOT NULL,
        length INTEGER NOT NULL,
        words TEXT NOT NULL,
        PRIMARY KEY (version, ordinal)
    ) WITHOUT ROWID
    """,
    "CREATE TABLE keyword_totals (chunks INTEGER NOT NULL, length INTEGER NOT NULL)",
    "INSERT INTO keyword_totals VALUES (0, 0)",
)


def exist(database: Database) -> bool:
    """Whether there are tables of postings."""
    sql = "SELECT 1 FROM sqlite_master WHERE name = 'postings'"
    return database.execute(sql).fetchone() is not None


def clear(database: Database) -> None:
    """Remove all postings and make the tables; inside `Database.writing`."""
    drop(database)
    for statement in _TABLES:
        database.execute(statement)


def drop(database: Database) -> None:
    """Remove the tables, if there are any; inside `Database.writing`."""
    for table in ("postings", "keyword_chunks", "keyword_totals"):
        database.execute(f"DROP TABLE IF EXISTS {table}")


def add(database: Database, chunks: Iterable[Counted]) -> None:
    """Add the words of chunks that have none yet; inside `Database.writing`."""
    rows, owners = [], []
    for version, ordinal, counts in chunks:
        length = sum(counts.values())
        owners.append((version, ordinal, length, " ".join(counts)))
        rows += [(word, version, ordinal, count, length) for word, count in counts.items()]
    if not owners:  # perhaps because there are no tables
        return
    rows.sort()  # neighbours in the table are written one after the other
    database.execute_many("INSERT INTO keyword_chunks VALUES (?, ?, ?, ?)", owners)
    database.execute_many("INSERT INTO postings VALUES (?, ?, ?, ?, ?)", rows)
    _count(database, len(owners), sum(owner[2] for owner in owners))


def remove_dead(database: Database) -> None:
    """Remove the words of versions that are not live; inside `Database.writing`."""
    if not exist(database):
        return
    rows = database.execute(  # CROSS JOIN: SQLite begins with the few versions, not with all chunks
        "SELECT found.version, ordinal, length, words FROM versions CROSS JOIN keyword_chunks found"
        " ON found.version = number WHERE state <> 'live'"
    ).fetchall()
    words = ((word, version, ordinal) for version, ordinal, _, words in rows for word in words.split())
    database.execute_many("DELETE FROM postings WHERE word = ? AND version = ? AND ordinal = ?", words)
    database.execute_many("DELETE FROM keyword_chunks WHERE version = ? AND ordinal = ?", (row[:2] for row in rows))
    _count(database, -len(rows), -sum(row[2] for row in rows))


def of_word(database: Database, word: str) -> NDArray[np.int64]:
    """Return the chunks that have a word; inside `Database.reading`.

    Returns:
        int64 of shape (n, 4): version, ordinal, how often it has the word, how many words it has.
    """
    rows = database.execute("SELECT version, ordinal, count, length FROM postings WHERE word = ?", (word,)).fetchall()
    return np.array(rows, dtype=np.int64).reshape(-1, 4)


def totals(database: Database) -> tuple[int, int]:
    """Return the number of chunks and of their words; inside `Database.reading`."""
    chunks, length = database.execute("SELECT chunks, length FROM keyword_totals").fetchone()
    return chunks, length


def _count(database: Database, chunks: int, length: int) -> None:
    database.execute("UPDATE keyword_totals SET chunks = chunks + ?, length = length + ?", (chunks, length))


def contents(database: Database) -> Sequence[tuple[str, int, int, int, int]]:
    """Return every posting (word, version, ordinal, count, length), for checks; inside `Database.reading`."""
    return database.execute("SELECT * FROM postings").fetchall()
