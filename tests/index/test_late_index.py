"""Late vectors in an index: those of the pass, made anew whenever what they depend on changes, and only then."""

import numpy as np
import pytest

import toy_models
from rag_embeddings.encode.late import LatePass
from rag_embeddings.encode.transformer import TransformerEncoder
from rag_embeddings.encode.windows import Windows
from rag_embeddings.index.indexer import Indexer
from rag_embeddings.index.late import index_late
from rag_embeddings.index.pipeline import Pipeline
from rag_embeddings.split.recursive import RecursiveSplitter
from rag_embeddings.store.directory import IndexDirectory
from rag_embeddings.testing import faults
from rag_embeddings.text import Document

SPLITTER = RecursiveSplitter(60, tokenizer=len)


def document(name, version=0):
    text = "\n\n".join(f"The river {name} rose {n} feet. Nobody believed it {version} times!" for n in range(12))
    return Document(text, name, {"town": name})


DOCUMENTS = [document("Aller"), document("Bode"), Document("", "empty")]


@pytest.fixture(scope="module")
def encoder():
    return TransformerEncoder(toy_models.folder("mean"))


@pytest.fixture
def directory():
    with IndexDirectory.open(None) as opened:
        yield opened


def pipeline(encoder, late=True, **options):
    return Pipeline(encoder, SPLITTER, LatePass(encoder, **options) if late else None)


def check(directory, made_by, documents):
    """Every vector in the stores is the one that the pipeline makes of the live documents."""
    with directory.reading() as view:
        for item in documents:
            version = made_by.version(item, "name")
            if made_by.late:
                found = made_by.late.run(item, SPLITTER)
                chunks, sentences = found.vectors, found.sentence_vectors
            else:
                chunks = made_by.encoder.encode([chunk.text for chunk in version.chunks], "document")
                spans = [one.span.of(item.text) for part in version.sentences for one in part]
                sentences = made_by.encoder.encode(spans, "document")
            ids = [one.id for part in version.sentences for one in part]
            for store, names, vectors in (
                (view.chunks, [chunk.id for chunk in version.chunks], chunks),
                (view.sentences, ids, sentences),
            ):
                by_id = dict(zip(names, vectors, strict=True))
                records = store.get(list(by_id))
                assert len(records) == len(by_id)
                for record in records:
                    assert np.abs(record.vector - by_id[record.id]).max() < 1e-5


def test_an_index_holds_the_late_vectors(encoder, directory):
    made_by = pipeline(encoder)
    summary = Indexer(directory, made_by).upsert(DOCUMENTS)
    assert summary.encoded == 2
    check(directory, made_by, DOCUMENTS[:2])
    assert Indexer(directory, made_by).upsert(DOCUMENTS).encoded == 0


def test_late_is_part_of_the_pipeline_and_not_of_the_space(encoder):
    kinds = [{"late": False}, {}, {"mix": 0.5}, {"windows": Windows(size=30)}]
    assert len({pipeline(encoder, **kind).fingerprint for kind in kinds}) == len(kinds)
    assert len({pipeline(encoder, **kind).encoder.profile.space for kind in kinds}) == 1


@pytest.mark.parametrize(("first", "second"), [(False, True), (True, False)])
def test_changing_it_makes_every_vector_anew(encoder, directory, first, second):
    Indexer(directory, pipeline(encoder, first)).upsert(DOCUMENTS)
    made_by = pipeline(encoder, second)
    assert Indexer(directory, made_by).upsert(DOCUMENTS).replaced == ("Aller", "Bode", "empty")
    check(directory, made_by, DOCUMENTS[:2])


def test_metadata_alone_costs_no_pass(encoder, directory):
    indexer = Indexer(directory, pipeline(encoder))
    indexer.upsert(DOCUMENTS)
    changed = Document(DOCUMENTS[0].text, "Aller", {"town": "Celle"})
    summary = indexer.upsert([changed])
    assert (summary.encoded, summary.replaced) == (0, ("Aller",))
    check(directory, pipeline(encoder), DOCUMENTS[:2])


@pytest.mark.parametrize("point", ["index.after_slice", "index.after_sentences", "index.after_chunks"])
@pytest.mark.parametrize("again", [True, False])
def test_a_change_that_was_cut_off_leaves_no_vector_of_the_other_kind(encoder, directory, monkeypatch, point, again):
    plain, late = pipeline(encoder, late=False), pipeline(encoder)
    Indexer(directory, plain).upsert(DOCUMENTS)

    class CutError(Exception):
        pass

    def cut(name):
        if name == point:
            raise CutError

    monkeypatch.setattr("rag_embeddings.index.writer.failpoint", cut)
    with pytest.raises(CutError):
        Indexer(directory, late, slice_size=8).upsert(DOCUMENTS)
    monkeypatch.setattr("rag_embeddings.index.writer.failpoint", faults.failpoint)
    made_by = late if again else plain
    summary = Indexer(directory, made_by, slice_size=8).upsert(DOCUMENTS)
    assert bool(summary.unchanged) != again
    check(directory, made_by, DOCUMENTS[:2])
    assert directory.ledger.dead() == []


def test_a_pass_over_another_encoder_is_refused(encoder):
    with pytest.raises(ValueError, match="another encoder"):
        Pipeline(encoder, SPLITTER, LatePass(TransformerEncoder(toy_models.folder("mean"))))


def test_an_index_remembers(encoder, directory):
    assert index_late(encoder, directory.settings) is None
    assert index_late(encoder, directory.settings, late=True).settings() == LatePass(encoder).settings()
    made_by = pipeline(encoder, mix=0.5, windows=Windows(size=30, overlap=0.5))
    Indexer(directory, made_by).upsert(DOCUMENTS)
    for late in (None, True):
        again = Pipeline(encoder, SPLITTER, index_late(encoder, directory.settings, late=late))
        assert again.fingerprint == made_by.fingerprint
    assert index_late(encoder, directory.settings, late=False) is None
