"""Character and ranking metrics: examples computed by hand, then laws."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rag_embeddings.errors import QuestionError
from rag_embeddings.evaluate import metrics
from rag_embeddings.evaluate.bootstrap import bootstrap_mean, paired_bootstrap
from rag_embeddings.evaluate.budget import Sizes, within
from rag_embeddings.evaluate.intervals import Range, intersect, merge, total
from rag_embeddings.evaluate.metrics import Reference, overlap
from rag_embeddings.split.tokens import token_counter
from rag_embeddings.text import Document

LENGTH = 40
law = settings(deadline=None, max_examples=80)


def at(start: int, end: int, document: str = "a") -> Range:
    return Range(document, start, end)


def characters(ranges) -> set[tuple[str, int]]:
    return {(item.document, index) for item in ranges for index in range(item.start, item.end)}


@st.composite
def a_range(draw, smallest: int = 0):
    start = draw(st.integers(0, LENGTH - 1))
    end = draw(st.integers(start + smallest, LENGTH))
    return Range(draw(st.sampled_from("ab")), start, end)


@st.composite
def a_reference(draw):
    place = draw(a_range(1))
    size = place.end - place.start
    starts = draw(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, LENGTH - size)), max_size=2))
    return Reference(place, tuple(Range(document, start, start + size) for document, start in starts))


ranges = st.lists(a_range(), max_size=8)
references = st.lists(a_reference(), min_size=1, max_size=4)
plain_references = st.lists(a_range(1).map(Reference), min_size=1, max_size=4)


# By hand.


def test_recall_precision_and_iou_by_hand() -> None:
    # Two references of 10 and 20 characters; passages of 20 and 30, of which 5 and 10 characters are wanted.
    found = overlap([at(0, 20), at(90, 120)], [Reference(at(15, 25)), Reference(at(110, 130))])
    assert (found.reference, found.retrieved, found.covered, found.useful) == (30, 50, 15, 15)
    assert found.recall == 15 / 30
    assert found.precision == 15 / 50
    assert found.iou == 15 / (50 + 15)


def test_the_published_example_of_redundancy() -> None:
    """Overlapping passages cover no more, and cost twice."""
    once = overlap([at(0, 10)], [Reference(at(0, 10))])
    twice = overlap([at(0, 10), at(0, 10)], [Reference(at(0, 10))])
    assert (once.recall, once.precision, once.iou) == (1, 1, 1)
    assert (twice.recall, twice.precision, twice.iou) == (1, 0.5, 0.5)


def test_a_passage_of_another_document_counts_as_retrieved_only() -> None:
    found = overlap([at(0, 10, "b"), at(0, 10)], [Reference(at(0, 10))])
    assert (found.recall, found.precision, found.iou) == (1, 0.5, 0.5)


def test_overlapping_references_count_each_character_once() -> None:
    found = overlap([at(0, 15)], [Reference(at(0, 10)), Reference(at(5, 15))])
    assert (found.reference, found.covered, found.recall, found.precision) == (15, 15, 1, 1)


def test_a_verbatim_copy_is_as_good_as_the_place_that_was_quoted() -> None:
    reference = Reference(at(0, 10), (at(100, 110, "b"),))
    found = overlap([at(100, 110, "b")], [reference])
    assert (found.recall, found.precision, found.iou) == (1, 1, 1)
    halves = overlap([at(0, 5), at(105, 110, "b")], [reference])
    assert (halves.recall, halves.precision) == (1, 1)
    both = overlap([at(0, 10), at(100, 110, "b")], [reference])
    assert (both.recall, both.precision, both.iou) == (1, 0.5, 0.5)


def test_one_retrieved_character_is_not_useful_twice() -> None:
    # The same 10 characters answer two references that stand elsewhere.
    shared = at(50, 60)
    found = overlap([shared], [Reference(at(0, 10), (shared,)), Reference(at(20, 30), (shared,))])
    assert (found.covered, found.useful, found.recall, found.precision) == (20, 10, 1, 1)


def test_nothing_retrieved_is_nothing_found() -> None:
    found = overlap([], [Reference(at(0, 10))])
    assert (found.recall, found.precision, found.iou) == (0, 0, 0)


def test_precision_omega_by_hand() -> None:
    chunks = [[at(start, start + 10)] for start in range(0, 100, 10)]
    assert metrics.precision_omega(chunks, [Reference(at(5, 12))]) == 7 / 20
    assert metrics.precision_omega(chunks, [Reference(at(10, 20))]) == 1
    assert metrics.precision_omega([[at(0, 10), at(90, 100)]], [Reference(at(90, 100))]) == 0.5
    assert metrics.precision_omega(chunks, [Reference(at(200, 210))]) == 0


def test_ranks_and_ranking_metrics_by_hand() -> None:
    passages = [[at(50, 60)], [at(0, 5)], [at(5, 12), at(95, 99)], [at(3, 6)]]
    wanted = [Reference(at(0, 10)), Reference(at(90, 100)), Reference(at(200, 201))]
    ranks = metrics.first_ranks(passages, wanted)
    relevance = metrics.relevant(passages, wanted)
    assert ranks == [2, 3, None]
    assert relevance == [False, True, True, True]
    assert [metrics.recall_at(ranks, k) for k in (1, 2, 3, 10)] == [0, 1 / 3, 2 / 3, 2 / 3]
    assert [metrics.precision_at(relevance, k) for k in (1, 2, 4, 8)] == [0, 1 / 2, 3 / 4, 3 / 8]
    assert metrics.reciprocal_rank(relevance) == 1 / 2
    assert metrics.reciprocal_rank([False]) == 0
    assert metrics.novelty_gains(ranks, 4) == [0, 1, 1, 0]


def test_ndcg_by_hand() -> None:
    # Gains 3, 2, 3, 0, 1, 2: a textbook example: 3 + 2/1.585 + 3/2 + 0 + 1/2.585 + 2/2.807.
    gains = [3, 2, 3, 0, 1, 2]
    assert metrics.dcg(gains, 6) == pytest.approx(6.861, abs=1e-3)
    assert metrics.ndcg(gains, 6, ideal=[3, 3, 3, 2, 2, 2, 1, 0]) == pytest.approx(0.785, abs=1e-3)
    assert metrics.ndcg([0, 1], 2, ideal=[1]) == pytest.approx(1 / math.log2(3))
    assert metrics.ndcg([0, 1], 1, ideal=[1]) == 0
    assert metrics.ndcg([3, 2, 1], 3) == 1
    assert metrics.ndcg([], 5) == 0


@pytest.mark.parametrize("place", [at(3, 3), Range("a", -2, 4)])
def test_an_empty_reference_is_refused(place: Range) -> None:
    with pytest.raises(QuestionError, match="0 <= start < end"):
        Reference(place)
    with pytest.raises(QuestionError, match="another length"):
        Reference(at(0, 4), (at(10, 15),))


# Laws.


@law
@given(ranges)
def test_merging_keeps_the_characters(items: list[Range]) -> None:
    merged = merge(items)
    assert characters(merged) == characters(items)
    assert total(merged) == len(characters(items))
    for one, other in pairwise(merged):
        assert one.document != other.document or one.end < other.start
    assert merge(merged) == merged


@law
@given(a_range(), a_range())
def test_intersection_is_that_of_sets(one: Range, other: Range) -> None:
    shared = intersect(one, other)
    assert characters([shared] if shared else []) == characters([one]) & characters([other])


@law
@given(ranges, plain_references)
def test_overlap_is_that_of_sets(retrieved: list[Range], wanted: list[Reference]) -> None:
    found = overlap(retrieved, wanted)
    reference = characters(item.place for item in wanted)
    covered = reference & characters(retrieved)
    assert (found.reference, found.covered, found.useful) == (len(reference), len(covered), len(covered))
    assert found.retrieved == total(retrieved)


@law
@given(ranges, references)
def test_bounds(retrieved: list[Range], wanted: list[Reference]) -> None:
    found = overlap(retrieved, wanted)
    for value in (found.recall, found.precision, found.iou):
        assert 0 <= value <= 1
    assert found.iou <= min(found.recall, found.precision) + 1e-12
    assert found.useful <= found.covered


@law
@given(ranges, references, st.randoms(use_true_random=False))
def test_the_order_of_passages_does_not_matter(retrieved: list[Range], wanted: list[Reference], random) -> None:
    shuffled = retrieved.copy()
    random.shuffle(shuffled)
    assert overlap(shuffled, wanted) == overlap(retrieved, wanted)


@law
@given(ranges, references)
def test_repeating_a_passage_never_helps(retrieved: list[Range], wanted: list[Reference]) -> None:
    once, twice = overlap(retrieved, wanted), overlap(retrieved * 2, wanted)
    assert twice.recall == once.recall
    assert twice.precision == pytest.approx(once.precision / 2)
    assert twice.iou <= once.iou


@law
@given(ranges, references)
def test_recall_grows_with_k(retrieved: list[Range], wanted: list[Reference]) -> None:
    recalls = [overlap(retrieved[:k], wanted).recall for k in range(len(retrieved) + 1)]
    assert recalls == sorted(recalls)


@law
@given(ranges, references)
def test_crediting_copies_never_lowers_recall(retrieved: list[Range], wanted: list[Reference]) -> None:
    assert overlap(retrieved, wanted).recall >= overlap(retrieved, [Reference(item.place) for item in wanted]).recall


@law
@given(st.lists(st.lists(a_range(), min_size=1, max_size=2), max_size=8), references)
def test_ranking_metrics_stay_in_bounds_and_grow(passages: list[list[Range]], wanted: list[Reference]) -> None:
    ranks = metrics.first_ranks(passages, wanted)
    relevance = metrics.relevant(passages, wanted)
    gains = metrics.novelty_gains(ranks, 10)
    recalls = [metrics.recall_at(ranks, k) for k in range(1, 11)]
    ndcgs = [metrics.ndcg(gains, k, ideal=[len(ranks)]) for k in range(1, 11)]
    assert recalls == sorted(recalls)
    assert ndcgs == sorted(ndcgs)
    assert 0 <= ndcgs[0] <= ndcgs[-1] <= 1
    assert (metrics.reciprocal_rank(relevance) > 0) == (recalls[-1] > 0) == any(relevance)
    assert all(0 <= metrics.precision_at(relevance, k) <= 1 for k in range(1, 11))


# Budgets.

TEXT = "The mill stood by the river. " * 20
WORDS = token_counter(lambda text: len(text.split()))


def sizes(text: str = TEXT, counter=None) -> Sizes:
    return Sizes([Document(text, id="a"), Document(text, id="b")], counter or token_counter(len))


def test_the_last_passage_is_cut_at_the_budget() -> None:
    assert within([at(0, 10), at(20, 40)], 15, sizes()) == [at(0, 10), at(20, 25)]
    assert within([at(0, 10), at(20, 40)], 10, sizes()) == [at(0, 10)]
    assert within([at(0, 10), at(20, 40)], 30, sizes()) == [at(0, 10), at(20, 40)]


def test_the_cut_is_behind_the_last_whole_token() -> None:
    counter = token_counter("cl100k_base")
    taken = within([at(0, 28)], 3, sizes(counter=counter))
    assert [TEXT[item.start : item.end] for item in taken] == ["The mill stood"]


@law
@given(ranges, st.integers(0, 200), st.integers(0, 200), references)
def test_recall_grows_with_the_budget(retrieved, one: int, more: int, wanted) -> None:
    small, large = (within(retrieved, budget, sizes()) for budget in (one, one + more))
    assert overlap(small, wanted).recall <= overlap(large, wanted).recall
    assert characters(small) <= characters(large)
    assert total(small) == min(one, total(retrieved))


@law
@given(st.lists(a_range(1), max_size=5), st.integers(0, 60))
def test_a_budget_of_real_tokens_is_kept(retrieved, budget: int) -> None:
    counter = token_counter("cl100k_base")
    taken = within(retrieved, budget, sizes("Straße 大家好 naïve 👍🏽 " * 10, counter))
    texts = [("Straße 大家好 naïve 👍🏽 " * 10)[item.start : item.end] for item in taken]
    # Only the passage that is cut may have another number of tokens on its own than inside.
    assert sum(counter.count(texts[:-1])) <= budget
    assert characters(taken) <= characters(retrieved)


# Bootstrap.


def test_intervals_are_reproducible_and_hold_the_mean() -> None:
    values = np.random.default_rng(1).random(200)
    interval = bootstrap_mean(values)
    assert interval == bootstrap_mean(values)
    assert interval.mean == pytest.approx(values.mean())
    assert interval.low < interval.mean < interval.high
    # For a mean of so many values the normal approximation is good.
    half = 1.96 * values.std() / math.sqrt(len(values))
    assert interval.low == pytest.approx(interval.mean - half, abs=0.1 * half)
    assert interval.high == pytest.approx(interval.mean + half, abs=0.1 * half)


def test_pairing_sees_a_small_constant_difference() -> None:
    values = np.random.default_rng(2).random(100)
    difference = paired_bootstrap(values + 0.01, values)
    assert (difference.mean, difference.low, difference.high) == pytest.approx((0.01, 0.01, 0.01))
    assert paired_bootstrap(values, values).high == 0


def test_coverage_of_the_interval() -> None:
    """Of many samples from a known distribution, about 95 % of the intervals hold the true mean."""
    draw = np.random.default_rng(3)
    held = [
        interval.low <= 0.5 <= interval.high
        for interval in (bootstrap_mean(draw.random(60), resamples=500, seed=seed) for seed in range(300))
    ]
    assert 0.90 <= np.mean(held) <= 0.99


def test_many_values_are_resampled_in_blocks() -> None:
    values = np.tile([0.0, 1.0], 600_000)
    interval = bootstrap_mean(values, resamples=5)
    assert interval.mean == 0.5
    assert 0.49 < interval.low <= interval.high < 0.51


@pytest.mark.parametrize("values", [[], [[1.0]], [1.0, math.nan], [math.inf]])
def test_a_mean_of_nothing_is_refused(values) -> None:
    with pytest.raises(QuestionError):
        bootstrap_mean(values)


def test_unpaired_values_are_refused() -> None:
    with pytest.raises(QuestionError, match="equal shapes"):
        paired_bootstrap([1.0], [1.0, 2.0])
    with pytest.raises(ValueError, match="confidence"):
        bootstrap_mean([1.0], confidence=1.0)
