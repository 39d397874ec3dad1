"""LangChain's suite for vector stores over the quantized store, searched exactly and through its index."""

import pytest
from langchain_tests.integration_tests import VectorStoreIntegrationTests

from rag_embeddings.langchain import QuantizedVectorStore


class TestQuantizedVectorStore(VectorStoreIntegrationTests):
    @pytest.fixture(params=[20_000, 2], ids=["exact", "index"])
    def vectorstore(self, request, tmp_path):
        store = QuantizedVectorStore(self.get_embeddings(), tmp_path / "store", build_after=request.param)
        yield store
        store.close()
