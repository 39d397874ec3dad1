"""Counting tokens: every kind of source, one tokenisation, nothing of the caller's changed."""

from __future__ import annotations

import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import tiktoken
from hypothesis import given, settings
from tokenizers import PreTokenizedString, Tokenizer, pre_tokenizers
from transformers import PreTrainedTokenizerFast

import toy_tokenizers
from hostile_texts import texts
from rag_embeddings.errors import ModelNotFoundError, UnsupportedModelError
from rag_embeddings.split.tokens import PIECE, TokenCounter, pieces, token_counter
from rag_embeddings.split.tokens_huggingface import WIDEST
from rag_embeddings.testing.encoder import DeterministicEncoder
from rag_embeddings.text import without_surrogates

FAMILIES = [toy_tokenizers.wordpiece, toy_tokenizers.bpe, toy_tokenizers.unigram]
HUGGING_FACE = [token_counter(make()) for make in FAMILIES]
TIKTOKEN = token_counter("cl100k_base")
EVERY = [*HUGGING_FACE, TIKTOKEN, token_counter(len)]


def count_words(text: str) -> int:
    return len(text.split())


@pytest.mark.parametrize("counter", EVERY, ids=lambda counter: counter.name[:14])
@settings(max_examples=200, deadline=None)
@given(text=texts)
def test_one_tokenisation_counts_what_counting_counts(counter, text):
    positions = np.arange(len(text) + 1, dtype=np.int64)
    cumulative = counter.cumulative(text, positions)
    assert cumulative.dtype == np.int64
    assert cumulative[0] == 0
    assert (np.diff(cumulative) >= 0).all()
    assert cumulative[-1] == counter.count([text])[0]


@pytest.mark.parametrize("counter", [token_counter(make()) for make in FAMILIES], ids=lambda make: make.name[:18])
@settings(max_examples=100, deadline=None)
@given(text=texts)
def test_a_token_belongs_to_the_span_of_its_last_character(counter, text):
    encoding = counter._tokenizer.encode(without_surrogates(text), add_special_tokens=False)
    narrow = [(start, end) for start, end in encoding.offsets if end - start <= WIDEST]
    positions = np.arange(len(text) + 1, dtype=np.int64)
    if len(narrow) == len(encoding.offsets):
        expected = [sum(max(end, 1) <= position for _, end in narrow) for position in positions]
        assert counter.cumulative(text, positions).tolist() == expected


@settings(max_examples=200, deadline=None)
@given(text=texts)
def test_tiktoken_ends_are_where_its_bytes_end(text):
    text = without_surrogates(text)
    encoding = tiktoken.get_encoding("cl100k_base")
    sizes = [len(encoding.decode_single_token_bytes(token)) for token in encoding.encode_ordinary(text)]
    last = [i for i, character in enumerate(text) for _ in character.encode()]
    ends = [last[sum(sizes[: i + 1]) - 1] + 1 for i in range(len(sizes))]
    expected = [sum(end <= position for end in ends) for position in range(len(text) + 1)]
    assert TIKTOKEN.cumulative(text, np.arange(len(text) + 1)).tolist() == expected


@pytest.mark.parametrize("counter", EVERY, ids=lambda counter: counter.name[:14])
def test_special_tokens_are_not_counted(counter):
    assert counter.count(["", ""]) == [0, 0]
    assert counter.count([]) == []
    assert counter.count(["a"]) == [1]


@pytest.mark.parametrize("text", ["<|endoftext|> is text", "<|fim_prefix|>"])
def test_tiktoken_takes_its_special_tokens_for_text(text):
    assert TIKTOKEN.count([text])[0] > 3
    assert TIKTOKEN.cumulative(text, np.array([len(text)])).tolist() == TIKTOKEN.count([text])


@pytest.mark.parametrize("text", [" " * 200_000 + "a", "\t" * 200_000 + "a", "a" * 200_000, "^" * 200_000])
def test_tiktoken_survives_endless_runs(text):
    """Given whole, a million spaces overflow the stack of tiktoken's pattern matcher."""
    total = TIKTOKEN.cumulative(text, np.array([len(text)]))[0]
    assert total == TIKTOKEN.count([text])[0] > 0


@pytest.mark.parametrize("make", FAMILIES)
def test_the_callers_tokenizer_is_not_changed_and_does_not_truncate(make):
    tokenizer = make()
    tokenizer.enable_truncation(8)
    tokenizer.enable_padding(length=8)
    before = tokenizer.to_str()
    counter = token_counter(tokenizer)
    assert counter.count(["a a a a a a a a a a a a", "a"])[0] >= 12
    assert counter.count(["a a a a a a a a a a a a", "a"])[1] == 1
    assert tokenizer.to_str() == before
    tokenizer.enable_truncation(3)
    assert counter.count(["a a a a a a a a a a a a"])[0] >= 12


def test_truncation_and_padding_are_no_part_of_the_name():
    plain, cut = toy_tokenizers.bpe(), toy_tokenizers.bpe()
    cut.enable_truncation(8)
    cut.enable_padding(length=8)
    assert token_counter(plain).name == token_counter(cut).name
    assert len({token_counter(make()).name for make in FAMILIES}) == 3


def test_names():
    assert token_counter(len).name == "characters"
    assert token_counter("cl100k_base").name == "tiktoken:cl100k_base"
    assert token_counter(count_words).name == f"{__name__}.count_words"
    assert token_counter(partial(max, 3)).name != token_counter(partial(max, 4)).name


def test_a_transformers_tokenizer_counts_like_the_one_inside():
    inner = toy_tokenizers.wordpiece()
    fast = PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="[UNK]", pad_token="[PAD]")  # noqa: S106
    assert token_counter(fast).count(["The river rose."]) == token_counter(inner).count(["The river rose."])


def test_an_encoder_counts_with_its_tokenizer():
    assert token_counter(DeterministicEncoder()).name == "characters"


def test_a_counter_is_taken_as_it_is():
    assert token_counter(TIKTOKEN) is TIKTOKEN
    assert isinstance(TIKTOKEN, TokenCounter)


def test_a_tiktoken_encoding_is_taken_as_it_is():
    assert token_counter(tiktoken.get_encoding("cl100k_base")).name == "tiktoken:cl100k_base"


def test_an_encoder_without_tokenizer_says_what_to_give():
    encoder = SimpleNamespace(profile=SimpleNamespace(model="some-api"), tokenizer=None, encode=None)
    with pytest.raises(UnsupportedModelError, match=r"some-api.*cl100k_base"):
        token_counter(encoder)


def test_a_tokenizer_without_offsets_is_refused():
    slow = SimpleNamespace(convert_tokens_to_ids=None)
    with pytest.raises(UnsupportedModelError, match="use_fast"):
        token_counter(slow)


def test_a_tokenizer_written_in_python_is_refused():
    class Halves:
        def pre_tokenize(self, text: PreTokenizedString) -> None:
            """Leave the text as it is."""

    tokenizer = toy_tokenizers.wordpiece()
    tokenizer.pre_tokenizer = pre_tokenizers.PreTokenizer.custom(Halves())
    with pytest.raises(UnsupportedModelError, match="cannot be copied"):
        token_counter(tokenizer)


def test_nonsense_is_refused():
    with pytest.raises(UnsupportedModelError, match="cannot count tokens with 3"):
        token_counter(3)
    with pytest.raises(UnsupportedModelError, match=r"all-MiniLM.*cl100k_base"):
        token_counter("sentence-transformers/all-MiniLM-L6-v2")


@pytest.mark.parametrize("answer", [None, "3", 2.5, -1, True, [1, 2]])
def test_a_function_that_does_not_count_is_refused(answer):
    with pytest.raises(UnsupportedModelError, match="not a count"):
        token_counter(lambda _: answer).count(["text"])


def test_numpy_counts_are_counts():
    assert token_counter(lambda text: np.int64(len(text))).count(["abc"]) == [3]


def test_a_function_is_asked_about_the_pieces_between_positions():
    asked = []

    def recording(text: str) -> int:
        asked.append(text)
        return 1

    counts = token_counter(recording).cumulative("one two three", np.array([0, 4, 8, 8, 13]))
    assert asked == ["one ", "two ", "three"]
    assert counts.tolist() == [0, 1, 2, 2, 3]


def test_a_function_never_sees_a_lone_surrogate():
    assert token_counter(lambda text: len(text.encode())).count(["a\ud800"]) == [4]


@pytest.mark.parametrize(("word", "counter"), [("a" * 5000, HUGGING_FACE[0]), ("河" * 5000, HUGGING_FACE[2])])
def test_an_unknown_stretch_counts_by_its_width(word, counter):
    """The model makes one or two tokens of it, however long; one chunk of any length would be within any budget."""
    assert 5000 / WIDEST <= counter.count([word])[0] <= 5000 / WIDEST + 3 or counter is HUGGING_FACE[2]
    if counter is HUGGING_FACE[0]:
        halves = counter.cumulative(word, np.array([0, 2500, 5000]))
        assert abs(halves[1] - halves[2] / 2) <= 1


@settings(max_examples=60, deadline=None)
@given(text=texts)
def test_pieces_tile_a_text(text):
    long = text * (40_000 // max(len(text), 1))
    found = list(pieces(long))
    assert "".join(long[start:end] for start, end in found) == long
    assert all(0 < end - start <= PIECE for start, end in found)


def test_pieces_are_cut_in_front_of_white_space():
    long = "word " * 10_000
    assert all(long[start] == " " for start, _ in list(pieces(long))[1:])


@pytest.mark.parametrize("counter", [*HUGGING_FACE, TIKTOKEN], ids=lambda counter: counter.name[:14])
def test_pieces_change_the_count_of_prose_hardly(counter):
    prose = " ".join(toy_tokenizers.SENTENCES[:6]) + " "
    text = prose * 200
    assert abs(counter.count([text])[0] - 200 * counter.count([prose])[0]) <= 200 + len(text) // PIECE


@pytest.mark.parametrize("counter", EVERY, ids=lambda counter: counter.name[:14])
def test_counters_work_in_threads(counter):
    batch = [f"The river rose {n} feet. 河水" for n in range(200)]
    expected = counter.count(batch)
    with ThreadPoolExecutor(8) as pool:
        assert all(found == expected for found in pool.map(counter.count, [batch] * 16))


def test_hugging_face_counters_pickle():
    copy = pickle.loads(pickle.dumps(HUGGING_FACE[0]))  # noqa: S301
    assert copy.name == HUGGING_FACE[0].name
    assert copy.count(["The river rose."]) == HUGGING_FACE[0].count(["The river rose."])


@pytest.fixture
def unloaded(monkeypatch):
    """Let tiktoken forget what it has loaded, and have no network."""

    def refuse(_: str) -> bytes:
        raise ConnectionError("no network here")

    monkeypatch.setattr(tiktoken.registry, "ENCODINGS", {})
    monkeypatch.setattr(tiktoken.load, "read_file", refuse)


def test_a_table_that_cannot_be_loaded_names_the_way_out(unloaded, monkeypatch, tmp_path):
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    with pytest.raises(ModelNotFoundError, match="TIKTOKEN_CACHE_DIR"):
        token_counter("cl100k_base")
    assert os.environ["TIKTOKEN_CACHE_DIR"] == str(tmp_path)


def test_the_table_that_llama_index_ships_is_found(unloaded, monkeypatch):
    pytest.importorskip("llama_index.core")
    monkeypatch.delenv("TIKTOKEN_CACHE_DIR", raising=False)
    monkeypatch.delenv("DATA_GYM_CACHE_DIR", raising=False)
    assert token_counter("cl100k_base").count(["The river rose."]) == [4]
    assert "TIKTOKEN_CACHE_DIR" not in os.environ


def test_a_tokenizer_read_again_has_the_same_name():
    tokenizer = toy_tokenizers.unigram()
    assert token_counter(Tokenizer.from_str(tokenizer.to_str())).name == token_counter(tokenizer).name
