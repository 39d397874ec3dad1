"""LangChain's own suites for retrievers and document indexes, in memory and over Chroma on disk."""

import pytest
from langchain_core.documents import Document
from langchain_tests.integration_tests import RetrieversIntegrationTests
from langchain_tests.integration_tests.indexer import AsyncDocumentIndexTestSuite, DocumentIndexerTestSuite

from rag_embeddings.langchain import RecursiveTextSplitter, SentenceParentIndex
from rag_embeddings.store.directory import IndexDirectory
from rag_embeddings.testing.encoder import DeterministicEncoder

PASSAGES = ["Cats purr.", "Dogs bark.", "Cows moo.", "A cat sat on the mat.", "Purring is a cat's song."]


def make(directory=None, **settings):
    return SentenceParentIndex(
        embeddings=DeterministicEncoder(),
        directory=directory,
        splitter=RecursiveTextSplitter(chunk_size=200, tokenizer=len),
        **settings,
    )


def fill(index):
    index.upsert([Document(page_content=text, id=str(number)) for number, text in enumerate(PASSAGES)])


class RetrieverSuite(RetrieversIntegrationTests):
    @pytest.fixture(autouse=True)
    def _directory(self, directory):
        self.directory = directory
        with make(directory) as index:
            fill(index)
            yield

    @property
    def retriever_constructor(self):
        return SentenceParentIndex

    @property
    def retriever_constructor_params(self):
        return {"embeddings": DeterministicEncoder(), "directory": self.directory}

    @property
    def retriever_query_example(self):
        return "the cat purrs"


class TestRetrieverInMemory(RetrieverSuite):
    @pytest.fixture
    def directory(self):
        with IndexDirectory.open(None) as directory:
            yield directory


class TestRetrieverOnDisk(RetrieverSuite):
    @pytest.fixture
    def directory(self, tmp_path):
        return tmp_path


class TestIndexInMemory(DocumentIndexerTestSuite):
    @pytest.fixture
    def index(self):
        with make() as index:
            yield index


class TestIndexOnDisk(DocumentIndexerTestSuite):
    @pytest.fixture
    def index(self, tmp_path):
        with make(tmp_path) as index:
            yield index


class TestAsyncIndexInMemory(AsyncDocumentIndexTestSuite):
    @pytest.fixture
    async def index(self):
        with make() as index:
            yield index


class TestAsyncIndexOnDisk(AsyncDocumentIndexTestSuite):
    @pytest.fixture
    async def index(self, tmp_path):
        with make(tmp_path) as index:
            yield index
