"""BM25 over what is live, always as bm25s scores a corpus indexed at once."""

from collections import Counter

import bm25s
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from index_corpus import pipeline
from rag_embeddings.errors import StoreError
from rag_embeddings.index.indexer import Indexer
from rag_embeddings.store import postings
from rag_embeddings.store.directory import IndexDirectory
from rag_embeddings.store.keywords import keyword_hits, keyword_words
from rag_embeddings.store.words import Words
from rag_embeddings.testing import faults
from rag_embeddings.text import Document

VOCABULARY = ["apples", "apple", "pear", "running", "runs", "the", "of", "Zürich", "3rd", "x"]
TEXTS = st.lists(st.sampled_from(VOCABULARY), max_size=12).map(" ".join)
CHANGES = st.lists(
    st.tuples(st.sampled_from(["upsert", "upsert", "delete", "language"]), st.integers(0, 5), TEXTS), max_size=12
)


def live_words(directory):
    """The words of each live chunk, by place, from the texts."""
    ledger = directory.ledger
    words = keyword_words(ledger)
    return {place: words.of(ledger.chunk(place).embedding_text) for place in ledger.live_places()}


def assert_in_step(directory):
    """Postings are those of the live chunks and nothing else."""
    expected = {
        (word, place.version, place.ordinal, count, len(words))
        for place, words in live_words(directory).items()
        for word, count in Counter(words).items()
    }
    with directory.ledger.reading():
        found = postings.contents(directory.ledger)
        assert len(found) == len(set(found))
        assert set(found) == expected
        lengths = [len(words) for words in live_words(directory).values()]
        assert postings.totals(directory.ledger) == (len(lengths), sum(lengths))


def assert_scores_of_bm25s(directory, query):
    words = live_words(directory)
    asked = keyword_words(directory.ledger).of(query)
    with directory.ledger.reading():
        hits = keyword_hits(directory.ledger, query)
    corpus = list(words.values())
    known = [word for word in asked if any(word in chunk for chunk in corpus)]
    if not known:
        assert (hits.places, hits.ideal) == ([], 0.0)
        return
    reference = bm25s.BM25(method="lucene", k1=1.5, b=0.75)
    reference.index(corpus, show_progress=False)
    expected = dict(zip(words, reference.get_scores(known), strict=True))
    found = dict(zip(hits.places, hits.scores, strict=True))
    for place, score in expected.items():
        assert found.get(place, 0.0) == pytest.approx(score, abs=1e-5)
    assert list(hits.scores) == sorted(hits.scores, reverse=True)
    assert max(hits.scores) < hits.ideal


@settings(max_examples=60, deadline=None)
@given(changes=CHANGES, query=TEXTS)
def test_scores_are_those_of_bm25s_after_any_changes(changes, query):
    with IndexDirectory.open(None) as directory:
        language = "en"
        for kind, number, text in changes:
            if kind == "upsert":
                Indexer(directory, pipeline(size=30, step=20), keywords=language).upsert([Document(text, f"d{number}")])
            elif kind == "delete":
                Indexer(directory, pipeline()).delete([f"d{number}"])
            else:
                language = "" if language else "en"
        Indexer(directory, pipeline(), keywords=language).upsert([])
        assert_in_step(directory)
        assert_scores_of_bm25s(directory, query)
