"""LangChain's suite for vector stores over Chroma."""

import pytest
from langchain_tests.integration_tests import VectorStoreIntegrationTests

from rag_embeddings.langchain import ChromaVectorStore


class TestChromaVectorStore(VectorStoreIntegrationTests):
    @pytest.fixture
    def vectorstore(self, tmp_path):
        store = ChromaVectorStore(self.get_embeddings(), tmp_path / "chroma")
        yield store
        store.close()
