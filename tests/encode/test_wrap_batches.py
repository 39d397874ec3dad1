"""What `wrap` adds to somebody else's embedding: batches, retries, a cache that tells embeddings apart."""

import pickle
import random

import numpy as np
import pytest
from langchain_core.embeddings import DeterministicFakeEmbedding, Embeddings
from llama_index.core.base.embeddings.base import BaseEmbedding
from pydantic import BaseModel, PrivateAttr, SecretStr

from rag_embeddings.encode.base import Role
from rag_embeddings.encode.cache import VectorCache
from rag_embeddings.encode.cached import CachedEncoder
from rag_embeddings.encode.dual import DualEncoder
from rag_embeddings.encode.wrap import wrap
from rag_embeddings.errors import BudgetError, RemoteEncoderError, UnsupportedModelError, VectorError
from rag_embeddings.testing.encoder import DeterministicEncoder
from rag_embeddings.testing.encoder_laws import check_encoder


class ServiceError(Exception):
    def __init__(self, status_code: int) -> None:
        super().__init__("refused")
        self.status_code = status_code


def vector(salt, text):
    seed = int.from_bytes(repr((salt, text)).encode(), "little")
    return np.random.default_rng(seed).standard_normal(5).tolist()


class Chain(BaseModel, Embeddings):
    """As an API class of LangChain: fields, a secret, a client."""

    model: str = "small"
    instruction: str = ""
    api_key: SecretStr = SecretStr("canary")
    chunk_size: int = 1000
    _faults: list = PrivateAttr(default_factory=list)
    _calls: list = PrivateAttr(default_factory=list)

    def embed_documents(self, texts):
        self._calls.append(list(texts))
        if self._faults:
            raise self._faults.pop(0)
        return [vector((self.model, self.instruction, "document"), text) for text in texts]

    def embed_query(self, text):
        self._calls.append(text)
        if self._faults:
            raise self._faults.pop(0)
        return vector((self.model, self.instruction, "query"), text)


class SelfRetrying(Chain):
    max_retries: int = 2


class AzureChain(Chain):
    deployment: str


class Index(BaseEmbedding):
    _faults: list = PrivateAttr(default_factory=list)
    _calls: list = PrivateAttr(default_factory=list)

    def _get_text_embedding(self, text):
        return self._get_text_embeddings([text])[0]

    def _get_text_embeddings(self, texts):
        self._calls.append(list(texts))
        if self._faults:
            raise self._faults.pop(0)
        return [vector((self.model_name, "document"), text) for text in texts]

    def _get_query_embedding(self, query):
        return vector((self.model_name, "query"), query)

    async def _aget_query_embedding(self, query):
        return self._get_query_embedding(query)


def patient(encoder):
    """Without real waiting."""
    encoder._retries.update(sleep=lambda seconds: None, rng=random.Random(0))
    return encoder


TEXTS = [f"text {number}" for number in range(10)]


@pytest.fixture
def cache(tmp_path):
    with VectorCache(tmp_path / "v.sqlite") as opened:
        yield opened


def test_documents_go_in_batches_by_count_and_by_tokens():
    embeddings = Chain()
    found = wrap(embeddings, batch_inputs=4).encode(TEXTS, Role.DOCUMENT)
    assert [len(call) for call in embeddings._calls] == [4, 4, 2]
    assert np.allclose(found, embeddings.embed_documents(TEXTS))
    embeddings._calls.clear()
    wrap(embeddings, batch_tokens=9).encode(TEXTS, Role.DOCUMENT)  # three tokens each, by the estimate
    assert [len(call) for call in embeddings._calls] == [3, 3, 3, 1]
    embeddings._calls.clear()
    wrap(embeddings).encode(TEXTS, Role.QUERY)
    assert embeddings._calls == TEXTS


@pytest.mark.parametrize("embeddings", [Chain(), Index(model_name="m", embed_batch_size=4)], ids=["chain", "index"])
def test_what_may_pass_is_repeated_for_its_batch_only(embeddings):
    encoder = patient(wrap(embeddings, batch_inputs=4))
    expected = encoder.encode(TEXTS, Role.DOCUMENT)
    embeddings._calls.clear()
    embeddings._faults[:] = [ServiceError(429), TimeoutError(), ServiceError(503)]
    assert np.array_equal(encoder.encode(TEXTS, Role.DOCUMENT), expected)
    assert [len(call) for call in embeddings._calls] == [4, 4, 4, 4, 4, 2]


def test_a_refusal_is_an_error_that_names_the_texts():
    embeddings = Chain()
    encoder = patient(wrap(embeddings))
    for status in (400, 401, 403, 404):
        for role in Role:
            embeddings._calls.clear()
            embeddings._faults[:] = [ServiceError(status)]
            with pytest.raises(RemoteEncoderError, match=f"status {status}.*'text 0'") as caught:
                encoder.encode(TEXTS, role)
            assert isinstance(caught.value.__cause__, ServiceError)
            assert len(embeddings._calls) == 1


def test_a_class_that_retries_itself_is_not_retried_again():
    for embeddings, retries, calls in [
        (SelfRetrying(), None, 1),
        (SelfRetrying(max_retries=0), None, 6),
        (Chain(), 2, 3),
    ]:
        encoder = patient(wrap(embeddings, retries=retries))
        embeddings._faults[:] = [ServiceError(503)] * 50
        with pytest.raises(RemoteEncoderError, match=f"attempt {calls}:"):
            encoder.encode(TEXTS, Role.DOCUMENT)
        assert len(embeddings._calls) == calls


def test_limits_are_checked():
    for arguments in ({"batch_inputs": 0}, {"batch_tokens": 0}, {"retries": -1}):
        with pytest.raises(BudgetError):
            wrap(Chain(), **arguments)


def test_settings_survive_pickling(cache):
    encoder = pickle.loads(pickle.dumps(wrap(Chain(), batch_inputs=3, retries=0, model="mine")))  # noqa: S301
    encoder.encode(TEXTS, Role.DOCUMENT)
    assert [len(call) for call in encoder.embeddings._calls] == [3, 3, 3, 1]
    assert encoder.profile.model == "mine"
    encoder.embeddings._faults[:] = [ServiceError(503)]
    with pytest.raises(RemoteEncoderError, match="attempt 1"):
        encoder.encode(TEXTS, Role.DOCUMENT)
    cached = pickle.loads(pickle.dumps(wrap(Chain(), cache=cache)))  # noqa: S301
    assert np.array_equal(cached.encode(TEXTS, Role.DOCUMENT), wrap(Chain()).encode(TEXTS, Role.DOCUMENT))


def test_a_deployment_on_azure_is_named_for_itself():
    first, second = wrap(AzureChain(deployment="one")).profile, wrap(AzureChain(deployment="two")).profile
    assert (first.model, second.model) == ("one", "two")
    assert first.space != second.space


class TestPrompts:
    """For servers that add none."""

    @pytest.mark.parametrize("kind", [Chain, Index])
    def test_they_stand_in_front_to_the_byte(self, kind):
        plain = kind()
        encoder = wrap(kind(), query_prompt="Find:\n", document_prompt=" ")
        queries = wrap(plain).encode(["Find:\na", "Find:\n b"], Role.QUERY)
        assert np.array_equal(encoder.encode(["a", " b"], Role.QUERY), queries)
        documents = wrap(plain).encode([" a", "  b"], Role.DOCUMENT)
        assert np.array_equal(encoder.encode(["a", " b"], Role.DOCUMENT), documents)
        assert (encoder.profile.query_prompt, encoder.profile.document_prompt) == ("Find:\n", " ")
        assert encoder.profile.sources["query_prompt"] == "caller"
        assert encoder.profile.space != wrap(plain).profile.space
        check_encoder(encoder)

    def test_the_catalogs_are_used_where_the_model_is_named(self):
        encoder = wrap(Chain(), catalog_name="nomic-ai/nomic-embed-text-v1.5")
        encoder.encode(["a"], Role.QUERY)
        encoder.encode(["a"], Role.DOCUMENT)
        assert encoder.embeddings._calls == ["search_query: a", ["search_document: a"]]
        assert encoder.profile.sources == {"query_prompt": "catalog", "document_prompt": "catalog"}
        encoder = wrap(Chain(), catalog_name="BAAI/bge-en-icl", task="Find law")
        encoder.encode(["a"], Role.QUERY)
        encoder.encode(["a"], Role.QUERY, task="Find case")
        assert encoder.embeddings._calls == [
            "<instruct>Find law\n<query>a\n<response>",
            "<instruct>Find case\n<query>a\n<response>",
        ]
        assert wrap(Chain(model="nomic-ai/nomic-embed-text-v1.5")).profile.query_prompt == ""  # it may add its own

    def test_what_has_no_place_is_refused(self):
        with pytest.raises(UnsupportedModelError, match="catalog"):
            wrap(Chain(), catalog_name="no/such")
        with pytest.raises(UnsupportedModelError, match="no place"):
            wrap(Chain(), task="Find law")
        with pytest.raises(UnsupportedModelError, match="query_prompt"):
            wrap(DeterministicEncoder(), query_prompt="find: ")

    def test_they_count_and_errors_show_the_text(self):
        encoder = patient(wrap(Chain(), document_prompt="x" * 300, batch_tokens=250))
        encoder.encode(TEXTS[:4], Role.DOCUMENT)
        assert [len(call) for call in encoder.embeddings._calls] == [2, 2]
        encoder.embeddings._faults[:] = [ServiceError(400)]
        with pytest.raises(RemoteEncoderError, match="begins 'text 0'"):
            encoder.encode(TEXTS, Role.DOCUMENT)

    def test_they_travel(self):
        encoder = wrap(Chain(), catalog_name="BAAI/bge-en-icl", task="Find law", document_prompt="d ")
        other = pickle.loads(pickle.dumps(encoder))  # noqa: S301
        for role in Role:
            assert np.array_equal(other.encode(TEXTS, role), encoder.encode(TEXTS, role))
        assert other.profile == encoder.profile


class TestCache:
    def test_texts_are_sent_once(self, cache):
        embeddings = Chain()
        encoder = wrap(embeddings, cache=cache)
        check_encoder(encoder)
        found = encoder.encode(TEXTS, Role.DOCUMENT)
        embeddings._calls.clear()
        again = wrap(embeddings, cache=cache)
        assert again.profile.dimensions == 5  # a probe, which is short
        embeddings._calls.clear()
        assert np.array_equal(again.encode(TEXTS * 2, Role.DOCUMENT), np.concatenate([found, found]))
        assert embeddings._calls == []

    def test_embeddings_that_differ_in_any_setting_share_nothing(self, cache):
        others = [Chain(), Chain(model="large"), Chain(instruction="find"), SelfRetrying(instruction="class"), Index()]
        others[-1].model_name = "small"
        for embeddings in others:
            for role in Role:
                plain = wrap(embeddings).encode(TEXTS, role)
                assert np.array_equal(wrap(embeddings, cache=cache).encode(TEXTS, role), plain)
        assert cache.info().hits == 0

    def test_settings_that_are_no_plain_values_count_and_clients_do_not(self, cache):
        class Loading(Chain):
            model_kwargs: dict = {}
            client: object = None

        for dtype in (np.float16, np.dtype("float32"), Role.QUERY, "float16"):
            for _ in range(2):
                embeddings = Loading(model_kwargs={"dtype": dtype, "client": object()}, client=object())
                wrap(embeddings, cache=cache).encode(TEXTS, Role.DOCUMENT)
        assert cache.info().vectors == 4 * len(TEXTS)
        assert cache.info().hits == 4 * len(TEXTS)

    def test_a_new_key_or_batch_size_does_not_cost_the_cache(self, cache):
        wrap(Chain(), cache=cache).encode(TEXTS, Role.DOCUMENT)
        other = Chain(api_key=SecretStr("new"), chunk_size=7)
        wrap(other, cache=cache).encode(TEXTS, Role.DOCUMENT)
        assert cache.info().hits == len(TEXTS)

    def test_without_a_name_there_is_no_cache(self, cache):
        for embeddings in (DeterministicFakeEmbedding(size=4), Index()):
            with pytest.raises(UnsupportedModelError, match="model="):
                wrap(embeddings, cache=cache)
            assert wrap(embeddings, cache=cache, model="mine").profile.model == "mine"

    def test_encoders_and_what_carries_one_are_cached_too(self, cache):
        encoder = DeterministicEncoder()
        cached = wrap(encoder, cache=cache)
        assert isinstance(cached, CachedEncoder)
        assert cached.encoder is encoder
        assert wrap(cached) is cached

        class Carrier:
            def __init__(self):
                self.encoder = encoder

        assert wrap(Carrier(), cache=cache).encoder is encoder

    def test_pairs_that_differ_in_a_setting_of_one_share_nothing(self, cache):
        pairs = [(Chain(), Chain()), (Chain(), Chain(instruction="find")), (Chain(instruction="find"), Chain())]
        for query, document in pairs:
            dual = DualEncoder(wrap(query), wrap(document))
            for role in Role:
                assert np.array_equal(CachedEncoder(dual, cache).encode(TEXTS, role), dual.encode(TEXTS, role))
        assert cache.info().hits == 0
        with pytest.raises(UnsupportedModelError, match="model="):
            CachedEncoder(DualEncoder(wrap(Chain()), wrap(DeterministicFakeEmbedding(size=5))), cache)

    def test_prompts_are_kept_apart(self, cache):
        for prompt in (None, "", "find: "):
            plain = wrap(Chain(), query_prompt=prompt)
            for call in (None, "other: "):
                found = wrap(Chain(), query_prompt=prompt, cache=cache).encode(TEXTS, Role.QUERY, prompt=call)
                assert np.array_equal(found, plain.encode(TEXTS, Role.QUERY, prompt=call))
        assert cache.info().hits == 2 * len(TEXTS)  # no prompt and an empty one are the same

    def test_nothing_of_a_failure_is_stored_and_no_key_is_shown(self, cache, tmp_path):
        embeddings = Chain()
        encoder = wrap(embeddings, cache=cache)
        patient(encoder.encoder)
        assert encoder.profile.dimensions == 5
        embeddings._faults[:] = [ServiceError(503)] * 99
        with pytest.raises(RemoteEncoderError) as caught:
            encoder.encode(TEXTS, Role.DOCUMENT)
        embeddings._faults.clear()
        encoder.encoder._documents = lambda texts: [[float("nan")] * 5 for _ in texts]
        with pytest.raises(VectorError, match="'text 0'"):
            encoder.encode(TEXTS, Role.DOCUMENT)
        assert cache.info().vectors == 0
        assert "canary" not in repr(caught.value) + repr(encoder) + str(cache.info())
        assert not any(b"canary" in item.read_bytes() for item in tmp_path.iterdir())
