"""What happens to chunks after they were found: the laws of windows, merging, budgets and orders."""

from functools import cache
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rag_embeddings.encode.base import Role
from rag_embeddings.errors import VectorError
from rag_embeddings.index.indexer import Indexer
from rag_embeddings.index.pipeline import Pipeline
from rag_embeddings.read.markdown import read_markdown
from rag_embeddings.read.scope import ScopeNotes
from rag_embeddings.retrieve.base import Match
from rag_embeddings.retrieve.budget import within
from rag_embeddings.retrieve.merge import Merge, unite
from rag_embeddings.retrieve.mmr import mmr_order
from rag_embeddings.retrieve.search import Retrieval
from rag_embeddings.retrieve.sentence_parent import SentenceParentSearch
from rag_embeddings.retrieve.window import Window
from rag_embeddings.split.layout import LayoutSplitter
from rag_embeddings.split.tokens import token_counter
from rag_embeddings.store.directory import IndexDirectory
from rag_embeddings.store.records import similarities
from rag_embeddings.store.where import Where
from rag_embeddings.testing.encoder import DeterministicEncoder
from rag_embeddings.text import Chunk, Document, Span

ENCODER = DeterministicEncoder(dimensions=96)
EVERYTHING = 500  # more than there are chunks
WORDS = ["apples", "bridges", "cats", "dams", "eels", "ferries"]


class Lines:
    """A chunk per line, under the headings above it; heading lines are in no chunk."""

    language = "en"

    def split(self, document):
        chunks, start, heading = [], 0, ()
        for line in document.text.split("\n"):
            if line.startswith("# "):
                heading = (line[2:],)
            elif line:
                context = " > ".join(heading)
                facts = {"page": start // 200 + 1, "last_page": start // 200 + 1, "kinds": "paragraph"}
                chunks.append(Chunk(document, (Span(start, start + len(line)),), heading, context, facts))
            start += len(line) + 1
        return chunks

    def settings(self):
        return {"splitter": "lines"}


def line(document, section, number):
    chosen = WORDS[(document * 5 + section * 3 + number) % len(WORDS)]
    other = WORDS[(document + number * number) % len(WORDS)]
    return f"Here {chosen} meet {other} at n{document}s{section}. Then {other} leave at {number}."


def text(document):
    sections = []
    for section in range(3):
        heading = f"# Part {section}\n" if document % 2 else ""
        sections.append(heading + "\n".join(line(document, section, number) for number in range(5)))
    return "\n".join(sections)


CORPUS = [Document(text(number), id=f"doc-{number}", metadata={"number": number}) for number in range(6)]


@pytest.fixture(scope="module")
def directory():
    with IndexDirectory.open(None) as opened:
        Indexer(opened, Pipeline(ENCODER, Lines()), keywords=False).upsert(CORPUS)
        yield opened


def ranking(directory, query, **options):
    return SentenceParentSearch(directory, ENCODER, **options).search(query, EVERYTHING)


def plain(chunk):
    """A chunk as its span in its document."""
    return (chunk.document.id, chunk.spans)


@cache
def chunks_of(name):
    document = next(document for document in CORPUS if document.id == name)
    return Lines().split(document)


def same(found, expected):
    # How many sentences are shown depends on how many were looked at.
    assert [(plain(one.chunk), one.sentences[:1]) for one in found] == [
        (plain(one.chunk), one.sentences[:1]) for one in expected
    ]
    assert [one.score for one in found] == pytest.approx([one.score for one in expected], abs=1e-6)


queries = st.lists(st.sampled_from([*WORDS, "n1s1", "n2s0", "n3s2", "leave"]), min_size=1, max_size=4).map(" ".join)
windows = st.one_of(
    st.just(0),
    st.integers(1, 3),
    st.builds(Window, st.integers(1, 2), st.just("chunk")),
    st.builds(Window, st.integers(1, 3), st.just("sentence"), st.just("match")),
)
merges = st.one_of(st.booleans(), st.builds(Merge, st.floats(0, 1), st.sampled_from([100, 300, 5_000])))


options = st.fixed_dictionaries(
    {
        "k": st.integers(1, 9),
        "window": windows,
        "merge": merges,
        "search_type": st.sampled_from(["similarity", "mmr"]),
        "token_budget": st.none() | st.integers(1, 900),
    }
)


@settings(max_examples=60, deadline=None)
@given(queries, options)
def test_whatever_is_asked_for_passages_are_slices_and_few_enough(directory, query, chosen):
    search = Retrieval(directory, ENCODER, tokenizer=len, **chosen)
    window, budget = chosen["window"], chosen["token_budget"]
    found = search.search(query)
    assert found
    texts = {document.id: document.text for document in CORPUS}
    for match in found:
        source = texts[match.chunk.document.id]
        # What the splitter left out, here the lines of headings, stays out of passages made of chunks.
        assert match.chunk.text.split("\n") == "\n".join(source[s.start : s.end] for s in match.chunk.spans).split("\n")
        gaps = [source[a.end : b.start] for a, b in pairwise(match.chunk.spans)]
        assert all(gap.strip().startswith("# ") for gap in gaps)
        assert match.chunk.text == match.chunk.text.strip()
        assert match.sentences
        if window == 0 or isinstance(window, int) or window.around == "passage":
            inside = match.chunk.spans
            assert all(any(s.start <= one.start < one.end <= s.end for s in inside) for one in match.sentences)
    ids = [match.chunk.id for match in found]
    assert len(set(ids)) == len(ids)
    if window or chosen["merge"]:
        same(unite(found), found)  # none touches another
    if budget is None:
        assert len(found) <= chosen["k"]
    else:
        sizes = [len(match.chunk.embedding_text) for match in found]
        assert sum(sizes) <= budget or len(sizes) == 1


@settings(max_examples=30, deadline=None)
@given(queries, st.integers(1, 100), st.sampled_from(["best", "mean"]))
def test_without_options_it_is_the_sentence_parent_search(directory, query, k, score):
    same(Retrieval(directory, ENCODER, k=k, score=score).search(query), ranking(directory, query, score=score)[:k])


@settings(max_examples=40, deadline=None)
@given(queries, st.integers(1, 4_000))
def test_a_budget_takes_the_longest_beginning_that_fits(directory, query, budget):
    ranked = ranking(directory, query)
    expected, spent = [], 0
    for match in ranked:
        spent += len(match.chunk.embedding_text)
        if spent > budget and expected:
            break
        expected.append(match)
    same(Retrieval(directory, ENCODER, token_budget=budget, tokenizer=len).search(query), expected)
    same(within(ranked, budget, token_counter(len)), expected)


def test_a_budget_counts_with_what_is_named(directory):
    query = "cats"
    words = Retrieval(directory, ENCODER, token_budget=40, tokenizer=lambda text: len(text.split())).search(query)
    assert 1 < len(words) <= 40
    assert sum(len(match.chunk.embedding_text.split()) for match in words) <= 40
    tiktoken = Retrieval(directory, ENCODER, token_budget=40, tokenizer="cl100k_base").search(query)
    assert sum(token_counter("cl100k_base").count([match.chunk.embedding_text for match in tiktoken])) <= 40
    (alone,) = Retrieval(directory, ENCODER, token_budget=1, tokenizer=len).search(query)
    assert plain(alone.chunk) == plain(ranking(directory, query)[0].chunk)


@settings(max_examples=40, deadline=None)
@given(queries, st.integers(1, 4), st.sampled_from(["passage", "match"]))
def test_a_window_adds_sentences_on_both_sides(directory, query, size, around):
    best = ranking(directory, query)[0]
    sentences = [
        span
        for version in [Pipeline(ENCODER, Lines()).version(best.chunk.document, "name")]
        for group in version.sentences
        for span in (one.span for one in group)
    ]
    middle = best.chunk.spans[0] if around == "passage" else best.sentences[0]
    before = [span for span in sentences if span.start < middle.start][-size:]
    behind = [span for span in sentences if span.end > middle.end][:size]
    expected = Span(min([middle.start, *(s.start for s in before)]), max([middle.end, *(s.end for s in behind)]))
    (found, *_) = Retrieval(directory, ENCODER, k=60, window=Window(size, "sentence", around)).search(query)
    assert found.chunk.start <= expected.start  # passages that touch it were united with it
    assert found.chunk.end >= expected.end
    # Alone: the next chunk in rank order would not fit into a budget of nothing.
    alone = Retrieval(directory, ENCODER, token_budget=1, tokenizer=len, window=Window(size, "sentence", around))
    assert alone.search(query)[0].chunk.spans == (expected,)


def test_a_window_of_chunks(directory):
    best = ranking(directory, "ferries n3s2")[0]
    chunks = chunks_of(best.chunk.document.id)
    place = [chunk.spans for chunk in chunks].index(best.chunk.spans)
    beside = chunks[max(place - 1, 0) : place + 2]
    found = Retrieval(directory, ENCODER, token_budget=1, tokenizer=len, window=Window(1, "chunk")).search(
        "ferries n3s2"
    )
    assert [span for match in found for span in match.chunk.spans] == merged_spans(best.chunk.document.text, beside)


def merged_spans(text, chunks):
    spans = [chunks[0].spans[0]]
    for chunk in chunks[1:]:
        if text[spans[-1].end : chunk.start].strip():
            spans.append(chunk.spans[0])
        else:
            spans[-1] = Span(spans[-1].start, chunk.end)
    return spans


def components(covered):
    """Groups of chunks that stand side by side, from their numbers: an implementation of its own."""
    groups = 0
    for name, numbers in covered.items():
        chunks = chunks_of(name)
        ordered = sorted(numbers)
        groups += 1 + sum(
            after != before + 1 or chunks[before].document.text[chunks[before].end : chunks[after].start] != "\n"
            for before, after in pairwise(ordered)
        )
    return groups


def covered_by(ranked, ratio, limit):
    """Which chunks a merged result covers: those found, and the sections of which enough was found."""
    found = {}
    for match in ranked:
        name = match.chunk.document.id
        found.setdefault(name, set()).add([chunk.spans for chunk in chunks_of(name)].index(match.chunk.spans))
    covered = {name: set(numbers) for name, numbers in found.items()}
    for name, numbers in found.items():
        chunks = chunks_of(name)
        for heading in {chunk.headings for chunk in chunks}:
            section = {number for number, chunk in enumerate(chunks) if chunk.headings == heading}
            size = sum(len(chunks[number].text) for number in section)
            if len(section & numbers) > ratio * len(section) and size <= limit:
                covered[name] |= section
    return covered


@settings(max_examples=60, deadline=None)
@given(queries, st.integers(1, 8), st.sampled_from([0, 0.3, 0.5, 0.8, 1]), st.sampled_from([200, 400, 5_000]))
def test_merging_takes_up_what_touches_until_one_passage_more_would_begin(directory, query, k, ratio, limit):
    ranked = ranking(directory, query)
    number = 1
    while number < len(ranked) and components(covered_by(ranked[: number + 1], ratio, limit)) <= k:
        number += 1
    expected = covered_by(ranked[:number], ratio, limit)
    found = Retrieval(directory, ENCODER, k=k, merge=Merge(ratio, limit), tokenizer=len).search(query)
    covered = {}
    for match in found:
        chunks = chunks_of(match.chunk.document.id)
        inside = {
            n for n, chunk in enumerate(chunks) if match.chunk.start <= chunk.start and chunk.end <= match.chunk.end
        }
        assert (chunks[min(inside)].start, chunks[max(inside)].end) == (match.chunk.start, match.chunk.end)
        covered.setdefault(match.chunk.document.id, set()).update(inside)
    assert covered == expected
    assert len(found) == components(expected) <= k
    assert found[0].score == pytest.approx(ranked[0].score, abs=1e-6)
    scores = [match.score for match in found]
    assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize(("named", "whole"), [("ale bee", False), ("ale bee cow", True)])
def test_half_of_a_section_is_not_most_of_it(named, whole):
    document = Document("# A\nale\ndog\nbee\ncow\n# B\nelm\n", "d")
    with IndexDirectory.open(None) as directory:
        Indexer(directory, Pipeline(ENCODER, Lines()), keywords=False).upsert([document])
        words = len(named.split())
        options = {"merge": Merge(0.5), "tokenizer": len, "k": words}
        pattern = named.replace(" ", "|")
        found = Retrieval(directory, ENCODER, pattern=pattern, **options).search(named)
    texts = [match.chunk.text for match in found]
    assert texts == (["ale\ndog\nbee\ncow"] if whole else texts)
    assert whole or sorted(texts) == sorted(named.split())


def test_what_parts_say_about_themselves_is_kept_where_it_can_be():
    document = Document("One.\nTwo.\nThree.", "d")
    note = "All numbers are in millions."

    def part(start, end, path, context, **metadata):
        return Match(Chunk(document, (Span(start, end),), path, context, metadata), 0.5, (Span(start, end),))

    first = part(0, 4, ("A", "B"), f"A > B\n{note}", page=1, last_page=1, kinds="paragraph", headings="A > B", own=1)
    second = part(5, 9, ("A", "C"), f"A > C\n{note}", page=2, last_page=3, kinds="table", headings="A > C", own=2)
    (whole,) = unite([second, first])
    assert whole.chunk.spans == (Span(0, 9),)
    assert whole.chunk.headings == ("A",)
    assert whole.chunk.context == f"A > B\n{note}\nA > C"
    assert whole.chunk.metadata == {"page": 1, "last_page": 3, "kinds": "paragraph,table", "headings": "A"}
    assert whole.sentences == (Span(5, 9), Span(0, 4))
    assert whole.metadata()["context"] == whole.chunk.context


def test_chunks_of_several_spans_are_united_where_they_touch():
    document = Document("aa bb cc dd ee", "d")
    odd = Match(Chunk(document, (Span(0, 2), Span(6, 8))), 0.9, (Span(0, 2),))
    even = Match(Chunk(document, (Span(3, 5), Span(12, 14))), 0.5, (Span(3, 5),))
    (whole,) = unite([odd, even])
    assert whole.chunk.spans == (Span(0, 8), Span(12, 14))
    assert whole.score == 0.9
    assert whole.metadata()["spans"] == "0-8,12-14"
    assert "spans" not in unite([Match(Chunk(document, (Span(0, 2),)), 1.0, ())])[0].metadata()


spans = st.tuples(st.integers(0, 40), st.integers(1, 9)).map(lambda pair: Span(pair[0], min(sum(pair), 41)))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("ab"), spans), max_size=12))
def test_uniting_covers_the_same_text_once(items):
    texts = {name: Document("ab cd  ef gh\n" * 4, name) for name in "ab"}
    matches = [Match(Chunk(texts[name], (span,)), -float(rank), (span,)) for rank, (name, span) in enumerate(items)]
    united = unite(matches)
    for name, document in texts.items():
        wanted = {
            n for n in range(len(document.text)) for who, span in items if who == name and span.start <= n < span.end
        }
        got = [
            n for one in united if one.chunk.document.id == name for s in one.chunk.spans for n in range(s.start, s.end)
        ]
        assert len(got) == len(set(got))
        assert wanted <= set(got)
        assert not "".join(document.text[n] for n in set(got) - wanted).strip()
    assert unite(united) == united
    assert [one.score for one in united] == sorted((one.score for one in united), reverse=True)


def test_heading_paths_and_scope_notes_stay_with_passages_that_grow():
    lines = [f"Site {n} in city{n} earned {n}00." for n in range(1, 9)]
    markdown = "# Report\n\nAll amounts in this document are in millions of euros.\n\n## Sites\n\n" + "\n\n".join(lines)
    source = read_markdown(markdown, id="report")
    splitter = LayoutSplitter(160, tokenizer=len, notes=ScopeNotes())
    with IndexDirectory.open(None) as directory:
        Indexer(directory, Pipeline(ENCODER, splitter), keywords=False).upsert([source])
        (one,) = Retrieval(directory, ENCODER, k=1, pattern="city8").search("city8")
        assert "in millions" in one.chunk.context
        for shaping in ({"window": 1}, {"merge": Merge(0.3)}, {"window": Window(1, around="match")}):
            (found,) = Retrieval(directory, ENCODER, k=1, pattern="city8", **shaping).search("city8")
            assert one.chunk.context.split("\n") == [
                line for line in found.chunk.context.split("\n") if line in one.chunk.context
            ]
            assert "in millions" in found.metadata()["context"]
            assert "Site 8 in city8 earned 800." in found.chunk.text
            assert found.chunk.headings[:1] == ("Report",)


# --- maximal marginal relevance --------------------------------------------------------------------------------------


def greedy(relevance, vectors, balance, similarity):
    left, order = list(range(len(vectors))), []
    while left:

        def value(item):
            near = max((similarities(vectors[[item]], vectors[one], similarity)[0] for one in order), default=0.0)
            return balance * relevance[item] - (1 - balance) * near

        order.append(max(left, key=lambda item: (round(value(item), 12), -item)))
        left.remove(order[-1])
    return order


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 12),
    st.integers(0, 10_000),
    st.sampled_from([0.0, 0.25, 0.5, 0.9, 1.0]),
    st.sampled_from(["cosine", "dot", "euclidean"]),
)
def test_mmr_is_the_greedy_choice(number, seed, balance, similarity):
    random = np.random.default_rng(seed)
    vectors = random.normal(size=(number, 5)).astype(np.float32)
    relevance = random.normal(size=number).tolist()
    order = mmr_order(relevance, vectors, balance=balance, similarity=similarity)
    assert order == greedy(relevance, vectors, balance, similarity)


@pytest.mark.parametrize("balance", [0.3, 0.5, 0.8])
def test_mmr_is_langchains_where_a_passage_is_a_sentence(balance):
    utils = pytest.importorskip("langchain_core.vectorstores.utils")
    documents = [
        Document(f"{a} and {b} {n}", f"{n}") for n, (a, b) in enumerate(zip(WORDS * 4, WORDS[2:] * 6, strict=False))
    ]
    query = "apples and cats"
    with IndexDirectory.open(None) as directory:
        Indexer(directory, Pipeline(ENCODER, Lines()), keywords=False).upsert(documents)
        ranked = SentenceParentSearch(directory, ENCODER).search(query, 20)
        found = Retrieval(directory, ENCODER, k=6, search_type="mmr", fetch_k=20, balance=balance).search(query)
    vectors = ENCODER.encode([match.chunk.text for match in ranked], Role.DOCUMENT)
    asked = ENCODER.encode([query], Role.QUERY)[0]
    expected = utils.maximal_marginal_relevance(asked, list(vectors), lambda_mult=balance, k=6)
    assert [match.chunk.document.id for match in found] == [ranked[one].chunk.document.id for one in expected]
    assert len(found) == 6


@settings(max_examples=20, deadline=None)
@given(queries, st.integers(1, 30))
def test_mmr_with_nothing_but_relevance_is_the_usual_order(directory, query, k):
    search = Retrieval(directory, ENCODER, k=k, search_type="mmr", balance=1.0)
    same(search.search(query), ranking(directory, query)[:k])
    shorter = Retrieval(directory, ENCODER, k=3, search_type="mmr", fetch_k=30).search(query)
    longer = Retrieval(directory, ENCODER, k=12, search_type="mmr", fetch_k=30).search(query)
    same(shorter, longer[:3])


# --- rerankers -------------------------------------------------------------------------------------------------------


def test_a_reranker_decides_on_the_order_and_sees_each_passage_once(directory):
    seen = []

    def by_length(query, texts):
        seen.append((query, list(texts)))
        return [len(text) for text in texts]

    search = Retrieval(directory, ENCODER, k=5, fetch_k=12, reranker=by_length)
    found = search.search("cats")
    candidates = ranking(directory, "cats")[:12]
    expected = sorted(candidates, key=lambda match: -len(match.chunk.embedding_text))[:5]
    assert [plain(match.chunk) for match in found] == [plain(match.chunk) for match in expected]
    assert [match.score for match in found] == [len(match.chunk.embedding_text) for match in expected]
    assert seen == [("cats", [match.chunk.embedding_text for match in candidates])]
    seen.clear()
    filled = Retrieval(directory, ENCODER, fetch_k=12, reranker=by_length, token_budget=3_000, tokenizer=len).search(
        "cats"
    )
    assert len(filled) > 20
    asked = [text for _, texts in seen for text in texts]
    assert len(asked) == len(set(asked))
    scores = [match.score for match in filled]
    assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize("scores", [[0.5], [float("nan")] * 20, [float("inf")] * 20])
def test_a_reranker_that_returns_nonsense_is_named(directory, scores):
    with pytest.raises(VectorError, match="reranker was given 20 passages"):
        Retrieval(directory, ENCODER, reranker=lambda query, texts: scores).search("cats")


# --- together --------------------------------------------------------------------------------------------------------


def test_a_filter_holds_for_every_mode(directory):
    only = Where.equals("number", 3)
    for options in (
        {},
        {"search_type": "mmr"},
        {"merge": True},
        {"window": 1},
        {"token_budget": 500, "tokenizer": len},
    ):
        found = Retrieval(directory, ENCODER, where=only, **options).search("cats and dams")
        assert {match.chunk.document.id for match in found} == {"doc-3"}
    pattern = Retrieval(directory, ENCODER, pattern=r"n1s\d", k=3).search("cats")
    assert {match.chunk.document.id for match in pattern} == {"doc-1"}


def test_the_query_is_encoded_once(directory):
    encoder = DeterministicEncoder(96)
    before = encoder.encoded
    Retrieval(directory, encoder, token_budget=3_000, tokenizer=len, merge=True, window=1).search("cats")
    assert encoder.encoded == before + 1
    vector = encoder.encode(["cats"], Role.QUERY)[0]
    before = encoder.encoded
    found = Retrieval(directory, encoder, k=3).search("something else", vector)
    same(found, ranking(directory, "cats")[:3])
    assert encoder.encoded == before


def test_an_index_that_changes_while_it_is_read_is_read_again(directory):
    """Between the search and what becomes of it, a document is replaced: nothing of the old one comes back."""
    with IndexDirectory.open(None) as changing:
        indexer = Indexer(changing, Pipeline(ENCODER, Lines()), keywords=False)
        indexer.upsert([Document("Cats sleep here.\nDogs bark there.", "a"), Document("Eels swim.", "b")])
        calls = []

        def replacing(query, texts):
            if not calls:
                indexer.upsert([Document("Cats sleep elsewhere now.\nDogs bark.", "a")])
            calls.append(list(texts))
            return [1.0] * len(texts)

        found = Retrieval(changing, ENCODER, k=2, reranker=replacing, window=1).search("cats")
        assert sorted(match.chunk.text for match in found) == ["Cats sleep elsewhere now.\nDogs bark.", "Eels swim."]
        assert len(calls) == 2


@pytest.mark.parametrize("path", [None, "index"])
def test_an_empty_index_gives_nothing(path, tmp_path):
    with IndexDirectory.open(path and tmp_path / path, create=True) as empty:
        for options in ({}, {"search_type": "mmr"}, {"merge": True, "window": 2}, {"token_budget": 100}):
            assert Retrieval(empty, ENCODER, **options).search("anything") == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 0}, "k must be at least 1"),
        ({"token_budget": 0}, "token budget must be at least 1"),
        ({"search_type": "fuzzy"}, "search_type must be"),
        ({"score": "worst"}, "score must be"),
        ({"search_type": "hybrid", "fusion": "loud"}, "fusion must be"),
        ({"beta": 2.0}, "hybrid search only"),
        ({"fetch_k": 0}, "fetch_k must be"),
        ({"balance": 1.5}, "within 0..1"),
        ({"search_type": "mmr", "reranker": len}, "undo the order"),
        ({"link_tokens": -1}, "must not be negative"),
        ({"window": -1}, "size of a window"),
    ],
)
def test_impossible_settings_are_refused_at_once(directory, options, message):
    with pytest.raises(ValueError, match=message):
        Retrieval(directory, ENCODER, **options)


def test_impossible_parts():
    for wrong in (
        lambda: Window(0),
        lambda: Window(1, "page"),
        lambda: Window(1, "chunk", "match"),
        lambda: Merge(2.0),
    ):
        with pytest.raises(ValueError, match=r"window|unit|ratio"):
            wrong()
    with pytest.raises(ValueError, match="max_tokens"):
        Merge(max_tokens=0)
    with pytest.raises(ValueError, match="as many vectors"):
        mmr_order([1.0], np.ones((2, 3), dtype=np.float32))
    with pytest.raises(TypeError, match="window is a number"):
        Retrieval(None, None, window="3")
