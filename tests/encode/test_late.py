"""The late pass: chunks and sentences with vectors that know their document."""

import re
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

import toy_models
from rag_embeddings.encode.base import Role
from rag_embeddings.encode.cache import VectorCache
from rag_embeddings.encode.cached import CachedEncoder
from rag_embeddings.encode.late import LatePass, Units, units
from rag_embeddings.encode.transformer import TransformerEncoder
from rag_embeddings.encode.windows import Windows
from rag_embeddings.errors import BudgetError, UnsupportedModelError
from rag_embeddings.split.recursive import RecursiveSplitter
from rag_embeddings.split.semantic import SemanticSplitter
from rag_embeddings.split.sentences import sentence_spans
from rag_embeddings.split.sliding import SlidingWindowSplitter
from rag_embeddings.split.tokens import token_counter
from rag_embeddings.testing.encoder import DeterministicEncoder
from rag_embeddings.text import Chunk, Document, Span

BERLIN = (
    "Berlin is the capital and the largest city of Germany, by both area and population.\n\n"
    "Its more than 3.85 million inhabitants make it the most populous city of the European Union.\n\n"
    "The city is also one of the states of Germany, and is the third smallest state in the country."
)
LONG = "\n\n".join(
    f"The river rose {n} feet. Nobody believed it! Copper melts at {n + 1000} degrees." for n in range(40)
)


class OneChunk:
    """A splitter that takes the whole document."""

    def split(self, document):
        return [Chunk(document, (Span(0, len(document.text)),))]

    def settings(self):
        return {"splitter": "one"}


def late(encoder, text, size=20, **options):
    return LatePass(encoder, **options).run(Document(text, "doc"), RecursiveSplitter(size, tokenizer=len))


@pytest.mark.parametrize("name", ["mean", "dense", "prompts", "without_prompt", "mean_bpe", "mean_unigram"])
def test_a_document_of_one_chunk_has_the_vector_it_would_have_by_itself(name):
    encoder = toy_models.encoder(name)
    found = LatePass(encoder).run(Document("The river rose.", "doc"), OneChunk())
    plain = encoder.encode(["The river rose."], Role.DOCUMENT)
    assert np.allclose(found.vectors, plain, rtol=0, atol=1e-5)
    assert np.allclose(found.sentence_vectors, plain, rtol=0, atol=1e-5)


def test_a_chunk_knows_its_document():
    """The example of the paper: which chunk is about Berlin, where only the first one names it?"""
    encoder = toy_models.minilm()
    splitter = RecursiveSplitter(30, tokenizer=encoder)
    found = LatePass(encoder).run(Document(BERLIN, "berlin"), splitter)
    assert len(found.chunks) == 3
    (query,) = encoder.encode(["Berlin"], Role.QUERY)
    plain = encoder.encode([chunk.text for chunk in found.chunks], Role.DOCUMENT)
    assert (found.vectors[1:] @ query > plain[1:] @ query + 0.05).all()
    assert np.allclose(encoder.encode([BERLIN], Role.DOCUMENT) @ found.vectors.mean(axis=0), 1, atol=0.2)


def test_bf16_gives_the_same_vectors():
    text = " ".join(
        f"The river {n} rose {n * 3} feet in spring, and nobody in its town believed it." for n in range(40)
    )
    exact = toy_models.minilm()
    splitter = RecursiveSplitter(60, tokenizer=exact)
    half = TransformerEncoder(precision="bf16")
    expected, found = (LatePass(encoder).run(Document(text, "d"), splitter) for encoder in (exact, half))
    assert len(found.chunks) > 5
    assert (found.vectors * expected.vectors).sum(axis=1).min() > 0.9999
    assert (found.sentence_vectors * expected.sentence_vectors).sum(axis=1).min() > 0.9999
    whole = LatePass(half).run(Document("Copper melts at 1085 degrees.", "c"), OneChunk()).vectors
    assert (whole @ exact.encode(["Copper melts at 1085 degrees."], Role.DOCUMENT).T).item() > 0.9999


class TestPrice:
    """Tokens that the model sees for each token of a long document, special ones and padding included."""

    TEXT = " ".join(
        f"In the spring of {n} the river rose {n % 40} feet, and nobody in the town would believe it at first. "
        f"The old mill stood still for {n} days, because its wheel had been carried away by the flood."
        for n in range(1800, 1880)
    )

    @pytest.fixture
    def seen(self, monkeypatch):
        model, seen = toy_models.minilm()._load()[0], [0]
        make = model._features

        def counted(*arguments):
            features = make(*arguments)
            seen[0] += features["input_ids"].numel()
            return features

        monkeypatch.setattr(model, "_features", counted)
        return seen

    @pytest.mark.parametrize(("two_passes", "least", "most"), [(False, 1, 1.4), (True, 2, 2.5)])
    def test_chunks_and_sentences_for_one_pass_or_two(self, seen, two_passes, least, most):
        encoder = toy_models.minilm()
        splitter = SemanticSplitter(encoder, 200) if two_passes else RecursiveSplitter(200, tokenizer=encoder)
        found = LatePass(encoder).run(Document(self.TEXT, "d"), splitter)
        assert len(found.sentence_vectors) >= 160
        own = token_counter(encoder).count([self.TEXT])[0]
        assert own > 3_000
        assert least * own < seen[0] <= most * own


@pytest.mark.slow
def test_two_hundred_thousand_tokens_take_no_more_than_three_times_the_memory_of_a_tenth_of_them():
    benchmark = Path(__file__).parents[2] / "benchmarks" / "late_chunking.py"
    peaks = []
    for tokens in (20_000, 200_000):
        told = subprocess.run(
            [sys.executable, benchmark, "memory-of", "--tokens", str(tokens)],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        count, peak, above = re.search(r"^(\d+) tokens.*peak (\d+) MiB, (\d+) above", told).groups()
        assert int(count) >= tokens
        peaks.append((int(peak), int(above)))
    assert peaks[1][0] <= 3 * peaks[0][0]
    assert peaks[1][1] <= 3 * peaks[0][1]


class TestUnits:
    def test_sentences_are_those_of_the_index_and_pooled_from_the_same_pass(self):
        encoder = toy_models.encoder("mean")
        document = Document(LONG, "doc")
        splitter = SlidingWindowSplitter(100, 50, tokenizer=len)
        found = LatePass(encoder).run(document, splitter)
        tokens = encoder.encode_tokens(LONG, Role.DOCUMENT)
        sentences = [span for spans in found.sentences for span in spans]
        assert {span.of(LONG).strip() for span in sentence_spans(LONG)} <= {span.of(LONG) for span in sentences}
        assert np.allclose(found.sentence_vectors, tokens.pool(sentences), rtol=0, atol=1e-5)
        chunks = [chunk.spans[0] for chunk in found.chunks]
        assert np.allclose(found.vectors, tokens.pool(chunks), rtol=0, atol=1e-5)

    def test_a_chunk_of_several_spans_is_the_mean_of_all_its_tokens(self):
        encoder = toy_models.encoder("mean")
        document = Document(LONG, "doc")
        parts = [Span(0, 20), Span(300, 330), Span(400, 455)]
        (found,) = LatePass(encoder).encode([Units(document, [Chunk(document, tuple(parts))], [[]])])
        tokens = TransformerEncoder(toy_models.folder("mean"), normalize=False).encode_tokens(LONG, Role.DOCUMENT)
        counts = [sum(span.start < end <= span.end for _, end in tokens.spans) for span in parts]
        mean = np.average(tokens.pool(parts), axis=0, weights=counts)
        assert np.allclose(found.vectors[0], mean / np.linalg.norm(mean), rtol=0, atol=1e-5)

    def test_documents_do_not_disturb_each_other(self):
        encoder = toy_models.encoder("mean")
        splitter = RecursiveSplitter(60, tokenizer=len)
        documents = [
            Document(text, str(n)) for n, text in enumerate([LONG, "", "The river.", LONG[50:900], " \n", "x"])
        ]
        together = list(LatePass(encoder).run_many(documents, splitter))
        assert [found.document.id for found in together] == [document.id for document in documents]
        for document, found in zip(documents, together, strict=True):
            alone = LatePass(encoder).run(document, splitter)
            assert found.chunks == alone.chunks
            assert np.allclose(found.vectors, alone.vectors, rtol=0, atol=1e-5)
            assert found.vectors.shape == (len(found.chunks), toy_models.WIDTH)

    def test_white_space_belongs_to_the_unit_in_front(self):
        text = "  the river\n\n\n rose  "
        document = Document(text, "doc")
        chunks = [Chunk(document, (Span(2, 11),)), Chunk(document, (Span(15, 19),))]
        encoder = toy_models.encoder("mean_bpe")  # its tokens of white space stand alone
        (found,) = LatePass(encoder).encode([Units(document, chunks, [[], []])])
        tokens = encoder.encode_tokens(text, Role.DOCUMENT)
        assert np.allclose(found.vectors, tokens.pool([Span(0, 15), Span(15, len(text))]), rtol=0, atol=1e-5)

    def test_sentences_are_left_out_where_nobody_wants_them(self):
        cut = units(Document(LONG, "doc"), RecursiveSplitter(60, tokenizer=len), sentences=False)
        assert LatePass(toy_models.encoder("mean")).encode([cut])[0].sentence_vectors.shape == (0, toy_models.WIDTH)


class TestOptions:
    def test_mix_is_the_mean_of_late_and_plain(self):
        encoder = toy_models.encoder("mean")
        found, mixed = late(encoder, LONG, 60), late(encoder, LONG, 60, mix=0.25)
        texts = [span.of(LONG) for spans in found.sentences for span in spans]
        expected = 0.75 * found.sentence_vectors + 0.25 * encoder.encode(texts, Role.DOCUMENT)
        expected /= np.linalg.norm(expected, axis=1, keepdims=True)
        assert np.allclose(mixed.sentence_vectors, expected, rtol=0, atol=1e-5)

    def test_through_a_cache(self, tmp_path):
        encoder = toy_models.encoder("mean")
        with VectorCache(tmp_path / "cache.sqlite") as cache:
            found = late(CachedEncoder(encoder, cache), LONG, 60)
        assert np.allclose(found.vectors, late(encoder, LONG, 60).vectors, rtol=0, atol=1e-5)

    def test_settings_tell_what_changes_a_vector(self):
        encoder = toy_models.encoder("mean")
        changes = [
            {}, {"mix": 0.5}, {"force": True}, {"windows": Windows(size=30)}, {"windows": Windows(overlap=0.5)},
            {"windows": Windows(paper_compat=True)},
        ]  # fmt: skip
        spelled = {str(LatePass(encoder, **change).settings()) for change in changes}
        assert len(spelled) == len(changes)
        assert LatePass(encoder).settings() == LatePass(encoder, windows=Windows(size=toy_models.LIMIT)).settings()

    @pytest.mark.parametrize("mix", [-0.1, 1.0])
    def test_an_impossible_mix(self, mix):
        with pytest.raises(BudgetError, match="mix"):
            LatePass(toy_models.encoder("mean"), mix=mix)

    def test_an_encoder_without_tokens(self):
        with pytest.raises(UnsupportedModelError, match="DeterministicEncoder gives no token vectors"):
            LatePass(DeterministicEncoder())


class TestHomogeneity:
    def test_the_real_model_does_not_blur(self):
        encoder = toy_models.minilm()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = LatePass(encoder).homogeneity(Document(BERLIN, "doc"), RecursiveSplitter(30, tokenizer=encoder))
        assert 0.2 < found.plain < found.late < 0.9

    def test_vectors_that_say_mostly_which_document_are_warned_of(self, monkeypatch):
        encoder = TransformerEncoder(toy_models.folder("mean"))
        loaded = encoder._load()[0]
        states = loaded.states

        def blurred(batch, role, **options):
            found = states(batch, role, **options)
            return found + 20 * np.linspace(1, 2, found.shape[2], dtype=np.float32)

        monkeypatch.setattr(loaded, "states", blurred)
        monkeypatch.setattr(encoder, "encode", lambda texts, role: np.eye(len(texts), dtype=np.float32) + 0.1)
        with pytest.warns(UserWarning, match="mix=0.5"):
            LatePass(encoder).homogeneity(Document(LONG, "doc"), RecursiveSplitter(60, tokenizer=len))

    def test_of_a_single_chunk_there_is_none(self):
        assert LatePass(toy_models.encoder("mean")).homogeneity(Document("a", "doc"), OneChunk()) == (0.0, 0.0)


def test_making_a_pass_loads_no_model():
    assert LatePass(TransformerEncoder("no-such-folder/no-such-model")).mix == 0
    with pytest.raises(UnsupportedModelError, match="no token vectors"):
        LatePass(DeterministicEncoder())
