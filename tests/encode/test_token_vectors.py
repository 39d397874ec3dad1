"""Token vectors: every token counts once, in the right span, with the most context it can have."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import toy_models
import toy_tokenizers
from rag_embeddings.encode.base import Role
from rag_embeddings.encode.token_vectors import SummedTokenVectors
from rag_embeddings.encode.tokens import TextInput, own_tokens, why_not_offsets
from rag_embeddings.encode.transformer import TransformerEncoder
from rag_embeddings.encode.windows import frames
from rag_embeddings.errors import DocumentError, TextTooLongError, UnsupportedModelError, VectorError
from rag_embeddings.text import Span
from toy_models import LIMIT

ALLOWED = ["mean", "mean_bpe", "mean_unigram", "dense", "prompts", "passage", "without_prompt", "router"]
REFUSED = {
    "cls": "'cls'",
    "max": "'max'",
    "lasttoken": "'lasttoken'",
    "causal_mean": "causal",
    "static": "no transformer",
}
SHORT = "The river rose, é and 河."
LONG = "The river rose slowly; copper melts at 1085 degrees.\n\nNobody believed it! " * 8
INPUTS = {
    name: TextInput(None, getattr(toy_tokenizers, name)(), prompt, None)
    for name, prompt in (("wordpiece", "find: "), ("bpe", "Query:"), ("unigram", "text: "))
}
WORDS = st.sampled_from(
    [
        "the river ",
        "rose",
        "copper, ",
        "\n",
        "  ",
        "é",
        "e\u0301",
        "😀",
        "👨‍👩‍👧",
        "河水",
        "\x00",
        "\u200b",
        "ﬁ",
        "½",
        "x" * 120,
    ]
)
TEXTS = st.lists(WORDS | st.characters(exclude_categories=["Cs"]), max_size=30).map("".join)


def one_hot(offsets, length):
    """Token vectors whose sums tell which tokens were pooled; one more place for "the whole text"."""
    count = len(offsets)
    sums = np.concatenate((np.zeros((1, count)), np.cumsum(np.eye(count), axis=0)))
    return SummedTokenVectors(offsets, sums, length, lambda means: means.astype(np.float32))


def tiling(draw, length):
    marks = sorted(draw(st.sets(st.integers(1, length - 1), max_size=8))) if length > 1 else []
    return [Span(start, end) for start, end in zip([0, *marks], [*marks, length], strict=True)]


class TestPooling:
    @settings(deadline=None)
    @given(st.data(), st.sampled_from(sorted(INPUTS)), TEXTS)
    def test_each_token_counts_once_in_the_span_of_its_last_character(self, data, name, text):
        offsets, _, _ = own_tokens(INPUTS[name], text)
        if not len(offsets):
            return
        assert offsets.min() >= 0
        assert offsets.max() <= len(text)
        spans = tiling(data.draw, len(text))
        pooled = one_hot(offsets, len(text)).pool(spans)
        last = np.maximum.accumulate(np.maximum(offsets[:, 1] - 1, offsets[:, 0]))
        owned = 0
        for span, vector in zip(spans, pooled, strict=True):
            own = (span.start <= last) & (last < span.end)
            if own.any():
                assert np.allclose(vector, own / own.sum())
                owned += own.sum()
            else:
                assert np.count_nonzero(vector) == 1
        assert owned == len(offsets)

    @settings(deadline=None)
    @given(st.sampled_from(sorted(INPUTS)), st.sampled_from(["", "a b", "find: x"]), TEXTS)
    def test_a_prompts_tokens_are_never_the_texts(self, name, inside, text):
        entry = INPUTS[name]
        text = inside + text
        encoding = entry.encoding(text)
        _, place, ids = own_tokens(entry, text)
        lead = len(entry.prompt)
        for index, (start, end) in enumerate(encoding.offsets):
            special = bool(encoding.special_tokens_mask[index])
            if end > start:
                assert (place.start <= index < place.stop) == (not special and end > lead)
        assert list(ids) == encoding.ids

    OFFSETS = np.array([[1, 4], [4, 5], [8, 12], [12, 12], [15, 18]])

    @pytest.mark.parametrize(
        ("span", "token"),
        [
            ((0, 1), 0),  # in front of all tokens
            ((1, 2), 0),  # inside the first
            ((2, 3), 0),
            ((5, 6), 1),  # between two, the former is nearer
            ((6, 7), 1),  # equally near: the former
            ((7, 8), 2),
            ((9, 10), 2),
            ((15, 15), 4),  # empty
            ((18, 20), 4),  # behind all tokens
            ((20, 20), 4),
        ],
    )
    def test_a_span_without_a_token_takes_the_covering_or_nearest(self, span, token):
        (vector,) = one_hot(self.OFFSETS, 20).pool([Span(*span)])
        assert vector.tolist() == np.eye(5)[token].tolist()

    def test_spans_may_overlap_and_come_in_any_order(self):
        vectors = one_hot(self.OFFSETS, 20)
        spans = [Span(8, 18), Span(0, 5), Span(0, 18), Span(0, 5)]
        assert np.allclose(
            vectors.pool(spans), [[0, 0, 1 / 3, 1 / 3, 1 / 3], [0.5, 0.5, 0, 0, 0], [0.2] * 5, [0.5, 0.5, 0, 0, 0]]
        )
        assert vectors.pool([]).shape == (0, 5)

    def test_a_span_behind_the_text_is_refused(self):
        with pytest.raises(DocumentError, match=r"end=21.* 20 characters"):
            one_hot(self.OFFSETS, 20).pool([Span(0, 3), Span(3, 21)])


class TestModels:
    @pytest.mark.parametrize("role", Role)
    @pytest.mark.parametrize("name", ALLOWED)
    def test_pooled_is_the_mean_of_the_states_through_every_later_module(self, name, role):
        if name == "router" and role is Role.QUERY:
            with pytest.raises(UnsupportedModelError, match="no transformer"):
                toy_models.encoder(name).encode_tokens(SHORT, role)
            return
        encoder = toy_models.encoder(name)
        model = encoder._load()[0]._model
        found = encoder.encode_tokens(SHORT, role)
        features = model.preprocess([SHORT], prompt=encoder.profile.prompt(role), task=role.value)
        states = model(features, task=role.value)["token_embeddings"][0].detach().numpy()
        offsets, place, ids = own_tokens(encoder._load()[0].inputs[role], SHORT)
        assert len(ids) == len(states)
        assert np.array_equal(found.spans, offsets)
        spans = [Span(0, 9), Span(9, 15), Span(15, len(SHORT))]
        for span, vector in zip(spans, found.pool(spans), strict=True):
            last = np.maximum(offsets[:, 1] - 1, offsets[:, 0])
            mean = states[place][(span.start <= last) & (last < span.end)].mean(axis=0)
            if name == "dense":
                linear = model[2].linear
                mean = np.tanh(linear.weight.detach().numpy() @ mean + linear.bias.detach().numpy())
            if encoder.profile.normalize:
                mean = mean / np.linalg.norm(mean)
            assert np.allclose(vector, mean, rtol=0, atol=1e-5)

    @pytest.mark.parametrize("text", [SHORT, " a ", "x", "\n\n", "the river\nrose "])
    @pytest.mark.parametrize("name", ALLOWED)
    def test_all_of_a_text_that_fits_is_the_text_itself(self, name, text):
        encoder = toy_models.encoder(name)
        whole = encoder.encode_tokens(text, "document").pool([Span(0, len(text))])
        assert np.allclose(whole, encoder.encode([text], "document"), rtol=0, atol=1e-5)

    def test_of_the_real_model_too(self):
        encoder = toy_models.minilm()
        text = "Copper melts at 1085 degrees.\nTin melts at 232."
        vectors = encoder.encode_tokens(text, "document")
        whole, copper, tin = vectors.pool([Span(0, len(text)), Span(0, 29), Span(30, len(text))])
        plain = encoder.encode([text, "Copper melts at 1085 degrees.", "Tin melts at 232."], "document")
        assert np.allclose(whole, plain[0], rtol=0, atol=1e-5)
        assert copper @ plain[1] > copper @ plain[2]
        assert tin @ plain[2] > tin @ plain[1]

    def test_a_text_without_tokens_of_its_own_has_the_vector_of_the_text(self):
        encoder = toy_models.encoder("prompts")
        for text in ("", "  \n"):
            vectors = encoder.encode_tokens(text, "document")
            assert vectors.spans.shape == (0, 2)
            spans = [Span(0, len(text)), Span(0, 0)]
            expected = encoder.encode([text, text], "document")
            assert np.allclose(vectors.pool(spans), expected, rtol=0, atol=1e-5)

    def test_dimensions_and_missing_normalisation_are_obeyed(self):
        folder = toy_models.folder("mean")
        for options in ({"dimensions": 8}, {"normalize": False}, {"dimensions": 8, "normalize": False}):
            encoder = TransformerEncoder(folder, **options)
            whole = encoder.encode_tokens(SHORT, "query").pool([Span(0, len(SHORT))])
            assert np.allclose(whole, encoder.encode([SHORT], "query"), rtol=0, atol=1e-5)

    @pytest.mark.parametrize(("name", "reason"), REFUSED.items())
    def test_models_that_do_not_average_are_refused_with_the_reason(self, name, reason):
        with pytest.raises(UnsupportedModelError, match=reason):
            toy_models.encoder(name).encode_tokens(SHORT, "document")

    def test_a_text_without_any_token_is_refused(self):
        with pytest.raises(VectorError, match="no tokens"):
            toy_models.encoder("mean_bpe").encode_tokens("", "document")

    def test_surrogates_keep_the_offsets(self):
        text = "a\ud800b \udfff the river"
        vectors = toy_models.encoder("mean_bpe").encode_tokens(text, "document")
        assert vectors.spans.max() == len(text)
        assert vectors.pool([Span(1, 2), Span(5, 6)]).any(axis=1).all()


class TestWindows:
    @pytest.mark.parametrize("name", ["mean", "mean_bpe", "mean_unigram", "prompts", "dense"])
    def test_a_long_text_takes_each_token_from_its_window(self, name):
        encoder = toy_models.encoder(name)
        model = encoder._load()[0]
        entry = model.inputs[Role.DOCUMENT]
        offsets, place, ids = own_tokens(entry, LONG)
        assert len(ids) > 3 * LIMIT
        before, after = ids[: place.start], ids[place.stop :]
        content = ids[place]
        room = LIMIT - len(before) - len(after)
        expected = np.full((len(content), toy_models.WIDTH), np.nan)
        for start, end, keep, stop in frames(len(content), room):
            wrapped = np.concatenate((before, content[start:end], after))
            assert len(wrapped) == LIMIT
            (states,) = model.states([wrapped], Role.DOCUMENT)
            expected[keep:stop] = states[len(before) :][keep - start : stop - start]
        found = encoder.encode_tokens(LONG, "document")
        assert np.array_equal(found.spans, offsets)
        last = np.maximum(offsets[:, 1] - 1, offsets[:, 0])
        spans = [Span(start, start + 37) for start in range(0, len(LONG) - 37, 23)] + [Span(0, len(LONG))]
        means = np.stack([expected[(span.start <= last) & (last < span.end)].mean(axis=0) for span in spans])
        vectors = model.after_pooling(means.astype(np.float32), Role.DOCUMENT)
        if encoder.profile.normalize:
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        assert np.allclose(found.pool(spans), vectors, rtol=0, atol=1e-5)

    def test_the_batch_budget_does_not_matter(self):
        folder = toy_models.folder("mean")
        spans = [Span(0, 50), Span(200, 260)]
        one, other = (
            TransformerEncoder(folder, batch_tokens=budget).encode_tokens(LONG, "document").pool(spans)
            for budget in (1, 100_000)
        )
        assert np.allclose(one, other, rtol=0, atol=1e-5)

    def test_a_prompt_that_leaves_no_room_is_refused(self):
        encoder = TransformerEncoder(toy_models.folder("mean"), document_prompt="a " * LIMIT)
        with pytest.raises(TextTooLongError, match="alone take"):
            encoder.encode_tokens("text", "document")


class TestOffsets:
    class Lying:
        """A tokenizer whose encodings were tampered with."""

        def __init__(self, entry, change):
            self.__dict__.update(vars(entry))
            self.entry, self.change = entry, change

        def encoding(self, text):
            true = self.entry.encoding(text)
            self.ids, self.tokens, self.special_tokens_mask = true.ids, true.tokens, true.special_tokens_mask
            self.offsets = self.change(self.entry.prompt + text, true.offsets)
            return self

    @pytest.mark.parametrize("name", sorted(INPUTS))
    def test_honest_tokenizers_pass(self, name):
        assert why_not_offsets(INPUTS[name]) == ""

    @pytest.mark.parametrize("name", sorted(INPUTS))
    @pytest.mark.parametrize(
        "change",
        [
            lambda text, offsets: [(0, 0)] * len(offsets),
            lambda text, offsets: [(start + 1, end + 1) for start, end in offsets],
            lambda text, offsets: [(len(text[:s].encode()), len(text[:e].encode())) for s, e in offsets],
            lambda text, offsets: offsets[::-1],
            lambda text, offsets: [(end, start) for start, end in offsets],
        ],
        ids=["none", "shifted", "bytes", "backwards", "swapped"],
    )
    def test_lies_are_found(self, name, change):
        assert why_not_offsets(self.Lying(INPUTS[name], change))

    def test_a_lying_tokenizer_is_refused_at_first_use(self, monkeypatch):
        encoder = TransformerEncoder(toy_models.folder("mean"))
        model = encoder._load()[0]
        entry = model.inputs[Role.DOCUMENT]
        lying = self.Lying(entry, lambda text, offsets: [(start + 1, end + 1) for start, end in offsets])
        lying.tokens = entry.tokens
        monkeypatch.setattr("rag_embeddings.encode.model.why_not_offsets", lambda entry: why_not_offsets(lying))
        with pytest.raises(UnsupportedModelError, match="offsets"):
            encoder.encode_tokens("the river", "document")
        assert encoder.encode(["the river"], "document").any()
