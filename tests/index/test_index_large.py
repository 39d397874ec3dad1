"""Changing one document of a large index touches what is its own, counted."""

import pytest

from index_corpus import document, pipeline
from rag_embeddings.index.indexer import Indexer
from rag_embeddings.retrieve.hybrid import HybridSearch
from rag_embeddings.store import postings
from rag_embeddings.store.directory import IndexDirectory
from rag_embeddings.testing.encoder import DeterministicEncoder
from rag_embeddings.text import Document

DOCUMENTS, CHANGED = 570, 250


class Recording:
    """A store that notes the ids written and deleted through it."""

    def __init__(self, store):
        self.store, self.written, self.deleted = store, set(), set()

    def __getattr__(self, name):
        return getattr(self.store, name)

    def upsert(self, records):
        self.written |= {record.id for record in records}
        self.store.upsert(records)

    def delete(self, ids):
        self.deleted |= set(ids)
        self.store.delete(ids)


@pytest.fixture(scope="module")
def large():
    with IndexDirectory.open(None) as directory:
        made_by = pipeline(DeterministicEncoder(16), size=100, step=80)
        Indexer(directory, made_by).upsert(document(number, sentences=20) for number in range(DOCUMENTS))
        assert directory.counts()["chunks"] >= 10_000
        yield directory, made_by


def state(directory):
    """Everything that is kept beside the vectors, by version."""
    tables = ("chunks", "sentences", "keyword_chunks")
    with directory.ledger.reading():
        kept = {(table, row) for table in tables for row in directory.ledger.execute(f"SELECT * FROM {table}")}  # noqa: S608
        return kept | {("postings", row) for row in postings.contents(directory.ledger)}


@pytest.mark.parametrize("action", ["update", "delete"])
def test_one_document_of_ten_thousand_chunks(large, action):
    directory, made_by = large
    ledger, name = directory.ledger, f"doc-{CHANGED}"
    Indexer(directory, made_by).upsert([document(CHANGED, sentences=20)])
    old = ledger.live_chunks(sorted(ledger.unit_ids()[1]))
    old_version = next(place.version for place in old.values() if ledger.document(place.version).id == name)
    old_chunks = {identity for identity, place in old.items() if place.version == old_version}
    before, encoded = state(directory), made_by.encoder.encoded
    changes = ledger.execute("SELECT total_changes()").fetchone()[0]

    shared = directory._shared
    stores = shared._stores
    sentences, chunks = shared._stores = tuple(map(Recording, stores))
    # The last line alone is another one.
    text = document(CHANGED, sentences=20).text.rsplit(". ", 1)[0] + ". The last line names a zeppelin."
    if action == "update":
        Indexer(directory, made_by).upsert([Document(text, name, {"number": CHANGED, "version": 0})])
    else:
        Indexer(directory, made_by).delete([name])
    shared._stores = stores

    after = state(directory)
    changes = ledger.execute("SELECT total_changes()").fetchone()[0] - changes
    live = set(ledger.unit_ids()[1])
    new_chunks = live - set(old)
    assert set(old) - live == old_chunks  # ids of chunks know the text of their document
    assert chunks.deleted == old_chunks
    assert chunks.written == new_chunks
    assert made_by.encoder.encoded - encoded == len(sentences.written) + len(chunks.written)
    assert {row[1] for table, row in before - after if table == "postings"} == {old_version}
    assert all(old_version in row[:2] for _, row in before - after)
    rows = len(before - after) + len(after - before)
    assert rows <= changes <= rows + 30  # beside them: the version's state, totals, settings, generation
    assert len(before) > 100 * rows
    found = HybridSearch(directory, made_by.encoder, beta=100).search("zeppelin", 1)
    assert ("zeppelin" in found[0].chunk.text) == (action == "update")
    if action == "delete":
        assert not [row for row in after if old_version in row[1][:2]]
        with directory.reading() as view:
            assert not view.sentences.contains(sorted(sentences.deleted))
            assert not view.chunks.contains(sorted(old_chunks))
