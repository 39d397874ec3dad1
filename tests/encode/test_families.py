"""What reaches the tokenizer for every family of models, byte by byte, and the vectors that come of it.

Each family has a small stand-in: random weights behind the modules and prompts of its published configuration, found
under the name of the real model.
"""

import functools
import json
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer import modules

import toy_models
from rag_embeddings.encode.base import Role
from rag_embeddings.encode.catalog import find
from rag_embeddings.encode.resolve import Source
from rag_embeddings.encode.transformer import TransformerEncoder
from toy_models import Toy

BGE = "Represent this sentence for searching relevant passages: "
ASK = "Given a web search query, retrieve relevant passages that answer the query"

# The modules of the published models: pooling, what follows it, which side is padded.
toy = functools.partial(Toy, limit=256)
MEAN = toy()
MEAN_BARE = toy(normalize=False)
MEAN_CAUSAL = toy(tokenizer="bpe", causal=True)
CLS = toy(pooling="cls")
CLS_BARE = toy(pooling="cls", normalize=False)
CLS_DENSE = toy(pooling="cls", dense=16)
LAST = toy(pooling="lasttoken", tokenizer="bpe", causal=True, left=True)
LAST_BARE = toy(pooling="lasttoken", tokenizer="bpe", causal=True, normalize=False)
DENSE = toy(dense=24)
DENSE_BARE = toy(dense=24, normalize=False)
MULTILINGUAL = toy(tokenizer="unigram")
MULTILINGUAL_BARE = toy(tokenizer="unigram", normalize=False)
MULTILINGUAL_CLS = toy(pooling="cls", tokenizer="unigram")
STATIC = toy(pooling=None, normalize=False)
STATIC_NORMALIZED = toy(pooling=None)


@dataclass(frozen=True)
class Family:
    """A row: a model, its stand-in, the prompts of its published configuration, and what is expected.

    Attributes:
        name: The model.
        toy: The modules of its stand-in.
        query: What stands in front of a query.
        document: What stands in front of a document.
        own: Prompts in its ``config_sentence_transformers.json``.
        suffix: What stands behind a query.
        silent: Whether its pooling configuration does not say if the prompt is pooled.
        plain: Whether it is a plain transformer, without a list of modules.
    """

    name: str
    toy: Toy
    query: str
    document: str = ""
    own: dict[str, str] = field(default_factory=dict)
    suffix: str = ""
    silent: bool = False
    plain: bool = False


FAMILIES = [
    Family("BAAI/bge-small-en-v1.5", CLS, BGE),
    Family("BAAI/bge-base-zh-v1.5", CLS, "为这个句子生成表示以用于检索相关文章："),
    Family("BAAI/bge-m3", MULTILINGUAL_CLS, ""),
    Family("BAAI/bge-en-icl", LAST, f"<instruct>{ASK}\n<query>", suffix="\n<response>"),
    Family("BAAI/bge-multilingual-gemma2", LAST, f"<instruct>{ASK}\n<query>"),
    Family("intfloat/e5-small-v2", MEAN, "query: ", "passage: "),
    Family("intfloat/multilingual-e5-base", MULTILINGUAL, "query: ", "passage: "),
    Family("intfloat/multilingual-e5-large-instruct", MULTILINGUAL, f"Instruct: {ASK}\nQuery: "),
    Family(
        "intfloat/e5-mistral-7b-instruct",
        LAST,
        f"Instruct: {ASK}\nQuery: ",
        own={
            "web_search_query": f"Instruct: {ASK}\nQuery: ",
            "sts_query": "Instruct: Retrieve semantically similar text.\nQuery: ",
        },
    ),
    Family("thenlper/gte-small", MEAN, ""),
    Family("Alibaba-NLP/gte-base-en-v1.5", CLS_BARE, ""),
    Family("Alibaba-NLP/gte-multilingual-base", MULTILINGUAL_CLS, ""),
    Family("Alibaba-NLP/gte-modernbert-base", CLS_BARE, ""),
    Family("Alibaba-NLP/gte-Qwen2-1.5B-instruct", LAST, f"Instruct: {ASK}\nQuery: "),
    Family(
        "Alibaba-NLP/gte-Qwen2-7B-instruct",
        LAST,
        f"Instruct: {ASK}\nQuery: ",
        own={"query": f"Instruct: {ASK}\nQuery: "},
    ),
    Family(
        "hkunlp/instructor-large",
        DENSE,
        "Represent the Wikipedia question for retrieving supporting documents: ",
        "Represent the Wikipedia document for retrieval: ",
        silent=True,
    ),
    Family("nomic-ai/nomic-embed-text-v1", MEAN_BARE, "search_query: ", "search_document: "),
    Family("nomic-ai/nomic-embed-text-v1.5", MEAN_BARE, "search_query: ", "search_document: "),
    Family(
        "nomic-ai/nomic-embed-text-v2-moe",
        MULTILINGUAL,
        "search_query: ",
        "search_document: ",
        own={"query": "search_query: ", "passage": "search_document: ", "Classification": "classification: "},
    ),
    Family("nomic-ai/modernbert-embed-base", MEAN, "search_query: ", "search_document: "),
    Family("Snowflake/snowflake-arctic-embed-xs", CLS, BGE, own={"query": BGE}),
    Family("Snowflake/snowflake-arctic-embed-m-long", CLS, BGE),
    Family("Snowflake/snowflake-arctic-embed-m-v1.5", CLS, BGE, own={"query": BGE}),
    Family("Snowflake/snowflake-arctic-embed-m-v2.0", MULTILINGUAL_CLS, "query: ", own={"query": "query: "}),
    Family("Snowflake/snowflake-arctic-embed-l-v2.0", MULTILINGUAL_CLS, "query: ", own={"query": "query: "}),
    Family("mixedbread-ai/mxbai-embed-large-v1", CLS_BARE, BGE, own={"query": BGE, "passage": ""}),
    Family("mixedbread-ai/mxbai-embed-2d-large-v1", CLS_BARE, BGE, own={"query": BGE}),
    Family("WhereIsAI/UAE-Large-V1", CLS_BARE, BGE),
    Family("MongoDB/mdbr-leaf-ir", DENSE, BGE),
    Family("jinaai/jina-embeddings-v2-base-en", MEAN_BARE, ""),
    Family(
        "jinaai/jina-embeddings-v3",
        MULTILINGUAL,
        "Represent the query for retrieving evidence documents: ",
        "Represent the document for retrieval: ",
        own={
            "retrieval.query": "Represent the query for retrieving evidence documents: ",
            "retrieval.passage": "Represent the document for retrieval: ",
            "separation": "",
            "text-matching": "",
        },
    ),
    Family("jinaai/jina-embeddings-v5-text-small", LAST, "Query: ", "Document: "),
    Family("Qwen/Qwen3-Embedding-0.6B", LAST, f"Instruct: {ASK}\nQuery:"),
    Family(
        "Qwen/Qwen3-Embedding-8B",
        LAST,
        f"Instruct: {ASK}\nQuery:",
        own={"query": f"Instruct: {ASK}\nQuery:", "document": ""},
    ),
    Family(
        "google/embeddinggemma-300m",
        DENSE,
        "task: search result | query: ",
        "title: none | text: ",
        own={
            "query": "task: search result | query: ",
            "document": "title: none | text: ",
            "Clustering": "task: clustering | query: ",
            "STS": "task: sentence similarity | query: ",
        },
    ),
    Family("google/embeddinggemma-2", DENSE, "task: search result | query: ", "title: none | text: "),
    Family(
        "NovaSearch/stella_en_400M_v5",
        DENSE_BARE,
        f"Instruct: {ASK}.\nQuery: ",
        own={
            "s2p_query": f"Instruct: {ASK}.\nQuery: ",
            "s2s_query": "Instruct: Retrieve semantically similar text.\nQuery: ",
        },
    ),
    Family("NovaSearch/stella_en_1.5B_v5", DENSE_BARE, f"Instruct: {ASK}.\nQuery: "),
    Family("nvidia/llama-embed-nemotron-8b", MEAN_CAUSAL, f"Instruct: {ASK}\nQuery: "),
    Family("Linq-AI-Research/Linq-Embed-Mistral", LAST, f"Instruct: {ASK}\nQuery: "),
    Family("Salesforce/SFR-Embedding-2_R", LAST_BARE, f"Instruct: {ASK}\nQuery: "),
    Family("GritLM/GritLM-7B", MEAN_BARE, f"<|user|>\n{ASK}\n<|embed|>\n", "<|embed|>\n", silent=True),
    Family(
        "microsoft/harrier-oss-v1-270m",
        LAST,
        f"Instruct: {ASK}\nQuery:",
        own={
            "web_search_query": f"Instruct: {ASK}\nQuery:",
            "sts_query": "Instruct: Retrieve semantically similar text\nQuery:",
        },
    ),
    Family("microsoft/harrier-oss-v1-0.6b", LAST, f"Instruct: {ASK}\nQuery:"),
    Family("HIT-TMG/KaLM-embedding-multilingual-mini-instruct-v1", MEAN_CAUSAL, f"Instruct: {ASK} \n Query: "),
    Family("KaLM-Embedding/KaLM-embedding-multilingual-mini-instruct-v2.5", MEAN, f"Instruct: {ASK} \n Query: "),
    Family("tencent/KaLM-Embedding-Gemma3-12B-2511", LAST, f"Instruct: {ASK} \n Query: "),
    Family("ibm-granite/granite-embedding-30m-english", CLS, ""),
    Family("ibm-granite/granite-embedding-english-r2", CLS, ""),
    Family("ibm-granite/granite-embedding-311m-multilingual-r2", MULTILINGUAL_CLS, ""),
    Family("sentence-transformers/all-MiniLM-L12-v2", MEAN, ""),
    Family("sentence-transformers/all-mpnet-base-v2", MEAN, ""),
    Family("sentence-transformers/multi-qa-mpnet-base-dot-v1", CLS_BARE, ""),
    Family("sentence-transformers/paraphrase-multilingual-MiniLM-L12-v2", MULTILINGUAL_BARE, ""),
    Family("sentence-transformers/LaBSE", CLS_DENSE, ""),
    Family("sentence-transformers/static-retrieval-mrl-en-v1", STATIC, ""),
    Family("minishlab/potion-retrieval-32M", STATIC_NORMALIZED, ""),
    Family("lightonai/DenseOn", CLS, ""),
    Family("perplexity-ai/pplx-embed-v1-0.6b", MEAN_BARE, ""),
    Family("illuin-conteb/modernbert-large-insent", MEAN, "search_query: ", "search_document: "),
    Family("biu-nlp/abstract-sim-sentence", MEAN_BARE, "", plain=True),
]
TEXTS = ["the river rose", " line\nbreak \r\n", "  two  spaces  ", "河水 – über {task} {text} %s"]
_HOME = tempfile.TemporaryDirectory(prefix="families_")


@functools.cache
def base(description: str) -> Path:
    """Make the modules of a stand-in; they are shared by all families that have the same."""
    return toy_models.save(Path(tempfile.mkdtemp(dir=_HOME.name)), Toy(**json.loads(description)))


def stand_in(family: Family) -> Path:
    """Make the folder of a family's stand-in."""
    folder = Path(_HOME.name) / family.name
    if folder.exists():
        return folder
    shutil.copytree(base(json.dumps(vars(family.toy))), folder)
    path = folder / "config_sentence_transformers.json"
    path.write_text(json.dumps({"prompts": family.own, "__version__": {"sentence_transformers": "3.0.0"}}))
    if family.silent:
        (path,) = folder.glob("*Pooling/config.json")
        settings = json.loads(path.read_text())
        del settings["include_prompt"]
        path.write_text(json.dumps(settings))
    if family.plain:
        (folder / "modules.json").unlink()
        path.unlink()
    return folder


@pytest.fixture
def hub(monkeypatch):
    """Has a stand-in of each family, under the name of the real model."""

    def resolve(model: str, **_: Any) -> Source:
        family = next(family for family in FAMILIES if family.name == model)
        return Source(model, stand_in(family), "0123456789abcdef0123456789abcdef01234567")

    monkeypatch.setattr("rag_embeddings.encode.setup.resolve", resolve)


class Recorder:
    """Stands in for the tokenizer and keeps every string that reaches it."""

    def __init__(self, encoder):
        self.strings = []
        for entry in encoder._load()[0].inputs.values():
            self.inner = entry._backend
            entry._backend = self

    def encode_batch_fast(self, texts, **options):
        self.strings.extend(texts)
        return self.inner.encode_batch_fast(texts, **options)

    def encode(self, text, **options):
        return self.inner.encode(text, **options)


def test_the_table_has_forty_families_of_published_models():
    assert len({family.name for family in FAMILIES}) == len(FAMILIES) >= 40
    assert all(find(family.name) for family in FAMILIES)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_the_tokenizer_gets_the_published_bytes_and_the_vectors_are_those_of_sentence_transformers(hub, family):
    encoder = TransformerEncoder(family.name, device="cpu")
    vectors = encode_recorded(encoder)
    expected = {
        Role.QUERY: [family.query + text + family.suffix for text in TEXTS],
        Role.DOCUMENT: [family.document + text for text in TEXTS],
    }
    for role in Role:
        found, strings = vectors[role]
        assert [string.encode() for string in strings] == [string.encode() for string in expected[role]]
        assert np.allclose(found, reference(family, role), rtol=0, atol=1e-5)


def encode_recorded(encoder):
    vectors = {}
    for role in Role:
        recorder = Recorder(encoder)
        found = encoder.encode(TEXTS, role)
        vectors[role] = found, list(recorder.strings)
    return vectors


def reference(family, role):
    """The vectors of sentence-transformers, given the prompts that the model's authors publish."""
    texts = [text + family.suffix for text in TEXTS] if role is Role.QUERY else TEXTS
    model = loaded(json.dumps(vars(family.toy)))
    model.prompts = {"query": family.query, "document": family.document}
    if not isinstance(model[0], modules.StaticEmbedding):
        model.set_pooling_include_prompt(not family.silent)
    if family.plain:
        return plain_reference(model, texts)
    return model.encode_query(texts) if role is Role.QUERY else model.encode_document(texts)


@functools.cache
def loaded(description):
    return SentenceTransformer(str(base(description)), device="cpu", local_files_only=True)


def plain_reference(model, texts):
    """The code on the card of abstract-sim: the mean over all tokens but the first."""
    batch = model.tokenizer(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        states = model[0].auto_model(**batch).last_hidden_state[:, 1:, :]
    mask = batch["attention_mask"][:, 1:].unsqueeze(-1).float()
    return ((states * mask).sum(dim=1) / mask.sum(dim=1)).numpy()
