"""The recursive and the sliding-window splitter, beyond the laws."""

from __future__ import annotations

import json
import pickle
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest

import toy_tokenizers
from rag_embeddings.errors import BudgetError, UnsupportedModelError
from rag_embeddings.split.base import Splitter
from rag_embeddings.split.graphemes import boundaries
from rag_embeddings.split.recursive import RecursiveSplitter
from rag_embeddings.split.sliding import SlidingWindowSplitter
from rag_embeddings.testing.encoder import DeterministicEncoder
from rag_embeddings.testing.splitter import check_splitter
from rag_embeddings.text import Chunk, Document, Span

BOTH = [RecursiveSplitter, SlidingWindowSplitter]
SENTENCE = "The miller opened both gates. "
PROSE = "\n\n".join(" ".join(toy_tokenizers.SENTENCES[i : i + 3]) for i in range(6)) * 8


def count_words(text: str) -> int:
    return len(text.split())


def split(splitter: Splitter, text: str) -> list[str]:
    return [chunk.text for chunk in splitter.split(Document(text))]


def test_chunks_end_with_paragraphs_where_they_can():
    paragraphs = [SENTENCE * 4, SENTENCE * 5, SENTENCE * 4]
    text = "\n\n".join(paragraph.strip() for paragraph in paragraphs)
    assert split(RecursiveSplitter(30, tokenizer=count_words), text) == [item.strip() for item in paragraphs]


def test_small_paragraphs_are_gathered():
    text = "\n\n".join([SENTENCE.strip()] * 12)
    assert len(split(RecursiveSplitter(30, tokenizer=count_words), text)) == 2


def test_a_heading_is_not_left_behind():
    text = f"{SENTENCE * 4}\n\nThe next part\n\n{SENTENCE * 4}"
    found = split(RecursiveSplitter(30, tokenizer=count_words), text)
    assert found[1].startswith("The next part")


def test_sentences_are_not_cut_when_they_fit():
    found = split(RecursiveSplitter(12, tokenizer=count_words), SENTENCE * 20)
    assert all(text.endswith(".") for text in found)


def test_an_oversize_sentence_is_cut_at_clauses_then_words():
    clauses = split(
        RecursiveSplitter(6, tokenizer=count_words), "one two three four, five six seven eight, nine ten eleven"
    )
    assert [text.split()[-1] for text in clauses] == ["four,", "eight,", "eleven"]
    words = split(RecursiveSplitter(10, tokenizer=len), "alpha beta gamma delta")
    assert words == ["alpha", "beta", "gamma", "delta"]


def test_an_oversize_word_is_cut_between_graphemes():
    found = split(RecursiveSplitter(5, tokenizer=len), "🇩🇪" * 10)
    assert found == ["🇩🇪🇩🇪"] * 5


def test_a_grapheme_larger_than_the_budget_stands_alone():
    family = "👨‍👩‍👧‍👦"
    found = split(RecursiveSplitter(2, tokenizer=len), f"a {family} b")
    assert found == ["a", family, "b"]


def test_a_target_below_the_budget_makes_smaller_chunks():
    small = split(RecursiveSplitter(100, tokenizer=count_words, target=20), SENTENCE * 60)
    assert all(15 <= count_words(text) <= 25 for text in small)


def test_windows_repeat_whole_sentences():
    sentences = [f"Sentence number {number} is this. " for number in range(30)]
    text = "".join(sentences)
    chunks = SlidingWindowSplitter(20, tokenizer=count_words).split(Document(text))
    for before, after in pairwise(chunks):
        shared = text[after.start : before.end]
        assert shared.startswith("Sentence")
        assert 0 < count_words(shared) <= 10
    assert all(count_words(chunk.text) == 20 for chunk in chunks)


def test_recursive_chunks_overlap_when_told():
    chunks = RecursiveSplitter(20, 5, tokenizer=count_words).split(Document(SENTENCE * 20))
    assert all(after.start < before.end for before, after in pairwise(chunks))


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize(("maximum", "overlap"), [(0, 0), (-1, 0), (10, 10), (10, -1), (1, 1)])
def test_impossible_budgets_are_refused_at_once(kind, maximum, overlap):
    with pytest.raises(BudgetError, match=str(min(maximum, overlap) if overlap < 0 else maximum)):
        kind(maximum, overlap)


@pytest.mark.parametrize("kind", BOTH)
def test_a_budget_of_one_works(kind):
    check_splitter(kind(1, 0, tokenizer=len), [Document("ab c\r\n🇩🇪")])
    check_splitter(kind(1, tokenizer=len) if kind is RecursiveSplitter else kind(1, 0, tokenizer=len), [Document("")])


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize("text", ["", " ", "\n\n\n", " \t\r\n\u2003", "\n" * 5000])
def test_nothing_but_white_space_gives_nothing(kind, text):
    assert kind(10, tokenizer=len).split(Document(text)) == []


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize(
    "source",
    ["cl100k_base", count_words, len, DeterministicEncoder(), toy_tokenizers.wordpiece()],
    ids=lambda s: type(s).__name__,
)
def test_splitters_pickle_before_and_after_use(kind, source):
    splitter = kind(20, tokenizer=source)
    document = Document(PROSE)
    fresh = pickle.loads(pickle.dumps(splitter))  # noqa: S301
    expected = [chunk.id for chunk in splitter.split(document)]
    used = pickle.loads(pickle.dumps(splitter))  # noqa: S301
    for copy in (fresh, used):
        assert [chunk.id for chunk in copy.split(document)] == expected
        assert copy.settings() == splitter.settings()


def test_a_used_splitter_pickles_no_larger():
    splitter = RecursiveSplitter()
    before = len(pickle.dumps(splitter))
    splitter.split(Document(PROSE))
    assert len(pickle.dumps(splitter)) == before < 1000


@pytest.mark.parametrize("kind", BOTH)
def test_settings_are_json_and_tell_everything_apart(kind):
    assert isinstance(kind(), Splitter)
    variants = [
        kind(20, 5, tokenizer=len),
        kind(21, 5, tokenizer=len),
        kind(20, 6, tokenizer=len),
        kind(20, 5, tokenizer="cl100k_base"),
        kind(20, 5, tokenizer=toy_tokenizers.bpe()),
        kind(20, 5, tokenizer=toy_tokenizers.unigram()),
        kind(20, 5, tokenizer=len, language="de"),
    ]
    assert len({json.dumps(variant.settings(), sort_keys=True) for variant in variants}) == len(variants)
    assert kind(20, 5, tokenizer=toy_tokenizers.bpe()).settings() == variants[4].settings()
    assert RecursiveSplitter(20).settings()["splitter"] != SlidingWindowSplitter(20, 0).settings()["splitter"]


def test_the_constructor_loads_nothing():
    splitter = RecursiveSplitter(tokenizer="no-such-encoding")
    with pytest.raises(UnsupportedModelError, match="no-such-encoding"):
        splitter.split(Document("text"))


@pytest.mark.parametrize("kind", BOTH)
def test_one_splitter_serves_many_threads(kind):
    splitter = kind(25, tokenizer=toy_tokenizers.bpe())
    documents = [Document(f"{number}. {PROSE}") for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(splitter.split, documents))
    assert found == [splitter.split(document) for document in documents]


class Recorder:
    """Counts words, and what it was asked."""

    def __init__(self) -> None:
        self.calls = 0
        self.characters = 0

    def __call__(self, text: str) -> int:
        self.calls += 1
        self.characters += len(text)
        return -(-len(text) // 4)


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize(
    "pattern",
    [
        "a",
        "a.",
        " ",
        "\n",
        "河",
        "河水。",
        "#",
        "|",
        "`",
        "<div>",
        "[",
        "(",
        "\u200d",
        "🇩🇪",
        "e\u0301",
        "One line. ",
        "a\r\n",
        "x, ",
        "x  ",
    ],
)
def test_cost_grows_linearly(kind, pattern):
    """Work is what the counter is asked: twice the text, twice the calls and characters."""
    calls, characters = [], []
    for length in (20_000, 40_000, 80_000):
        recorder = Recorder()
        kind(64, tokenizer=recorder).split(Document((pattern * length)[:length]))
        calls.append(recorder.calls)
        characters.append(recorder.characters)
    for figures in (calls, characters):
        assert figures[1] <= 2.1 * figures[0] + 100
        assert figures[2] <= 2.1 * figures[1] + 100
    passes = 4 if kind is RecursiveSplitter else 5  # a window repeats half of the one before
    assert characters[2] <= passes * 80_000


class Careless:
    """A splitter that breaks one law."""

    max_tokens = 5

    def __init__(self, spans: list[tuple[int, int]], counter: object = None) -> None:
        self.spans = spans
        self.counter = counter

    def split(self, document: Document) -> list[Chunk]:
        return [Chunk(document, (Span(*span),)) for span in self.spans]

    def settings(self) -> dict[str, object]:
        return {"splitter": "careless"}


@pytest.mark.parametrize(
    ("spans", "law"),
    [
        ([(0, 3)], "covered"),
        ([(2, 9)], "covered"),
        ([(4, 9), (0, 3)], "ordered"),
        ([(0, 9), (0, 9)], "ordered"),
        ([(0, 9), (4, 6)], "ordered"),
        ([(0, 4), (4, 9)], "white space"),
        ([(0, 5), (5, 9)], "grapheme"),
        ([(0, 0), (0, 9)], "not empty"),
    ],
)
def test_the_check_finds_broken_laws(spans, law):
    with pytest.raises(AssertionError, match=law):
        check_splitter(Careless(spans), [Document("one e\u0301 two")])


def test_the_check_finds_an_exceeded_budget_and_indeterminism():
    counter = RecursiveSplitter(5, tokenizer=len).counter
    with pytest.raises(AssertionError, match="budget"):
        check_splitter(Careless([(0, 3), (4, 10)], counter), [Document("one sixsix")])

    class Fickle(Careless):
        def split(self, document: Document) -> list[Chunk]:
            self.spans.reverse()
            return super().split(document)[:1]

    with pytest.raises(AssertionError, match="deterministic"):
        check_splitter(Fickle([(0, 1), (0, 2)]), [Document("a ")])


def test_the_check_allows_a_single_grapheme_over_budget():
    family = "👨‍👩‍👧‍👦"
    splitter = RecursiveSplitter(2, tokenizer=len)
    assert boundaries(family).sum() == 2
    check_splitter(splitter, [Document(family)])
