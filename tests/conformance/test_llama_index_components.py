"""Our LlamaIndex classes under the kit of `rag_embeddings.testing.llama_index`."""

from functools import partial

import pytest
from llama_index.core.embeddings import MockEmbedding
from llama_index.core.schema import Document

import toy_models
from rag_embeddings.llama_index import (
    DualEncoderEmbedding,
    InstructionEmbedding,
    RecursiveNodeParser,
    SentenceParentRetriever,
    SlidingWindowNodeParser,
)
from rag_embeddings.testing.llama_index import check_embedding, check_node_parser, check_retriever

EMBEDDING_OPTIONS = {
    "model_name": "another/model",
    "query_prompt": "query: ",
    "document_prompt": "passage: ",
    "task": "clustering",
    "prompt_slots": {"domain": "legal"},
    "catalog_name": "BAAI/bge-m3",
    "pooling": "cls",
    "similarity_name": "dot",
    "layers": 1,
    "max_tokens": 20,
    "precision": "bf16",
    "cache_path": "vectors.sqlite",
    "device": "meta",
    "revision": "main",
    "normalize": False,
    "dimensions": 8,
    "too_long": "error",
    "batch_tokens": 64,
    "trust_remote_code": True,
    "embed_batch_size": 3,
    "num_workers": 2,
}
PARSER_OPTIONS = {
    "chunk_size": 20,
    "chunk_overlap": 5,
    "tokenizer": "gpt2",
    "language": "ja",
    "include_metadata": False,
    "include_prev_next_rel": False,
}
TEXTS = {
    f"doc-{number}": "".join(
        f"Number {number} is here. The cat sat on mat {line}.\n\nDogs bark {line} times a day. " for line in range(12)
    )
    for number in range(4)
}


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    return str(toy_models.save(tmp_path_factory.mktemp("toy"), toy_models.TOYS["prompts"]))


def test_instruction_embedding_of_a_toy_with_prompts(toy):
    make = partial(InstructionEmbedding, toy, device="cpu")
    check_embedding(lambda **options: InstructionEmbedding(**{"model_name": toy, **options}), options=EMBEDDING_OPTIONS)
    check_embedding(make, texts=["a", "river rose", "a"])


def test_dual_encoder_embedding_of_two_toys(toy):
    other = str(toy_models.folder("mean_unigram"))
    options = {"query_embedding": InstructionEmbedding(toy), "similarity_name": "dot", "embed_batch_size": 3}
    options["text_embedding"] = InstructionEmbedding(toy, layers=1)
    make = partial(DualEncoderEmbedding, query_embedding=other, text_embedding=toy)
    check_embedding(
        lambda **changed: DualEncoderEmbedding(**{"query_embedding": other, "text_embedding": toy, **changed}),
        options=options,
    )
    check_embedding(make, texts=["a", "river rose", "a"])


def test_instruction_embedding_of_the_real_model():
    check_embedding(InstructionEmbedding)


@pytest.mark.parametrize("kind", [RecursiveNodeParser, SlidingWindowNodeParser])
def test_node_parsers(kind):
    def make(**options):
        return kind(**{"chunk_size": 16, "chunk_overlap": 4, "tokenizer": "cl100k_base", **options})

    check_node_parser(make, options=PARSER_OPTIONS)


@pytest.mark.parametrize("kind", [RecursiveNodeParser, SlidingWindowNodeParser])
def test_node_parsers_that_count_as_the_model_does(kind, toy):
    def make(**options):
        return kind(**{"chunk_size": 16, "embed_model": InstructionEmbedding(toy), **options})

    check_node_parser(make, options={"embed_model": InstructionEmbedding(toy, query_prompt="x")})


@pytest.mark.parametrize("score", ["best", "mean"])
@pytest.mark.parametrize("where", ["memory", "disk"])
def test_retriever(toy, tmp_path, score, where):
    embed_model = InstructionEmbedding(toy)
    documents = [Document(id_=name, text=text, metadata={"n": name}) for name, text in TEXTS.items()]
    with SentenceParentRetriever.from_documents(
        documents,
        embed_model=embed_model,
        directory=tmp_path / "index" if where == "disk" else None,
        node_parser=RecursiveNodeParser(chunk_size=40, embed_model=embed_model),
        score=score,
    ) as retriever:
        check_retriever(retriever, ["Where sat the cat?", "dogs", "number"], texts=TEXTS, embed_model=embed_model)


def test_retriever_over_somebody_elses_embedding():
    documents = [Document(id_=name, text=text) for name, text in TEXTS.items()]
    with SentenceParentRetriever.from_documents(documents, embed_model=MockEmbedding(embed_dim=4)) as retriever:
        check_retriever(retriever, ["anything"], texts=TEXTS)
