"""Links between similar chunks: symmetric, alive, kept up with the documents, fetched along within a budget."""

import os
import re
import threading
from dataclasses import replace
from itertools import islice

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from index_corpus import in_child, pipe, start
from rag_embeddings.encode.base import Role
from rag_embeddings.errors import StoreError, StoreLockedError
from rag_embeddings.index.indexer import Indexer
from rag_embeddings.index.pipeline import Pipeline
from rag_embeddings.retrieve.search import Retrieval
from rag_embeddings.retrieve.sentence_parent import SentenceParentSearch
from rag_embeddings.split.tokens import token_counter
from rag_embeddings.store import kept
from rag_embeddings.store.directory import IndexDirectory
from rag_embeddings.store.links import LinkRule, link_rule, links_of, without_links
from rag_embeddings.store.records import similarities
from rag_embeddings.store.version import Place
from rag_embeddings.testing import faults
from rag_embeddings.testing.encoder import DeterministicEncoder
from rag_embeddings.text import Chunk, Document, Span

ENCODER = DeterministicEncoder(64)
WORDS = ["ale", "bee", "cow", "dog", "elm"]
RULE = LinkRule(threshold=0.5, most=1_000)


class Sentences:
    """A chunk per line."""

    language = "en"

    def split(self, document):
        chunks, start = [], 0
        for line in document.text.split("\n"):
            if line:
                chunks.append(Chunk(document, (Span(start, start + len(line)),)))
            start += len(line) + 1
        return chunks

    def settings(self):
        return {"splitter": "a chunk per line"}


def indexer(directory, encoder=ENCODER, **options):
    return Indexer(directory, Pipeline(encoder, Sentences()), keywords=False, **options)


def document(name, *lines):
    return Document("\n".join(lines), id=name)


def rows(directory):
    """Every link as it is stored, both ends as (document, number of the chunk), and the similarity."""
    ledger = directory.ledger
    with ledger.reading():
        if not list(ledger.execute("SELECT 1 FROM sqlite_master WHERE name = 'links'")):
            return {}
        found = list(ledger.execute("SELECT version, ordinal, other, other_ordinal, similarity FROM links"))
        return {
            ((ledger.document(a).id, b), (ledger.document(c).id, d)): similarity for a, b, c, d, similarity in found
        }


def expected(documents, rule):
    """The same from the texts."""
    chunks = [((item.id, n), chunk.text) for item in documents for n, chunk in enumerate(Sentences().split(item))]
    if not chunks:
        return {}
    vectors = ENCODER.encode([text for _, text in chunks], Role.DOCUMENT)
    found = {}
    for (one, _), vector in zip(chunks, vectors, strict=True):
        for (other, _), value in zip(chunks, similarities(vectors, vector, "cosine"), strict=True):
            if one[0] != other[0] and value >= rule.threshold - 1e-6:
                found[one, other] = value
    return found


def check(directory, documents, rule=RULE):
    found, wanted = rows(directory), expected(documents, rule)
    assert {(b, a) for a, b in found} == set(found)
    clear = {pair for pair, value in wanted.items() if value > rule.threshold + 1e-6}
    assert clear <= set(found) <= set(wanted)
    for pair, similarity in found.items():
        assert similarity == pytest.approx(wanted[pair], abs=1e-5)


lines = st.lists(st.lists(st.sampled_from(WORDS), min_size=1, max_size=3).map(" ".join), max_size=4)


class Linked(RuleBasedStateMachine):
    """Any sequence of upserts and deletes: what is linked is what is similar and alive, both ways."""

    path = None

    @initialize()
    def open(self):
        self.directory = IndexDirectory.open(self.path)
        self.documents = {}

    @rule(changes=st.dictionaries(st.sampled_from("abcde"), lines, min_size=1, max_size=3))
    def upsert(self, changes):
        items = [document(name, *content) for name, content in changes.items()]
        indexer(self.directory, links=RULE).upsert(items)
        self.documents |= {item.id: item for item in items}

    @precondition(lambda self: self.documents)
    @rule(data=st.data())
    def delete(self, data):
        name = data.draw(st.sampled_from(sorted(self.documents)))
        indexer(self.directory).delete([name])
        del self.documents[name]

    @precondition(lambda self: self.documents)
    @rule()
    def unlink_and_link_again(self):
        items = list(self.documents.values())
        indexer(self.directory, links=False).upsert(items)
        assert rows(self.directory) == {}
        indexer(self.directory, links=RULE).upsert(items)

    @invariant()
    def alive_and_symmetric(self):
        check(self.directory, self.documents.values())

    def teardown(self):
        self.directory.close()


Linked.TestCase.settings = settings(max_examples=25, stateful_step_count=12, deadline=None)
TestLinked = Linked.TestCase


@pytest.mark.parametrize("exact", [True, False])
def test_on_disk_links_survive_closing_and_other_handles(tmp_path, monkeypatch, exact):
    if not exact:
        monkeypatch.setattr(kept, "EXACT_BYTES", 0)  # so that Chroma's graph is asked
    first = [document(name, "ale bee cow", f"{name} dog elm dog") for name in "abcd"]
    with IndexDirectory.open(tmp_path / "index", create=True) as directory:
        indexer(directory, links=RULE).upsert(first)
        check(directory, first)
    changed = [*first[1:], document("a", "elm elm dog")]
    with IndexDirectory.open(tmp_path / "index") as directory:
        assert link_rule(directory.ledger) == RULE
        indexer(directory).upsert([changed[-1]])  # says nothing about links: as the index has been so far
        check(directory, changed)
        indexer(directory).delete(["b"])
        check(directory, [item for item in changed if item.id != "b"])


def test_only_the_chunks_of_the_changed_document_are_looked_up(monkeypatch):
    items = [document(f"d{n}", f"ale bee {n}", f"cow dog {n}", f"elm {n}") for n in range(40)]
    with IndexDirectory.open(None) as directory:
        indexer(directory, links=RULE).upsert(items)
        with directory.reading() as view:
            asked = []
            search = view.chunks.search
            monkeypatch.setattr(view.chunks, "search", lambda *args: asked.append(args) or search(*args))
        untouched = {pair: value for pair, value in rows(directory).items() if "d7" not in {pair[0][0], pair[1][0]}}
        indexer(directory).upsert([document("d7", "ale bee 7", "something new")])
        assert 2 <= len(asked) <= 8  # two chunks; more is fetched where all that was fetched is similar
        left = {pair: value for pair, value in rows(directory).items() if "d7" not in {pair[0][0], pair[1][0]}}
        assert left == untouched
        asked.clear()
        indexer(directory).upsert(items[:3])
        assert asked == []


def test_unchanged_documents_are_linked_when_links_are_turned_on_and_nothing_is_encoded():
    encoder = DeterministicEncoder(64)
    items = [document(name, "ale bee cow") for name in "abc"]
    with IndexDirectory.open(None) as directory:
        indexer(directory, encoder).upsert(items)
        assert rows(directory) == {}
        encoded = encoder.encoded
        indexer(directory, encoder, links=RULE).upsert([])
        check(directory, items)
        assert encoder.encoded == encoded
        indexer(directory, encoder, links=LinkRule(0.99, 1)).upsert([])
        assert link_rule(directory.ledger) == LinkRule(0.99, 1)
        indexer(directory, encoder, links=True).upsert([])  # keeps the rule there is
        assert link_rule(directory.ledger) == LinkRule(0.99, 1)


def test_many_copies_do_not_make_many_links():
    items = [document(f"d{n:03}", "terms of use apply") for n in range(60)]
    with IndexDirectory.open(None) as directory:
        indexer(directory, links=LinkRule(0.5, 3)).upsert(items)
        found = rows(directory)
        assert {(b, a) for a, b in found} == set(found)
        assert len(found) <= 2 * 3 * len(items)
        assert {one for one, _ in found} == {(item.id, 0) for item in items}


def test_a_document_that_repeats_itself_is_linked_with_others_all_the_same():
    """Its own chunks are the most similar ones, more of them than are fetched at first."""
    items = [document("long", *(f"ale bee cow {n}" for n in range(100))), document("other", "ale bee dog")]
    with IndexDirectory.open(None) as directory:
        indexer(directory, links=LinkRule(0.5, 1)).upsert(items[1:])
        indexer(directory).upsert(items[:1])
        found = rows(directory)
        assert set(found) == set(expected(items, RULE))
        assert len(found) > 100


def _upsert_in_child(path, failpoint):
    os.environ[faults.VARIABLE] = failpoint
    with faults.watched(faults._from_environment()), IndexDirectory.open(path, create=True) as directory:
        indexer(directory, links=RULE).upsert([document(name, "ale bee", "cow dog") for name in "abcdef"])


@pytest.mark.parametrize("failpoint", ["index.after_commit:1", "index.after_link_rule:1", "index.after_links:3"])
def test_a_killed_run_is_taken_up_by_the_next(tmp_path, failpoint):
    items = [document(name, "ale bee", "cow dog") for name in "abcdef"]
    assert in_child(_upsert_in_child, tmp_path, failpoint) != 0
    with IndexDirectory.open(tmp_path, create=True) as directory:
        assert len(rows(directory)) < len(expected(items, RULE))
        indexer(directory, links=RULE).upsert(items)
        assert without_links(directory.ledger) == []
        check(directory, items)


def _hold_unlinked(path, here):
    with IndexDirectory.open(path) as directory:
        indexer(directory).upsert([document("b", "ale bee")])
        with directory.ledger.writing():  # as in the moment before it links them
            directory.ledger.execute("DELETE FROM linked")
        here.send("holding")
        here.recv()


def test_unchanged_documents_need_no_lock_while_another_process_is_about_to_link(tmp_path):
    with IndexDirectory.open(tmp_path, create=True) as directory:
        indexer(directory, links=RULE).upsert([document("a", "ale bee")])
    here, there = pipe()
    child = start(_hold_unlinked, tmp_path, there)
    assert here.recv() == "holding"
    try:
        with IndexDirectory.open(tmp_path) as directory:
            assert without_links(directory.ledger)
            assert indexer(directory, links=True).upsert([document("a", "ale bee")]).unchanged == ("a",)
            with pytest.raises(StoreLockedError):
                indexer(directory, links=LinkRule(0.9)).upsert([])
    finally:
        here.send("done")
        child.join(60)
    with IndexDirectory.open(tmp_path) as directory:
        indexer(directory).upsert([])
        check(directory, [document("a", "ale bee"), document("b", "ale bee")])


def test_documents_that_die_while_others_are_linked_leave_no_link():
    """Threads replace and delete while others are linked."""
    with IndexDirectory.open(None) as directory:
        indexer(directory, links=RULE).upsert([document(name, "ale bee") for name in "abc"])

        def churn(name):
            for round_ in range(8):
                indexer(directory).upsert([document(name, "ale bee", f"cow {round_}")])
                indexer(directory).delete([name])

        threads = [threading.Thread(target=churn, args=(f"t{number}",)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        check(directory, [document(name, "ale bee") for name in "abc"])


# --- fetched along ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def library():
    items = [
        document("rules", "travel by train is paid", "meals cost up to thirty"),
        document("faq", "travel by train is always paid", "ask the office"),
        document("news", "travel by train paid again", "the office moved"),
        document("copy", "travel by train is paid"),
        document("far", "eels swim"),
    ]
    with IndexDirectory.open(None) as directory:
        indexer(directory, links=LinkRule(0.6)).upsert(items)
        yield directory


def texts(found):
    return [(match.chunk.document.id, match.chunk.text) for match in found]


def test_linked_chunks_come_behind_what_was_found(library):
    question = "is travel by train always paid"
    plain = Retrieval(library, ENCODER, k=1).search(question)
    found = Retrieval(library, ENCODER, k=1, link_tokens=1_000, tokenizer=len).search(question)
    assert texts(found[:1]) == texts(plain)
    assert all(match.linked_from == found[0].chunk.id for match in found[1:])
    assert texts(found[:1]) == [("faq", "travel by train is always paid")]
    assert {match.chunk.text for match in found[1:]} == {"travel by train is paid", "travel by train paid again"}
    said = [match.chunk.text for match in found]
    assert len(set(said)) == len(said)  # no copy of what is there
    assert [match.score for match in found[1:]] == sorted((match.score for match in found[1:]), reverse=True)
    assert all(match.sentences == () and match.metadata()["matches"] == [] for match in found[1:])
    assert found[1].metadata()["linked_from"] == found[0].chunk.id
    assert "linked_from" not in found[0].metadata()


def test_the_budget_of_linked_chunks_is_never_exceeded(library):
    counter = token_counter(len)
    everything = Retrieval(library, ENCODER, k=1, link_tokens=1_000, tokenizer=len).search("travel by train")
    for budget in range(1, 120, 7):
        found = Retrieval(library, ENCODER, k=1, link_tokens=budget, tokenizer=len).search("travel by train")
        sizes = counter.count([match.chunk.embedding_text for match in found[1:]])
        assert sum(sizes) <= budget
        assert set(texts(found)) <= set(texts(everything))
    assert len(everything) == 3


def test_links_lead_from_every_chunk_of_a_passage(library):
    found = Retrieval(library, ENCODER, token_budget=200, tokenizer=len, merge=True, link_tokens=500).search(
        "travel train"
    )
    assert not {match.chunk.text for match in found if match.linked_from} & {
        match.chunk.text for match in found if not match.linked_from
    }


def test_an_index_without_links_says_so():
    with IndexDirectory.open(None) as directory:
        indexer(directory).upsert([document("a", "ale")])
        with pytest.raises(StoreError, match=r"not linked; link them"):
            Retrieval(directory, ENCODER, link_tokens=10).search("ale")
        with pytest.raises(StoreError, match="not linked"):
            links_of(directory.ledger, Place(1, 0))


def test_links_of_a_chunk_are_best_first(library):
    best = SentenceParentSearch(library, ENCODER).search("travel by train is paid", 1)[0]
    place = library.ledger.live_chunks([best.chunk.id])[best.chunk.id]
    found = links_of(library.ledger, place)
    assert [link.similarity for link in found] == sorted((link.similarity for link in found), reverse=True)
    assert len(found) == 3
    assert list(islice((library.ledger.chunk(link.place).text for link in found), 1)) == [best.chunk.text]  # the copy


def test_impossible_rules():
    with pytest.raises(ValueError, match="at least 1 link"):
        LinkRule(most=0)
    distant = DeterministicEncoder(64)
    distant.profile = replace(distant.profile, similarity="euclidean")
    items = [document("a", "ale bee", "cow"), document("b", "ale bee"), document("c", "elm")]
    with IndexDirectory.open(None) as directory:
        with pytest.raises(ValueError, match=r"compares by 'euclidean': give LinkRule"):
            indexer(directory, distant, links=True).upsert(items)
        indexer(directory, distant, links=LinkRule(-0.1)).upsert(items)
        assert set(rows(directory)) == {(("a", 0), ("b", 0)), (("b", 0), ("a", 0))}


def test_an_index_without_links_says_how_to_get_them_and_lost_ones_come_back_as_documented():
    items, rule = [document(f"d{n}", "terms of use apply") for n in range(6)], LinkRule(0.5, 2)
    with IndexDirectory.open(None) as directory:
        ledger = directory.ledger
        indexer(directory).upsert(items)
        with pytest.raises(StoreError, match=re.escape("Indexer(..., links=True).upsert([])")):
            links_of(ledger, Place(1, 0))
        indexer(directory, links=rule).upsert([])
        place = next(place for place in map(Place, range(1, 7), [0] * 6) if len(links_of(ledger, place)) == rule.most)
        indexer(directory).delete([ledger.document(link.place.version).id for link in links_of(ledger, place)])
        assert links_of(ledger, place) == []
        indexer(directory, links=False).upsert([])
        assert indexer(directory, links=rule).upsert([]).encoded == 0
        assert len(links_of(ledger, place)) >= rule.most
