"""Bad vectors, other spaces, hostile ids and metadata: refused or kept apart, never stored in part."""

import dataclasses

import numpy as np
import pytest

from index_corpus import SLICE, check_index, corpus, document, pipeline
from rag_embeddings.encode.profile import Profile
from rag_embeddings.errors import DocumentError, SpaceMismatchError, StoreError, VectorError
from rag_embeddings.index.indexer import Indexer
from rag_embeddings.retrieve.sentence_parent import SentenceParentSearch
from rag_embeddings.store.base import Record
from rag_embeddings.store.chroma import ChromaStore
from rag_embeddings.store.directory import IndexDirectory
from rag_embeddings.testing.encoder import DeterministicEncoder
from rag_embeddings.text import Document, canonical_json


class Spoiled(DeterministicEncoder):
    """Returns something bad at one call."""

    def __init__(self, spoil, call):
        super().__init__(dimensions=96)
        self.spoil, self.call, self.calls = spoil, call, 0

    def encode(self, texts, role):
        self.calls += 1
        vectors = super().encode(texts, role)
        return self.spoil(vectors) if self.calls == self.call else vectors


def with_row(value):
    def spoil(vectors):
        vectors[1] = value
        return vectors

    return spoil


BAD = {
    "nan": with_row(np.nan),
    "infinity": with_row(np.inf),
    "zero": with_row(0),
    "too narrow": lambda vectors: vectors[:, :-1],
    "too wide": lambda vectors: np.hstack([vectors, vectors[:, :1]]),
    "one too few": lambda vectors: vectors[:-1],
    "one too many": lambda vectors: np.vstack([vectors, vectors[:1]]),
    "not numbers": lambda vectors: [["a"] * 96] * len(vectors),
}


@pytest.mark.parametrize("call", [1, 3])
@pytest.mark.parametrize("spoil", BAD.values(), ids=BAD)
def test_bad_vectors_are_not_stored_and_a_second_try_stores_everything(spoil, call):
    with IndexDirectory.open(None) as directory:
        old = Indexer(directory, pipeline(), slice_size=SLICE)
        old.upsert(corpus(0, 3))
        bad = Indexer(directory, pipeline(Spoiled(spoil, call)), slice_size=SLICE)
        with pytest.raises(VectorError):
            bad.upsert([*corpus(1, 3), document(3)])
        with directory.reading() as view:
            for store in (view.sentences, view.chunks):
                vectors = np.stack([record.vector for record in store.get(list(store.ids()))])
                assert vectors.shape[1] == 96
                assert np.allclose(np.linalg.norm(vectors, axis=1), 1)
        assert sorted(old.document_ids()) == ["doc-0", "doc-1", "doc-2"]
        assert old.get(["doc-0"])[0].text == document(0, 0).text  # the old version is whole
        found = SentenceParentSearch(directory, DeterministicEncoder(dimensions=96)).search(document(0, 0).text, 1)
        assert found[0].chunk.document.text == document(0, 0).text
        old.upsert([*corpus(1, 3), document(3)])
        check_index(directory, [*corpus(1, 3), document(3)], pipeline())


def test_the_error_names_the_text():
    with IndexDirectory.open(None) as directory:
        bad = Indexer(directory, pipeline(Spoiled(with_row(np.nan), 1)))
        with pytest.raises(VectorError, match=r"text 1 of \d+ has NaN.*Document 0 in version 0 says in line 1"):
            bad.upsert(corpus(0, 1))


# --- another space -----------------------------------------------------------------------------------------------------

PROFILE = Profile(model="m", dimensions=96, weights="")
OTHERS = {
    "model": "n",
    "dimensions": 97,
    "query_prompt": "query: ",
    "document_prompt": "passage: ",
    "pooling": "mean",
    "normalize": False,
    "similarity": "dot",
    "weights": "abc",
    "revision": "main",
    "query_suffix": "?",
    "query_adapter": "retrieval.query",
    "document_adapter": "retrieval.passage",
    "layers": 3,
}
ASIDE = {"max_tokens": 7, "document_tokens": 5, "query_model": "q", "sources": {"pooling": "caller"}}


class Renamed(DeterministicEncoder):
    def __init__(self, profile):
        super().__init__(dimensions=profile.dimensions)
        self.profile = profile


def test_every_field_of_a_profile_is_tried():
    assert OTHERS.keys() | ASIDE.keys() == {field.name for field in dataclasses.fields(Profile)}


@pytest.fixture(scope="module")
def stamped(tmp_path_factory):
    path = tmp_path_factory.mktemp("stamped") / "index"
    with IndexDirectory.open(path, create=True) as directory:
        Indexer(directory, pipeline(Renamed(PROFILE))).upsert(corpus(0, 1))
    return path


@pytest.mark.parametrize("field", OTHERS)
def test_vectors_of_another_space_are_refused(field, stamped):
    other = Renamed(dataclasses.replace(PROFILE, **{field: OTHERS[field]}))
    with IndexDirectory.open(stamped) as directory:
        for attempt in (
            lambda: Indexer(directory, pipeline(other)).upsert(corpus(0, 2)),
            lambda: Indexer(directory, pipeline(other)).delete(["doc-0"]),
            lambda: SentenceParentSearch(directory, other).search("question"),
        ):
            with pytest.raises(SpaceMismatchError, match=field):
                attempt()
        check_index(directory, corpus(0, 1), pipeline(Renamed(PROFILE)))


@pytest.mark.parametrize("field", ASIDE)
def test_what_changes_no_vector_does_not_change_the_space(field, stamped):
    other = Renamed(dataclasses.replace(PROFILE, **{field: ASIDE[field]}))
    with IndexDirectory.open(stamped) as directory:
        assert SentenceParentSearch(directory, other).search("Document 0", 1)
        assert directory.profile == PROFILE


# --- hostile ids and metadata ------------------------------------------------------------------------------------------

IDS = [
    "'",
    "--",
    "'; DROP TABLE versions; --",
    "$or",
    "nul\0nul",
    "../../etc/passwd",
    "x" * 100_000,
    "\ud800 lone",
    " ",
    "é",
    "🙂",
]
METADATA = {
    "'; DROP TABLE versions; --": "'",
    "$or": [{"a": 1}],
    "#document": "reserved by Chroma",
    "chroma:document": "too",
    "": "empty key",
    "nul\0": "nul\0",
    "source_id": "somebody else's",
    "nested": {"a": [1, {"b": None}]},
    "none": None,
    "empty": [],
    "mixed": [1, "a"],
    "big": 2**80,
    "nan": float("nan"),
    "surrogate": "\ud800",
    "sur\ud800": 1,
    "long": "x" * 1_000_000,
    "lc": {"lc": 1, "type": "constructor", "id": ["os", "system"]},
}


@pytest.mark.parametrize("path", [None, "index"])
def test_hostile_ids_and_metadata_come_back_as_they_were(path, tmp_path):
    documents = [
        Document(f"Number{number}x has \ud800, a lone surrogate. And more\0.", identity, {**METADATA, "n": number})
        for number, identity in enumerate(IDS)
    ]
    with IndexDirectory.open(path and tmp_path / path, create=True) as directory:
        indexer = Indexer(directory, pipeline(), slice_size=SLICE)
        assert set(indexer.upsert(documents).added) == set(IDS)
        assert set(indexer.upsert(documents).unchanged) == set(IDS)
        for item in documents:
            (found,) = indexer.get([item.id])
            assert (found.id, found.text) == (item.id, item.text)
            assert canonical_json(found.metadata) == canonical_json(item.metadata)  # nan is not equal to itself
            match = SentenceParentSearch(directory, DeterministicEncoder(dimensions=96)).search(
                item.text.split(" ")[0], 1
            )[0]
            assert match.chunk.document.id == item.id
        for item in documents:
            assert indexer.delete([item.id]) == [item.id]
            assert indexer.delete([item.id]) == []
        assert directory.counts() == {"documents": 0, "chunks": 0, "sentences": 0}
    assert {file.name for file in tmp_path.iterdir()} <= {"index"}  # no id became the name of a file


@pytest.mark.parametrize("metadata", [{"a": object()}, {"a": np.float32(1)}, {1: "a", "b": 2}, {"a": {1, 2}}])
def test_metadata_without_a_spelling_is_refused_before_anything_is_written(metadata):
    with IndexDirectory.open(None) as directory:
        indexer = Indexer(directory, pipeline())
        with pytest.raises(DocumentError, match="doc-x"):
            indexer.upsert([document(0), Document("text", "doc-x", metadata)])
        assert indexer.document_ids() == []


# --- Chroma's own limits -------------------------------------------------------------------------------------------------


def test_more_records_than_chroma_takes_at_once(tmp_path):
    store = ChromaStore(tmp_path, "records")
    count = store._client.get_max_batch_size() + 10
    vectors = np.random.default_rng(0).normal(size=(count, 4)).astype(np.float32)
    store.upsert([Record(str(number), vector) for number, vector in enumerate(vectors)])
    assert len(store) == count
    assert len(set(store.ids())) == count
    assert len(store.contains([str(number) for number in range(count + 5)])) == count
    assert len(store.get([str(number) for number in range(count)])) == count
    store.delete([str(number) for number in range(count - 5)])
    assert len(store) == 5
    store.close()


def test_what_chroma_cannot_hold_is_left_out_of_filters_only(tmp_path):
    store = ChromaStore(tmp_path, "records")
    metadata = {**METADATA, "kept": np.int64(3), "list": ("a", "b"), "flag": np.bool_(True)}
    store.upsert([Record("a", np.ones(4, dtype=np.float32), "te\ud800xt", metadata)])
    (found,) = store.get(["a"])
    assert found.text == "te\ufffdxt"
    assert found.metadata == {
        "'; DROP TABLE versions; --": "'",
        "nul\0": "nul\0",
        "source_id": "somebody else's",
        "surrogate": "\ufffd",
        "long": "x" * 1_000_000,
        "kept": 3,
        "list": ["a", "b"],
        "flag": True,
    }
    store.close()


def test_a_collection_of_another_similarity_is_refused(tmp_path):
    ChromaStore(tmp_path, "records", similarity="dot").close()
    with pytest.raises(StoreError, match="by dot"):
        ChromaStore(tmp_path, "records", similarity="cosine")


def test_an_embedding_function_stored_in_a_collection_is_never_built(tmp_path, monkeypatch):
    chromadb = pytest.importorskip("chromadb")
    from chromadb.utils import embedding_functions

    class Trap(chromadb.EmbeddingFunction):
        built = 0

        def __init__(self):
            Trap.built += 1

        def __call__(self, input):  # noqa: A002 - Chroma's own name
            raise AssertionError("Chroma embedded something by itself")

        @staticmethod
        def name():
            return "trap"

        def get_config(self):
            return {}

        @staticmethod
        def build_from_config(config):
            return Trap()

    monkeypatch.setitem(embedding_functions.known_embedding_functions, "trap", Trap)
    client = chromadb.PersistentClient(str(tmp_path), settings=chromadb.config.Settings(anonymized_telemetry=False))
    client.create_collection("records", embedding_function=Trap(), configuration={"hnsw": {"space": "cosine"}})
    client.close()
    built = Trap.built
    with pytest.raises(StoreError, match="embedding function of its own"):
        ChromaStore(tmp_path, "records")
    assert Trap.built == built
