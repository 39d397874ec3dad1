"""The modes of retrieval as LangChain users reach them: settings, calls, chains, tools, compressors."""

import asyncio
import copy
import pickle
import threading

import pytest
from langchain_core.documents import Document
from langchain_core.language_models import FakeListChatModel
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import ConfigurableField, RunnableLambda, RunnablePassthrough
from langchain_core.tools import create_retriever_tool
from pydantic import ValidationError

from rag_embeddings.encode.base import Role
from rag_embeddings.errors import SpaceMismatchError, StoreError
from rag_embeddings.langchain import (
    LinkedChunkRetriever,
    RecursiveTextSplitter,
    SentenceHighlighter,
    SentenceParentIndex,
)
from rag_embeddings.langchain.convert import from_match
from rag_embeddings.retrieve.merge import Merge
from rag_embeddings.retrieve.search import Retrieval
from rag_embeddings.retrieve.window import Window
from rag_embeddings.store.directory import IndexDirectory
from rag_embeddings.store.links import LinkRule
from rag_embeddings.store.where import Where
from rag_embeddings.testing.encoder import DeterministicEncoder

pytest.importorskip("bm25s", reason="hybrid search needs the extra 'keywords'")

PAGES = {
    "bees": "Bees make honey. A hive has one queen. The queen lays eggs. Workers guard the hive.",
    "cats": "Cats purr. A cat sleeps most of the day. Kittens play at night. Cats hunt mice.",
    "wasps": "Wasps sting. A nest has one queen. The queen lays many eggs. Wasps eat meat.",
    "ships": "Ships float. The harbour is full of ships. Sailors sleep on board. Ships carry honey.",
}


def splitter():
    return RecursiveTextSplitter(chunk_size=32, tokenizer=len)


def documents():
    return [
        Document(
            page_content=text,
            id=name,
            metadata={"kind": "insect" if name in {"bees", "wasps"} else "other", "size": len(name)},
        )
        for name, text in PAGES.items()
    ]


@pytest.fixture(scope="module", params=["memory", "disk"])
def index(request, tmp_path_factory):
    """Nobody changes it."""
    place = None if request.param == "memory" else tmp_path_factory.mktemp("modes") / "index"
    with SentenceParentIndex.from_documents(
        documents(), DeterministicEncoder(128), directory=place, splitter=splitter(), link_rule=LinkRule(0.5), k=3
    ) as made:
        yield made


def by_length(query, texts):
    return [len(text) for text in texts]


MODES = [
    {},
    {"k": 2},
    {"search_type": "mmr", "lambda_mult": 0.2, "fetch_k": 8},
    {"search_type": "hybrid"},
    {"search_type": "hybrid", "fusion": "rrf", "beta": 0.5},
    {"score": "mean"},
    {"score": "sum"},
    {"filter": {"kind": "insect"}},
    {"filter": Where.between("size", 5, None)},
    {"pattern": "(?i)queen"},
    {"token_budget": 70, "tokenizer": len},
    {"window": 1},
    {"window": Window(1, around="match")},
    {"merge": True},
    {"merge": Merge(0.2), "window": 1, "search_type": "hybrid"},
    {"links": 60, "tokenizer": len},
    {"reranker": by_length},
]
WORDS = {"filter": "where", "lambda_mult": "balance", "links": "link_tokens"}


def core(index, options):
    options = {WORDS.get(name, name): value for name, value in options.items()}
    if isinstance(options.get("where"), dict):
        options["where"] = Where.equals("kind", "insect")
    directory = index.directory
    if isinstance(directory, IndexDirectory):
        return Retrieval(directory, index.embeddings, **{"k": 3} | options).search("the queen of the hive")
    with IndexDirectory.open(directory) as opened:
        return Retrieval(opened, index.embeddings, **{"k": 3} | options).search("the queen of the hive")


@pytest.mark.parametrize("options", MODES, ids=lambda options: ",".join(options) or "plain")
async def test_each_mode_is_the_cores_by_every_way_of_asking(index, options):
    question = "the queen of the hive"
    expected = [from_match(match) for match in core(index, options)]
    assert expected
    assert index.invoke(question, **options) == expected
    assert await index.ainvoke(question, **options) == expected
    assert index.as_retriever(**options).invoke(question) == expected
    assert index.as_retriever(search_kwargs=options).invoke(question) == expected
    assert index.bind(**options).invoke(question) == expected
    with SentenceParentIndex(embeddings=index.embeddings, directory=index.directory, **{"k": 3} | options) as made:
        assert made.invoke(question) == expected
        assert await made.ainvoke(question) == expected


def test_a_call_changes_nothing_for_the_next(index):
    before = index.invoke("queen")
    index.invoke("queen", search_type="hybrid", window=2, k=1)
    assert index.invoke("queen") == before
    assert index.as_retriever(k=1).k == 1
    assert index.k == 3


def test_k_and_a_budget_put_each_other_out_of_force(index):
    budgeted = index.as_retriever(token_budget=60, tokenizer=len)
    assert sum(len(passage.page_content) for passage in budgeted.invoke("queen")) <= 60
    assert len(budgeted.invoke("queen", k=5)) == 5
    assert len(budgeted.as_retriever(k=6).invoke("queen")) == 6
    assert len(index.invoke("queen", token_budget=1, tokenizer=len)) == 1
    with pytest.raises(ValueError, match="k or token_budget"):
        index.invoke("queen", k=2, token_budget=10)


async def test_a_misspelt_setting_is_an_error_everywhere(index):
    with pytest.raises(TypeError, match="serch_type"):
        index.invoke("queen", serch_type="mmr")
    with pytest.raises(TypeError, match="serch_type"):
        await index.ainvoke("queen", serch_type="mmr")
    with pytest.raises(TypeError, match="serch_type"):
        index.as_retriever(serch_type="mmr")
    with pytest.raises(ValidationError, match="serch_type"):
        SentenceParentIndex(embeddings=DeterministicEncoder(), serch_type="mmr")
    for wrong in ({"search_type": "fuzzy"}, {"window": -1}, {"lambda_mult": 2.0}, {"fusion": "rrf"}, {"links": -5}):
        with pytest.raises(ValueError, match=r"search_type|window|lambda|balance|fusion|link"):
            index.invoke("queen", **wrong)
        with pytest.raises(ValueError, match=r"search_type|window|lambda|balance|fusion|link"):
            SentenceParentIndex(embeddings=DeterministicEncoder(), **wrong)
    with pytest.raises(TypeError, match="filter is a Where or a dictionary"):
        index.invoke("queen", filter={"$and": []})


def test_a_copy_by_pydantic_has_its_own_settings_and_the_same_documents():
    with SentenceParentIndex(embeddings=DeterministicEncoder(128), splitter=splitter(), k=3) as index:
        index.upsert(documents())
        assert len(index.model_copy(update={"k": 1}).invoke("queen")) == 1
        assert index.model_copy(deep=True).invoke("queen") == index.invoke("queen")
        other = index.model_copy(update={"embeddings": DeterministicEncoder(64)})
        with pytest.raises(SpaceMismatchError):  # its queries would be encoded by the embeddings of the original
            other.invoke("queen")
        with pytest.raises(ValidationError):
            index.model_copy(update={"kk": 1})


def test_settings_can_be_configured_copied_and_pickled(tmp_path):
    with SentenceParentIndex.from_documents(
        documents(), DeterministicEncoder(128), directory=tmp_path, splitter=splitter(), window=1, merge=Merge(0.3)
    ) as index:
        flexible = index.configurable_fields(search_type=ConfigurableField(id="how"))
        expected = index.invoke("honey", search_type="hybrid")
        assert flexible.invoke("honey", config={"configurable": {"how": "hybrid"}}) == expected
        thawed = pickle.loads(pickle.dumps(index))  # noqa: S301 - our own
        for other in (copy.copy(index), copy.deepcopy(index), thawed):
            with other:
                assert (other.window, other.merge) == (1, Merge(0.3))
                assert other.invoke("honey") == index.invoke("honey")


def test_from_documents_with_ids_and_without_a_trace_when_it_fails(tmp_path):
    with SentenceParentIndex.from_documents(documents()[:2], DeterministicEncoder(), ids=["x", "y"]) as index:
        assert index.document_ids() == ["x", "y"]
    with pytest.raises(ValueError, match="2 documents need as many ids"):
        SentenceParentIndex.from_documents(documents()[:2], DeterministicEncoder(), ids=["x"], directory=tmp_path)
    with SentenceParentIndex.from_documents(documents(), DeterministicEncoder(), directory=tmp_path) as index:
        assert sorted(index.document_ids()) == sorted(PAGES)


async def test_async_with_and_async_upkeep(tmp_path):
    made = await SentenceParentIndex.afrom_documents(documents(), DeterministicEncoder(), directory=tmp_path)
    async with made as index:
        assert sorted(await index.aprune(["bees", "cats"])) == ["ships", "wasps"]
        assert index.document_ids() == ["bees", "cats"]
    with SentenceParentIndex(embeddings=DeterministicEncoder(), directory=tmp_path) as other:  # the lock was given back
        other.delete(["bees"])


async def test_async_search_leaves_the_loop_free():
    """While a search waits for its encoder and reranker, the loop goes on: counted in turns, not in time."""
    turns, release = 0, threading.Event()

    class Waiting(DeterministicEncoder):
        def encode(self, texts, role):
            assert role is Role.DOCUMENT or release.wait(60)
            return super().encode(texts, role)

    def waiting(query, texts):
        assert release.wait(60)
        return [1.0] * len(texts)

    with SentenceParentIndex.from_documents(documents(), Waiting(128), splitter=splitter()) as index:
        tasks = [asyncio.create_task(index.ainvoke("honey", reranker=waiting, k=n + 1)) for n in range(3)]
        while turns < 50:
            await asyncio.sleep(0)
            turns += 1
        assert not any(task.done() for task in tasks)
        release.set()
        assert [len(found) for found in await asyncio.gather(*tasks)] == [1, 2, 3]


# --- linked chunks ---------------------------------------------------------------------------------------------------


async def test_linked_passages_of_other_documents_come_along(tmp_path):
    with LinkedChunkRetriever.from_documents(
        documents(), DeterministicEncoder(128), directory=tmp_path, splitter=splitter(), link_rule=LinkRule(0.5), k=1
    ) as retriever:
        assert isinstance(retriever, BaseRetriever)
        found = retriever.invoke("the queen lays eggs")
        assert [passage.page_content for passage in found] == ["The queen lays eggs.", "The queen lays many eggs."]
        assert found[1].metadata["source_id"] == "wasps"
        assert found[1].metadata["linked_from"] == found[0].id
        assert await retriever.ainvoke("the queen lays eggs") == found
        assert len(retriever.invoke("the queen lays eggs", links=0)) == 1
        assert len(retriever.invoke("the queen lays eggs", links=10, tokenizer=len)) == 1
        retriever.delete(["wasps"])
        assert [passage.metadata["source_id"] for passage in retriever.invoke("the queen lays eggs")] == ["bees"]
        retriever.add_documents([Document(page_content="The queen lays very many eggs.", id="ants")])
        assert [passage.metadata["source_id"] for passage in retriever.invoke("the queen lays eggs")] == [
            "bees",
            "ants",
        ]
    with SentenceParentIndex(embeddings=DeterministicEncoder(128), directory=tmp_path, k=1, links=100) as index:
        assert len(index.invoke("the queen lays eggs")) == 2
        index.upsert(documents()[2:3])  # an index keeps up the links that its directory has
        assert len(index.invoke("the queen lays eggs")) == 3


def test_without_links_the_error_says_what_to_do():
    with (
        SentenceParentIndex.from_documents(documents(), DeterministicEncoder(), links=10) as index,
        pytest.raises(StoreError, match="not linked"),
    ):
        index.invoke("queen")


# --- highlighting ----------------------------------------------------------------------------------------------------


async def test_highlighting_our_own_results_computes_nothing(index):
    found = index.invoke("one queen in a hive", merge=True, k=2)
    before = [document.model_copy(deep=True) for document in found]
    highlighter = SentenceHighlighter(before="<mark>", after="</mark>", sentences=1)
    shown = highlighter.compress_documents(found, "one queen in a hive")
    assert shown[0].page_content.count("<mark>") == 1
    assert "<mark>A hive has one queen.</mark>" in shown[0].page_content
    assert found == before
    for old, new in zip(found, shown, strict=True):
        start, end = new.metadata["highlights"][0]
        assert [start + old.metadata["start_index"], end + old.metadata["start_index"]] == old.metadata["matches"][0]
        assert new.id == old.id
        assert new.page_content.replace("<mark>", "").replace("</mark>", "") == old.page_content
    assert await highlighter.acompress_documents(found, "one queen in a hive") == shown
    plain = SentenceHighlighter(before="", after="").compress_documents(found, "?")
    assert [document.page_content for document in plain] == [document.page_content for document in found]


def test_highlighting_behind_any_other_retriever():
    class Elsewhere(BaseRetriever):
        def _get_relevant_documents(self, query, *, run_manager):
            return documents()[:2]

    classic = pytest.importorskip("langchain_classic.retrievers", reason="langchain-classic is legacy, and optional")
    highlighter = SentenceHighlighter(embeddings=DeterministicEncoder(128), sentences=1)
    chain = classic.ContextualCompressionRetriever(base_compressor=highlighter, base_retriever=Elsewhere())
    bees, cats = chain.invoke("who guards the hive? workers")
    assert "**Workers guard the hive.**" in bees.page_content
    assert bees.metadata["kind"] == "insect"
    assert cats.page_content.count("**") == 2
    with pytest.raises(ValueError, match="2 of 2 passages do not say"):
        SentenceHighlighter().compress_documents(documents()[:2], "hive")
    with pytest.raises(ValidationError, match="sentence"):
        SentenceHighlighter(sentence=1)


def test_a_highlighter_obeys_its_fields_as_they_are_now():
    highlighter = SentenceHighlighter(embeddings=DeterministicEncoder(128), sentences=1)

    def marks(one):
        (shown,) = one.compress_documents(documents()[:1], "queen eggs")
        return shown.page_content.count("**") // 2

    assert marks(highlighter) == 1
    highlighter.sentences = 3
    assert marks(highlighter) == 3
    assert marks(highlighter.model_copy(update={"sentences": 2})) == 2
    highlighter.least = 1.0
    assert marks(highlighter) == 0
    highlighter = SentenceHighlighter(sentences=2)
    highlighter.embeddings = DeterministicEncoder(128)
    assert marks(highlighter) == 2


async def test_results_with_context_in_front_are_highlighted_too():
    from rag_embeddings.langchain import LayoutTextSplitter
    from rag_embeddings.read.markdown import read_markdown

    source = read_markdown("# Rules\n\nThese rules are for all.\n\nTrains are paid. Planes are not.\n", id="rules")
    layout = LayoutTextSplitter(chunk_size=42, tokenizer=len)
    with SentenceParentIndex(embeddings=DeterministicEncoder(128), splitter=layout, context_in_content=True) as index:
        index.upsert([source])
        (found,) = index.invoke("trains", k=1)
        (shown,) = SentenceHighlighter(sentences=1).compress_documents([found], "trains")
    assert found.page_content == "Rules\n\nTrains are paid. Planes are not."
    assert shown.page_content == found.page_content.replace("Trains are paid.", "**Trains are paid.**")


# --- in what users build ---------------------------------------------------------------------------------------------


async def test_an_agents_tool_with_a_budget_and_highlights(index):
    retriever = index.as_retriever(token_budget=120, tokenizer=len, merge=True)
    tool = create_retriever_tool(retriever, "search", "Searches the pages.", response_format="content_and_artifact")
    message = await tool.ainvoke({"type": "tool_call", "id": "1", "name": "search", "args": {"query": "queen eggs"}})
    assert sum(len(passage.page_content) for passage in message.artifact) <= 120
    assert "queen" in message.content


async def test_plain_lcel(index):
    prompt = ChatPromptTemplate.from_template("{passages}\n\n{question}")
    highlight = SentenceHighlighter(sentences=1)

    def shown(value):
        passages = highlight.compress_documents(value["found"], value["question"])
        return "\n".join(passage.page_content for passage in passages)

    retriever = index.as_retriever(search_type="hybrid", k=1)
    chain = (
        {"found": retriever, "question": RunnablePassthrough()}
        | RunnablePassthrough.assign(passages=RunnableLambda(shown))
        | prompt
    )
    value = await chain.ainvoke("What guards the hive?")
    assert "**Workers guard the hive.**" in value.to_string()
    model = FakeListChatModel(responses=["Workers."])
    assert (chain | model | StrOutputParser()).invoke("What guards the hive?") == "Workers."


def test_the_retrieval_chain_of_langchain_classic(index):
    chains = pytest.importorskip("langchain_classic.chains", reason="langchain-classic is legacy, and optional")
    documents_chain = pytest.importorskip("langchain_classic.chains.combine_documents")
    prompt = ChatPromptTemplate.from_template("{context}\n\n{input}")
    combine = documents_chain.create_stuff_documents_chain(FakeListChatModel(responses=["One."]), prompt)
    retriever = index.as_retriever(search_type="mmr", k=2, window=1)
    result = chains.create_retrieval_chain(retriever, combine).invoke({"input": "How many queens has a hive?"})
    assert result["answer"] == "One."
    assert [passage.page_content for passage in result["context"]] == [
        passage.page_content for passage in retriever.invoke("How many queens has a hive?")
    ]
