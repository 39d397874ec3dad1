"""Every store against the same plain model."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings

from rag_embeddings.store.chroma import ChromaStore
from rag_embeddings.store.kept import KeptStore
from rag_embeddings.store.memory import MemoryStore
from rag_embeddings.store.sqlite import SqliteStore
from rag_embeddings.testing.store import check_store

SIMILARITIES = ["cosine", "dot", "euclidean"]
QUIET = [HealthCheck.too_slow, HealthCheck.data_too_large]


def few(examples, steps):
    return settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        phases=[Phase.generate],  # shrinking on a disk takes minutes
        suppress_health_check=QUIET,
    )


class OnDisk:
    """Makes stores in fresh directories, and opens them again."""

    def __init__(self, root, similarity, *, kept=False):
        self.root, self.similarity, self.kept = root, similarity, kept

    def open(self, path):
        chroma = ChromaStore(path / "chroma", "records", similarity=self.similarity)
        chroma._slice = 2  # the rare path, more than one slice, is the usual one here
        self.path = path
        if not self.kept:
            return chroma
        store = KeptStore(SqliteStore(path / "records.sqlite3", similarity=self.similarity), chroma)
        store.similarity = self.similarity
        return store

    def make(self):
        return self.open(Path(tempfile.mkdtemp(dir=self.root)))

    def reopen(self, store):
        store.close()
        return self.open(self.path)


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_memory_store(similarity):
    check_store(lambda: MemoryStore(similarity), settings=few(50, 30))


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_sqlite_store(similarity, tmp_path):
    def make():
        store = SqliteStore(Path(tempfile.mkdtemp(dir=tmp_path)) / "records.sqlite3", similarity=similarity)
        store.path = store._database._name
        return store

    def reopen(store):
        store.close()
        again = SqliteStore(Path(store.path), similarity=similarity)
        again.path = store.path
        return again

    check_store(make, reopen=reopen, settings=few(20, 30))


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_chroma_store(similarity, tmp_path):
    disk = OnDisk(tmp_path, similarity)
    check_store(disk.make, reopen=disk.reopen, settings=few(6, 30))


def test_kept_store(tmp_path):
    disk = OnDisk(tmp_path, "cosine", kept=True)
    check_store(disk.make, reopen=disk.reopen, settings=few(6, 30))


@pytest.mark.slow
@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_chroma_store_at_length(similarity, tmp_path):
    disk = OnDisk(tmp_path, similarity)
    check_store(disk.make, reopen=disk.reopen, settings=few(500 if similarity == "cosine" else 100, 50))


@pytest.mark.slow
@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_memory_store_at_length(similarity):
    check_store(lambda: MemoryStore(similarity), settings=few(500, 50))
