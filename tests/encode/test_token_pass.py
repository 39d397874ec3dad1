"""One pass over whole texts: every token pooled once, in windows, at marks, whatever the tokenizer."""

import tracemalloc
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import ModernBertConfig, ModernBertModel

import toy_models
import toy_tokenizers
from rag_embeddings.encode import token_pass
from rag_embeddings.encode.base import Role
from rag_embeddings.encode.token_pass import TokenModel, TokenText, token_vectors
from rag_embeddings.encode.token_vectors import RunningSums, SummedTokenVectors, last_characters
from rag_embeddings.encode.tokens import TextInput, own_tokens
from rag_embeddings.encode.transformer import TransformerEncoder
from rag_embeddings.encode.windows import Windows
from rag_embeddings.errors import BudgetError, DocumentError, TextTooLongError, UnsupportedModelError
from rag_embeddings.text import Span

PROMPTS = {"wordpiece": "find: ", "bpe": "Query:", "unigram": "text: "}
INPUTS = {name: TextInput(None, getattr(toy_tokenizers, name)(), prompt, 24) for name, prompt in PROMPTS.items()}
WORDS = st.sampled_from(
    [
        "the river ",
        "rose",
        "copper, ",
        "\n\n",
        "  ",
        "é",
        "e\u0301",
        "👨‍👩‍👧",
        "河水",
        "\x00",
        "\u200b",
        "ﬁ",
        "½",
        "x" * 120,
    ]
)
TEXTS = st.lists(WORDS | st.characters(exclude_categories=["Cs"]), max_size=60).map("".join)
LONG = "The river rose slowly; copper melts at 1085 degrees.\n\nNobody believed it! " * 8


class Numbered(TextInput):
    """A tokenizer that gives every token it ever makes a number of its own, so that it can be told in a sum."""

    def __init__(self, entry):
        self.__dict__.update(vars(entry))
        self.made = [0]
        self.first = [0]

    def encoding(self, text):
        true = super().encoding(text)
        self.first[0] = self.made[0]
        self.made[0] += len(true.ids)
        ids = list(range(self.first[0], self.made[0]))
        return SimpleNamespace(ids=ids, offsets=true.offsets, special_tokens_mask=true.special_tokens_mask)


def one_hot_model(entry):
    """Vectors of tokens that are nothing but the token's number."""
    counts = np.zeros(4096, dtype=int)

    def states(batch, alone):
        assert len({len(ids) for ids in batch}) == 1
        for ids in batch:
            counts[ids] += 1
        return np.stack([np.eye(4096, dtype=np.float32)[ids] for ids in batch])

    return TokenModel(Numbered(entry), states, lambda means: means.astype(np.float32), averages=False, lanes=3), counts


def tiling(draw, length):
    marks = sorted(draw(st.sets(st.integers(1, length - 1), max_size=12))) if length > 1 else []
    return [Span(start, end) for start, end in zip([0, *marks], [*marks, length], strict=True)]


@settings(deadline=None, max_examples=60)
@given(st.data(), st.sampled_from(sorted(INPUTS)), TEXTS, st.integers(8, 24), st.sampled_from(["", "Title: a\n"]))
def test_every_token_is_pooled_once_and_every_vector_is_the_mean_of_its_tokens(data, name, text, size, context):
    size = 2 * size if context else size
    entry = TextInput(None, getattr(toy_tokenizers, name)(), PROMPTS[name], 48)
    spans = tiling(data.draw, len(text))
    offsets, _, ids = own_tokens(entry.framed(PROMPTS[name] + context), text)
    if not len(offsets) or len(ids) - len(offsets) > size // 2 - 1:
        return
    model, counts = one_hot_model(entry)
    marks = [mark for span in spans for mark in (span.start, span.end)]
    texts = [TokenText(text, marks, context), TokenText("another text " * 9), TokenText(text, None, context)]
    found, _, every = token_vectors(model, texts, Windows(size=size), batch_tokens=100)
    assert np.array_equal(found.spans, offsets)
    last = last_characters(offsets)
    for vectors in (found, every):
        pooled = vectors.pool(spans)
        columns = np.flatnonzero(pooled.any(axis=0))
        assert len(columns) == len(offsets)  # neither prompt nor context nor special tokens
        assert (np.diff(columns) == 1).all()
        owners = np.searchsorted([span.end for span in spans], last, side="right")
        for index, vector in enumerate(pooled[:, columns]):
            own = owners == index
            if own.any():
                assert np.allclose(vector, own / own.sum())
            else:
                assert np.count_nonzero(vector) == 1
                assert vector.sum() == 1
        assert (counts[columns] >= 1).all()


class TestMarks:
    OFFSETS = np.array([[0, 3], [4, 7], [9, 12], [15, 18]])

    def summed(self, marks):
        kept = token_pass.token_marks(self.OFFSETS, marks)
        sums = RunningSums(kept, 4, by_position=False)
        sums.add(np.eye(4, dtype=np.float32)[:1])
        sums.add(np.eye(4, dtype=np.float32)[1:])
        return SummedTokenVectors(self.OFFSETS, sums.sums, 20, lambda means: means.astype(np.float32), kept=kept)

    def test_spans_between_marks_can_be_pooled(self):
        vectors = self.summed([0, 8, 13, 14, 20])
        expected = [[0.5, 0.5, 0, 0], [0, 0, 1, 0], [0, 0, 1, 0], [0, 0, 0, 1], [0, 0, 0.5, 0.5]]
        spans = [Span(0, 8), Span(8, 13), Span(13, 14), Span(14, 20), Span(8, 20)]
        assert np.allclose(vectors.pool(spans), expected)

    def test_others_are_refused(self):
        with pytest.raises(DocumentError, match="marks"):
            self.summed([0, 8, 20]).pool([Span(0, 4)])

    def test_groups_of_spans_are_one_vector(self):
        vectors = self.summed([0, 3, 8, 14, 20])
        assert np.allclose(
            vectors.pool_groups([[Span(0, 3), Span(14, 20)], [Span(3, 8)]]), [[0.5, 0, 0, 0.5], [0, 1, 0, 0]]
        )
        with pytest.raises(DocumentError, match="group 1"):
            vectors.pool_groups([[Span(0, 3)], []])

    @settings(deadline=None)
    @given(st.data(), st.integers(1, 60))
    def test_the_sums_are_those_of_all_tokens_at_once(self, data, count):
        kept = np.unique([0, count, *data.draw(st.lists(st.integers(0, count)))])
        rows = np.random.default_rng(count).normal(size=(count, 3)).astype(np.float32)
        running = RunningSums(kept, count, by_position=True)
        at = 0
        while at < count:
            step = data.draw(st.integers(0, count - at))
            running.add(rows[at : at + step])
            at += step
            if step == 0:
                running.add(rows[at : at + 1])
                at += 1
        whole = np.concatenate((np.zeros((1, 3)), np.cumsum(rows.astype(np.float64), axis=0)))
        weighed = np.concatenate((np.zeros((1, 3)), np.cumsum(rows * np.arange(count)[:, None].astype(float), axis=0)))
        assert np.allclose(running.sums, whole[kept], rtol=0, atol=1e-9)
        assert np.allclose(running.weighed, weighed[kept], rtol=0, atol=1e-9)

    def test_a_million_tokens_later_a_mean_is_still_exact(self):
        rng = np.random.default_rng(0)
        block = (rng.normal(size=(1000, 4)) + 0.7).astype(np.float32)
        count = 1_000_000
        kept = np.array([0, count - 25, count - 3, count])
        running = RunningSums(kept, count, by_position=True)
        for _ in range(count // len(block)):
            running.add(block)
        offsets = np.stack((np.arange(count), np.arange(count) + 1), axis=1)
        spans = [Span(count - 25, count - 3), Span(count - 3, count)]
        plain = SummedTokenVectors(offsets, running.sums, count, lambda means: means, kept=kept)
        expected = [block[-25:-3].mean(axis=0, dtype=np.float64), block[-3:].mean(axis=0, dtype=np.float64)]
        assert np.abs(plain.pool(spans) - expected).max() < 1e-7
        weighed = SummedTokenVectors(
            offsets, running.sums, count, lambda means: means, kept=kept, by_position=running.weighed
        )
        expected = [np.average(part, axis=0, weights=range(1, len(part) + 1)) for part in (block[-25:-3], block[-3:])]
        assert np.abs(weighed.pool(spans) - expected).max() < 1e-4


@pytest.mark.parametrize(("windows", "expected"), [(1, [1]), (5, [3, 2]), (8, [4, 4]), (19, [5, 5, 5, 4])])
def test_every_lane_has_as_much_to_do(windows, expected):
    """A single document of a few windows is not one large batch for one lane."""
    sizes = []

    def states(batch, alone):
        sizes.append((len(batch), alone))
        return np.ones((len(batch), len(batch[0]), 4), np.float32)

    entry = TextInput(None, toy_tokenizers.wordpiece(), "", 256)
    model = TokenModel(entry, states, lambda means: means.astype(np.float32), averages=False, lanes=2)
    count = 254 + (windows - 1) * 190  # windows of 254 of its tokens that overlap by a quarter
    token_vectors(model, [TokenText("a " * count)], Windows(), 2048)
    assert sorted(number for number, _ in sizes) == sorted(expected)
    assert all(alone is (windows == 1) for _, alone in sizes)


class TestByPosition:
    def test_a_model_that_weighs_by_position_does_so_in_every_span(self):
        encoder = toy_models.encoder("weightedmean")
        model = encoder._load()[0]
        text = LONG[:60]
        found = encoder.encode_tokens(text, "document")
        offsets, place, ids = own_tokens(model.inputs[Role.DOCUMENT], text)
        states = model.states([ids], Role.DOCUMENT)[0][place]
        spans = [Span(0, 22), Span(22, 60)]
        last = last_characters(offsets)
        for span, vector in zip(spans, found.pool(spans), strict=True):
            own = states[(span.start <= last) & (last < span.end)]
            mean = np.average(own, axis=0, weights=range(1, len(own) + 1))
            assert np.allclose(vector, mean / np.linalg.norm(mean), rtol=0, atol=1e-5)
        group = found.pool_groups([spans])[0]
        mean = np.average(states, axis=0, weights=range(1, len(states) + 1))
        assert np.allclose(group, mean / np.linalg.norm(mean), rtol=0, atol=1e-5)


class TestPieces:
    @settings(deadline=None, max_examples=40)
    @given(st.sampled_from(sorted(INPUTS)), TEXTS.map(lambda text: f"the river {text} rose and copper " * 3))
    def test_a_text_tokenized_in_pieces_has_the_tokens_of_the_text(self, name, text):
        entry = INPUTS[name]
        whole = token_pass._tokenized(entry, text)
        old, token_pass._PIECE = token_pass._PIECE, 16
        try:
            assert not token_pass._cut_in_pieces_alike(entry) or len(token_pass._cuts(text)) > 1
            pieces = token_pass._tokenized(entry, text)
        finally:
            token_pass._PIECE = old
        for one, other in zip(whole, pieces, strict=True):
            assert np.array_equal(one, other)

    def test_the_tokenizers_here_can_be_cut(self):
        assert all(map(token_pass._cut_in_pieces_alike, INPUTS.values()))
        assert token_pass._cut_in_pieces_alike(toy_models.minilm()._load()[0].inputs[Role.DOCUMENT])

    def test_memory_is_that_of_marks_and_offsets(self):
        """Ten times the text: the states, which are 60 times larger than what is kept, are not kept."""
        entry = INPUTS["wordpiece"]
        width = 256

        def peak(repeats):
            text = LONG * repeats
            marks = list(range(0, len(text), 100))
            model = TokenModel(
                entry, lambda batch, alone: np.ones((len(batch), len(batch[0]), width), np.float32), lambda means: means
            )
            tracemalloc.start()
            (found,) = token_vectors(model, [TokenText(text, marks)], Windows(), batch_tokens=2048)
            top = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            return top, len(found.spans), len(marks)

        small, large = peak(20), peak(200)
        tokens, marks = large[1] - small[1], large[2] - small[2]
        assert large[0] - small[0] < marks * width * 8 * 1.1 + tokens * 300
        assert tokens * width * 4 > 3 * (large[0] - small[0])


class TestPaper:
    @pytest.mark.parametrize("name", ["mean", "prompts", "mean_bpe", "dense"])
    @pytest.mark.parametrize("text", [LONG[:70], LONG])
    def test_it_is_the_papers_two_algorithms(self, name, text):
        encoder = toy_models.encoder(name)
        model = encoder._load()[0]
        cuts = [0, 17, 36, 61, *range(100, len(text), 57), len(text)]
        cuts = [cut for cut in cuts if cut <= len(text)]
        spans = [Span(start, end) for start, end in pairwise(cuts)]
        windows = Windows(size=32, overlap=0.25, paper_compat=True)
        (found,) = encoder.encode_tokens_many([TokenText(text)], Role.DOCUMENT, windows=windows)
        vectors = paper_vectors(model, encoder.profile.document_prompt, text, spans, l_max=32, omega=8)
        assert np.allclose(found.pool(spans), vectors, rtol=0, atol=1e-5)


def paper_vectors(model, prompt, text, spans, *, l_max, omega):
    """Günther et al., arXiv 2409.04701: algorithm 1, with the states of algorithm 2 where a text is too long."""
    encoding = model.inputs[Role.DOCUMENT]._backend.encode(prompt + text)
    ids = np.array(encoding.ids)
    states = []
    start = 0
    while True:
        piece = ids[start : start + l_max]
        states.extend(model.states([piece], Role.DOCUMENT)[0][0 if start == 0 else omega :])
        if start + l_max >= len(ids):
            break
        start += l_max - omega
    assert len(states) == len(ids)
    owners = []
    own = [index for index, (start, end) in enumerate(encoding.offsets) if end > max(start, len(prompt))]
    for index, (start, end) in enumerate(encoding.offsets):
        if index < own[0]:
            owners.append(0)  # [CLS] and the instruction go to the first chunk
        elif index > own[-1]:
            owners.append(len(spans) - 1)  # [SEP] to the last
        else:
            at = max(end - 1, start) - len(prompt)
            owners.append(next(number for number, span in enumerate(spans) if at < span.end))
    means = np.stack(
        [
            np.mean([state for state, owner in zip(states, owners, strict=True) if owner == number], axis=0)
            for number in range(len(spans))
        ]
    )
    vectors = model.after_pooling(means.astype(np.float32), Role.DOCUMENT)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True) if model.normalizes else vectors


def test_seams_vanish_where_no_token_looks_farther_than_the_overlap():
    torch.manual_seed(0)
    entry = INPUTS["wordpiece"].framed("")
    entry.limit = None
    size = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 2}
    config = ModernBertConfig(
        vocab_size=400, **size, local_attention=8, max_position_embeddings=2048, initializer_range=0.3,
        layer_types=["sliding_attention"] * 3, pad_token_id=0, bos_token_id=2, eos_token_id=3, cls_token_id=2, sep_token_id=3,
    )  # fmt: skip
    local = ModernBertModel(config).eval()

    def states(batch, alone):
        with torch.inference_mode():
            return local(torch.from_numpy(np.stack(batch))).last_hidden_state.numpy()

    model = TokenModel(entry, states, lambda means: means.astype(np.float32), averages=False)
    spans = [Span(start, start + 37) for start in range(0, len(LONG) - 37, 37)]
    whole, windowed, narrow = (
        token_vectors(model, [TokenText(LONG)], windows, 512)[0].pool(spans)
        for windows in (Windows(), Windows(size=64, overlap=0.4), Windows(size=64, overlap=0.0))
    )
    assert np.abs(windowed - whole).max() < 1e-3 * np.abs(whole).max()
    assert np.abs(narrow - whole).max() > 1e-2 * np.abs(whole).max()  # the seams are there to be seen


class TestRefusals:
    @pytest.mark.parametrize("name", ["cls", "lasttoken", "causal_mean", "max"])
    def test_models_that_do_not_average_can_be_forced(self, name):
        encoder = toy_models.encoder(name)
        with pytest.raises(UnsupportedModelError, match=r"instead, or take a model"):
            encoder.encode_tokens_many([TokenText(LONG)], Role.DOCUMENT)
        (found,) = encoder.encode_tokens_many([TokenText(LONG)], Role.DOCUMENT, force=True)
        assert found.pool([Span(0, 40), Span(40, len(LONG))]).any(axis=1).all()

    def test_a_model_without_transformer_cannot_even_be_forced(self):
        with pytest.raises(UnsupportedModelError, match="no transformer"):
            toy_models.encoder("static").encode_tokens_many([TokenText(LONG)], Role.DOCUMENT, force=True)

    def test_a_window_larger_than_the_model(self):
        with pytest.raises(BudgetError, match="the model takes 40"):
            toy_models.encoder("mean").encode_tokens_many([TokenText("a")], Role.DOCUMENT, windows=Windows(size=41))

    @pytest.mark.parametrize("text", [LONG, "ab"])
    def test_a_context_that_fills_the_window(self, text):
        with pytest.raises(TextTooLongError, match=r"'a b c .* take \d+ of the 40 tokens .* put less in front"):
            toy_models.encoder("mean").encode_tokens_many([TokenText(text, None, "a b c " * 20)], Role.DOCUMENT)

    def test_lone_surrogates_are_replaced_in_the_context_as_in_the_text(self):
        texts = [TokenText("a \ud800 b", None, "c \udfff: "), TokenText("a \ufffd b", None, "c \ufffd: ")]
        found, expected = toy_models.encoder("mean").encode_tokens_many(texts, Role.DOCUMENT)
        assert np.allclose(found.pool([Span(0, 5)]), expected.pool([Span(0, 5)]), rtol=0, atol=1e-6)

    def test_a_context_changes_vectors_and_is_pooled_into_none(self):
        encoder = TransformerEncoder(toy_models.folder("mean"), normalize=False)
        texts = [TokenText(LONG), TokenText(LONG, None, "copper: ")]
        plain, framed = encoder.encode_tokens_many(texts, Role.DOCUMENT)
        assert np.array_equal(plain.spans, framed.spans)
        assert not np.allclose(plain.pool([Span(0, 40)]), framed.pool([Span(0, 40)]), atol=1e-3)
