"""The catalog's data, its prompts byte for byte, and its look-ups."""

import copy
import json
import pickle
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_embeddings.encode.base import Role
from rag_embeddings.encode.catalog import CatalogEntry, entries, find, select
from rag_embeddings.encode.prompts import PromptChoice, choose_prompt
from rag_embeddings.encode.templates import fill, named_prompt, role_of, role_prompts, slots
from rag_embeddings.errors import UnsupportedModelError

QUERY, DOCUMENT = Role.QUERY, Role.DOCUMENT
WEB = "Given a web search query, retrieve relevant passages that answer the query"
BGE = "Represent this sentence for searching relevant passages: "
BGE_ZH = "为这个句子生成表示以用于检索相关文章："
STELLA = "Instruct: Given a web search query, retrieve relevant passages that answer the query.\nQuery: "

# What each model is given in front of a query and a document, written down from the models' publications and not from
# the catalog. None: not known to the catalog, left to the model's own configuration.
PROMPTS = {
    "BAAI/bge-small-en-v1.5": (BGE, ""),
    "BAAI/bge-base-en-v1.5": (BGE, ""),
    "BAAI/bge-large-en-v1.5": (BGE, ""),
    "BAAI/bge-base-zh-v1.5": (BGE_ZH, ""),
    "BAAI/bge-m3": ("", ""),
    "BAAI/bge-en-icl": (f"<instruct>{WEB}\n<query>", ""),
    "BAAI/bge-multilingual-gemma2": (f"<instruct>{WEB}\n<query>", ""),
    "intfloat/e5-base-v2": ("query: ", "passage: "),
    "intfloat/multilingual-e5-base": ("query: ", "passage: "),
    "intfloat/multilingual-e5-large-instruct": (f"Instruct: {WEB}\nQuery: ", ""),
    "intfloat/e5-mistral-7b-instruct": (f"Instruct: {WEB}\nQuery: ", ""),
    "thenlper/gte-large": ("", ""),
    "Alibaba-NLP/gte-large-en-v1.5": ("", ""),
    "Alibaba-NLP/gte-multilingual-base": ("", ""),
    "Alibaba-NLP/gte-modernbert-base": ("", ""),
    "Alibaba-NLP/gte-Qwen2-1.5B-instruct": (f"Instruct: {WEB}\nQuery: ", ""),
    "Alibaba-NLP/gte-Qwen2-7B-instruct": (f"Instruct: {WEB}\nQuery: ", ""),
    "hkunlp/instructor-large": (
        "Represent the Wikipedia question for retrieving supporting documents: ",
        "Represent the Wikipedia document for retrieval: ",
    ),
    "nomic-ai/nomic-embed-text-v1": ("search_query: ", "search_document: "),
    "nomic-ai/nomic-embed-text-v1.5": ("search_query: ", "search_document: "),
    "nomic-ai/nomic-embed-text-v2-moe": ("search_query: ", "search_document: "),
    "nomic-ai/modernbert-embed-base": ("search_query: ", "search_document: "),
    "lightonai/modernbert-embed-large": (None, None),
    "Snowflake/snowflake-arctic-embed-m": (BGE, ""),
    "Snowflake/snowflake-arctic-embed-m-long": (BGE, ""),
    "Snowflake/snowflake-arctic-embed-m-v1.5": (BGE, ""),
    "Snowflake/snowflake-arctic-embed-m-v2.0": ("query: ", ""),
    "Snowflake/snowflake-arctic-embed-l-v2.0": ("query: ", ""),
    "mixedbread-ai/mxbai-embed-large-v1": (BGE, ""),
    "mixedbread-ai/mxbai-embed-xsmall-v1": (None, None),
    "WhereIsAI/UAE-Large-V1": (BGE, ""),
    "MongoDB/mdbr-leaf-ir": (BGE, ""),
    "jinaai/jina-embeddings-v2-base-en": ("", ""),
    "jinaai/jina-embeddings-v3": (None, None),
    "jinaai/jina-embeddings-v4": (None, None),
    "jinaai/jina-embeddings-v5-text-small": ("Query: ", "Document: "),
    "jinaai/jina-embeddings-v5-text-nano": ("Query: ", "Document: "),
    "Qwen/Qwen3-Embedding-0.6B": (f"Instruct: {WEB}\nQuery:", ""),
    "Qwen/Qwen3-Embedding-8B": (f"Instruct: {WEB}\nQuery:", ""),
    "google/embeddinggemma-300m": ("task: search result | query: ", "title: none | text: "),
    "google/embeddinggemma-2": ("task: search result | query: ", "title: none | text: "),
    "NovaSearch/stella_en_400M_v5": (STELLA, ""),
    "NovaSearch/stella_en_1.5B_v5": (STELLA, ""),
    "nvidia/NV-Embed-v2": (f"Instruct: {WEB}\nQuery: ", ""),
    "nvidia/llama-embed-nemotron-8b": (f"Instruct: {WEB}\nQuery: ", ""),
    "Linq-AI-Research/Linq-Embed-Mistral": (f"Instruct: {WEB}\nQuery: ", ""),
    "Salesforce/SFR-Embedding-Mistral": (f"Instruct: {WEB}\nQuery: ", ""),
    "Salesforce/SFR-Embedding-2_R": (f"Instruct: {WEB}\nQuery: ", ""),
    "GritLM/GritLM-7B": (f"<|user|>\n{WEB}\n<|embed|>\n", "<|embed|>\n"),
    "microsoft/harrier-oss-v1-270m": (f"Instruct: {WEB}\nQuery:", ""),
    "microsoft/harrier-oss-v1-0.6b": (f"Instruct: {WEB}\nQuery:", ""),
    "HIT-TMG/KaLM-embedding-multilingual-mini-instruct-v1": (f"Instruct: {WEB} \n Query: ", ""),
    "KaLM-Embedding/KaLM-embedding-multilingual-mini-instruct-v2.5": (f"Instruct: {WEB} \n Query: ", ""),
    "ibm-granite/granite-embedding-english-r2": ("", ""),
    "sentence-transformers/all-MiniLM-L6-v2": ("", ""),
    "sentence-transformers/all-mpnet-base-v2": ("", ""),
    "sentence-transformers/multi-qa-mpnet-base-dot-v1": ("", ""),
    "minishlab/potion-retrieval-32M": ("", ""),
    "perplexity-ai/pplx-embed-context-v1-0.6b": ("", ""),
    "illuin-conteb/modernbert-large-insent": ("search_query: ", "search_document: "),
    "jxm/cde-small-v2": ("search_query: ", "search_document: "),
    "biu-nlp/abstract-sim-sentence": ("", ""),
    "voyageai/voyage-4-nano": (None, None),
    "openai/text-embedding-3-large": ("", ""),
    "cohere/embed-v4.0": ("", ""),
    "google/gemini-embedding-2": ("task: search result | query: ", "title: none | text: "),
}

ARGUMENTS = {
    "cohere/embed-english-v3.0": ({"input_type": "search_query"}, {"input_type": "search_document"}),
    "voyageai/voyage-3.5": ({"input_type": "query"}, {"input_type": "document"}),
    "google/gemini-embedding-001": ({"task_type": "RETRIEVAL_QUERY"}, {"task_type": "RETRIEVAL_DOCUMENT"}),
    "jinaai/jina-embeddings-v3": ({"task": "retrieval.query"}, {"task": "retrieval.passage"}),
    "jina/jina-embeddings-v3": ({"task": "retrieval.query"}, {"task": "retrieval.passage"}),
    "jinaai/jina-embeddings-v4": ({"task": "retrieval"}, {"task": "retrieval"}),
    "jinaai/jina-embeddings-v5-text-small": ({"task": "retrieval"}, {"task": "retrieval"}),
    "BAAI/bge-small-en-v1.5": ({}, {}),
    "openai/text-embedding-3-small": ({}, {}),
}

POOLINGS = {"mean", "cls", "lasttoken", "static", "mean_without_first", "latent_attention", None}
LICENCES = {"mit", "apache-2.0", "cc-by-nc-4.0", "gemma", "qwen-research", "nvidia", "proprietary", None}


def known(name: str) -> CatalogEntry:
    entry = find(name)
    assert entry is not None, name
    return entry


def named(names):
    return pytest.mark.parametrize("name", names)


# ------------------------------------------------------------------------------------------------------------- the data


def test_it_holds_at_least_a_hundred_models_of_thirty_families() -> None:
    assert len(entries()) >= 100
    assert len({entry.family for entry in entries()}) >= 30


def test_no_name_or_alias_stands_for_two_models() -> None:
    names = [name.lower() for entry in entries() for name in (entry.name, *entry.aliases)]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("entry", entries(), ids=lambda entry: entry.name)
def test_every_row_is_typed_and_in_range(entry: CatalogEntry) -> None:
    assert re.fullmatch(r"[\w.-]+/[\w.-]+", entry.name)
    assert entry.kind in {"open", "api"}
    assert re.fullmatch(r"[a-z0-9-]+", entry.family)
    assert entry.similarity in {"cosine", "dot", "euclidean"}
    assert entry.pooling in POOLINGS
    assert entry.licence in LICENCES
    assert entry.late_chunking in {"yes", "trained", "server", "short", "no", None}
    for value, low, high in (
        (entry.parameters, 10**6, 10**11),
        (entry.dimensions, 64, 8192),
        (entry.max_tokens, 64, 200_000),
        (entry.matryoshka_minimum, 8, 1024),
        (entry.late_chunking_window, 512, 8192),
        (entry.native_from, 4, 6),
        (entry.fails_from, 4, 6),
    ):
        assert value is None or (type(value) is int and low <= value <= high)
    for flag in (entry.matryoshka, entry.layers, entry.remote_code, entry.multilingual):
        assert flag in (True, False, None)
    assert type(entry.unlimited) is type(entry.prompt_in_pooling) is bool
    assert not (entry.unlimited and entry.max_tokens)
    assert type(entry.matryoshka_dimensions) is type(entry.aliases) is tuple
    assert list(entry.matryoshka_dimensions) == sorted(set(entry.matryoshka_dimensions))
    if entry.matryoshka_dimensions or entry.matryoshka_minimum:
        assert entry.matryoshka is True
    if entry.matryoshka_dimensions:
        assert entry.dimensions in entry.matryoshka_dimensions
    if entry.price_per_million is not None:
        assert entry.kind == "api"
        assert 0 < entry.price_per_million < 1
    assert (entry.kind == "api") == (entry.licence == "proprietary")
    assert bool(entry.parameter) == bool(entry.parameter_values)
    if entry.parameter:
        assert {"query", "document"} <= set(entry.parameter_values)
    if entry.query_model:
        assert find(entry.query_model) is not None


@pytest.mark.parametrize("entry", entries(), ids=lambda entry: entry.name)
def test_every_template_is_whole(entry: CatalogEntry) -> None:
    """Slots have defaults and defaults have slots; nothing is escaped twice; a prompt ends where the text begins."""
    assert (entry.query_prompt is None) == (entry.document_prompt is None)
    for template, defaults in (
        (entry.query_prompt, entry.query_defaults),
        (entry.document_prompt, entry.document_defaults),
    ):
        assert slots(template or "") == set(defaults)
        assert slots(template or "") <= {"task", "title", "domain", "text_type", "task_objective"}
    texts = [entry.query_prompt, entry.document_prompt, entry.query_suffix, entry.notes]
    texts += [*entry.query_defaults.values(), *entry.document_defaults.values(), *entry.task_prompts.values()]
    for text in texts:
        assert text is None or ("\\" not in text and "LoRA" not in text and text != "unknown")
    for role in Role:
        prompt = entry.prompt(role)
        assert prompt is None or "{" not in prompt


def test_values_that_publications_contradict_are_not_repeated() -> None:
    assert known("Alibaba-NLP/gte-Qwen2-1.5B-instruct").dimensions == 1536
    assert known("NovaSearch/stella_en_1.5B_v5").dimensions == 1024
    assert known("NovaSearch/stella_en_400M_v5").dimensions == 1024
    assert known("NovaSearch/jasper_en_vision_language_v1").dimensions is None
    assert known("mixedbread-ai/mxbai-embed-2d-large-v1").dimensions == 1024
    assert known("cohere/embed-multilingual-v3.0").dimensions == 1024
    assert known("illuin-conteb/modernbert-large-insent").dimensions is None
    assert not [entry.name for entry in entries() if entry.max_tokens == 514]
    assert known("intfloat/multilingual-e5-large").max_tokens == 512
    assert known("sentence-transformers/paraphrase-multilingual-mpnet-base-v2").max_tokens == 128
    assert known("ibm-granite/granite-embedding-311m-multilingual-r2").max_tokens == 32768
    assert known("ibm-granite/granite-embedding-97m-multilingual-r2").max_tokens == 32768
    assert known("jinaai/jina-embeddings-v5-text-nano").max_tokens is None
    assert known("jinaai/jina-embeddings-v4").licence == "qwen-research"
    assert known("sentence-transformers/msmarco-distilbert-base-tas-b").pooling is None
    assert known("perplexity-ai/pplx-embed-context-v1-4b").licence is None
    assert known("hkunlp/instructor-large").licence is None


def test_unknown_is_none_and_not_a_word() -> None:
    for entry in entries():
        values = json.dumps({key: value for key, value in entry.to_dict().items() if key != "notes"}).lower()
        assert not re.search(r'unknown|unverified|n/a|"none needed"|"conflict', values), entry.name
    assert known("hkunlp/instructor-large").max_tokens is None
    assert known("mixedbread-ai/mxbai-embed-xsmall-v1").query_prompt is None
    assert known("jina/jina-embeddings-v3").price_per_million is None


def test_dot_product_models_say_so() -> None:
    dot = {entry.name for entry in entries() if entry.similarity == "dot"}
    assert dot == {
        "sentence-transformers/multi-qa-mpnet-base-dot-v1",
        "sentence-transformers/msmarco-distilbert-base-tas-b",
    }


def test_entries_are_values() -> None:
    entry = known("google/embeddinggemma-300m")
    assert pickle.loads(pickle.dumps(entry)) == copy.deepcopy(entry) == entry  # noqa: S301 - made right here
    assert len({*entries(), *entries()}) == len(entries())
    assert json.loads(json.dumps(entry.to_dict())) == entry.to_dict()
    assert entry.to_dict()["matryoshka_dimensions"] == [128, 256, 512, 768]


def test_reading_the_catalog_loads_nothing_heavy() -> None:
    code = (
        "import sys; from rag_embeddings.encode.catalog import find; assert find('BAAI/bge-m3');"
        "print({'torch', 'transformers', 'sentence_transformers'} & set(sys.modules) or '')"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == ""


# ---------------------------------------------------------------------------------------------------------- the prompts


def test_the_table_is_wide_enough() -> None:
    assert len(PROMPTS) >= 60
    assert len({known(name).family for name in PROMPTS}) >= 25


@named(PROMPTS)
def test_prompts_to_the_byte(name: str) -> None:
    entry = known(name)
    assert (entry.prompt(QUERY), entry.prompt(DOCUMENT)) == PROMPTS[name]


@named(ARGUMENTS)
def test_arguments_instead_of_prompts(name: str) -> None:
    entry = known(name)
    assert (entry.arguments(QUERY), entry.arguments(DOCUMENT)) == ARGUMENTS[name]


def test_arguments_of_other_tasks() -> None:
    jina = known("jinaai/jina-embeddings-v3")
    assert jina.arguments(DOCUMENT, task="clustering") == {"task": "separation"}
    assert jina.arguments(DOCUMENT, task="sts") == {"task": "text-matching"}
    assert jina.arguments(QUERY, task="retrieval.passage") == {"task": "retrieval.passage"}
    assert known("cohere/embed-v4.0").arguments(QUERY, task="Clustering") == {"input_type": "clustering"}
    assert known("gemini-embedding-001").arguments(QUERY, task="qa") == {"task_type": "QUESTION_ANSWERING"}
    with pytest.raises(UnsupportedModelError, match=r"no task 'poetry'.*classification, clustering, sts"):
        jina.arguments(QUERY, task="poetry")


@named(
    ["Qwen/Qwen3-Embedding-4B", "microsoft/harrier-oss-v1-27b", "intfloat/e5-mistral-7b-instruct", "nvidia/NV-Embed-v2"]
)
def test_a_task_in_words_goes_into_queries_and_never_into_documents(name: str) -> None:
    gap = "" if name.startswith(("Qwen", "microsoft")) else " "
    entry = known(name)
    assert entry.prompt(QUERY, task="Find {braces}\n too") == f"Instruct: Find {{braces}}\n too\nQuery:{gap}"
    assert entry.prompt(DOCUMENT, task="Find {braces}\n too") == ""


def test_other_families_templates() -> None:
    assert known("BAAI/bge-en-icl").prompt(QUERY, task="T") == "<instruct>T\n<query>"
    assert known("BAAI/bge-en-icl").suffix(QUERY) == "\n<response>"
    assert known("BAAI/bge-en-icl").suffix(DOCUMENT) == ""
    assert known("tencent/KaLM-Embedding-Gemma3-12B-2511").prompt(QUERY, task="T") == "Instruct: T \n Query: "
    assert known("GritLM/GritLM-7B").prompt(QUERY, task="T") == "<|user|>\nT\n<|embed|>\n"
    gemma = known("google/embeddinggemma-300m")
    assert gemma.prompt(QUERY, task="question answering") == "task: question answering | query: "
    assert gemma.prompt(DOCUMENT, title="On Whales") == "title: On Whales | text: "
    assert gemma.prompt(DOCUMENT, title="") == "title: none | text: "
    assert gemma.prompt(QUERY, title="On Whales") == "task: search result | query: "


def test_instructor() -> None:
    entry = known("hkunlp/instructor-xl")
    assert not entry.prompt_in_pooling
    assert entry.prompt(QUERY, domain="legal") == "Represent the legal question for retrieving supporting documents: "
    assert entry.prompt(QUERY, domain="") == "Represent the question for retrieving supporting documents: "
    assert entry.prompt(DOCUMENT, domain="") == "Represent the document for retrieval: "
    assert (
        entry.prompt(QUERY, domain="Medicine", text_type="sentence", task_objective="clustering")
        == "Represent the Medicine sentence for clustering: "
    )


def test_named_tasks() -> None:
    nomic = known("nomic-ai/nomic-embed-text-v1.5")
    for role in Role:
        assert nomic.prompt(role, task="clustering") == "clustering: "
        assert nomic.prompt(role, task="Classification") == "classification: "
    stella = known("NovaSearch/stella_en_400M_v5")
    assert stella.prompt(QUERY, task="s2s_query") == "Instruct: Retrieve semantically similar text.\nQuery: "
    assert stella.prompt(DOCUMENT, task="s2s_query") == ""
    assert stella.prompt(QUERY, task="Find code.") == "Instruct: Find code.\nQuery: "
    assert known("jinaai/jina-embeddings-v5-text-small").prompt(QUERY, task="clustering") == "Query: "


@pytest.mark.parametrize(
    ("name", "wishes", "message"),
    [
        (
            "intfloat/e5-base-v2",
            {"task": "clustering"},
            r"e5-base-v2' has no slot for task='clustering' \(slots: none\)",
        ),
        ("nomic-ai/nomic-embed-text-v1", {"task": "poetry"}, r"its tasks are classification, clustering"),
        ("BAAI/bge-m3", {"title": "T"}, r"no slot for title='T'"),
        ("google/embeddinggemma-300m", {"domain": "law"}, r"slots: task, title"),
        ("hkunlp/instructor-base", {"task": "find"}, r"slots: domain, task_objective, text_type"),
        ("Qwen/Qwen3-Embedding-8B", {"task": " "}, r"task is empty"),
        ("jinaai/jina-embeddings-v3", {"task": "poetry"}, r"its tasks are classification, clustering, sts"),
    ],
)
@pytest.mark.parametrize("role", list(Role))
def test_a_wish_without_a_place_is_refused(name: str, wishes: dict, message: str, role: Role) -> None:
    with pytest.raises(UnsupportedModelError, match=message):
        known(name).prompt(role, **wishes)


@given(task=st.text(min_size=1).filter(str.strip))
def test_a_task_reaches_the_prompt_as_it_is(task: str) -> None:
    assert known("Qwen/Qwen3-Embedding-0.6B").prompt(QUERY, task=task) == "Instruct: " + task + "\nQuery:"


@given(value=st.text(min_size=1), other=st.text())
def test_filling_a_template_puts_values_between_its_literals(value: str, other: str) -> None:
    assert fill("a {x} b: ", {"x": value, "unused": other}) == f"a {value} b: "
    assert fill("{{}} {x}", {"x": value}) == "{} " + value


def test_filling_needs_every_slot() -> None:
    with pytest.raises(KeyError):
        fill("a {x}", {})


# ----------------------------------------------------------------------------------------------- a model's own prompts


@pytest.mark.parametrize(
    ("name", "role"),
    [
        *((name, QUERY) for name in ("query", "s2p_query", "s2s_query", "retrieval.query", "web_search_query")),
        *((name, QUERY) for name in ("search_query", "Retrieval-query", "QUERY")),
        *((name, DOCUMENT) for name in ("document", "passage", "corpus", "retrieval.passage", "search_document")),
        *((name, DOCUMENT) for name in ("Retrieval-document", "retrieval_document")),
        *((name, None) for name in ("clustering", "classification", "STS", "text", "sts_query", "", "text-matching")),
    ],
)
def test_roles_of_prompt_names(name: str, role: Role | None) -> None:
    assert role_of(name) is role


@pytest.mark.parametrize(
    ("prompts", "expected"),
    [
        ({}, {}),
        ({"query": "", "document": None}, {}),
        ({"query": "q: ", "document": ""}, {QUERY: "q: "}),
        ({"s2s_query": "s", "s2p_query": "p"}, {QUERY: "p"}),
        ({"s2s_query": "s"}, {QUERY: "s"}),
        ({"query": "", "s2p_query": "p"}, {QUERY: "p"}),
        ({"corpus": "c", "passage": "p"}, {DOCUMENT: "p"}),
        ({"passage": "p", "document": "d", "clustering": "x"}, {DOCUMENT: "d"}),
        ({"retrieval.query": "Q", "retrieval.passage": "P", "separation": "S"}, {QUERY: "Q", DOCUMENT: "P"}),
        ({"web_search_query": "w", "sts_query": "x"}, {QUERY: "w"}),
        (
            {"search_query": "search_query: ", "search_document": "search_document: "},
            {QUERY: "search_query: ", DOCUMENT: "search_document: "},
        ),
    ],
)
def test_role_prompts(prompts: dict, expected: dict) -> None:
    assert role_prompts(prompts) == expected
    assert role_prompts(dict(reversed(prompts.items()))) == expected


def test_named_prompt() -> None:
    assert named_prompt({"Clustering": "c: ", "empty": ""}, "clustering") == "c: "
    assert named_prompt({"Clustering": "c: ", "empty": ""}, "empty") is None
    assert named_prompt({}, "query") is None


# ------------------------------------------------------------------------------------------------------ who decides it


def test_the_caller_then_the_model_then_the_catalog_then_none() -> None:
    bge = known("BAAI/bge-small-en-v1.5")
    own = {"query": "own: ", "document": ""}
    assert choose_prompt(QUERY, given="mine: ", own=own, entry=bge) == PromptChoice("mine: ", "caller")
    assert choose_prompt(QUERY, given="", own=own, entry=bge) == PromptChoice("", "caller")
    assert choose_prompt(QUERY, own=own, entry=bge) == PromptChoice("own: ", "model")
    assert choose_prompt(QUERY, own={"query": ""}, entry=bge) == PromptChoice(BGE, "catalog")
    assert choose_prompt(DOCUMENT, own=own, entry=bge) == PromptChoice("", "catalog")
    assert choose_prompt(QUERY, own={}) == PromptChoice("", "none")
    assert choose_prompt(QUERY, entry=known("voyageai/voyage-4-nano")) == PromptChoice("", "none")


def test_a_task_goes_past_the_models_own_default() -> None:
    qwen = known("Qwen/Qwen3-Embedding-0.6B")
    own = {"query": f"Instruct: {WEB}\nQuery:", "document": "", "code": "Instruct: Find code\nQuery:"}
    assert choose_prompt(QUERY, own=own, entry=qwen, task="Find law") == PromptChoice(
        "Instruct: Find law\nQuery:", "catalog"
    )
    assert choose_prompt(DOCUMENT, own=own, entry=qwen, task="Find law") == PromptChoice("", "catalog")
    assert choose_prompt(QUERY, own=own, entry=qwen, task="code") == PromptChoice(own["code"], "model")
    assert choose_prompt(QUERY, own=own, entry=qwen, task=WEB) == PromptChoice(own["query"], "model")


def test_a_wish_that_does_not_concern_the_role_leaves_the_models_own_prompt() -> None:
    gemma = known("google/embeddinggemma-300m")
    own = {"query": "own query: ", "document": "own document: "}
    assert choose_prompt(QUERY, own=own, entry=gemma, title="T").prompt == "own query: "
    assert choose_prompt(DOCUMENT, own=own, entry=gemma, title="T") == PromptChoice("title: T | text: ", "catalog")
    stella = {"s2p_query": "p: ", "s2s_query": "s: "}
    assert choose_prompt(QUERY, own=stella, task="s2s_query") == PromptChoice("s: ", "model")
    assert choose_prompt(DOCUMENT, own=stella, task="s2s_query") == PromptChoice("", "none")


def test_a_task_for_a_model_nobody_knows_is_refused() -> None:
    with pytest.raises(UnsupportedModelError, match=r"task='Find law' has no place.*own prompts are: query"):
        choose_prompt(QUERY, own={"query": "q: "}, task="Find law")


# ------------------------------------------------------------------------------------------------------------ look-ups


def test_find_by_name_and_alias_in_any_case() -> None:
    for entry in entries():
        assert find(entry.name) is find(entry.name.upper()) is entry
        for alias in entry.aliases:
            assert find(alias) is entry
    assert find("all-MiniLM-L6-v2") is find("sentence-transformers/all-MiniLM-L6-v2") is not None
    assert known("text-embedding-3-small").kind == "api"
    assert known("jina-embeddings-v3").kind == "api"
    assert known("jinaai/jina-embeddings-v3").kind == "open"


@named(
    [
        "bge-small-en-v1.5",
        "./BAAI/bge-small-en-v1.5",
        "/models/BAAI/bge-small-en-v1.5",
        "me/bge-small-en-v1.5",
        "BAAI/bge-small-en-v1.5-finetuned",
        "BAAI/bge-small-en-v1.5/",
        "BAAI/bge-small",
        "",
    ]
)
def test_a_folder_or_a_lookalike_is_not_matched(name: str) -> None:
    assert find(name) is None


def test_select_without_a_condition_is_everything() -> None:
    assert select() == list(entries())


def test_select_conditions() -> None:
    assert {entry.name for entry in select(family="Qwen3")} == {
        f"Qwen/Qwen3-Embedding-{size}" for size in ("0.6B", "4B", "8B")
    }
    assert {entry.kind for entry in select(kind="api")} == {"api"}
    assert len(select(kind="api")) + len(select(kind="open")) == len(entries())
    long = select(max_tokens=8192)
    assert known("BAAI/bge-m3") in long
    assert known("minishlab/potion-base-8M") in long
    assert known("jinaai/jina-embeddings-v5-text-nano") not in long
    assert known("hkunlp/instructor-xl") not in select(max_tokens=1)
    narrow = select(dimensions=256)
    assert known("Qwen/Qwen3-Embedding-8B") in narrow
    assert known("nomic-ai/nomic-embed-text-v1.5") in narrow
    assert known("minishlab/potion-base-8M") in narrow
    assert known("BAAI/bge-m3") not in narrow
    assert known("mixedbread-ai/mxbai-embed-large-v1") not in narrow
    assert {entry.licence for entry in select(licence="MIT")} == {"mit"}
    assert known("BAAI/bge-m3") in select(multilingual=True)
    assert known("BAAI/bge-m3") not in select(multilingual=False)
    assert known("nomic-ai/modernbert-embed-base") in select(late_chunking=True)
    assert known("Qwen/Qwen3-Embedding-8B") in select(late_chunking=False)
    assert select(family="qwen3", kind="api") == []


@given(
    max_tokens=st.none() | st.sampled_from([1, 512, 8192]),
    dimensions=st.none() | st.sampled_from([256, 384, 1024]),
    multilingual=st.none() | st.booleans(),
    late_chunking=st.none() | st.booleans(),
)
def test_conditions_intersect(max_tokens, dimensions, multilingual, late_chunking) -> None:
    both = select(max_tokens=max_tokens, dimensions=dimensions, multilingual=multilingual, late_chunking=late_chunking)
    each = (
        select(max_tokens=max_tokens),
        select(dimensions=dimensions),
        select(multilingual=multilingual),
        select(late_chunking=late_chunking),
    )
    assert both == [entry for entry in entries() if all(entry in found for found in each)]


def test_dimensions() -> None:
    nomic = known("nomic-ai/nomic-embed-text-v1.5")
    assert [nomic.accepts_dimensions(width) for width in (768, 256, 64, 100, 1024, 0)] == [
        True,
        True,
        True,
        *[False] * 3,
    ]
    qwen = known("Qwen/Qwen3-Embedding-0.6B")
    assert [qwen.accepts_dimensions(width) for width in (1024, 333, 32, 31, 1025)] == [True, True, True, False, False]
    assert known("voyageai/voyage-3.5").accepts_dimensions(2048) is True
    assert known("mixedbread-ai/mxbai-embed-large-v1").accepts_dimensions(512) is None
    assert known("sentence-transformers/all-MiniLM-L6-v2").accepts_dimensions(128) is False
    assert known("BAAI/bge-m3").accepts_dimensions(512) is None
    assert known("mixedbread-ai/mxbai-embed-2d-large-v1").layers is True


def test_remote_code_depends_on_the_version_of_transformers() -> None:
    nomic = known("nomic-ai/nomic-embed-text-v1.5")
    assert nomic.needs_remote_code("4.57.1") is True
    assert nomic.needs_remote_code("5.23.0") is False
    assert not nomic.fails_on("5.23.0")
    gte = known("Alibaba-NLP/gte-large-en-v1.5")
    assert gte.needs_remote_code("5.0.0") is True
    assert gte.fails_on("5.0.0.dev0")
    assert not gte.fails_on("4.57.1")
    assert known("perplexity-ai/pplx-embed-v1-4b").fails_on("5.1")
    assert known("nomic-ai/modernbert-embed-base").needs_remote_code("5.23.0") is False
    assert known("openai/text-embedding-3-small").needs_remote_code("5.23.0") is None


def test_late_chunking_follows_pooling() -> None:
    for entry in entries():
        if entry.pooling in {"cls", "lasttoken", "static"}:
            assert entry.late_chunking_friendly is False, entry.name
    assert known("nomic-ai/nomic-embed-text-v1.5").late_chunking_window == 2048
    assert known("voyage-context-3").late_chunking == "server"
    assert known("perplexity-ai/pplx-embed-context-v1-0.6b").late_chunking == "trained"
    assert known("lightonai/DenseOn").late_chunking_friendly is None


def test_the_docs_name_models_that_the_catalog_has() -> None:
    page = Path(__file__).parents[2] / "docs" / "models.md"
    names = set(re.findall(r"`([A-Za-z][\w-]+/[\w.-]+)`", page.read_text("utf-8")))
    assert len(names) > 20
    assert not [name for name in names if find(name) is None and not name.startswith(("src/", "examples/"))]
    assert f"catalog of {len(entries())} embedding models" in page.read_text("utf-8")


def test_description_search_names_its_query_model() -> None:
    assert known("biu-nlp/abstract-sim-sentence").query_model == "biu-nlp/abstract-sim-query"
    assert known("biu-nlp/abstract-sim-sentence").pooling == "mean_without_first"
