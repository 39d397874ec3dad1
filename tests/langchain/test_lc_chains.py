"""The index inside what LangChain users build: chains, batches, agents' tools, callbacks."""

import pytest
from langchain_core.callbacks import AsyncCallbackHandler, BaseCallbackHandler
from langchain_core.documents import Document
from langchain_core.language_models import FakeListChatModel
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import ConfigurableField, RunnableLambda, RunnablePassthrough
from langchain_core.tools import create_retriever_tool

from rag_embeddings.langchain import InstructionEmbeddings, RecursiveTextSplitter, SentenceParentIndex
from rag_embeddings.testing.encoder import DeterministicEncoder

PAGES = {
    "bees": "Bees make honey. A hive has one queen.",
    "cats": "Cats purr. A cat sleeps most of the day.",
    "ships": "Ships float. The harbour is full of ships.",
}


@pytest.fixture
def index(tmp_path):
    splitter = RecursiveTextSplitter(chunk_size=100, tokenizer=len)
    with SentenceParentIndex(
        embeddings=DeterministicEncoder(), directory=tmp_path, splitter=splitter, k=1, tags=["mine"], metadata={"m": 1}
    ) as index:
        index.upsert([Document(page_content=text, id=name) for name, text in PAGES.items()])
        yield index


def joined(documents):
    return "\n".join(document.page_content for document in documents)


def chain_over(index, seen):
    prompt = ChatPromptTemplate.from_template("{context}\n\n{question}")
    model = FakeListChatModel(responses=["A queen."])
    note = RunnableLambda(lambda value: seen.append(value.to_string()) or value)
    context = {"context": index | RunnableLambda(joined), "question": RunnablePassthrough()}
    return context | prompt | note | model | StrOutputParser()


async def test_a_chain_answers_from_the_passage(index):
    seen = []
    chain = chain_over(index, seen)
    assert chain.invoke("What does a hive have?") == "A queen."
    assert await chain.ainvoke("What does a hive have?") == "A queen."
    assert seen == [f"Human: {PAGES['bees']}\n\nWhat does a hive have?"] * 2
    assert list(chain.stream("What does a hive have?"))


async def test_a_batch_is_its_calls(index):
    questions = ["hive queen", "cat day", "harbour ships"]
    expected = [index.invoke(question) for question in questions]
    assert [found[0].metadata["source_id"] for found in expected] == list(PAGES)
    assert index.batch(questions) == expected
    assert await index.abatch(questions) == expected
    assert [len(found) for found in index.batch(questions, k=2)] == [2, 2, 2]


async def test_k_can_be_bound_and_configured(index):
    assert len(index.bind(k=3).invoke("a")) == 3
    assert len(await index.bind(k=3).ainvoke("a")) == 3
    flexible = index.configurable_fields(k=ConfigurableField(id="k"))
    assert len(flexible.invoke("a")) == 1
    assert len(flexible.invoke("a", config={"configurable": {"k": 2}})) == 2
    assert len(await flexible.with_config(configurable={"k": 3}).ainvoke("a")) == 3


def test_a_configured_copy_of_a_memory_index_sees_its_documents():
    index = SentenceParentIndex(
        embeddings=DeterministicEncoder(), splitter=RecursiveTextSplitter(chunk_size=100, tokenizer=len)
    )
    index.upsert([Document(page_content=text, id=name) for name, text in PAGES.items()])
    flexible = index.configurable_fields(k=ConfigurableField(id="k"))
    assert len(flexible.invoke("a", config={"configurable": {"k": 2}})) == 2
    assert len(index.invoke("a")) == 3
    index.close()


class Events(BaseCallbackHandler):
    def __init__(self):
        self.seen = []

    def on_retriever_start(self, serialized, query, *, tags=None, metadata=None, name=None, **kwargs):
        self.seen.append(("start", query, name, tags, metadata))

    def on_retriever_end(self, documents, **kwargs):
        self.seen.append(("end", len(documents)))

    def on_retriever_error(self, error, **kwargs):
        self.seen.append(("error", type(error)))


class AsyncEvents(AsyncCallbackHandler):
    def __init__(self):
        self.seen = []

    async def on_retriever_start(self, serialized, query, **kwargs):
        self.seen.append("start")

    async def on_retriever_end(self, documents, **kwargs):
        self.seen.append("end")


async def test_callbacks_hear_of_every_search(index):
    events = Events()
    index.with_config(run_name="search", tags=["call"]).invoke("hive", config={"callbacks": [events]})
    start, end = events.seen
    assert start[:3] == ("start", "hive", "search")
    assert set(start[3]) == {"mine", "call"}
    assert start[4]["m"] == 1
    assert start[4]["ls_retriever_name"] == "sentenceparentindex"
    assert start[4]["ls_embedding_provider"] == "DeterministicEncoder"
    assert start[4]["ls_vector_store_provider"] == "SentenceParentIndex"
    assert end == ("end", 1)
    heard = AsyncEvents()
    await index.ainvoke("hive", config={"callbacks": [heard]})
    assert heard.seen == ["start", "end"]
    with pytest.raises(ValueError, match="k must be"):
        index.invoke("hive", config={"callbacks": [events]}, k=0)
    assert events.seen[-1] == ("error", ValueError)


def test_tracing_names_the_model():
    index = SentenceParentIndex(embeddings=InstructionEmbeddings(model="some/model"))
    params = index._get_ls_params()
    assert params["ls_embedding_model"] == "some/model"
    assert params["ls_embedding_provider"] == "InstructionEmbeddings"
    index.close()


async def test_an_agent_can_call_it_as_a_tool(index):
    tool = create_retriever_tool(index, "search_pages", "Searches the pages.", response_format="content_and_artifact")
    assert tool.invoke({"query": "hive queen"}) == PAGES["bees"]
    assert await tool.ainvoke({"query": "cat day"}) == PAGES["cats"]
    message = tool.invoke({"type": "tool_call", "id": "1", "name": "search_pages", "args": {"query": "harbour"}})
    assert message.artifact[0].metadata["source_id"] == "ships"


def test_the_retrieval_chain_of_langchain_classic(index):
    chains = pytest.importorskip("langchain_classic.chains", reason="langchain-classic is legacy, and optional")
    combine = RunnableLambda(lambda value: joined(value["context"]))
    assert chains.create_retrieval_chain(index, combine).invoke({"input": "hive queen"})["answer"] == PAGES["bees"]
