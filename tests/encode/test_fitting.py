"""Batches of a token budget, and parts of a text that is too long."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from rag_embeddings.encode.fitting import SMALLEST, batches, parts, share


@settings(deadline=None)
@given(st.lists(st.integers(1, 300), max_size=80), st.integers(1, 3000))
def test_batches_hold_every_item_once_within_the_budget(lengths, budget):
    found = batches(lengths, budget)
    assert sorted(index for batch in found for index in batch) == list(range(len(lengths)))
    for batch in found:
        longest = max(lengths[index] for index in batch)
        assert longest * len(batch) <= budget or len(batch) == 1
    flat = [lengths[index] for batch in found for index in batch]
    assert flat == sorted(lengths, reverse=True)


def test_equal_lengths_fill_the_budget():
    assert [len(batch) for batch in batches([100] * 45, 2048)] == [20, 20, 5]


@settings(deadline=None)
@given(st.lists(st.integers(1, 40), max_size=12), st.integers(1, 200))
def test_nothing_costs_less_than_these_batches(lengths, budget):
    def cost(found):
        return sum(64 + lengths[batch[0]] * len(batch) for batch in found)

    order = sorted(range(len(lengths)), key=lambda index: -lengths[index])

    def cheapest(start):
        if start == len(order):
            return 0
        longest = lengths[order[start]]
        ends = range(start + 1, max(start + 1, min(len(order), start + budget // longest)) + 1)
        return min(64 + longest * (end - start) + cheapest(end) for end in ends)

    assert cost(batches(lengths, budget)) == cheapest(0)


@settings(deadline=None)
@given(st.integers(1, 100_000), st.integers(SMALLEST, 4000), st.integers(1, 16))
def test_with_shares_no_lane_idles_for_long(tokens, budget, lanes):
    even = share(tokens, budget, lanes)
    assert min(SMALLEST, budget) <= even <= budget
    rounds = -(-tokens // (budget * lanes))
    if even > SMALLEST:  # as many rounds as full batches take, all lanes busy in the last one too
        assert rounds * lanes * (even - 1) < tokens <= rounds * lanes * even


@st.composite
def tokenized(draw):
    """A text and the offsets of a made-up tokenizer: gaps, several tokens in one character, no token at all."""
    text = draw(st.text("ab \n", min_size=1, max_size=120))
    offsets = []
    at = 0
    while at < len(text):
        width = draw(st.integers(1, 6))
        if not text[at : at + width].isspace():
            offsets.extend([(at, min(at + width, len(text)))] * draw(st.integers(1, 3)))
        at += width
    return text, np.array(offsets, dtype=np.int64).reshape(-1, 2)


@settings(deadline=None)
@given(tokenized(), st.integers(1, 20))
def test_parts_tile_the_text_and_fit_where_a_cut_is_possible(example, room):
    text, offsets = example
    ranges = parts(text, offsets, room)
    assert ranges[0][0] == 0
    assert ranges[-1][1] == len(text)
    assert all(start < end for start, end in ranges)
    assert [end for _, end in ranges[:-1]] == [start for start, _ in ranges[1:]]
    for start, end in ranges:
        inside = offsets[(start <= offsets[:, 0]) & (offsets[:, 0] < end)]
        assert (inside[:, 1] <= end).all()  # no token is cut
        assert len(inside) <= room or len(np.unique(inside[:, 0])) == 1


@settings(deadline=None)
@given(st.integers(1, 400), st.integers(1, 40))
def test_parts_are_as_few_as_fit(count, room):
    words = np.arange(count)[:, None] * 2 + [0, 1]
    assert len(parts("a " * count, words, room)) == -(-count // room)
    letters = np.arange(count)[:, None] + [0, 1]
    assert len(parts("a" * count, letters, room)) == -(-count // room)


def test_parts_prefer_white_space_but_not_at_any_price():
    letters = np.arange(12)[:, None] + [0, 1]
    assert parts("abcdef ghijk", letters, 8) == [(0, 7), (7, 12)]
    assert parts("a bcdefghijk", letters, 8) == [(0, 8), (8, 12)]
