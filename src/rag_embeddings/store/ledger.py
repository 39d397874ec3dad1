"""The ledger: whole documents, their spans, and which version of each is live.

Values are bound, never pasted into SQL, and texts that may hold anything (ids, texts, contexts) are stored as UTF-8
bytes with lone surrogates passed through.

A version of a document is ``pending`` while its vectors are being written, ``live`` from the one transaction that ends
that, and ``dead`` until its vectors are gone.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from rag_embeddings.store import postings
from rag_embeddings.store.database import Database
from rag_embeddings.store.schema import SCHEMA, TABLES
from rag_embeddings.store.version import Place, Sentence, Version
from rag_embeddings.text import Block, Chunk, Document, Span, canonical_json

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_DOCUMENTS = 32  # documents kept in memory for reading


class Ledger(Database):
    """See the module. Thread-safe; a ledger must not be carried across a fork.

    Args:
        path: The SQLite file, made if absent; None keeps everything in memory.

    Raises:
        StoreError: If the file is something else or was written by a newer version.
    """

    def __init__(self, path: Path | None) -> None:
        super().__init__(path, TABLES, SCHEMA)
        self._documents: OrderedDict[int, Document] = OrderedDict()

    # --- what the index as a whole remembers ---------------------------------------------------------------------

    def meta(self, key: str) -> Any:
        """Return a remembered value, None if there is none."""
        with self.reading():
            row = self.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if row is None else json.loads(row[0])

    def remember(self, key: str, value: object) -> None:
        """Remember a JSON-safe value."""
        with self.writing():
            self.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, canonical_json(value)))

    @property
    def generation(self) -> int:
        """A number that grows whenever what a reader may find has changed."""
        return int(self.meta("generation") or 0)

    def advance(self) -> None:
        """Make the generation grow, so that readers in other processes open their stores again."""
        with self.writing():
            self.remember("generation", self.generation + 1)

    # --- writing versions ----------------------------------------------------------------------------------------

    def begin(self, versions: Sequence[Version]) -> list[int]:
        """Write versions down as pending, or find those that were pending already.

        Pending versions of the same documents under other names are dead from now on.

        Args:
            versions: At most one per document.

        Returns:
            The number of each version.
        """
        numbers = []
        with self.writing():
            for version in versions:
                document = _bytes(version.document.id)
                row = self.execute(
                    "SELECT number FROM versions WHERE document = ? AND state = 'pending' AND version = ?",
                    (document, version.name),
                ).fetchone()
                number = row[0] if row else self._insert(version)
                self.execute(
                    "UPDATE versions SET state = 'dead' WHERE document = ? AND state = 'pending' AND number <> ?",
                    (document, number),
                )
                numbers.append(number)
        return numbers

    def _insert(self, version: Version) -> int:
        document = version.document
        blocks = [[block.span.start, block.span.end, block.kind, block.level, block.page] for block in document.blocks]
        cursor = self.execute(
            "INSERT INTO versions (document, version, state, text, metadata, blocks) VALUES (?, ?, 'pending', ?, ?, ?)",
            (
                _bytes(document.id),
                version.name,
                _bytes(document.text),
                canonical_json(document.metadata),
                canonical_json(blocks),
            ),
        )
        number = int(cursor.lastrowid or 0)
        self.execute_many(
            "INSERT INTO chunks VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                (
                    number,
                    ordinal,
                    chunk.id,
                    canonical_json([[span.start, span.end] for span in chunk.spans]),
                    canonical_json(chunk.headings),
                    _bytes(chunk.context),
                    canonical_json(chunk.metadata),
                )
                for ordinal, chunk in enumerate(version.chunks)
            ),
        )
        self.execute_many(
            "INSERT INTO sentences VALUES (?, ?, ?, ?, ?)",
            (
                (number, ordinal, sentence.span.start, sentence.span.end, sentence.id)
                for ordinal, sentences in enumerate(version.sentences)
                for sentence in sentences
            ),
        )
        return number

    def commit(self, numbers: Sequence[int]) -> None:
        """Make versions live and what was live before them dead: the moment the new versions exist."""
        with self.writing():
            for number in numbers:
                self.execute(
                    "UPDATE versions SET state = 'dead' WHERE state = 'live' AND number <> ?"
                    " AND document = (SELECT document FROM versions WHERE number = ?)",
                    (number, number),
                )
                self.execute("UPDATE versions SET state = 'live' WHERE number = ?", (number,))
            postings.remove_dead(self)
            self.advance()

    def kill(self, ids: Sequence[str]) -> list[str]:
        """Make every version of some documents dead.

        Returns:
            Those of ``ids`` that had a live version.
        """
        killed = []
        with self.writing():
            for identity in dict.fromkeys(ids):
                document = _bytes(identity)
                live = self.execute(
                    "SELECT 1 FROM versions WHERE document = ? AND state = 'live'", (document,)
                ).fetchone()
                self.execute("UPDATE versions SET state = 'dead' WHERE document = ?", (document,))
                if live:
                    killed.append(identity)
            if killed:
                postings.remove_dead(self)
                self.advance()
        return killed

    def dead(self) -> list[int]:
        """Return the numbers of the versions whose vectors are to be deleted, and nothing of them is needed any more.

        While a document has a pending version, `siblings` has to tell it which shared units may be overwritten.
        """
        sql = (  # that it is not live either tells SQLite which index to use
            "SELECT number FROM versions WHERE state = 'dead' AND state <> 'live'"
            " AND NOT EXISTS (SELECT 1 FROM versions other"
            " WHERE other.document = versions.document AND other.state = 'pending')"
        )
        with self.reading():
            return [row[0] for row in self.execute(sql)]

    def orphans(self, number: int) -> tuple[list[str], list[str]]:
        """Return the ids of sentences and of chunks that only dead versions have, this one among them."""
        sql = (
            "SELECT DISTINCT id FROM {0} WHERE version = ? AND id NOT IN (SELECT other.id FROM {0} other"
            " JOIN versions ON versions.number = other.version WHERE versions.state <> 'dead'"
            " AND versions.document = (SELECT document FROM versions WHERE number = ?))"
        )
        with self.reading():
            sentences, chunks = (
                [row[0] for row in self.execute(sql.format(table), (number, number))]
                for table in ("sentences", "chunks")
            )
        return sentences, chunks

    def forget(self, numbers: Sequence[int]) -> None:
        """Remove dead versions whose vectors are gone, and tell readers."""
        with self.writing():
            for number in numbers:
                self.execute("DELETE FROM sentences WHERE version = ?", (number,))
                self.execute("DELETE FROM chunks WHERE version = ?", (number,))
                self.execute("DELETE FROM versions WHERE number = ?", (number,))
            self.advance()

    # --- reading -------------------------------------------------------------------------------------------------

    def states(self, ids: Sequence[str]) -> dict[str, tuple[str | None, bool]]:
        """Return for each document that is known the name of its live version, and whether it has a pending one."""
        found: dict[str, tuple[str | None, bool]] = {}
        with self.reading():
            rows = self.execute_in(
                "SELECT document, version, state FROM versions WHERE document IN ({})",
                [_bytes(identity) for identity in ids],
            )
            for document, name, state in rows:
                live, pending = found.get(_text(document), (None, False))
                live, pending = (name, pending) if state == "live" else (live, pending or state == "pending")
                found[_text(document)] = (live, pending)
        return found

    def document_ids(self, *, pending: bool = False) -> list[str]:
        """Return the ids of the live documents, oldest first; with ``pending`` those of unfinished ones too."""
        states = "('live', 'pending')" if pending else "('live')"
        with self.reading():
            rows = self.execute(f"SELECT document FROM versions WHERE state IN {states} ORDER BY number")  # noqa: S608
            return list(dict.fromkeys(_text(row[0]) for row in rows))

    def counts(self) -> dict[str, int]:
        """Return how many ``documents``, ``chunks`` and ``sentences`` (one per chunk it stands in) are live."""
        join = "JOIN versions ON versions.number = {0}.version AND versions.state = 'live'"
        with self.reading():
            count = {"documents": "SELECT count(*) FROM versions WHERE state = 'live'"}
            count |= {table: f"SELECT count(*) FROM {table} " + join.format(table) for table in ("chunks", "sentences")}  # noqa: S608
            return {name: int(self.execute(sql).fetchone()[0]) for name, sql in count.items()}

    def live_documents(self, ids: Sequence[str]) -> list[Document]:
        """Return live documents as they were written, in the order of ``ids``; unknown ones are skipped."""
        found = []
        with self.reading():
            for identity in ids:
                row = self.execute(
                    "SELECT number FROM versions WHERE document = ? AND state = 'live'", (_bytes(identity),)
                ).fetchone()
                if row:
                    found.append(self.document(row[0]))
        return found

    def live_version(self, identity: str) -> Version | None:
        """Return a live document with its chunks and sentences; None if there is none of that id."""
        with self.reading():
            row = self.execute(
                "SELECT number, version FROM versions WHERE document = ? AND state = 'live'", (_bytes(identity),)
            ).fetchone()
            if row is None:
                return None
            number, name = row
            (count,) = self.execute("SELECT count(*) FROM chunks WHERE version = ?", (number,)).fetchone()
            places = [Place(number, ordinal) for ordinal in range(count)]
            chunks, sentences = map(self.chunk, places), map(self.sentences, places)
            return Version(self.document(number), name, list(chunks), list(sentences))

    def document(self, number: int) -> Document:
        """Return the document of a version. Recently read ones are kept in memory; a number never changes meaning."""
        with self.reading():
            if number not in self._documents:
                document, text, metadata, blocks = self.execute(
                    "SELECT document, text, metadata, blocks FROM versions WHERE number = ?", (number,)
                ).fetchone()
                layout = tuple(
                    Block(Span(start, end), kind, level, page) for start, end, kind, level, page in json.loads(blocks)
                )
                self._documents[number] = Document(_text(text), _text(document), json.loads(metadata), layout)
                if len(self._documents) > _DOCUMENTS:
                    self._documents.popitem(last=False)
            self._documents.move_to_end(number)
            return self._documents[number]

    def siblings(self, number: int) -> dict[str, set[tuple[str, str, str]]]:
        """Return what the other versions of the same document say about the units they have.

        Returns:
            For each id of a sentence or chunk, the (context, document metadata as JSON, name of the version) it may
            have been stored with.
        """
        sql = (
            "SELECT {0}.id, chunks.context, versions.metadata, versions.version FROM versions JOIN chunks"
            " ON chunks.version = versions.number {1}"
            " WHERE versions.number <> ? AND versions.document = (SELECT document FROM versions WHERE number = ?)"
        )
        join = "JOIN sentences ON sentences.version = chunks.version AND sentences.chunk = chunks.ordinal"
        found: dict[str, set[tuple[str, str, str]]] = {}
        with self.reading():
            for statement in (sql.format("chunks", ""), sql.format("sentences", join)):
                for identity, context, metadata, name in self.execute(statement, (number, number)):
                    found.setdefault(identity, set()).add((_text(context), metadata, name))
        return found

    def live_sentences(self, ids: Sequence[str]) -> dict[str, list[tuple[Place, Span]]]:
        """Return for each sentence that is live the chunks it stands in, and its span."""
        sql = (
            'SELECT sentences.id, sentences.version, sentences.chunk, sentences.start, sentences."end" FROM sentences'
            " JOIN versions ON versions.number = sentences.version AND versions.state = 'live'"
            " WHERE sentences.id IN ({}) ORDER BY sentences.version, sentences.chunk"
        )
        found: dict[str, list[tuple[Place, Span]]] = {}
        with self.reading():
            for identity, version, chunk, start, end in self.execute_in(sql, ids):
                found.setdefault(identity, []).append((Place(version, chunk), Span(start, end)))
        return found

    def live_chunks(self, ids: Sequence[str]) -> dict[str, Place]:
        """Return where each chunk that is live stands."""
        sql = (
            "SELECT chunks.id, chunks.version, chunks.ordinal FROM chunks"
            " JOIN versions ON versions.number = chunks.version AND versions.state = 'live' WHERE chunks.id IN ({})"
        )
        with self.reading():
            return {identity: Place(version, ordinal) for identity, version, ordinal in self.execute_in(sql, ids)}

    def chunk(self, place: Place) -> Chunk:
        """Return a chunk with its document."""
        with self.reading():
            row = self.execute(
                "SELECT spans, headings, context, metadata FROM chunks WHERE version = ? AND ordinal = ?",
                (place.version, place.ordinal),
            ).fetchone()
            return _chunk(self.document(place.version), row)

    def chunks(self, number: int) -> list[Chunk]:
        """Return the chunks of a version, in order."""
        sql = "SELECT spans, headings, context, metadata FROM chunks WHERE version = ? ORDER BY ordinal"
        with self.reading():
            document = self.document(number)
            return [_chunk(document, row) for row in self.execute(sql, (number,))]

    def document_metadata(self, number: int) -> tuple[str, dict[str, Any]]:
        """Return id and metadata of a version's document, without reading its text."""
        with self.reading():
            row = self.execute("SELECT document, metadata FROM versions WHERE number = ?", (number,)).fetchone()
        return _text(row[0]), json.loads(row[1])

    def chunk_metadata(self, number: int) -> list[dict[str, Any]]:
        """Return the metadata of the chunks of a version, in order, without reading their texts."""
        with self.reading():
            rows = self.execute("SELECT metadata FROM chunks WHERE version = ? ORDER BY ordinal", (number,))
            return [json.loads(row[0]) for row in rows]

    def live_versions(self) -> list[int]:
        """Return the numbers of the versions that are live, oldest first."""
        with self.reading():
            rows = self.execute("SELECT number FROM versions WHERE state = 'live' ORDER BY number")
            return [row[0] for row in rows]

    def chunk_id(self, place: Place) -> str:
        """Return the id of a chunk without reading its document."""
        with self.reading():
            row = self.execute(
                "SELECT id FROM chunks WHERE version = ? AND ordinal = ?", (place.version, place.ordinal)
            ).fetchone()
        return str(row[0])

    def sentences(self, place: Place) -> list[Sentence]:
        """Return the sentences of a chunk, in order."""
        with self.reading():
            rows = self.execute(
                'SELECT id, start, "end" FROM sentences WHERE version = ? AND chunk = ? ORDER BY start',
                (place.version, place.ordinal),
            )
            return [Sentence(identity, Span(start, end)) for identity, start, end in rows]

    def unit_ids(self) -> tuple[set[str], set[str]]:
        """Return the ids of all live sentences and chunks, for checks."""
        sql = "SELECT DISTINCT {0}.id FROM {0} JOIN versions ON number = {0}.version AND state = 'live'"
        with self.reading():
            sentences, chunks = (
                {row[0] for row in self.execute(sql.format(table))} for table in ("sentences", "chunks")
            )
        return sentences, chunks


def _chunk(document: Document, row: Sequence[Any]) -> Chunk:
    spans, headings, context, metadata = row
    return Chunk(
        document,
        tuple(Span(start, end) for start, end in json.loads(spans)),
        tuple(json.loads(headings)),
        _text(context),
        json.loads(metadata),
    )


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogatepass")
