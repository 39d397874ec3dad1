"""Similarity and keywords together: every score as computed from the texts, every filter on both sides."""

import re
import sys
from dataclasses import replace
from itertools import pairwise

import bm25s
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from index_corpus import Windows, corpus, document, pipeline, read_while_written
from rag_embeddings.encode.base import Role
from rag_embeddings.errors import MissingExtraError, SpaceMismatchError, StoreError
from rag_embeddings.index.indexer import Indexer
from rag_embeddings.index.pipeline import Pipeline
from rag_embeddings.retrieve import ranking
from rag_embeddings.retrieve.hybrid import HybridSearch, _reciprocal_ranks
from rag_embeddings.retrieve.sentence_parent import SentenceParentSearch
from rag_embeddings.store import kept
from rag_embeddings.store.directory import IndexDirectory
from rag_embeddings.store.keywords import keyword_words
from rag_embeddings.store.records import similarities
from rag_embeddings.store.where import Where
from rag_embeddings.testing import faults
from rag_embeddings.testing.encoder import DeterministicEncoder
from rag_embeddings.text import Chunk, Document, Span

ENCODER = DeterministicEncoder(dimensions=96)
SCORES = ["best", "mean", "sum"]
QUERIES = st.lists(
    st.sampled_from(["thing7x3", "thing1x1", "costs", "v0n5", "says", "document", "7", "unheard", "the"]),
    min_size=1,
    max_size=6,
).map(" ".join)


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


def combined(values, own, score):
    values = sorted(values, reverse=True)
    if score == "sum":
        return values[0] + sum(max(0.0, value) for value in values[1:3])
    return values[0] if score == "best" else (values[0] + own) / 2


def both_sides(directory, query, score="mean"):
    """Every live chunk with its similarity and its BM25, computed from the texts."""
    vector, made_by = ENCODER.encode([query], Role.QUERY)[0], pipeline()
    chunks, similarity = [], []
    for item in Indexer(directory, made_by).get(Indexer(directory, made_by).document_ids()):
        version = made_by.version(item, "name")
        for chunk, sentences in zip(version.chunks, version.sentences, strict=True):
            vectors = ENCODER.encode([unit.span.of(item.text) for unit in sentences], Role.DOCUMENT)
            own = similarities(ENCODER.encode([chunk.embedding_text], Role.DOCUMENT), vector, "cosine")[0]
            chunks.append(chunk)
            similarity.append(combined(similarities(vectors, vector, "cosine"), own, score))
    words = keyword_words(directory.ledger)
    texts = [words.of(chunk.text) for chunk in chunks]
    known = [word for word in words.of(query) if any(word in text for text in texts)]
    if not known:
        return chunks, np.array(similarity), np.zeros(len(chunks)), 1.0
    reference = bm25s.BM25(method="lucene", k1=1.5, b=0.75)
    reference.index(texts, show_progress=False)
    found = [sum(word in text for text in texts) for word in words.of(query)]
    ideal = sum(np.log1p((len(texts) - n + 0.5) / (n + 0.5)) * 2.5 for n in found)
    return chunks, np.array(similarity), reference.get_scores(known).astype(float), ideal


def assert_ranking(matches, chunks, scores, k):
    """The matches are a best k: scores are right, distinct, in order, and none that was left out is better."""
    expected = {chunk.id: score for chunk, score in zip(chunks, scores, strict=True)}
    found = [match.chunk.id for match in matches]
    assert len(found) == len(set(found)) == min(k, len(chunks))
    for match, score in zip(matches, sorted(expected.values(), reverse=True), strict=False):
        assert match.score == pytest.approx(score, abs=1e-5)
        assert match.score == pytest.approx(expected[match.chunk.id], abs=1e-5)


@pytest.mark.parametrize("score", SCORES)
@settings(max_examples=12, deadline=None)
@given(query=QUERIES, k=st.integers(1, 70), beta=st.sampled_from([0.0, 0.3, 1.5, 20.0]))
def test_calibrated_scores_are_exact_and_the_best_k_are_found(directory, score, query, k, beta):
    matches = HybridSearch(directory, ENCODER, score=score, beta=beta).search(query, k)
    chunks, similarity, keywords, ideal = both_sides(directory, query, score)
    assert_ranking(matches, chunks, similarity + beta * keywords / ideal, k)


@pytest.mark.parametrize("fusion", ["minmax", "rrf"])
@settings(max_examples=12, deadline=None)
@given(query=QUERIES, k=st.integers(1, 70), beta=st.sampled_from([0.5, 1.0, 3.0]))
def test_the_other_fusions(directory, fusion, query, k, beta):
    matches = HybridSearch(directory, ENCODER, fusion=fusion, beta=beta).search(query, k)
    chunks, similarity, keywords, _ = both_sides(directory, query)
    if not keywords.any():
        assert_ranking(matches, chunks, similarity, k)
        return
    assert len(chunks) <= 100  # all of them are in the pool

    def fused(scores):
        if fusion == "minmax":
            return (scores - scores.min()) / np.ptp(scores)
        return 1 / (61 + np.array([(scores > score + 1e-6).sum() for score in scores]))

    assert_ranking(matches, chunks, fused(similarity) + beta * np.where(keywords > 0, fused(keywords), 0), k)


@pytest.mark.parametrize("fusion", ["calibrated", "minmax", "rrf"])
@pytest.mark.parametrize("score", SCORES)
def test_without_a_known_word_it_is_the_dense_ranking(directory, fusion, score):
    for query in ("unheard of", "the", "x y z", "!?"):
        dense = SentenceParentSearch(directory, ENCODER, score=score).search(query, 9)
        assert HybridSearch(directory, ENCODER, score=score, fusion=fusion).search(query, 9) == dense


@pytest.mark.parametrize("score", SCORES)
@settings(max_examples=12, deadline=None)
@given(
    query=QUERIES,
    k=st.integers(1, 30),
    most=st.sampled_from([0, 2_048]),
    numbers=st.sets(st.integers(0, 12), max_size=4),
    line=st.sampled_from([None, "[1-3]", "(?i)LINE 5", r"v0n\d\b"]),
)
def test_filters_hold_on_both_sides_and_k_are_found_if_they_exist(directory, score, *, query, k, most, numbers, line):
    where = Where.among("number", numbers) | Where.equals("source_id", "doc-3")
    pattern = line and (line if line.startswith("(") else f"line {line}" if "[" in line else line)
    chunks, similarity, keywords, ideal = both_sides(directory, query, score)
    keep = [
        chunk.document.metadata["number"] in {*numbers, 3} and (not pattern or bool(re.search(pattern, chunk.text)))
        for chunk in chunks
    ]
    kept_chunks = [chunk for chunk, kept_one in zip(chunks, keep, strict=True) if kept_one]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranking, "_MOST_FETCH", most)
        found = HybridSearch(directory, ENCODER, score=score).search(query, k, where=where, pattern=pattern)
        assert_ranking(found, kept_chunks, (similarity + 2.0 * keywords / ideal)[keep], k)
        found = SentenceParentSearch(directory, ENCODER, score=score).search(query, k, where=where, pattern=pattern)
        assert_ranking(found, kept_chunks, similarity[keep], k)
        for fusion in ("minmax", "rrf"):
            found = HybridSearch(directory, ENCODER, fusion=fusion).search(query, k, where=where, pattern=pattern)
            assert len(found) == min(k, len(kept_chunks))
            assert {match.chunk.id for match in found} <= {chunk.id for chunk in kept_chunks}


def test_a_filter_that_one_chunk_of_many_passes(monkeypatch):
    """The one survivor is neither near nor has the query's words."""
    items = [Document(f"Apples are red number {n}.", f"d{n}", {"n": n}) for n in range(400)]
    monkeypatch.setattr(ranking, "_MOST_FETCH", 100)
    items.append(Document("Pears are green.", "other", {"n": -1}))
    with IndexDirectory.open(None) as directory:
        Indexer(directory, pipeline()).upsert(items)
        for search in (HybridSearch(directory, ENCODER), SentenceParentSearch(directory, ENCODER)):
            for given_filter in ({"where": Where.between("n", None, -1)}, {"pattern": "gr[e]{2}n"}):
                found = search.search("apples are red", 4, **given_filter)
                assert [match.chunk.document.id for match in found] == ["other"]
        nothing = HybridSearch(directory, ENCODER).search("apples", 4, where=Where.exists("colour"))
        assert nothing == []


def test_equal_texts_of_several_documents_are_several_results():
    items = [Document("The warranty is two years.", f"d{number}") for number in range(5)]
    with IndexDirectory.open(None) as directory:
        Indexer(directory, pipeline()).upsert(items)
        for fusion in ("calibrated", "minmax", "rrf"):
            found = HybridSearch(directory, ENCODER, fusion=fusion).search("warranty", 5)
            assert sorted(match.chunk.document.id for match in found) == [f"d{number}" for number in range(5)]
            assert len({match.score for match in found}) == 1
            assert HybridSearch(directory, ENCODER, fusion=fusion).search("warranty", 3) == found[:3]


def test_keywords_find_what_similarity_does_not():
    """A code among many sentences that are nearer: one word of twelve."""
    near = [Document(f"The report on the yearly sales of shoes and of hats, part {n}.", f"d{n}") for n in range(200)]
    code = Document(
        "Entirely other matters are dealt with elsewhere, and filed there under XK-4711 by somebody.", "code"
    )
    query = "the report on the yearly sales of shoes and of hats XK-4711"
    with IndexDirectory.open(None) as directory:
        Indexer(directory, pipeline()).upsert([*near, code])
        dense = SentenceParentSearch(directory, ENCODER).search(query, 100)
        assert "code" not in {match.chunk.document.id for match in dense}
        found = HybridSearch(directory, ENCODER, beta=8).search(query, 3)
        assert found[0].chunk.document.id == "code"
        assert "4711" in found[0].sentences[0].of(code.text)


def test_changes_are_seen_at_once_and_whole():
    old, new = Document("Apples cost a guinea.", "a"), Document("Apples cost a farthing.", "a")
    made_by = pipeline()

    def texts(query):
        found = HybridSearch(directory, ENCODER, beta=100).search(query, 1)
        return [match.chunk.text for match in found if match.score > 2]

    with IndexDirectory.open(None) as directory:
        Indexer(directory, made_by).upsert([old, Document("Pears.", "b")])
        assert texts("guinea") == ["Apples cost a guinea."]
        with faults.armed("index.after_chunks", KeyboardInterrupt()), pytest.raises(KeyboardInterrupt):
            Indexer(directory, made_by).upsert([new])
        assert (texts("guinea"), texts("farthing")) == (["Apples cost a guinea."], [])
        with faults.armed("index.after_commit", KeyboardInterrupt()), pytest.raises(KeyboardInterrupt):
            Indexer(directory, made_by).upsert([new])
        assert (texts("guinea"), texts("farthing")) == ([], ["Apples cost a farthing."])
        with faults.armed("index.after_kill", KeyboardInterrupt()), pytest.raises(KeyboardInterrupt):
            Indexer(directory, made_by).delete(["a"])
        assert (texts("guinea"), texts("farthing"), texts("apples")) == ([], [], [])


@pytest.mark.parametrize(("path", "fusion"), [(None, "calibrated"), (None, "rrf"), ("index", "calibrated")])
def test_threads_see_each_document_old_or_new_while_another_writes(path, fusion, tmp_path):
    def search_over(directory):
        return HybridSearch(directory, ENCODER, fusion=fusion)

    wrong, polls = read_while_written(path and tmp_path / path, search_over, rounds=4, readers=2)
    assert not wrong
    assert polls >= 2


def test_an_index_without_keywords_says_how_to_get_them():
    with IndexDirectory.open(None) as directory:
        assert HybridSearch(directory, ENCODER).search("anything") == []
        Indexer(directory, pipeline(), keywords=False).upsert([document(0)])
        with pytest.raises(StoreError, match="has no keywords"):
            HybridSearch(directory, ENCODER).search("thing0x0")
        assert SentenceParentSearch(directory, ENCODER).search("thing0x0")
        before = (made_by := pipeline()).encoder.encoded
        Indexer(directory, made_by, keywords=True).upsert([])
        assert made_by.encoder.encoded == before
        assert HybridSearch(directory, ENCODER).search("thing0x0")


def test_impossible_questions(directory):
    search = HybridSearch(directory, ENCODER)
    with pytest.raises(ValueError, match="k must be at least 1, got 0"):
        search.search("question", 0)
    with pytest.raises(ValueError, match="score must be"):
        HybridSearch(directory, ENCODER, score="worst")
    with pytest.raises(ValueError, match="fusion must be"):
        HybridSearch(directory, ENCODER, fusion="cold")
    for beta in (-1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="beta must be"):
            HybridSearch(directory, ENCODER, beta=beta)
    with pytest.raises(TypeError, match=r"Where\.equals"):
        search.search("question", where={"number": 1})
    for pattern in ("(a", r"(?=a)b", r"(a)\1"):
        with pytest.raises(ValueError, match="no regular expression that RE2 can run"):
            search.search("question", pattern=pattern)
    with pytest.raises(SpaceMismatchError):
        HybridSearch(directory, DeterministicEncoder(dimensions=8)).search("question")


def test_the_extra_for_patterns_is_named(directory, monkeypatch):
    monkeypatch.setitem(sys.modules, "re2", None)
    with pytest.raises(MissingExtraError, match=r"rag-embeddings\[patterns\]"):
        SentenceParentSearch(directory, ENCODER).search("question", pattern="a")


def test_a_pattern_that_would_backtrack_for_years():
    text = "a" * 20_000 + "b \ud800\0"
    with IndexDirectory.open(None) as directory:
        Indexer(directory, Pipeline(ENCODER, Windows(50_000, 50_000))).upsert([Document(text, "d")])
        assert SentenceParentSearch(directory, ENCODER).search("a", pattern="^(a+)+$") == []
        assert SentenceParentSearch(directory, ENCODER).search("a", pattern="^(a+)+b")


@pytest.mark.parametrize("similarity", ["cosine", "dot", "euclidean"])
def test_calibration_follows_the_length_of_vectors(similarity):
    """Vectors of any length: keywords weigh as they would by cosine."""

    class Long(DeterministicEncoder):
        def __init__(self, length):
            super().__init__(96)
            self.length = length
            self.profile = replace(self.profile, similarity=similarity, normalize=False)

        def encode(self, texts, role):
            return super().encode(texts, role) * np.float32(self.length)

    rankings = []
    for length in (1.0, 8.0):
        encoder = Long(length)
        with IndexDirectory.open(None) as directory:
            Indexer(directory, Pipeline(encoder, Windows())).upsert(corpus(0, 8))
            found = HybridSearch(directory, encoder).search("thing3x2 says something else in line 4", 6)
            rankings.append([match.chunk.id for match in found])
    assert rankings[0] == rankings[1]


def test_a_search_ends_when_it_has_seen_enough(directory, monkeypatch):
    sure = HybridSearch(directory, ENCODER).search("thing7x3 costs", 5)
    fetched, real = [], ranking.Probe.hits
    monkeypatch.setattr(ranking, "_ENOUGH_FETCH", 1)
    monkeypatch.setattr(ranking.Probe, "hits", lambda self, fetch: fetched.append(fetch) or real(self, fetch))
    found = HybridSearch(directory, ENCODER, beta=1e-9).search("thing7x3 costs", 5)
    assert fetched == [40]
    assert len(found) == 5
    assert found[0].chunk == sure[0].chunk


@pytest.mark.parametrize("score", SCORES)
def test_a_search_reads_each_vector_once_however_often_it_fetches_more(directory, score, monkeypatch):
    expected = [match.score for match in HybridSearch(directory, ENCODER, score=score, beta=9.0).search("costs", 8)]
    fetched, read, real = [], [], ranking.Probe.hits
    monkeypatch.setattr(ranking, "_FIRST_FETCH", 1)
    monkeypatch.setattr(ranking, "_LEAST_FETCH", 1)
    monkeypatch.setattr(ranking.Probe, "hits", lambda self, fetch: fetched.append(fetch) or real(self, fetch))
    with directory.reading() as view:
        for store in (view.sentences, view.chunks):
            reading = store.vectors
            monkeypatch.setattr(store, "vectors", lambda ids, real=reading: read.extend(ids) or real(ids))
    found = HybridSearch(directory, ENCODER, score=score, beta=9.0).search("costs", 8)
    assert [match.score for match in found] == pytest.approx(expected, abs=1e-5)
    assert len(fetched) > 1
    chunks = [match.chunk.id for match in found]
    assert all(read.count(identity) == (1 if score == "mean" else 0) for identity in chunks)


def test_a_chunks_own_metadata_stands_in_place_of_the_documents():
    own = [{}, {"year": 2, "tags": ["x"]}, {"year": None}, {"source_id": "mine"}]

    class Parts:
        def split(self, item):
            edges = [item.text.index(word) for word in item.text.split()] + [len(item.text)]
            spans = pairwise(edges)
            return [Chunk(item, (Span(*span),), metadata=one) for span, one in zip(spans, own, strict=True)]

        def settings(self):
            return {"splitter": "parts"}

    with IndexDirectory.open(None) as directory:
        Indexer(directory, Pipeline(ENCODER, Parts())).upsert([Document("a b c d", "doc", {"year": 1, "n": {}})])
        search = SentenceParentSearch(directory, ENCODER)
        for where, words in (
            (Where.equals("year", 1), "ad"),
            (Where.equals("year", 2), "b"),
            (~Where.exists("year"), "c"),
            (Where.has("tags", "x"), "b"),
            (Where.equals("source_id", "doc"), "abcd"),
        ):
            assert {match.chunk.text.strip() for match in search.search("a", 9, where=where)} == set(words)


def test_scores_that_differ_by_rounding_share_a_rank_wherever_they_lie():
    edge = 0.1234565  # where rounding to six digits would tell them apart
    ranks = _reciprocal_ranks(np.array([edge - 1e-8, 0.5, edge + 1e-8, 0.1]))
    assert ranks.tolist() == [1 / 62, 1 / 61, 1 / 62, 1 / 64]


def test_a_filter_by_metadata_reads_no_texts(directory, monkeypatch):
    """But those of the chunks that are returned; one by text, or of the caller's own making, may."""

    class Own(Where):
        def matches(self, text, metadata):
            return "thing5x" in text and metadata["number"] == 5

    read, real = [], type(directory.ledger).document
    monkeypatch.setattr(ranking, "_MOST_FETCH", 1)
    monkeypatch.setattr(
        type(directory.ledger), "document", lambda self, number: read.append(number) or real(self, number)
    )
    by_metadata = Where.between("number", 5, 5) & ~(Where.exists("x") | Where.has("number", 5))
    for where in (by_metadata, by_metadata & Where.text_contains("thing5x"), Own()):
        read.clear()
        found = HybridSearch(directory, ENCODER).search("thing5x3 costs", 40, where=where)
        assert {match.chunk.document.id for match in found} == {"doc-5"}
        assert (len(set(read)) == 1) == (where is by_metadata)


def test_no_hits_are_fetched_where_chunks_are_scored_one_by_one(directory, monkeypatch):
    fetched, real = [], ranking.Probe.hits
    monkeypatch.setattr(ranking, "_MOST_FETCH", 32)
    monkeypatch.setattr(ranking.Probe, "hits", lambda self, fetch: fetched.append(fetch) or real(self, fetch))
    found = SentenceParentSearch(directory, ENCODER).search("costs", 4, where=Where.equals("number", 3))
    assert {match.chunk.document.id for match in found} == {"doc-3"}
    assert fetched == [32]
