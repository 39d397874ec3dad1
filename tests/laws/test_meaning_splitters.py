"""Laws of splitting for the splitters that look at meaning or structure, on text made to break them."""

from __future__ import annotations

from functools import cache

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import toy_tokenizers
from hostile_texts import texts
from rag_embeddings.split.base import Splitter
from rag_embeddings.split.bollinger import BollingerSplitter
from rag_embeddings.split.llm import LLMSplitter
from rag_embeddings.split.regex import RegexSplitter
from rag_embeddings.split.semantic import SemanticSplitter
from rag_embeddings.split.thresholds import DEFAULT_AMOUNTS
from rag_embeddings.split.tokens import TokenCounter, token_counter
from rag_embeddings.split.topics import TopicSplitter
from rag_embeddings.testing.encoder import DeterministicEncoder
from rag_embeddings.testing.splitter import check_splitter
from rag_embeddings.text import Document

SOURCES = {
    "characters": lambda: len,
    "wordpiece": toy_tokenizers.wordpiece,
    "bpe": toy_tokenizers.bpe,
    "unigram": toy_tokenizers.unigram,
}
ENCODER = DeterministicEncoder(dimensions=16)
RULES = {"word": 0.0, "The ": 0.3}


def answered(prompt: str) -> str:
    """A model of moods: boundaries, nonsense and silence, by the length of the prompt."""
    count = prompt.count("\n[")
    return [str(list(range(1, count + 1, 2))), "[2, 1]", "no", "thinking [1, 7] ... []", f"[{count + 9}]"][
        len(prompt) % 5
    ]


def made(kind: str, maximum: int, count: TokenCounter) -> Splitter:
    least = maximum // 3 if maximum % 2 else None
    if kind == "semantic":
        rule = [None, *sorted(DEFAULT_AMOUNTS)][maximum % 5]
        return SemanticSplitter(ENCODER, maximum, least, breakpoint_threshold_type=rule, tokenizer=count)
    if kind == "bollinger":
        return BollingerSplitter(
            ENCODER, maximum, least, window=maximum % 7 + 1, k=0.5, glue=maximum % 3 or None, tokenizer=count
        )
    if kind == "topics":
        return TopicSplitter(ENCODER, maximum, least, reach=maximum % 20 + 2, tokenizer=count)
    if kind == "regex":
        return RegexSplitter(maximum, maximum // 4, tokenizer=count, rules=RULES if maximum % 2 else None)
    return LLMSplitter(answered, maximum, window_tokens=40, tokenizer=count)


KINDS = ["semantic", "bollinger", "topics", "regex", "llm"]


@cache
def counter(name: str) -> TokenCounter:
    return token_counter(SOURCES[name]())


def check(kind: str, name: str, text: str, maximum: int) -> None:
    check_splitter(made(kind, maximum, counter(name)), [Document(text, id="hostile")])


@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck))
@given(text=texts, maximum=st.integers(1, 60))
def test_laws_hold_on_hostile_documents(kind, name, text, maximum):
    check(kind, name, text, maximum)


@pytest.mark.slow
@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=10_000, deadline=None, suppress_health_check=list(HealthCheck))
@given(text=texts, maximum=st.integers(1, 60))
def test_laws_hold_on_ten_thousand_hostile_documents(kind, name, text, maximum):
    check(kind, name, text, maximum)
