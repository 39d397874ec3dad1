"""Both frameworks' suites for the retrievers in every mode in which they are made."""

import pytest
from langchain_core.documents import Document
from langchain_tests.integration_tests import RetrieversIntegrationTests
from langchain_tests.integration_tests.indexer import AsyncDocumentIndexTestSuite, DocumentIndexerTestSuite
from llama_index.core.schema import Document as LlamaIndexDocument

from rag_embeddings.langchain import LinkedChunkRetriever, RecursiveTextSplitter, SentenceParentIndex
from rag_embeddings.llama_index import LinkedChunkRetriever as LlamaIndexLinkedChunkRetriever
from rag_embeddings.llama_index import RecursiveNodeParser, SentenceParentRetriever
from rag_embeddings.retrieve.merge import Merge
from rag_embeddings.retrieve.window import Window
from rag_embeddings.store.directory import IndexDirectory
from rag_embeddings.store.links import LinkRule
from rag_embeddings.store.where import Where
from rag_embeddings.testing.encoder import DeterministicEncoder
from rag_embeddings.testing.llama_index import check_retriever

pytest.importorskip("bm25s", reason="hybrid search needs the extra 'keywords'")

PASSAGES = {
    "a": "Cats purr. Dogs bark.",
    "b": "A cat sat on the mat. The mat was red.",
    "c": "Purring is a cat's song. Cows moo.",
    "d": "The cat came back. It purred.",
}
QUERY = "the cat purrs"


def by_length(query, texts):
    return [float(len(text)) for text in texts]


class Modes(RetrieversIntegrationTests):
    kind = SentenceParentIndex
    options: dict = {}  # noqa: RUF012 - replaced, not changed

    @pytest.fixture(autouse=True)
    def _filled(self):
        splitter = RecursiveTextSplitter(chunk_size=25, tokenizer=len)
        with IndexDirectory.open(None) as self.directory:
            index = SentenceParentIndex(
                embeddings=DeterministicEncoder(),
                directory=self.directory,
                splitter=splitter,
                link_rule=LinkRule(0.999),
            )
            index.upsert([Document(page_content=text, id=name, metadata={"n": 1}) for name, text in PASSAGES.items()])
            yield

    @property
    def retriever_constructor(self):
        return self.kind

    @property
    def retriever_constructor_params(self):
        return {"embeddings": DeterministicEncoder(), "directory": self.directory} | self.options

    @property
    def retriever_query_example(self):
        return QUERY


class TestHybrid(Modes):
    options = {"search_type": "hybrid"}  # noqa: RUF012


class TestMaximalMarginalRelevance(Modes):
    options = {"search_type": "mmr"}  # noqa: RUF012


class TestWindowAndMerge(Modes):
    options = {"window": Window(1, around="match"), "merge": Merge(0.9), "filter": {"n": 1}}  # noqa: RUF012


class TestReranker(Modes):
    options = {"reranker": by_length, "pattern": "(?i)[a-z]"}  # noqa: RUF012


class TestLinkedChunks(Modes):
    """Nothing is similar enough to be linked: linked passages would come on top of k."""

    kind = LinkedChunkRetriever


class TestLinkedIndex(DocumentIndexerTestSuite):
    @pytest.fixture
    def index(self):
        with LinkedChunkRetriever(embeddings=DeterministicEncoder()) as index:
            yield index


class TestAsyncLinkedIndex(AsyncDocumentIndexTestSuite):
    @pytest.fixture
    async def index(self):
        async with LinkedChunkRetriever(embeddings=DeterministicEncoder()) as index:
            yield index


@pytest.mark.parametrize(
    "options",
    [
        {"vector_store_query_mode": "hybrid"},
        {"window": 1},
        {"window": Window(1, around="match"), "filters": Where.exists("n")},
        {"merge": True, "token_budget": 60, "tokenizer": len},
        {"reranker": by_length},
        {"score": "sum", "pattern": "(?i)cat"},
    ],
    ids=",".join,
)
def test_llama_index(options):
    documents = [LlamaIndexDocument(id_=name, text=text, metadata={"n": 1}) for name, text in PASSAGES.items()]
    parser = RecursiveNodeParser(chunk_size=25, tokenizer=len)
    with SentenceParentRetriever.from_documents(
        documents, embed_model=DeterministicEncoder(), node_parser=parser, **options
    ) as retriever:
        check_retriever(retriever, [QUERY, "red mat"], texts=PASSAGES)


def test_llama_index_with_links():
    documents = [LlamaIndexDocument(id_=name, text=text) for name, text in PASSAGES.items()]
    with LlamaIndexLinkedChunkRetriever.from_documents(
        documents, embed_model=DeterministicEncoder(), links=LinkRule(0.999)
    ) as retriever:
        check_retriever(retriever, [QUERY, "red mat"], texts=PASSAGES)


def test_a_directory_is_the_same_through_every_door(tmp_path):
    """What LangChain linked, LlamaIndex follows, with the same passages under the same ids."""
    question = "which cat sat on a red mat"
    documents = [Document(page_content=text, id=name) for name, text in PASSAGES.items()]
    splitter = RecursiveTextSplitter(chunk_size=25, tokenizer=len)
    with LinkedChunkRetriever.from_documents(
        documents, DeterministicEncoder(256), directory=tmp_path, splitter=splitter, link_rule=LinkRule(0.1), k=1
    ) as index:
        expected = [(found.id, found.metadata) for found in index.invoke(question)]
    assert any("linked_from" in metadata for _, metadata in expected)
    with IndexDirectory.open(tmp_path) as directory:
        retriever = LlamaIndexLinkedChunkRetriever(directory, DeterministicEncoder(256), similarity_top_k=1)
        assert [(found.node_id, found.metadata) for found in retriever.retrieve(question)] == expected
