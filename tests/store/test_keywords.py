"""BM25 over what is live, always as bm25s scores a corpus indexed at once."""

import sys

import bm25s
import pytest
import Stemmer
from hypothesis import given, settings
from hypothesis import strategies as st

from index_corpus import check_keywords, corpus, live_words, pipeline
from rag_embeddings.errors import MissingExtraError
from rag_embeddings.index.indexer import Indexer
from rag_embeddings.store import postings
from rag_embeddings.store import words as words_module
from rag_embeddings.store.directory import IndexDirectory
from rag_embeddings.store.keywords import keyword_hits, keyword_language, keyword_words
from rag_embeddings.store.words import Words
from rag_embeddings.text import Document

VOCABULARY = ["apples", "apple", "pear", "running", "runs", "the", "of", "Zürich", "3rd", "x"]
TEXTS = st.lists(st.sampled_from(VOCABULARY), max_size=12).map(" ".join)
CHANGES = st.lists(
    st.tuples(st.sampled_from(["upsert", "upsert", "delete", "language"]), st.integers(0, 5), TEXTS), max_size=12
)


def assert_scores_of_bm25s(directory, query):
    words = live_words(directory)
    asked = keyword_words(directory.ledger).of(query)
    with directory.ledger.reading():
        hits = keyword_hits(directory.ledger, query)
    corpus = list(words.values())
    known = [word for word in asked if any(word in chunk for chunk in corpus)]
    if not known:
        assert hits.places == []
        return
    reference = bm25s.BM25(method="lucene", k1=1.5, b=0.75)
    reference.index(corpus, show_progress=False)
    expected = dict(zip(words, reference.get_scores(known), strict=True))
    found = dict(zip(hits.places, hits.scores, strict=True))
    for place, score in expected.items():
        assert found.get(place, 0.0) == pytest.approx(score, abs=1e-5)
    assert list(hits.scores) == sorted(hits.scores, reverse=True)
    assert max(hits.scores) < hits.ideal / 2.5


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
        check_keywords(directory)
        assert_scores_of_bm25s(directory, query)


@pytest.mark.parametrize("language", ["en", "de", "fi", ""])
def test_turning_keywords_on_later_is_as_if_they_had_been_there(language):
    texts = ["Running dogs", "Die Häuser der Städte", "the", "", "talossa on ikkuna"]
    items = [Document(text, f"d{number}") for number, text in enumerate(texts)]
    found = []
    for first in (language, False):
        made_by = pipeline()
        with IndexDirectory.open(None) as directory:
            Indexer(directory, made_by, keywords=first).upsert(items)
            encoded = made_by.encoder.encoded
            Indexer(directory, made_by, keywords=language).upsert(items)
            assert made_by.encoder.encoded == encoded
            check_keywords(directory)
            with directory.ledger.reading():
                found.append(sorted(postings.contents(directory.ledger)))
    assert found[0] == found[1]


def test_what_an_index_has_stays_as_it_is_unless_somebody_says_otherwise():
    def language(keywords=None):
        Indexer(directory, pipeline(), keywords=keywords).upsert([Document("Dogs.", f"d{len(seen)}")])
        seen.append(keyword_language(directory.ledger))
        return seen[-1]

    seen = []
    with IndexDirectory.open(None) as directory:
        assert keyword_language(directory.ledger) is None
        assert language() == "en"
        assert language("de") == "de"
        assert language() == "de"
        assert language(keywords=True) == "de"
        assert language(keywords=False) is False
        assert language() is False
        assert language(keywords=True) == "en"
        assert language("") == ""
        check_keywords(directory)
        Indexer(directory, pipeline(), keywords=False).upsert([])
        with directory.ledger.reading():
            assert not postings.exist(directory.ledger)
        Indexer(directory, pipeline()).delete(["d0", "d1"])
        with pytest.raises(ValueError, match="no stemmer for language 'xx'"):
            language("xx")


def test_a_splitter_in_a_language_without_stemmer_gives_words_as_they_stand():
    made_by = pipeline()
    object.__setattr__(made_by.splitter, "language", "ja")
    with IndexDirectory.open(None) as directory:
        Indexer(directory, made_by).upsert([Document("東京タワーは高い。", "d")])
        assert keyword_language(directory.ledger) == ""
        with directory.ledger.reading():
            assert keyword_hits(directory.ledger, "東京").places
            assert keyword_hits(directory.ledger, "京都").places == []


def test_without_the_extra_a_new_index_has_none_and_an_old_one_refuses(monkeypatch):
    with IndexDirectory.open(None) as directory, pytest.MonkeyPatch.context() as patch:
        patch.setattr(words_module, "find_spec", lambda name: None)
        Indexer(directory, pipeline()).upsert([Document("Dogs.", "d")])
        assert keyword_language(directory.ledger) is None
        patch.undo()
        Indexer(directory, pipeline()).upsert([Document("Dogs.", "d")])  # nothing to write
        assert keyword_language(directory.ledger) is None
        Indexer(directory, pipeline()).upsert([Document("Cats.", "c")])
        assert keyword_language(directory.ledger) == "en"
        check_keywords(directory)
        monkeypatch.setitem(sys.modules, "Stemmer", None)
        with pytest.raises(MissingExtraError, match=r"rag-embeddings\[keywords\]"):
            Indexer(directory, pipeline()).upsert([Document("Birds.", "b")])
        with directory.ledger.reading(), pytest.raises(MissingExtraError, match=r"rag-embeddings\[keywords\]"):
            keyword_hits(directory.ledger, "dogs")


def test_another_stemmer_makes_the_words_anew(monkeypatch):
    with IndexDirectory.open(None) as directory:
        Indexer(directory, pipeline()).upsert([Document("Dogs.", "d")])
        monkeypatch.setattr(Words, "settings", lambda self: {"language": "en", "format": 2})
        monkeypatch.setattr(Words, "of", lambda self, text: text.split())
        Indexer(directory, pipeline()).upsert([Document("Cats.", "c")])
        check_keywords(directory)
        with directory.ledger.reading():
            assert {row[0] for row in postings.contents(directory.ledger)} == {"Dogs.", "Cats."}


def test_heading_paths_are_searched_too():
    with IndexDirectory.open(None) as directory:
        Indexer(directory, pipeline(context="Warranty")).upsert([Document("Two years.", "d")])
        with directory.ledger.reading():
            assert keyword_hits(directory.ledger, "warranties").places


def test_an_index_on_disk_keeps_its_keywords(tmp_path):
    with IndexDirectory.open(tmp_path / "index", create=True) as directory:
        Indexer(directory, pipeline(), keywords="de").upsert([Document("Die Häuser", "a"), Document("Haus", "b")])
    with IndexDirectory.open(tmp_path / "index") as directory:
        assert keyword_language(directory.ledger) == "de"
        check_keywords(directory)
        assert_scores_of_bm25s(directory, "Hauses")


def test_nothing_is_left_of_what_was_deleted():
    with IndexDirectory.open(None) as directory:
        Indexer(directory, pipeline()).upsert([Document("Secret plans.", "a"), Document("Open plans.", "b")])
        Indexer(directory, pipeline()).delete(["a"])
        with directory.ledger.reading():
            assert {row[0] for row in postings.contents(directory.ledger)} == {"open", "plan"}
            rest = [str(row) for row in directory.ledger.execute("SELECT * FROM keyword_chunks")]
        assert not any("secret" in row for row in rest)


def test_words_are_those_of_bm25s_in_plain_english():
    text = "It's 3rd-party code: the runner's RUNNING, running_late in co-operation; naïve x y z 12,5 e.g. U.S."
    reference = bm25s.tokenize(
        text, stopwords="en", stemmer=Stemmer.Stemmer("english"), return_ids=False, show_progress=False
    )
    assert Words("en").of(text) == reference[0]


def test_words_of_other_scripts():
    assert Words("").of("हिन्दी भाषा, Straße ﬁn ＡＢＣ") == ["हिन्दी", "भाषा", "strasse", "fin", "abc"]
    assert Words("").of("東京タワー 塔 ไทย") == ["東京", "京タ", "タワ", "ワー", "塔", "ไท", "ทย"]
    assert Words("").of("a\ud800b \0 !") == []
    assert Words("de").of("und die Häuser") == Words("de").of("HAUS")
    assert Words("en").of("") == []


@settings(max_examples=150, deadline=None)
@given(text=st.text(max_size=60), language=st.sampled_from(["", "ar", "de", "en", "hi", "tr", "yi"]))
def test_words_can_be_told_apart_in_a_list(text, language):
    words = Words(language).of(text)
    assert " ".join(words).split() == words
    assert all(words)


def test_words_are_cut_in_linear_time():
    for text in ("a" * 1_000_000, "東" * 300_000, " " * 1_000_000, "a1_" * 300_000):
        Words("en").of(text)


def test_removing_a_document_costs_as_much_in_a_large_index_as_in_a_small_one():
    steps = []
    for count in (10, 200):
        with IndexDirectory.open(None) as directory:
            Indexer(directory, pipeline(), keywords="en").upsert(corpus(0, count))
            ticks = []
            directory.ledger._db.set_progress_handler(lambda ticks=ticks: ticks.append(1) and None, 1)
            assert directory.ledger.kill(["doc-3"]) == ["doc-3"]
            assert len(directory.ledger.dead()) == 1
            directory.ledger._db.set_progress_handler(None, 1)
            steps.append(len(ticks))
    assert steps[1] < 1.1 * steps[0]  # of SQLite's machine
