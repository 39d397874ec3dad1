"""Sentences are matched, parents are returned, k counts parents."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from index_corpus import Windows, corpus, document, pipeline, read_while_written
from rag_embeddings.encode.base import Role
from rag_embeddings.errors import IndexNotFoundError, StoreError, VectorError
from rag_embeddings.index.indexer import Indexer
from rag_embeddings.index.pipeline import Pipeline
from rag_embeddings.retrieve.base import Match
from rag_embeddings.retrieve.sentence_parent import SentenceParentSearch
from rag_embeddings.split.recursive import RecursiveSplitter
from rag_embeddings.store import kept
from rag_embeddings.store.directory import IndexDirectory
from rag_embeddings.store.records import similarities
from rag_embeddings.testing.encoder import DeterministicEncoder
from rag_embeddings.text import Chunk, Document, Span

ENCODER = DeterministicEncoder(dimensions=96)


@pytest.fixture(scope="module", params=[None, "exact", "chroma"])
def directory(request, tmp_path_factory):
    path = request.param and tmp_path_factory.mktemp("index") / "index"
    patch = pytest.MonkeyPatch()
    if request.param == "chroma":
        patch.setattr(kept, "EXACT_BYTES", 0)
    with IndexDirectory.open(path, create=True) as opened:
        Indexer(opened, pipeline()).upsert(corpus(0, 12))
        yield opened
    patch.undo()


def brute_force(directory, vector, score):
    """Every live chunk with its score, computed from the texts."""
    scored = []
    made_by = pipeline()
    for item in Indexer(directory, made_by).get(Indexer(directory, made_by).document_ids()):
        version = made_by.version(item, "name")
        for chunk, sentences in zip(version.chunks, version.sentences, strict=True):
            vectors = ENCODER.encode([unit.span.of(item.text) for unit in sentences], Role.DOCUMENT)
            best = similarities(vectors, vector, "cosine").max()
            own = similarities(ENCODER.encode([chunk.embedding_text], Role.DOCUMENT), vector, "cosine")[0]
            scored.append((best if score == "best" else (best + own) / 2, chunk.id))
    return sorted(scored, reverse=True)


@pytest.mark.parametrize("score", ["best", "mean"])
@settings(max_examples=15, deadline=None)
@given(number=st.integers(0, 11), line=st.integers(0, 5), k=st.integers(1, 70))
def test_the_best_k_parents_with_exact_scores(directory, score, number, line, k):
    vector = ENCODER.encode([f"in line {line} that thing{number}x{line} costs"], Role.QUERY)[0]
    matches = SentenceParentSearch(directory, ENCODER, score=score).search_vector(vector, k)
    expected = brute_force(directory, vector, score)
    assert len(matches) == min(k, len(expected))
    assert len({match.chunk.id for match in matches}) == len(matches)
    scores = {identity: value for value, identity in expected}
    for match, (value, _) in zip(matches, expected, strict=False):
        assert match.score == pytest.approx(value, abs=1e-5)
        assert match.score == pytest.approx(scores[match.chunk.id], abs=1e-5)


def test_a_match_carries_document_chunk_and_sentences(directory):
    query = "Document 7 in version 0 says in line 3 that thing7x3 costs"
    match = SentenceParentSearch(directory, ENCODER).search(query, 1)[0]
    assert isinstance(match, Match)
    assert match.chunk.document == document(7)
    assert match.chunk.document.metadata == {"number": 7, "version": 0}
    assert "thing7x3" in match.sentences[0].of(document(7).text)
    assert 1 <= len(match.sentences) <= 5
    assert all(match.chunk.start <= span.start < span.end <= match.chunk.end for span in match.sentences)
    values = [
        float(ENCODER.encode([span.of(document(7).text)], Role.DOCUMENT)[0] @ ENCODER.encode([query], Role.QUERY)[0])
        for span in match.sentences
    ]
    assert values == sorted(values, reverse=True)
    assert match.score == pytest.approx(values[0], abs=1e-5)
    assert match.metadata()["source_id"] == "doc-7"
    assert match.metadata()["matches"][0] == [match.sentences[0].start, match.sentences[0].end]


def test_a_sentence_in_two_chunks_returns_both():
    item, made_by = document(3), pipeline(size=200, step=100)
    chunks_of = {}
    version = made_by.version(item, "name")
    for chunk, sentences in zip(version.chunks, version.sentences, strict=True):
        for unit in sentences:
            chunks_of.setdefault(unit.span, set()).add(chunk.id)
    span, chunks = next((span, chunks) for span, chunks in chunks_of.items() if len(chunks) == 2 and len(span) > 60)
    with IndexDirectory.open(None) as directory:
        Indexer(directory, made_by).upsert([item])
        with directory.reading() as view:
            assert len(view.sentences) == len(chunks_of)  # stored once
        matches = SentenceParentSearch(directory, ENCODER).search(span.of(item.text), 2)
    assert {match.chunk.id for match in matches} == chunks
    assert all(match.sentences[0] == span for match in matches)


@pytest.mark.parametrize("score", ["best", "mean"])
def test_a_larger_k_gives_the_same_first_where_many_are_equal(score):
    same = [Document("Terms of use apply.", f"doc-{number}") for number in range(150)]
    with IndexDirectory.open(None) as directory:
        Indexer(directory, pipeline()).upsert(same)
        search = SentenceParentSearch(directory, ENCODER, score=score)
        found = {k: [match.chunk.id for match in search.search("Terms of use", k)] for k in (1, 4, 9, 20, 150)}
    assert all(found[150][:k] == ids for k, ids in found.items())


@pytest.mark.parametrize("score", ["best", "mean", "sum"])
def test_a_splitter_that_gives_a_chunk_twice(score):
    class Twice:
        def split(self, item):
            return [Chunk(item, (Span(0, len(item.text)),))] * 2

        def settings(self):
            return {"splitter": "twice"}

    with IndexDirectory.open(None) as directory:
        Indexer(directory, Pipeline(ENCODER, Twice())).upsert([Document("Apples are red.", "a")])
        found = SentenceParentSearch(directory, ENCODER, score=score).search("apples", 3)
        assert [match.chunk.text for match in found] == ["Apples are red."] * 2


@pytest.mark.parametrize("score", ["best", "mean"])
def test_a_chunk_without_sentences_is_not_found(score):
    class Halves:
        def split(self, item):
            return [Chunk(item, (Span(0, 8),)), Chunk(item, (Span(8, 10),))]

        def settings(self):
            return {"splitter": "halves"}

    with IndexDirectory.open(None) as directory:
        Indexer(directory, Pipeline(ENCODER, Halves())).upsert([Document("Apples.   ", "a")])
        assert directory.counts()["chunks"] == 2
        found = SentenceParentSearch(directory, ENCODER, score=score).search("apples", 3)
        assert [match.chunk.spans for match in found] == [(Span(0, 8),)]


def test_metadata_of_a_match_is_the_callers_own():
    with IndexDirectory.open(None) as directory:
        Indexer(directory, pipeline()).upsert([Document("Apples are red.", "a", {"tags": ["fruit"]})])
        search = SentenceParentSearch(directory, ENCODER)
        search.search("apples", 1)[0].metadata()["tags"].append("mine")
        assert search.search("apples", 1)[0].metadata()["tags"] == ["fruit"]


def test_the_query_is_encoded_once_with_its_role():
    calls = []

    class Recording(DeterministicEncoder):
        def encode(self, texts, role):
            calls.append((list(texts), role))
            return super().encode(texts, role)

    encoder = Recording(96, query_prompt="query: ", document_prompt="passage: ")
    with IndexDirectory.open(None) as directory:
        Indexer(directory, pipeline(encoder)).upsert(corpus(0, 2))
        assert all(role is Role.DOCUMENT for _, role in calls)
        calls.clear()
        SentenceParentSearch(directory, encoder).search("thing1x1", 3)
        assert calls == [(["thing1x1"], Role.QUERY)]


def test_many_sentences_of_one_parent_do_not_crowd_out_others():
    """Two hundred near copies in one chunk, one farther sentence in another: k = 2 finds both."""
    long = Document(" ".join(f"Apples are red and good to eat number{n}." for n in range(200)), "long")
    other = Document("Pears are green.", "other")
    with IndexDirectory.open(None) as directory:
        Indexer(directory, Pipeline(ENCODER, Windows(100_000, 100_000))).upsert([long, other])
        matches = SentenceParentSearch(directory, ENCODER).search("Apples are red and good to eat", 2)
        assert [match.chunk.document.id for match in matches] == ["long", "other"]
        assert len(matches[0].sentences) == 5


def test_dead_documents_do_not_count():
    with IndexDirectory.open(None) as directory:
        indexer = Indexer(directory, pipeline())
        indexer.upsert(corpus(0, 10))
        directory.ledger.kill([f"doc-{number}" for number in range(8)])  # and their vectors are still there
        found = SentenceParentSearch(directory, ENCODER).search(document(0).text, 100)
        assert {match.chunk.document.id for match in found} == {"doc-8", "doc-9"}


@pytest.mark.parametrize("score", ["best", "mean"])
def test_an_empty_index_gives_nothing(score, tmp_path):
    for path in (None, tmp_path / "index"):
        with IndexDirectory.open(path, create=True) as directory:
            search = SentenceParentSearch(directory, ENCODER, score=score)
            assert search.search("anything") == []
            Indexer(directory, pipeline()).upsert([document(0)])
            Indexer(directory, pipeline()).delete(["doc-0"])
            assert search.search("anything") == []
    with IndexDirectory.open(tmp_path / "index") as directory:
        assert SentenceParentSearch(directory, ENCODER, score=score).search("anything") == []


def test_impossible_questions(directory, tmp_path):
    search = SentenceParentSearch(directory, ENCODER)
    with pytest.raises(ValueError, match="k must be at least 1, got 0"):
        search.search("question", 0)
    with pytest.raises(ValueError, match="score must be"):
        SentenceParentSearch(directory, ENCODER, score="worst")
    with pytest.raises(StoreError, match="97"):
        search.search_vector(np.ones(97, dtype=np.float32))
    with pytest.raises(VectorError):
        search.search_vector(np.zeros(96, dtype=np.float32))
    with pytest.raises(IndexNotFoundError, match="nowhere"):
        IndexDirectory.open(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("path", [None, "index"])
@pytest.mark.parametrize("score", ["best", "mean"])
def test_threads_see_each_document_old_or_new_while_another_writes(path, score, tmp_path):
    """One process: readers in threads, and a writer that replaces every document again and again."""

    def search_over(directory):
        return SentenceParentSearch(directory, ENCODER, score=score)

    rounds = 6 if path else 20
    wrong, polls = read_while_written(path and tmp_path / path, search_over, rounds=rounds, readers=3)
    assert not wrong
    assert polls >= 3


def test_chunks_of_several_spans(tmp_path):
    class EveryOther:
        def split(self, item):
            half = len(item.text) // 2
            return [Chunk(item, (Span(0, 20), Span(half, half + 20)), headings=("A", "B"), metadata={"page": 3})]

        def settings(self):
            return {"splitter": "every other"}

    with IndexDirectory.open(tmp_path / "index", create=True) as directory:
        Indexer(directory, Pipeline(ENCODER, EveryOther())).upsert([document(0)])
    with IndexDirectory.open(tmp_path / "index") as directory:
        match = SentenceParentSearch(directory, ENCODER).search(document(0).text[:20], 1)[0]
        assert match.chunk == EveryOther().split(document(0))[0]
        assert match.sentences[0] == Span(0, 20)


def test_slices_of_what_was_indexed_are_not_those_of_its_passages(tmp_path):
    """A chunk of several slices that another splitter made, indexed as a document: only our own places are shown."""
    made = replace(document(0), metadata={"source_id": "a text", "spans": "0-9,40-60", "pages": "3"})
    with IndexDirectory.open(tmp_path / "index", create=True) as directory:
        Indexer(directory, Pipeline(ENCODER, RecursiveSplitter(40))).upsert([made])
        found = SentenceParentSearch(directory, ENCODER).search(document(0).text[:20], 1)[0].metadata()
    assert "spans" not in found
    assert (found["source_id"], found["pages"]) == (made.id, "3")
