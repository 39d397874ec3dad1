"""`InstructionEmbedding`: settings, copies, prompts, concurrency."""

import asyncio
import json
import pickle
import subprocess
import sys
from copy import copy, deepcopy
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from llama_index.core.callbacks import CallbackManager, CBEventType, LlamaDebugHandler
from llama_index.core.ingestion.pipeline import get_transformation_hash
from llama_index.core.rate_limiter import TokenBucketRateLimiter
from llama_index.core.schema import Document, MetadataMode, TextNode
from llama_index.core.storage.kvstore import SimpleKVStore
from pydantic import ValidationError

from hostile_texts import texts
from rag_embeddings.encode.base import Role
from rag_embeddings.encode.transformer import TransformerEncoder
from rag_embeddings.llama_index import (
    DualEncoderEmbedding,
    InstructionEmbedding,
    RecursiveNodeParser,
    SentenceParentRetriever,
)
from rag_embeddings.split.recursive import RecursiveSplitter
from rag_embeddings.text import Document as CoreDocument

TEXT = "The river rose."


def test_a_query_and_a_document_of_one_text_differ_when_prompts_do(prompted):
    embedding = InstructionEmbedding(prompted)
    assert not np.allclose(embedding.get_query_embedding(TEXT), embedding.get_text_embedding(TEXT), atol=1e-3)
    bare = InstructionEmbedding(prompted, query_prompt="", document_prompt="")
    assert np.allclose(bare.get_query_embedding(TEXT), bare.get_text_embedding(TEXT), atol=1e-6)
    own = InstructionEmbedding(prompted, query_prompt="text: ")
    assert np.allclose(own.get_query_embedding(TEXT), embedding.get_text_embedding(TEXT), atol=1e-6)


@pytest.mark.parametrize("text", ["one\ntwo", "one\r\ntwo\n\n", "\n lead", "tail \n", "a\u2028b", "a\tb"])
def test_text_reaches_the_encoder_as_it_is(prompted, text, monkeypatch):
    embedding = InstructionEmbedding(prompted)
    seen = []
    encode = TransformerEncoder.encode

    def spy(self, texts, role):
        seen.append((list(texts), role))
        return encode(self, texts, role)

    monkeypatch.setattr(TransformerEncoder, "encode", spy)
    vectors = [embedding.get_text_embedding(text), embedding.get_query_embedding(text)]
    vectors += embedding.get_text_embedding_batch([text])
    assert seen == [([text], Role.DOCUMENT), ([text], Role.QUERY), ([text], Role.DOCUMENT)]
    assert np.allclose(vectors[0], TransformerEncoder(prompted).encode([text], Role.DOCUMENT)[0], atol=1e-6)


def test_newlines_reach_the_tokenizer(bytewise):
    """A byte-level tokenizer sees a newline; a base class that replaces it by a space would make these equal."""
    embedding = InstructionEmbedding(bytewise)
    for embed in (embedding.get_text_embedding, embedding.get_query_embedding):
        assert not np.allclose(embed("river\nrose"), embed("river rose"), atol=1e-3)


@cache
def loaded(folder):
    return InstructionEmbedding(folder, device="cpu"), TransformerEncoder(folder, device="cpu")


@settings(max_examples=40, deadline=None)
@given(text=texts.filter(bool))
def test_vectors_of_hostile_documents_are_the_cores(bytewise, text):
    embedding, core = loaded(bytewise)
    chunks = RecursiveSplitter(12, tokenizer=core).split(CoreDocument(text, "name"))
    nodes = embedding(RecursiveNodeParser(chunk_size=12, embed_model=embedding)([Document(text=text, id_="name")]))
    assert [node.node_id for node in nodes] == [chunk.id for chunk in chunks]
    found = [node.embedding for node in nodes]
    expected = core.encode([chunk.embedding_text for chunk in chunks], Role.DOCUMENT)
    assert np.allclose(np.reshape(found, expected.shape), expected, rtol=0, atol=1e-5)


def test_vectors_are_the_cores(minilm):
    texts = ["Paris is in France.", "x", "long " * 400, "日本語\n\nテキスト"]
    core = TransformerEncoder(device="cpu")
    assert np.allclose(minilm.get_text_embedding_batch(texts), core.encode(texts, Role.DOCUMENT), atol=1e-5)
    assert np.allclose(minilm.get_query_embedding(texts[0]), core.encode(texts[:1], Role.QUERY)[0], atol=1e-5)


def test_sixteen_concurrent_callers_get_what_one_after_the_other_gets(minilm):
    texts = [f"Text number {number}. " * (number % 5 + 1) for number in range(16)]
    expected = [minilm.get_text_embedding(text) for text in texts]

    async def ask():
        return await asyncio.gather(
            *(minilm.aget_text_embedding(text) for text in texts),
            *(minilm.aget_text_embedding_batch(texts[start:]) for start in range(4)),
        )

    found = asyncio.run(ask())
    assert np.allclose(found[:16], expected, atol=1e-5)
    for start, batch in enumerate(found[16:]):
        assert np.allclose(batch, expected[start:], atol=1e-5)


def test_settings_are_kept_in_json():
    made = InstructionEmbedding(
        model_name="m",
        query_prompt="",
        document_prompt="d",
        task="t",
        prompt_slots={"domain": "d"},
        catalog_name="BAAI/bge-m3",
        pooling="cls",
        similarity_name="dot",
        layers=2,
        max_tokens=9,
        device="cpu",
        revision="r",
        normalize=False,
        dimensions=3,
        too_long="error",
        batch_tokens=5,
        precision="bf16",
        trust_remote_code=True,
        embed_batch_size=7,
        num_workers=2,
    )
    again = InstructionEmbedding.from_json(made.to_json())
    assert again.to_dict() == made.to_dict()
    assert json.loads(made.to_json())["class_name"] == "InstructionEmbedding"
    assert InstructionEmbedding(**made.model_dump()).to_dict() == made.to_dict()
    assert again.encoder.settings() == made.encoder.settings()
    assert made.encoder.settings() == {
        "model": "m",
        "device": "cpu",
        "revision": "r",
        "query_prompt": "",
        "document_prompt": "d",
        "task": "t",
        "prompt_slots": {"domain": "d"},
        "catalog_name": "BAAI/bge-m3",
        "pooling": "cls",
        "similarity": "dot",
        "layers": 2,
        "max_tokens": 9,
        "normalize": False,
        "dimensions": 3,
        "too_long": "error",
        "batch_tokens": 5,
        "precision": "bf16",
        "trust_remote_code": True,
        "progress": False,
    }


def test_every_setting_of_the_encoder_can_be_set():
    known = set(TransformerEncoder("m").settings()) - {"model", "progress"}
    assert {"similarity_name" if name == "similarity" else name for name in known} <= set(
        InstructionEmbedding.model_fields
    )


def test_the_pipelines_cache_key_tells_settings_apart():
    nodes = [TextNode(text=TEXT)]
    options = [{}, {"query_prompt": ""}, {"query_prompt": "a"}, {"document_prompt": ""}, {"dimensions": 8}]
    options += [{"normalize": True}, {"revision": "a"}, {"too_long": "error"}, {"model_name": "b"}]
    options += [{"task": "a"}, {"prompt_slots": {"domain": "a"}}, {"catalog_name": "BAAI/bge-m3"}, {"pooling": "cls"}]
    options += [{"similarity_name": "dot"}, {"layers": 2}, {"max_tokens": 9}]
    options += [{"precision": "bf16"}, {"precision": "auto"}]
    keys = {get_transformation_hash(nodes, InstructionEmbedding(**option)) for option in options}
    assert len(keys) == len(options)


@pytest.mark.parametrize(
    "options",
    [
        {"dimensions": 0},
        {"batch_tokens": 0},
        {"too_long": "cut"},
        {"precision": "fp16"},
        {"embed_batch_size": 0},
        {"query_instruction": "x"},
    ],
)
def test_nonsense_is_refused(options):
    with pytest.raises(ValidationError, match=next(iter(options))):
        InstructionEmbedding(**options)


def test_a_cache_that_mixes_queries_and_texts_is_refused():
    with pytest.raises(ValidationError, match="one vector"):
        InstructionEmbedding(embeddings_cache=SimpleKVStore())


def test_a_pickle_has_no_weights_and_does_no_harm(prompted):
    embedding = InstructionEmbedding(
        prompted,
        callback_manager=CallbackManager([LlamaDebugHandler(print_trace_on_end=False)]),
        rate_limiter=TokenBucketRateLimiter(requests_per_minute=1000),
    )
    before = embedding.get_text_embedding(TEXT)
    handlers, limiter, encoder = embedding.callback_manager.handlers, embedding.rate_limiter, embedding.encoder
    pickled = pickle.dumps(embedding)
    assert len(pickled) < 5_000
    again = pickle.loads(pickled)  # noqa: S301
    assert again.to_dict() == embedding.to_dict()
    assert np.allclose(again.get_text_embedding(TEXT), before, atol=1e-6)
    assert embedding.callback_manager.handlers is handlers
    assert embedding.rate_limiter is limiter
    assert embedding.encoder is encoder
    assert np.allclose(embedding.get_text_embedding(TEXT), before, atol=1e-6)


@pytest.mark.parametrize("duplicate", [deepcopy, copy, InstructionEmbedding.model_copy])
def test_copies_share_the_model(prompted, duplicate):
    embedding = InstructionEmbedding(prompted, callback_manager=CallbackManager([LlamaDebugHandler()]))
    encoder = embedding.encoder
    again = duplicate(embedding)
    assert again.encoder is encoder
    assert again.to_dict() == embedding.to_dict()


def test_an_assigned_setting_takes_effect(prompted):
    embedding = InstructionEmbedding(prompted)
    before = embedding.get_query_embedding(TEXT)
    changed = embedding.model_copy(update={"query_prompt": ""})
    assert not np.allclose(changed.get_query_embedding(TEXT), before, atol=1e-3)
    embedding.query_prompt = ""
    assert np.allclose(embedding.get_query_embedding(TEXT), changed.get_query_embedding(TEXT), atol=1e-6)


def test_making_one_loads_nothing():
    code = (
        "import sys; from rag_embeddings.llama_index import InstructionEmbedding, RecursiveNodeParser as P\n"
        "e = InstructionEmbedding(); P(embed_model=e).to_dict(); e.encoder; print('torch' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"


def test_callbacks_and_rate_limiter_are_used(prompted):
    asked = []

    class Limiter(TokenBucketRateLimiter):
        def acquire(self, num_tokens=0):
            asked.append(num_tokens)

    debug = LlamaDebugHandler(print_trace_on_end=False)
    embedding = InstructionEmbedding(
        prompted, callback_manager=CallbackManager([debug]), rate_limiter=Limiter(requests_per_minute=1000)
    )
    embedding.get_text_embedding_batch(["a", "b"])
    embedding.get_query_embedding("c")
    assert len(asked) == 2
    assert len(debug.get_event_pairs(CBEventType.EMBEDDING)) == 2


def test_as_a_transformation_it_embeds_what_models_may_see(prompted):
    embedding = InstructionEmbedding(prompted)
    nodes = [TextNode(text="river", metadata={"a": "rose", "b": "door"}, excluded_embed_metadata_keys=["b"])]
    expected = embedding.get_text_embedding("a: rose\n\nriver")
    assert np.allclose(embedding(nodes)[0].embedding, expected, atol=1e-6)
    assert np.allclose(asyncio.run(embedding.acall(nodes))[0].embedding, expected, atol=1e-6)
    assert nodes[0].get_content(MetadataMode.EMBED) == "a: rose\n\nriver"


def test_a_cache_of_ours_tells_queries_from_texts(prompted, tmp_path):
    path = str(tmp_path / "vectors.sqlite")
    plain = InstructionEmbedding(prompted)
    for _ in range(2):
        cached = InstructionEmbedding(prompted, cache_path=path)
        assert np.allclose(cached.get_query_embedding(TEXT), plain.get_query_embedding(TEXT), atol=1e-6)
        assert np.allclose(cached.get_text_embedding(TEXT), plain.get_text_embedding(TEXT), atol=1e-6)
    assert cached.encoder.cache.info().hits == 2


def test_two_models_as_one(prompted, bytewise):
    dual = DualEncoderEmbedding(
        query_embedding=InstructionEmbedding(bytewise, document_prompt="never used "), text_embedding=prompted
    )
    text = InstructionEmbedding(prompted)
    assert np.allclose(dual.get_text_embedding(TEXT), text.get_text_embedding(TEXT), atol=1e-6)
    query = InstructionEmbedding(bytewise)
    assert np.allclose(dual.get_query_embedding(TEXT), query.get_query_embedding(TEXT), atol=1e-6)
    assert dual.model_name == f"{bytewise} -> {prompted}"
    assert isinstance(DualEncoderEmbedding.from_json(dual.to_json()).text_embedding, InstructionEmbedding)
    with SentenceParentRetriever.from_documents(
        [Document(text="The river rose.", id_="a"), Document(text="Copper melts.", id_="b")], embed_model=dual
    ) as retriever:
        expected = np.array(dual.get_text_embedding_batch(["The river rose.", "Copper melts."]))
        scores = expected @ dual.get_query_embedding("a")
        found = retriever.retrieve("a")
        assert [result.node.ref_doc_id for result in found] == ["ab"[n] for n in np.argsort(-scores)]
    dual.query_embedding.query_prompt = "find: "
    changed = InstructionEmbedding(bytewise, query_prompt="find: ")
    assert np.allclose(dual.get_query_embedding(TEXT), changed.get_query_embedding(TEXT), atol=1e-6)
