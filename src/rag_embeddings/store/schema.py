"""The tables of the ledger."""

from __future__ import annotations

SCHEMA = 1
TABLES = """
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
CREATE INDEX sentences_by_id ON sentences (id)
"""
