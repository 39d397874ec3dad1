"""Both frameworks' splitters have every option of the core's, under the frameworks' names, with the same defaults."""

import inspect

import pytest
from pydantic import ValidationError

import rag_embeddings
import rag_embeddings.langchain
import rag_embeddings.llama_index
from rag_embeddings.testing.encoder import DeterministicEncoder

KINDS = ["Recursive", "SlidingWindow", "Layout", "Regex", "Semantic", "Bollinger", "Topic", "LLM"]
RENAMED = {
    "max_tokens": "chunk_size",
    "min_tokens": "min_chunk_size",
    "overlap": "chunk_overlap",
    "encoder": "embeddings",
    "complete": "llm",
    "reader": "layout",
}
# The adapters know what a framework's model is called; the others' defaults are spelled otherwise.
OWN = {"name"}
SPELLED_OTHERWISE = {"tokenizer", "encoder", "complete", "reader", "boundaries", "rules"}


def core_options(kind):
    parameters = inspect.signature(getattr(rag_embeddings, f"{kind}Splitter")).parameters
    return {name: parameter.default for name, parameter in parameters.items() if name not in OWN}


@pytest.mark.parametrize("kind", KINDS)
def test_langchain_has_every_option(kind):
    options = inspect.signature(getattr(rag_embeddings.langchain, f"{kind}TextSplitter")).parameters
    for name, default in core_options(kind).items():
        option = options[RENAMED.get(name, name)]
        assert name in SPELLED_OTHERWISE or option.default == default, name


@pytest.mark.parametrize("kind", KINDS)
def test_llama_index_has_every_option(kind):
    fields = getattr(rag_embeddings.llama_index, f"{kind}NodeParser").model_fields
    for name, default in core_options(kind).items():
        field = fields["embed_model" if name == "encoder" else RENAMED.get(name, name)]
        assert name in SPELLED_OTHERWISE or field.default == default, name


@pytest.mark.parametrize("kind", ["Recursive", "Layout", "Regex", "Semantic"])
def test_a_target_reaches_the_core(kind):
    splitter = getattr(rag_embeddings.langchain, f"{kind}TextSplitter")
    parser = getattr(rag_embeddings.llama_index, f"{kind}NodeParser")
    encoder = DeterministicEncoder()
    langchain = splitter(embeddings=encoder, chunk_size=50, target=20).core
    llama_index = parser(embed_model=encoder, chunk_size=50, target=20).splitter
    assert langchain.settings() == llama_index.settings()
    assert langchain.settings()["target"] == 20
    with pytest.raises(ValueError, match="target must be between"):
        splitter(embeddings=encoder, chunk_size=50, target=51)
    with pytest.raises(ValidationError, match="target must be between"):
        parser(embed_model=encoder, chunk_size=50, target=51)


def one_topic(vectors):
    return [0] * len(vectors)


def test_a_clustering_of_ones_own_is_named_and_passed_along():
    parser = rag_embeddings.llama_index.TopicNodeParser(embed_model=DeterministicEncoder(), cluster=one_topic)
    assert "one_topic" in str(parser.splitter.settings())
    with pytest.raises(ValidationError, match="one_topic"):
        type(parser).from_dict(parser.to_dict(), embed_model=DeterministicEncoder())
    again = type(parser).from_dict(parser.to_dict(), embed_model=DeterministicEncoder(), cluster=one_topic)
    assert again.splitter.settings() == parser.splitter.settings()


def test_impossible_settings_of_a_layout_parser_are_refused_at_once():
    with pytest.raises(ValidationError, match="context_tokens"):
        rag_embeddings.llama_index.LayoutNodeParser(chunk_size=32, context_tokens=40)
