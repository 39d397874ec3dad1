"""Embeddings of both frameworks as encoders, known by what they can do."""

import math
import pickle
import subprocess
import sys
import threading

import numpy as np
import pytest
from langchain_core.embeddings import DeterministicFakeEmbedding, Embeddings
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.embeddings import MockEmbedding
from pydantic import BaseModel, PrivateAttr

import toy_models
from rag_embeddings.encode.base import Encoder, Role
from rag_embeddings.encode.cache import VectorCache
from rag_embeddings.encode.cached import CachedEncoder
from rag_embeddings.encode.retry import BatchedEncoder
from rag_embeddings.encode.transformer import TransformerEncoder
from rag_embeddings.encode.wrap import wrap
from rag_embeddings.errors import VectorError
from rag_embeddings.testing.encoder import DeterministicEncoder
from rag_embeddings.testing.encoder_laws import check_encoder


def vector(kind, text):
    code = sum(text.encode("utf-8"))  # fails on a lone surrogate, as every API does
    return [float(kind), math.sin(code), float(len(text) + 1)]


class ChainEmbeddings(Embeddings):
    model = "chain-model"

    def __init__(self):
        self.calls = []

    def embed_documents(self, texts):
        self.calls.append(list(texts))
        return [vector(1, text) for text in texts]

    def embed_query(self, text):
        self.calls.append(text)
        return vector(2, text)


class IndexEmbedding(BaseEmbedding):
    _calls: list = PrivateAttr(default_factory=list)

    def _get_text_embedding(self, text):
        raise AssertionError("one by one, though the batch method exists")

    def _get_text_embeddings(self, texts):
        self._calls.append(list(texts))
        return [vector(1, text) for text in texts]

    def _get_query_embedding(self, query):
        self._calls.append(query)
        return vector(2, query)

    async def _aget_query_embedding(self, query):
        return self._get_query_embedding(query)


def chain_and_index():
    return [ChainEmbeddings(), IndexEmbedding(model_name="index-model", embed_batch_size=3)]


@pytest.mark.parametrize("embeddings", chain_and_index(), ids=["langchain", "llama_index"])
def test_roles_go_to_their_methods_and_order_is_kept(embeddings):
    encoder = wrap(embeddings)
    texts = [f"text {n}" for n in (5, 3, 9, 3)]
    assert np.allclose(encoder.encode(texts, Role.DOCUMENT), [vector(1, text) for text in texts])
    assert np.allclose(encoder.encode(texts, Role.QUERY), [vector(2, text) for text in texts])


@pytest.mark.parametrize("embeddings", chain_and_index(), ids=["langchain", "llama_index"])
def test_the_laws_hold(embeddings):
    check_encoder(wrap(embeddings))
    check_encoder(pickle.loads(pickle.dumps(wrap(embeddings))))  # noqa: S301  (our own bytes)


@pytest.mark.parametrize("embeddings", [DeterministicFakeEmbedding(size=7), MockEmbedding(embed_dim=7)])
def test_the_frameworks_own_stand_ins(embeddings):
    encoder = wrap(embeddings)
    assert encoder.encode(["a", "b"], "document").shape == (2, 7)
    assert encoder.profile.dimensions == 7
    check_encoder(encoder, ["one", "two", "three"])


def test_the_profile_says_what_is_known():
    one, other = map(wrap, chain_and_index())
    assert one.profile.model == "chain-model"
    assert other.profile.model == "index-model"
    assert wrap(DeterministicFakeEmbedding(size=3)).profile.model == "DeterministicFakeEmbedding"
    assert one.profile.pooling == "unknown"
    assert not one.profile.normalize
    assert one.tokenizer is None
    assert one.profile.space != other.profile.space


def test_dimensions_are_learnt_from_the_first_vectors_or_from_one_probe():
    embeddings = ChainEmbeddings()
    encoder = wrap(embeddings)
    assert embeddings.calls == []
    encoder.encode(["a"], "query")
    assert encoder.profile.dimensions == 3
    assert embeddings.calls == ["a"]

    embeddings = ChainEmbeddings()
    encoder = wrap(embeddings)
    assert encoder.encode([], "query").shape == (0, 3)
    assert encoder.encode([], "document").shape == (0, 3)
    (probe,) = embeddings.calls
    assert len(probe) == 1


def test_threads_probe_once():
    embeddings = ChainEmbeddings()
    encoder = wrap(embeddings)
    barrier = threading.Barrier(16)

    def ask():
        barrier.wait()
        assert encoder.profile.dimensions == 3

    threads = [threading.Thread(target=ask) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(embeddings.calls) == 1


def test_lone_surrogates_never_reach_an_api():
    embeddings = ChainEmbeddings()
    wrap(embeddings).encode(["a\ud800"], "query")
    assert embeddings.calls == ["a\ufffd"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows[:-1], "3 texts were sent"),
        (lambda rows: [*rows, rows[0]], "3 texts were sent"),
        (lambda rows: [rows[0], [math.nan] * 3, rows[2]], "text 1 of 3 has NaN"),
        (lambda rows: [rows[0], rows[1], [0.0] * 3], "text 2 of 3 has zeros"),
        (lambda rows: [row[:2] for row in rows], "3 dimensions were expected"),
        (lambda rows: [rows[0], rows[1][:1], rows[2]], "not a matrix"),
        (lambda rows: None, "shape|matrix"),
    ],
)
def test_bad_answers_are_refused(change, message):
    embeddings = ChainEmbeddings()
    encoder = wrap(embeddings)
    assert encoder.profile.dimensions == 3
    answer = embeddings.embed_documents
    encoder._documents = lambda texts: change(answer(texts))
    with pytest.raises(VectorError, match=message):
        encoder.encode(["a", "b", "c"], "document")


class TestUnwrapping:
    def test_an_encoder_is_itself(self):
        for encoder in (DeterministicEncoder(), toy_models.encoder("mean"), wrap(ChainEmbeddings())):
            assert wrap(encoder) is encoder

    def test_an_unloaded_model_stays_unloaded(self, tmp_path):
        encoder = TransformerEncoder(tmp_path / "absent")
        assert wrap(encoder) is encoder

    def test_what_carries_an_encoder_gives_it(self, tmp_path):
        encoder = TransformerEncoder(tmp_path / "absent")

        class Carrier(BaseModel):
            _encoder: object = PrivateAttr(default=None)

            @property
            def encoder(self):
                return encoder

            def embed_documents(self, texts):
                raise AssertionError("its encoder was to be used")

            embed_query = embed_documents

        assert wrap(Carrier()) is encoder

    def test_some_other_encoder_attribute_means_nothing(self):
        embeddings = ChainEmbeddings()
        embeddings.encoder = "cl100k"
        assert isinstance(wrap(embeddings), Encoder)
        assert wrap(embeddings).profile.model == "chain-model"

    @pytest.mark.parametrize("thing", ["a-model-name", None, 3, ChainEmbeddings, DeterministicEncoder, len, object()])
    def test_anything_else_is_refused_by_name(self, thing):
        with pytest.raises(TypeError, match=r"Encoder.*LangChain Embeddings.*LlamaIndex BaseEmbedding.*got .*"):
            wrap(thing)

    def test_a_single_string_is_not_a_sequence_of_texts(self):
        with pytest.raises(TypeError, match="list"):
            wrap(ChainEmbeddings()).encode("text", "query")

    @pytest.mark.parametrize("gap", [None, float("nan"), b"bytes", ["text"]])
    def test_a_gap_among_the_texts_is_named(self, gap, tmp_path):
        foreign = wrap(ChainEmbeddings())
        for encoder in (
            foreign,
            CachedEncoder(foreign, VectorCache(tmp_path / "vectors.sqlite")),
            BatchedEncoder(foreign),
            toy_models.encoder("mean"),
        ):
            with pytest.raises(TypeError, match="text 1 of 3 is no string but"):
                encoder.encode(["a", gap, "b"], Role.DOCUMENT)
        assert foreign.embeddings.calls == []


def test_neither_framework_is_imported():
    code = (
        "import sys; from rag_embeddings.encode.wrap import wrap; "
        "assert not {'langchain_core', 'llama_index', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
