"""Our transformations in LlamaIndex's ingestion pipeline."""

import asyncio
import warnings

import pytest
from llama_index.core import VectorStoreIndex
from llama_index.core.ingestion import DocstoreStrategy, IngestionPipeline
from llama_index.core.node_parser import MarkdownNodeParser
from llama_index.core.schema import Document
from llama_index.core.storage.docstore import SimpleDocumentStore
from llama_index.core.vector_stores.simple import SimpleVectorStore

from rag_embeddings.llama_index import InstructionEmbedding, RecursiveNodeParser, SlidingWindowNodeParser

DOCUMENTS = [
    Document(
        text=f"# Part {number}\n\n" + f"The river rose {number} times. The miller slept.\n\n" * 6, id_=f"d{number}"
    )
    for number in range(4)
]


def facts(nodes):
    return [
        (node.node_id, node.ref_doc_id, node.text, node.start_char_idx, [round(value, 4) for value in node.embedding])
        for node in nodes
    ]


def pipeline(prompted, **options):
    embedding = InstructionEmbedding(prompted, device="cpu")
    parser = RecursiveNodeParser(chunk_size=20, embed_model=embedding)
    return IngestionPipeline(transformations=[parser, embedding], disable_cache=True, **options)


def test_worker_processes_twice_and_here_give_the_same(prompted):
    made = pipeline(prompted)
    expected = facts(made.run(documents=DOCUMENTS))
    assert len(expected) > len(DOCUMENTS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # "num_workers exceed number of CPUs", on a machine with one
        runs = [made.run(documents=DOCUMENTS, num_workers=2) for _ in range(2)]
    for nodes in runs:
        assert sorted(facts(nodes)) == sorted(expected)
    assert facts(made.run(documents=DOCUMENTS)) == expected


def test_arun_is_run(prompted):
    made = pipeline(prompted)
    assert facts(asyncio.run(made.arun(documents=DOCUMENTS))) == facts(made.run(documents=DOCUMENTS))


def test_a_chain_of_three_and_a_keyword_of_the_pipeline(prompted):
    embedding = InstructionEmbedding(prompted)
    chain = [
        MarkdownNodeParser(),
        RecursiveNodeParser(chunk_size=40),
        SlidingWindowNodeParser(chunk_size=12),
        embedding,
    ]
    for node in IngestionPipeline(transformations=chain).run(documents=DOCUMENTS, anything=1):
        root = next(document for document in DOCUMENTS if document.node_id == node.ref_doc_id)
        assert root.text[node.start_char_idx : node.end_char_idx] == node.text
        assert len(node.embedding) == 32


def test_the_cache_gives_what_was_made(prompted):
    embedding = InstructionEmbedding(prompted)
    made = IngestionPipeline(transformations=[RecursiveNodeParser(chunk_size=20, embed_model=embedding), embedding])
    first = facts(made.run(documents=DOCUMENTS))
    made.transformations[1] = InstructionEmbedding(prompted)  # equal settings
    assert facts(made.run(documents=DOCUMENTS)) == first
    made.transformations[1] = InstructionEmbedding(prompted, document_prompt="")
    assert facts(made.run(documents=DOCUMENTS)) != first


@pytest.mark.parametrize("strategy", [DocstoreStrategy.UPSERTS, DocstoreStrategy.UPSERTS_AND_DELETE])
def test_a_changed_document_leaves_nothing_behind(prompted, strategy):
    store = SimpleVectorStore()
    made = pipeline(prompted, vector_store=store, docstore=SimpleDocumentStore(), docstore_strategy=strategy)
    made.run(documents=DOCUMENTS)
    assert made.run(documents=DOCUMENTS) == []
    changed = Document(text="Something else altogether.", id_="d0")
    nodes = made.run(documents=[changed, *DOCUMENTS[1:]])
    assert [node.ref_doc_id for node in nodes] == ["d0"]
    stored = store.data.text_id_to_ref_doc_id
    assert [name for name, document in stored.items() if document == "d0"] == [nodes[0].node_id]


def test_an_index_over_the_pipelines_nodes(prompted):
    embedding = InstructionEmbedding(prompted)
    nodes = pipeline(prompted).run(documents=DOCUMENTS)
    index = VectorStoreIndex(nodes, embed_model=embedding)
    assert {result.node_id for result in index.as_retriever(similarity_top_k=2).retrieve("river")} <= {
        node.node_id for node in nodes
    }
