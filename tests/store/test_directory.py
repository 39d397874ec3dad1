"""One shared handle per real path; what is opened, what is refused, what is let go."""

import gc
import sqlite3
import threading
from pathlib import Path

import pytest

from index_corpus import check_index, corpus, document, pipeline
from rag_embeddings.errors import StoreError
from rag_embeddings.index.indexer import Indexer
from rag_embeddings.retrieve.sentence_parent import SentenceParentSearch
from rag_embeddings.store import directory as module
from rag_embeddings.store.directory import IndexDirectory
from rag_embeddings.store.ledger import Ledger
from rag_embeddings.testing.encoder import DeterministicEncoder

ENCODER = DeterministicEncoder(dimensions=96)


def test_handles_on_one_path_share_and_the_last_one_closes(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "index")
    first = IndexDirectory.open(tmp_path / "index", create=True)
    second = IndexDirectory.open(str(tmp_path / "link"))
    assert first._shared is second._shared
    Indexer(first, pipeline()).upsert(corpus(0, 2))
    Indexer(second, pipeline()).upsert(corpus(0, 3))  # the same writer, not a second one
    first.close()
    first.close()
    with pytest.raises(StoreError, match="closed"):
        Indexer(first, pipeline()).upsert(corpus(0, 4))
    with pytest.raises(StoreError, match="closed"):
        _ = first.profile
    check_index(second, corpus(0, 3), pipeline())
    shared = second._shared
    second.close()
    assert shared.path not in module._registry
    with pytest.raises(StoreError, match="closed"):
        shared.ledger.counts()


def test_a_handle_that_is_forgotten_is_closed(tmp_path):
    handle = IndexDirectory.open(tmp_path / "index", create=True)
    path = handle.path
    assert path in module._registry
    del handle
    gc.collect()
    assert path not in module._registry


def test_indexes_in_memory_are_private():
    with IndexDirectory.open(None) as one, IndexDirectory.open(None) as other:
        Indexer(one, pipeline()).upsert(corpus(0, 1))
        assert Indexer(other, pipeline()).document_ids() == []


def test_opening_again_and_again_leaves_nothing_open(tmp_path):
    def used():
        gc.collect()
        return len(list(files.iterdir())), threading.active_count()

    files = Path("/proc/self/fd")
    if not files.exists():
        pytest.skip("counts open files through /proc")
    Indexer(IndexDirectory.open(tmp_path / "index", create=True), pipeline()).upsert(corpus(0, 1))
    gc.collect()
    before = used()
    for version in range(5):
        with IndexDirectory.open(tmp_path / "index") as opened:
            Indexer(opened, pipeline()).upsert(corpus(version, 1))
            SentenceParentSearch(opened, ENCODER).search("thing0x0", 1)
    assert used() == before


def test_a_file_that_is_no_index_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "index"
    path.mkdir()
    (path / "ledger.sqlite3").write_bytes(b"not a database, but long enough to look like a file of one" * 100)
    before = (path / "ledger.sqlite3").read_bytes()
    with pytest.raises(StoreError, match="not a database"):
        IndexDirectory.open(path)
    assert (path / "ledger.sqlite3").read_bytes() == before


def test_a_file_in_its_place_is_told(tmp_path):
    (tmp_path / "index").write_text("notes")
    with pytest.raises(StoreError, match="is a file"):
        IndexDirectory.open(tmp_path / "index", create=True)
    assert (tmp_path / "index").read_text() == "notes"


def test_an_index_of_a_newer_schema_is_refused(tmp_path):
    IndexDirectory.open(tmp_path / "index", create=True).close()
    with sqlite3.connect(tmp_path / "index" / "ledger.sqlite3") as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(StoreError, match=r"schema 99.*upgrade"):
        IndexDirectory.open(tmp_path / "index")


def test_vectors_of_another_index_and_missing_vectors_are_refused(tmp_path):
    for name, encoder in (("one", DeterministicEncoder(96)), ("two", DeterministicEncoder(96, query_prompt="q: "))):
        with IndexDirectory.open(tmp_path / name, create=True) as opened:
            Indexer(opened, pipeline(encoder)).upsert(corpus(0, 1))
    (tmp_path / "one" / "chroma").rename(tmp_path / "away")
    (tmp_path / "two" / "chroma").rename(tmp_path / "one" / "chroma")
    with IndexDirectory.open(tmp_path / "one") as opened, pytest.raises(StoreError, match="different indexes"):
        Indexer(opened, pipeline()).upsert(corpus(0, 2))
    (tmp_path / "one" / "vectors").rename(tmp_path / "vectors")
    with IndexDirectory.open(tmp_path / "one") as opened, pytest.raises(StoreError, match="gone"):
        SentenceParentSearch(opened, ENCODER).search("question")


def test_threads_that_write_take_turns(tmp_path):
    errors = []
    with IndexDirectory.open(tmp_path / "index", create=True) as opened:

        def write(number):
            try:
                with IndexDirectory.open(tmp_path / "index") as mine:
                    Indexer(mine, pipeline(), slice_size=4).upsert([document(number)])
            except Exception as error:  # noqa: BLE001 - shown by the assertion
                errors.append(error)

        threads = [threading.Thread(target=write, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []
        check_index(opened, corpus(0, 6), pipeline())


def test_the_ledger_keeps_only_recent_documents_in_memory():
    ledger = Ledger(None)
    with IndexDirectory.open(None) as opened:
        Indexer(opened, pipeline()).upsert(corpus(0, 50))
        Indexer(opened, pipeline()).get(Indexer(opened, pipeline()).document_ids())
        assert len(opened.ledger._documents) == 32
    ledger.close()


def test_a_transaction_that_fails_leaves_nothing():
    ledger = Ledger(None)

    def change():
        with ledger.writing():
            ledger.remember("key", 1)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        change()
    assert ledger.meta("key") is None
    ledger.remember("key", 2)
    assert ledger.meta("key") == 2
    ledger.close()


def test_a_full_disk_is_a_declared_error_and_the_next_call_finishes(tmp_path):
    with IndexDirectory.open(tmp_path / "index", create=True) as opened:
        indexer = Indexer(opened, pipeline())
        indexer.upsert(corpus(0, 2))
        opened.ledger.execute(f"PRAGMA max_page_count = {opened.ledger.execute('PRAGMA page_count').fetchone()[0]}")
        with pytest.raises(StoreError, match="full"):
            indexer.upsert([document(0), document(5, sentences=2000)])
        assert indexer.document_ids() == ["doc-0", "doc-1"]
        opened.ledger.execute("PRAGMA max_page_count = 1000000")
        indexer.upsert([document(0), document(5, sentences=20)])
        check_index(opened, [document(0), document(1), document(5, sentences=20)], pipeline())


def test_a_failure_on_closing_gives_the_lock_back(tmp_path):
    opened = IndexDirectory.open(tmp_path / "index", create=True)
    Indexer(opened, pipeline()).upsert(corpus(0, 2))
    opened.ledger.execute("PRAGMA query_only = 1")  # as a disk that takes nothing any more
    with pytest.raises(StoreError, match="readonly") as failure:  # the traceback keeps everything alive
        opened.close()
    with IndexDirectory.open(tmp_path / "index") as again:
        Indexer(again, pipeline()).upsert(corpus(0, 3))
        check_index(again, corpus(0, 3), pipeline())
    assert failure.value.__cause__ is not None
