import pytest

import toy_models
from rag_embeddings.llama_index import InstructionEmbedding


@pytest.fixture(scope="session")
def prompted(tmp_path_factory):
    """Folder of a tiny model whose prompts for queries and documents differ."""
    return str(toy_models.save(tmp_path_factory.mktemp("toy"), toy_models.TOYS["prompts"]))


@pytest.fixture(scope="session")
def bytewise(tmp_path_factory):
    """Folder of a tiny model whose tokenizer sees every byte."""
    return str(toy_models.save(tmp_path_factory.mktemp("toy"), toy_models.TOYS["mean_bpe"]))


@pytest.fixture(scope="session")
def minilm():
    """The real model, loaded once."""
    return InstructionEmbedding(device="cpu")
