"""An index as an artifact and back: the same documents, ids and vectors, and no text encoded."""

import json
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import toy_models
from index_corpus import Windows, check_index, corpus, document, pipeline
from rag_embeddings import (
    ArtifactError,
    Block,
    Document,
    EmbeddingArtifact,
    HybridSearch,
    IndexDirectory,
    Indexer,
    LatePass,
    LinkRule,
    MemoryStore,
    Pipeline,
    RecursiveSplitter,
    Retrieval,
    SentenceParentSearch,
    SpaceMismatchError,
    Span,
    StoreError,
    TransformerEncoder,
    export_index,
    import_artifact,
)
from rag_embeddings.testing import faults
from rag_embeddings.testing.encoder import DeterministicEncoder


def contents(directory):
    """Everything that an index holds: documents, versions, spans, and each record to the last bit."""
    ledger = directory.ledger
    versions = [ledger.live_version(identity) for identity in ledger.document_ids()]
    with directory.reading() as view:
        stores = [
            sorted(
                (record.id, record.vector.tobytes(), record.text, json.dumps(record.metadata, sort_keys=True))
                for record in store.get(list(store.ids()))
            )
            for store in (view.sentences, view.chunks)
        ]
    return versions, stores, directory.profile, directory.settings


def test_an_index_comes_back_as_it_was(tmp_path):
    made_by = pipeline(context="A context.")
    documents = [
        *corpus(),
        Document("A title\n\nAnd text \ud83d and \ude00 halves.", "hostile\ud800", {"k": [1, None], "d": {"x": "ü"}},
                 (Block(Span(0, 7), "heading", 1, 3),)),
        Document("  ", "blank"),
    ]  # fmt: skip
    with (
        IndexDirectory.open(tmp_path / "one", create=True) as one,
        IndexDirectory.open(tmp_path / "two", create=True) as two,
    ):
        Indexer(one, made_by).upsert(documents)
        artifact = export_index(one, tmp_path / "a")
        assert artifact.document_count == len(documents)
        assert artifact.fingerprint == made_by.fingerprint
        encoded = made_by.encoder.encoded
        summary = import_artifact(artifact, two)
        assert (len(summary.added), summary.encoded) == (len(documents), 0)
        assert contents(two) == contents(one)
        with EmbeddingArtifact(tmp_path / "a") as opened, IndexDirectory.open(None) as memory:
            import_artifact(opened, memory)
            assert contents(memory)[:2] == contents(one)[:2]
        again = import_artifact(artifact, two)
        assert (len(again.unchanged), again.chunks) == (len(documents), 0)
        assert made_by.encoder.encoded == encoded
        assert not Indexer(two, made_by).upsert(documents).replaced  # the pipeline finds its own versions
        assert made_by.encoder.encoded == encoded
        found = SentenceParentSearch(two, made_by.encoder).search("thing3x2 costs v0n2")
        assert found == SentenceParentSearch(one, made_by.encoder).search("thing3x2 costs v0n2")
        artifact.close()


@settings(max_examples=15)
@given(
    st.lists(st.integers(0, 5), min_size=1, max_size=8),
    st.lists(st.integers(0, 5), max_size=8),
    st.integers(60, 200),
    st.integers(30, 60),
)
def test_over_an_index_that_holds_others(first, then, size, step):
    """Importing is upserting: whatever either index held before."""
    import tempfile

    one_by, two_by = pipeline(size=size, step=step), pipeline(context="Other.")
    with tempfile.TemporaryDirectory() as folder, IndexDirectory.open(None) as one, IndexDirectory.open(None) as two:
        latest = {}
        for version, number in enumerate(first):
            latest[number] = document(number, version)
            Indexer(one, one_by).upsert([latest[number]])
        for version, number in enumerate(then):
            Indexer(two, two_by).upsert([document(number, version)])
        before = {item.id: item for item in Indexer(two, two_by).get(Indexer(two, two_by).document_ids())}
        with export_index(one, f"{folder}/a") as artifact:
            import_artifact(artifact, two)
        expected = before | {item.id: item for item in latest.values()}
        assert sorted(two.ledger.document_ids()) == sorted(expected)
        for item in latest.values():
            assert two.ledger.live_version(item.id) == one.ledger.live_version(item.id)
            chunks = [chunk.id for chunk in one.ledger.live_version(item.id).chunks]
            with one.reading() as ours, two.reading() as theirs:
                for mine, other in zip(ours.chunks.get(chunks), theirs.chunks.get(chunks), strict=True):
                    assert (mine.vector.tobytes(), mine.metadata) == (other.vector.tobytes(), other.metadata)
        assert two.ledger.dead() == []


def test_late_vectors_stay_late(tmp_path):
    encoder = TransformerEncoder(toy_models.folder("mean"))
    made_by = Pipeline(encoder, RecursiveSplitter(20, tokenizer=encoder), LatePass(encoder))
    with (
        IndexDirectory.open(tmp_path / "one", create=True) as one,
        IndexDirectory.open(tmp_path / "two", create=True) as two,
    ):
        Indexer(one, made_by).upsert(corpus(count=3))
        with export_index(one, tmp_path / "a") as artifact:
            assert artifact.fingerprint == made_by.fingerprint
            import_artifact(artifact, two)
        assert contents(two) == contents(one)
        assert Indexer(two, made_by).upsert(corpus(count=3)).encoded == 0


def test_chunks_alone_or_sentences_alone(tmp_path):
    made_by = pipeline()
    with IndexDirectory.open(None) as directory:
        Indexer(directory, made_by).upsert(corpus(count=2))
        for kinds, kind, number in (("chunks", "chunk", 1), ("sentences", "sentence", 0)):
            with export_index(directory, tmp_path / kinds, kinds=kinds) as artifact:
                ids = sorted(directory.ledger.unit_ids()[number])
                assert list(artifact.kinds) == [kind]
                assert sorted(record.id for record in artifact) == ids
                assert artifact.document_count == 0
                store = MemoryStore()
                artifact.upload(store, profile=made_by.encoder.profile)
                texts = [record.text for record in store.get(ids)]
                assert np.allclose(
                    [record.vector for record in store.get(ids)], made_by.encoder.encode(texts, "document")
                )
                with pytest.raises(ArtifactError, match="without their documents"), IndexDirectory.open(None) as other:
                    import_artifact(artifact, other)
        with pytest.raises(ValueError, match="'all', 'chunks' or 'sentences'"):
            export_index(directory, tmp_path / "x", kinds="both")


def test_a_record_says_where_it_stands(tmp_path):
    made_by = pipeline(context="Context.")
    item = document(3)
    with IndexDirectory.open(None) as directory:
        Indexer(directory, made_by).upsert([item])
        with export_index(directory, tmp_path / "a") as artifact:
            chunks = {record.id for record in artifact.records(["chunk"])}
            for record in artifact:
                (span,) = record.spans
                assert record.text == span.of(item.text)
                assert record.source_id == "doc-3"
                if record.kind == "chunk":
                    assert record.metadata == {"number": 3, "version": 0, "context": "Context."}
                else:
                    assert record.metadata["chunk_id"] in chunks


def test_refusals(tmp_path):
    with IndexDirectory.open(None) as empty, pytest.raises(StoreError, match="index some documents first"):
        export_index(empty, tmp_path / "a")
    assert not (tmp_path / "a").exists()
    with IndexDirectory.open(None) as one, IndexDirectory.open(None) as two:
        Indexer(one, pipeline()).upsert(corpus(count=2))
        Indexer(two, pipeline(DeterministicEncoder(dimensions=32))).upsert(corpus(count=1))
        before = contents(two)
        with (
            export_index(one, tmp_path / "a") as artifact,
            pytest.raises(SpaceMismatchError, match="dimensions: 32 there"),
        ):
            import_artifact(artifact, two)
        assert contents(two) == before


def test_a_document_replaced_while_it_is_read_is_saved_whole(tmp_path, monkeypatch):
    made_by = pipeline()
    with IndexDirectory.open(None) as directory:
        indexer = Indexer(directory, made_by)
        indexer.upsert(corpus(count=3))
        read, replaced = type(directory.ledger).live_version, []

        def meanwhile(ledger, identity):
            found = read(ledger, identity)
            if identity == "doc-1" and not replaced:
                replaced.append(identity)
                indexer.upsert([document(1, version=9)])
                indexer.delete(["doc-2"])
            return found

        monkeypatch.setattr(type(directory.ledger), "live_version", meanwhile)
        artifact = export_index(directory, tmp_path / "a")
        monkeypatch.undo()
        with artifact, IndexDirectory.open(None) as other:
            import_artifact(artifact, other)
            check_index(other, [document(0), document(1, version=9)], made_by)


def test_windows_that_share_sentences(tmp_path):
    """A sentence that stands in several chunks is saved once."""
    made_by = Pipeline(DeterministicEncoder(), Windows(size=300, step=100))
    with IndexDirectory.open(None) as one, IndexDirectory.open(None) as two:
        Indexer(one, made_by).upsert(corpus(count=2))
        with export_index(one, tmp_path / "a") as artifact:
            import_artifact(artifact, two)
        assert contents(two) == contents(one)


def test_keywords_and_links_are_made_again_without_encoding(tmp_path):
    pytest.importorskip("bm25s")
    made_by = pipeline()
    with IndexDirectory.open(None) as one, IndexDirectory.open(None) as two:
        Indexer(one, made_by, keywords="en", links=LinkRule(0.3)).upsert(corpus(count=6))
        encoded = made_by.encoder.encoded
        with export_index(one, tmp_path / "a") as artifact:
            import_artifact(artifact, two, keywords="en", links=LinkRule(0.3))
        assert made_by.encoder.encoded == encoded
        for search in (HybridSearch, partial(Retrieval, link_tokens=500)):
            found, expected = (search(index, made_by.encoder).search("thing3x2 costs v0n2") for index in (two, one))
            assert found == expected
        assert any(match.linked_from for match in found)


def test_a_version_that_is_being_written_is_not_waited_for_unless_it_may_have_overwritten_vectors(tmp_path):
    made_by = pipeline()
    with IndexDirectory.open(None) as directory, IndexDirectory.open(None) as other:
        Indexer(directory, made_by).upsert(corpus(count=2))
        with faults.armed("index.after_chunks", KeyboardInterrupt()), pytest.raises(KeyboardInterrupt):
            Indexer(directory, made_by).upsert([document(0, version=1)])
        with export_index(directory, tmp_path / "a") as artifact:
            import_artifact(artifact, other)
        check_index(other, corpus(count=2), made_by)
        with faults.armed("index.after_chunks", KeyboardInterrupt()), pytest.raises(KeyboardInterrupt):
            Indexer(directory, pipeline(context="Of another kind.")).upsert([document(1)])
        with pytest.raises(StoreError, match="'doc-1' was being replaced"):
            export_index(directory, tmp_path / "b")
        assert not (tmp_path / "b").exists()
