"""The laws of encoders, for models of every kind and hostile texts; and that the check itself can fail."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import toy_models
from rag_embeddings.encode.base import Role
from rag_embeddings.encode.profile import Profile
from rag_embeddings.testing.encoder import DeterministicEncoder
from rag_embeddings.testing.encoder_laws import TEXTS, check_encoder

WITHOUT_EMPTY = st.sampled_from(
    ["a", "the river rose. ", "\n", "  ", "é", "e\u0301", "😀", "👨‍👩‍👧‍👦", "河水", "\x00", "\ud800", "x" * 70, "\r\n"]
)
TEXT = st.lists(WITHOUT_EMPTY | st.characters(), max_size=12).map(lambda pieces: "a" + "".join(pieces))
MODELS = sorted(toy_models.TOYS)


@pytest.mark.parametrize("name", MODELS)
def test_toy_models_obey(name):
    check_encoder(toy_models.encoder(name))


def test_the_real_model_obeys():
    check_encoder(toy_models.minilm(), TEXTS[:6])


def test_the_deterministic_encoder_obeys():
    check_encoder(DeterministicEncoder(query_prompt="query: "), tolerance=0)


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(MODELS), st.sampled_from(Role), st.lists(TEXT, min_size=1, max_size=6), st.randoms())
def test_a_vector_depends_on_its_text_alone(name, role, texts, random):
    encoder = toy_models.encoder(name)
    alone = {text: encoder.encode([text], role)[0] for text in texts}
    mixed = texts * 2
    random.shuffle(mixed)
    together = encoder.encode(mixed, role)
    for text, vector in zip(mixed, together, strict=True):
        assert np.allclose(vector, alone[text], rtol=1e-5, atol=1e-5)


class Broken(DeterministicEncoder):
    """An encoder that breaks one law."""

    def __init__(self, change):
        super().__init__(query_prompt="query: ")
        self.change = change
        self.calls = 0

    def encode(self, texts, role):
        self.calls += 1
        return self.change(self, super().encode(texts, role), texts, role)


@pytest.mark.parametrize(
    ("change", "law"),
    [
        (lambda self, rows, texts, role: rows.astype(np.float64), "float32"),
        (lambda self, rows, texts, role: rows[:, :-1], "dimensions wide"),
        (lambda self, rows, texts, role: rows if texts else np.zeros((0, 3), np.float32), "no texts"),
        (lambda self, rows, texts, role: rows * 2, "length 1"),
        (lambda self, rows, texts, role: np.where(rows > 0.4, np.nan, rows), "finite"),
        (lambda self, rows, texts, role: rows * np.array([[text != "a"] for text in texts]), "float32|zeros"),
        (lambda self, rows, texts, role: rows[:: -1 if self.calls == 3 else 1], "the same again"),
        (lambda self, rows, texts, role: rows[np.argsort(texts)], "order|singles|company"),
        (lambda self, rows, texts, role: rows if len(texts) > 1 else -rows, "company"),
        (lambda self, rows, texts, role: DeterministicEncoder().encode(texts, role), "prompts"),
    ],
)
def test_the_check_finds_a_broken_law(change, law):
    with pytest.raises(AssertionError, match=law):
        check_encoder(Broken(change))


def test_the_check_finds_a_profile_that_does_not_travel():
    class Odd(Profile):
        def to_dict(self):
            return super().to_dict() | {"model": "other"}

    encoder = DeterministicEncoder()
    encoder.profile = Odd("model", 64)
    with pytest.raises(AssertionError, match="to_dict"):
        check_encoder(encoder)
