"""Series, dynamic programme, thresholds, budgets, and the splitters made of them, beyond the laws."""

from __future__ import annotations

import json
import pickle
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import toy_tokenizers
from rag_embeddings.encode.profile import Profile
from rag_embeddings.errors import BudgetError, UnsupportedModelError, VectorError
from rag_embeddings.split.base import Splitter
from rag_embeddings.split.bollinger import BollingerSplitter
from rag_embeddings.split.dynamic import segment
from rag_embeddings.split.explain import explain
from rag_embeddings.split.recursive import RecursiveSplitter
from rag_embeddings.split.semantic import SemanticSplitter
from rag_embeddings.split.series import buffered_distances, neighbour_similarity, trailing_bands, unit_length
from rag_embeddings.split.sized import sized_starts
from rag_embeddings.split.thresholds import DEFAULT_AMOUNTS, breakpoints
from rag_embeddings.split.tokens import token_counter
from rag_embeddings.split.topics import TopicSplitter
from rag_embeddings.testing.encoder import DeterministicEncoder
from rag_embeddings.text import Document

ENCODER = DeterministicEncoder(dimensions=256)
MILL = [
    "The mill wheel turned in the river all day long.",
    "The mill wheel drove the stones of the mill.",
    "The river drove the wheel and the stones ground corn.",
    "Corn ground by the stones of the mill was sold.",
]
LAW = [
    "A judge fined Mr Smith because his cart broke tolls.",
    "Mr Smith asked that judge why tolls bind a cart.",
    "That judge told Mr Smith: tolls bind every cart.",
    "His cart paid, Mr Smith said, and cursed that judge.",
]
TWO = " ".join(MILL + LAW)


def count_tokens(text: str) -> int:
    """About what a model's tokenizer counts, on these sentences twelve or thirteen each."""
    return -(-len(text) // 4)


def vectors_of(*rows: list[float]) -> np.ndarray:
    return unit_length(np.array(rows, dtype=np.float64))


KINDS = {
    "semantic": lambda **more: SemanticSplitter(ENCODER, 60, 5, tokenizer=count_tokens, **more),
    "bollinger": lambda **more: BollingerSplitter(ENCODER, 60, 5, tokenizer=count_tokens, **more),
    "topics": lambda **more: TopicSplitter(ENCODER, 60, 5, tokenizer=count_tokens, **more),
}


# --- series


def test_similarity_compares_the_groups_around_each_boundary():
    vectors = vectors_of([1, 0], [1, 0], [0, 1], [0, 1])
    ones = np.ones(4, dtype=np.int64)
    assert neighbour_similarity(vectors, ones, 1).tolist() == pytest.approx([1, 0, 1])
    assert neighbour_similarity(vectors, ones, 2).tolist() == pytest.approx([2**-0.5, 0, 2**-0.5])


def test_buffered_distances_are_langchains():
    """Each sentence with its neighbours against the next with its own; means of vectors instead of joined texts."""
    vectors = unit_length(np.random.default_rng(1).normal(size=(9, 5)))
    weights = np.arange(1, 10)
    means = [
        np.average(vectors[max(i - 2, 0) : i + 3], axis=0, weights=weights[max(i - 2, 0) : i + 3]) for i in range(9)
    ]
    expected = [1 - a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in pairwise(means)]
    assert buffered_distances(vectors, weights, 2).tolist() == pytest.approx(expected)


@given(st.lists(st.floats(-1, 1), max_size=30), st.integers(1, 8), st.integers(0, 5))
def test_bands_are_of_the_values_before(values, window, least):
    series = np.array(values)
    means, deviations = trailing_bands(series, window, least)
    for index in range(len(values)):
        before = series[max(0, index - window) : index]
        if index < max(least, 1) or len(before) < least:
            assert np.isnan(means[index])
            assert np.isnan(deviations[index])
        else:
            assert means[index] == pytest.approx(before.mean(), abs=1e-12)
            assert deviations[index] == pytest.approx(before.std(), abs=1e-12)


# --- dynamic programme


@settings(max_examples=60, deadline=None)
@given(data=st.data(), count=st.integers(1, 8))
def test_the_dynamic_programme_finds_the_best_of_all_ways_to_cut(data, count):
    draw = np.random.default_rng(data.draw(st.integers(0, 10_000)))
    vectors = unit_length(draw.normal(size=(count, 3)))
    tokens = draw.integers(1, 9, size=count)
    costs = draw.uniform(0, 1, size=count)
    target, minimum, weight, maximum = 8, 4, 2.0, 20

    def price(starts):
        total = 0.0
        for first, end in pairwise([*starts, count]):
            part, size = vectors[first:end], tokens[first:end].sum()
            if size > maximum:
                return np.inf
            scatter = ((part - part.mean(axis=0)) ** 2).sum()
            total += weight * scatter * tokens.mean() / target + (size / target - 1) ** 2
            total += max(1 - size / minimum, 0) + (costs[first] if first else 0)
        return total

    found = segment(vectors, tokens, costs, maximum=maximum, target=target, minimum=minimum, weight=weight)
    ways = [[0, *inner] for n in range(count) for inner in combinations(range(1, count), n)]
    assert price(found) == pytest.approx(min(map(price, ways)))


def test_a_unit_over_the_maximum_stands_alone():
    vectors = vectors_of([1, 0], [1, 0], [1, 0])
    assert segment(vectors, np.array([3, 99, 3]), np.zeros(3), maximum=10, target=10) == [0, 1, 2]
    assert segment(np.zeros((0, 2)), np.zeros(0, dtype=int), np.zeros(0), maximum=10, target=10) == []


# --- thresholds and budgets


def langchains(kind: str, distances: np.ndarray) -> list[int]:
    """The rules as langchain_experimental 0.4 has them."""
    amount = DEFAULT_AMOUNTS[kind]
    if kind == "percentile":
        values, threshold = distances, np.percentile(distances, amount)
    elif kind == "standard_deviation":
        values, threshold = distances, np.mean(distances) + amount * np.std(distances)
    elif kind == "interquartile":
        low, high = np.percentile(distances, [25, 75])
        values, threshold = distances, np.mean(distances) + amount * (high - low)
    else:
        values = np.gradient(distances, range(len(distances)))
        threshold = np.percentile(values, amount)
    return [index for index, value in enumerate(values) if value > threshold]


@pytest.mark.parametrize("kind", DEFAULT_AMOUNTS)
@given(st.lists(st.floats(0, 2), min_size=2, max_size=40))
def test_breakpoints_are_langchains(kind, values):
    found, _, _ = breakpoints(np.array(values), kind, DEFAULT_AMOUNTS[kind])
    assert found == langchains(kind, np.array(values))


@pytest.mark.parametrize("kind", DEFAULT_AMOUNTS)
@pytest.mark.parametrize("values", [[], [0.4], [0.3, 0.3, 0.3]])
def test_few_or_equal_distances_break_nowhere(kind, values):
    assert breakpoints(np.array(values), kind, DEFAULT_AMOUNTS[kind])[0] == []


@given(data=st.data())
def test_sized_chunks_keep_to_the_maximum(data):
    count = data.draw(st.integers(0, 40))
    tokens = np.array(data.draw(st.lists(st.integers(0, 15), min_size=count, max_size=count)), dtype=np.int64)
    similarity = np.array(data.draw(st.lists(st.floats(-1, 1), min_size=max(count - 1, 0), max_size=max(count - 1, 0))))
    breaks = data.draw(st.sets(st.integers(1, count - 1))) if count > 1 else set()
    glued = np.array(data.draw(st.lists(st.booleans(), min_size=len(similarity), max_size=len(similarity))), dtype=bool)
    starts = sized_starts(breaks, similarity, tokens, minimum=4, maximum=12, glued=glued)
    assert starts == sorted(set(starts))
    assert starts[:1] == ([0] if count else [])
    for first, end in pairwise([*starts, count]):
        assert end - first == 1 or np.maximum(tokens[first:end], 1).sum() <= 12


def test_the_deepest_of_two_near_breaks_stays():
    tokens = np.full(6, 5)
    similarity = np.array([0.9, 0.3, 0.1, 0.9, 0.9])
    assert sized_starts([2, 3], similarity, tokens, minimum=10, maximum=100) == [0, 3]
    assert sized_starts([1], similarity, tokens, minimum=10, maximum=100) == [0]


def test_what_is_too_long_is_cut_at_the_deepest_valley_and_not_where_it_is_glued():
    tokens = np.full(6, 5)
    similarity = np.array([0.5, 0.2, 0.4, 0.1, 0.5])
    assert sized_starts([], similarity, tokens, minimum=5, maximum=20) == [0, 4]
    glued = np.array([False, False, False, True, False])
    assert sized_starts([], similarity, tokens, minimum=5, maximum=20, glued=glued) == [0, 2]
    assert sized_starts([], similarity, tokens, minimum=5, maximum=20, glued=np.ones(5, dtype=bool)) == [0, 4]


# --- splitters


@pytest.mark.parametrize(
    "splitter",
    [
        SemanticSplitter(ENCODER, 60, 5, target=50, tokenizer=count_tokens),
        SemanticSplitter(ENCODER, 60, 5, breakpoint_threshold_type="percentile", tokenizer=count_tokens),
        BollingerSplitter(ENCODER, 60, 5, window=3, k=1, group=2, tokenizer=count_tokens),
    ],
    ids=["dynamic", "percentile", "bollinger"],
)
def test_a_change_of_subject_is_a_boundary(splitter):
    chunks = splitter.split(Document(TWO))
    assert [chunk.text for chunk in chunks] == [" ".join(MILL), " ".join(LAW)]


def test_topics_gather_what_stands_apart():
    text = " ".join([*MILL[:2], *LAW[:2], *MILL[2:], *LAW[2:]])
    chunks = TopicSplitter(ENCODER, 60, 5, distance=0.75, tokenizer=count_tokens, blend=0).split(Document(text))
    assert [chunk.text for chunk in chunks] == [
        "\n".join([" ".join(MILL[:2]), " ".join(MILL[2:])]),
        "\n".join([" ".join(LAW[:2]), " ".join(LAW[2:])]),
    ]


def test_another_clustering_may_be_given():
    def halves(vectors):
        return ["mill"] * 4 + ["law"] * (len(vectors) - 4)

    splitter = TopicSplitter(ENCODER, 60, 5, cluster=halves, tokenizer=count_tokens)
    assert [chunk.text for chunk in splitter.split(Document(TWO))] == [" ".join(MILL), " ".join(LAW)]
    assert "halves" in splitter.settings()["cluster"]
    with pytest.raises(UnsupportedModelError, match="labels"):
        TopicSplitter(ENCODER, 60, 5, cluster=lambda _: [1], tokenizer=count_tokens).split(Document(TWO))


class Constant:
    """Every text means the same."""

    profile = Profile(model="constant", dimensions=2)
    tokenizer = None

    def encode(self, texts, role):
        return np.ones((len(texts), 2), dtype=np.float32)


def test_equal_similarities_make_no_breakpoint():
    text = " ".join(MILL * 4)
    for k in (0, 1, 2):
        found = explain(BollingerSplitter(Constant(), 1000, 5, k=k, window=4, tokenizer=count_tokens), Document(text))
        assert len(found.chunks) == 1
        assert found.similarity.tolist() == pytest.approx([1] * 15)
        assert np.nan_to_num(found.lower[3:], nan=9).tolist() == pytest.approx([1] * 12)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("text", ["", " \n", "Word.", "One sentence only stands here.", "a\n\n\n"])
def test_short_documents_need_no_vectors(kind, text):
    encoder = DeterministicEncoder()
    splitter = {"semantic": SemanticSplitter, "bollinger": BollingerSplitter, "topics": TopicSplitter}[kind](encoder)
    assert [chunk.text for chunk in splitter.split(Document(text))] == ([text.strip()] if text.strip() else [])
    assert encoder.encoded == 0


def test_each_token_goes_through_the_model_about_once():
    counter = token_counter(toy_tokenizers.wordpiece())
    words = " ".join(toy_tokenizers.SENTENCES * 5)
    items = "\n".join(f"- item {number}" for number in range(300))
    for text in (words, items, "Yes. " * 300, TWO * 3, "# A\n\nb\n\n" * 90):
        units = SemanticSplitter(ENCODER, 200, tokenizer=counter).units(Document(text))
        spent = sum(counter.count(units.texts)) + 2 * len(units.texts)
        assert spent <= 1.2 * counter.count([text])[0], text[:40]
        assert "".join("".join(units.texts).split()) == "".join(text.split())


def test_headings_stay_with_what_is_below_them():
    text = "\n\n".join(f"# Part {part}\n\n{' '.join(sentences)}" for part, sentences in enumerate([MILL, LAW] * 4))
    for splitter in (KINDS["semantic"](), KINDS["bollinger"](k=0)):
        for chunk in splitter.split(Document(text)):
            assert not chunk.text.splitlines()[-1].startswith("#")


@pytest.mark.parametrize("kind", ["semantic", "bollinger"])
def test_the_minimum_is_soft_and_the_maximum_is_not(kind):
    text = " ".join(toy_tokenizers.SENTENCES[:6] * 8)
    splitter = {"semantic": SemanticSplitter, "bollinger": BollingerSplitter}[kind](
        ENCODER, 80, 40, tokenizer=count_tokens
    )
    sizes = [count_tokens(chunk.text) for chunk in splitter.split(Document(text))]
    assert max(sizes) <= 80
    assert min(sizes) >= 30


@pytest.mark.parametrize("kind", KINDS)
def test_ready_vectors_give_the_same_chunks(kind):
    splitter, document = KINDS[kind](), Document(TWO * 3)
    units = splitter.units(document)
    vectors = ENCODER.encode(units.texts, "document") * 7
    assert splitter.split_vectors(document, units, vectors) == splitter.split(document)
    with pytest.raises(VectorError, match="units"):
        splitter.split_vectors(document, units, vectors[:-1])
    with pytest.raises(VectorError, match="shape"):
        splitter.split_vectors(document, units, vectors[:, 0])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_vector_that_is_not_finite_is_refused(kind, value):
    """It hid what the vectors behind it say: chunks were cut by size alone, in silence."""
    splitter, document = KINDS[kind](), Document(TWO * 3)
    units = splitter.units(document)
    vectors = ENCODER.encode(units.texts, "document")
    vectors[2, 5] = value
    with pytest.raises(VectorError, match="NaN or infinity") as error:
        splitter.split_vectors(document, units, vectors)
    assert repr(units.texts[2][:60]) in str(error.value)


@pytest.mark.parametrize("kind", ["semantic", "bollinger"])
def test_an_explanation_shows_what_was_looked_at(kind):
    document = Document(TWO * 4)
    for splitter in (KINDS[kind](), KINDS[kind](**({"glue": 1} if kind == "bollinger" else {"buffer_size": 2}))):
        found = splitter.explain(document)
        assert list(found.chunks) == splitter.split(document)
        assert found.tokens.tolist() == [count_tokens(chunk.text) for chunk in found.chunks]
        starts = [chunk.start for chunk in found.chunks]
        assert found.at[found.cuts].tolist() == starts[1:]
        for series in (found.similarity, found.middle, found.lower, found.upper):
            assert series.shape == found.at.shape
        assert np.isfinite(found.upper).any() == (getattr(splitter, "glue", None) is not None)


def test_splitters_without_a_series_show_their_chunks():
    splitter = RecursiveSplitter(20, tokenizer=count_tokens)
    found = explain(splitter, Document(TWO))
    assert list(found.chunks) == splitter.split(Document(TWO))
    assert found.tokens.tolist() == [count_tokens(chunk.text) for chunk in found.chunks]
    assert len(found.similarity) == len(found.cuts) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_settings_pickles_and_threads(kind):
    splitter, documents = KINDS[kind](), [Document(f"{number}. {TWO}") for number in range(6)]
    assert isinstance(splitter, Splitter)
    expected = [splitter.split(document) for document in documents]
    copy = pickle.loads(pickle.dumps(splitter))  # noqa: S301
    assert copy.settings() == splitter.settings() == json.loads(json.dumps(splitter.settings()))
    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(copy.split, documents)) == expected


def test_settings_tell_everything_apart():
    variants = [
        *(make() for make in KINDS.values()),
        *(KINDS["semantic"](breakpoint_threshold_type=kind) for kind in DEFAULT_AMOUNTS),
        KINDS["semantic"](breakpoint_threshold_type="percentile", breakpoint_threshold_amount=90),
        KINDS["semantic"](breakpoint_threshold_type="percentile", buffer_size=2),
        KINDS["semantic"](weight=1),
        KINDS["semantic"](target=50),
        KINDS["semantic"](language="de"),
        KINDS["bollinger"](window=3),
        KINDS["bollinger"](k=2),
        KINDS["bollinger"](glue=2),
        KINDS["bollinger"](group=1),
        KINDS["topics"](distance=0.1),
        KINDS["topics"](blend=0),
        KINDS["topics"](reach=9),
        SemanticSplitter(DeterministicEncoder(dimensions=8), 60, 5, tokenizer=count_tokens),
        SemanticSplitter(ENCODER, 60, 6, tokenizer=count_tokens),
        SemanticSplitter(ENCODER, 61, 5, tokenizer=count_tokens),
        SemanticSplitter(ENCODER, 60, 5, tokenizer=len),
    ]
    assert len({json.dumps(variant.settings(), sort_keys=True) for variant in variants}) == len(variants)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (SemanticSplitter, {"max_tokens": 0}, "max_tokens"),
        (SemanticSplitter, {"max_tokens": 10, "min_tokens": 6}, "min_tokens"),
        (SemanticSplitter, {"min_tokens": -1}, "min_tokens"),
        (SemanticSplitter, {"target": 999}, "target"),
        (SemanticSplitter, {"weight": -1}, "weight"),
        (SemanticSplitter, {"buffer_size": -1}, "buffer_size"),
        (SemanticSplitter, {"breakpoint_threshold_type": "median"}, "median"),
        (SemanticSplitter, {"breakpoint_threshold_type": "percentile", "breakpoint_threshold_amount": 101}, "101"),
        (SemanticSplitter, {"breakpoint_threshold_amount": 90}, "breakpoint_threshold_type"),
        (BollingerSplitter, {"window": 0}, "window"),
        (BollingerSplitter, {"group": 0}, "group"),
        (BollingerSplitter, {"k": -1}, "k and glue"),
        (BollingerSplitter, {"glue": float("nan")}, "k and glue"),
        (TopicSplitter, {"distance": 0}, "distance"),
        (TopicSplitter, {"reach": 1}, "reach"),
    ],
)
def test_impossible_settings_are_refused_at_once(kind, options, message):
    with pytest.raises(BudgetError, match=message):
        kind(ENCODER, **options)


def test_an_encoder_without_a_tokenizer_needs_one():
    with pytest.raises(UnsupportedModelError, match="tokenizer"):
        SemanticSplitter(Constant()).split(Document(TWO))


class Recorder:
    """Counts characters, and what it and the encoder were asked."""

    profile = Profile(model="recorder", dimensions=16)
    tokenizer = None

    def __init__(self) -> None:
        self.characters = self.encoded = 0

    def count(self, text: str) -> int:
        self.characters += len(text)
        return -(-len(text) // 4)

    def encode(self, texts, role):
        self.encoded += sum(map(len, texts))
        rows = [np.frombuffer((text.encode("utf-8", "replace") * 16)[:16], dtype=np.uint8) for text in texts]
        return np.array(rows, dtype=np.float32) - 90.5


@pytest.mark.parametrize("kind", [SemanticSplitter, BollingerSplitter, TopicSplitter])
@pytest.mark.parametrize("pattern", ["a", "a. ", "\n", "河水。", "# x\n", "🇩🇪", "One line stands here. "])
def test_cost_grows_linearly(kind, pattern):
    characters, encoded = [], []
    for length in (5_000, 10_000, 20_000):
        recorder = Recorder()
        kind(recorder, 64, tokenizer=recorder.count).split(Document((pattern * length)[:length]))
        characters.append(recorder.characters)
        encoded.append(recorder.encoded)
    for figures in (characters, encoded):
        assert figures[2] <= 2.1 * figures[1] + 100
    assert encoded[2] <= 20_000
