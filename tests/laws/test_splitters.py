"""Laws of splitting, on text made to break them."""

from __future__ import annotations

from functools import cache

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import toy_tokenizers
from hostile_texts import texts
from rag_embeddings.split.recursive import RecursiveSplitter
from rag_embeddings.split.sliding import SlidingWindowSplitter
from rag_embeddings.split.tokens import TokenCounter, token_counter
from rag_embeddings.testing.splitter import check_splitter
from rag_embeddings.text import Document

SOURCES = {
    "characters": lambda: len,
    "wordpiece": toy_tokenizers.wordpiece,
    "bpe": toy_tokenizers.bpe,
    "unigram": toy_tokenizers.unigram,
}
PER_CASE = 250  # times four counters: a thousand documents for each splitter


@cache
def counter(name: str) -> TokenCounter:
    return token_counter(SOURCES[name]())


@st.composite
def budgets(draw: st.DrawFn) -> tuple[int, int]:
    maximum = draw(st.integers(1, 60))
    return maximum, draw(st.integers(0, maximum - 1))


def check(kind, name, text, budget):
    maximum, overlap = budget
    check_splitter(kind(maximum, overlap, tokenizer=counter(name)), [Document(text, id="hostile")])


@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.parametrize("kind", [RecursiveSplitter, SlidingWindowSplitter])
@settings(max_examples=PER_CASE, deadline=None, suppress_health_check=list(HealthCheck))
@given(text=texts, budget=budgets())
def test_laws_hold_on_hostile_documents(kind, name, text, budget):
    check(kind, name, text, budget)


@pytest.mark.slow
@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.parametrize("kind", [RecursiveSplitter, SlidingWindowSplitter])
@settings(max_examples=10_000, deadline=None, suppress_health_check=list(HealthCheck))
@given(text=texts, budget=budgets())
def test_laws_hold_on_ten_thousand_hostile_documents(kind, name, text, budget):
    check(kind, name, text, budget)
