"""Embeddings, every node parser, and artifacts through LlamaIndex's other vector stores, read back from each."""

import numpy as np
import pytest
from llama_index.core import StorageContext, VectorStoreIndex
from llama_index.core.embeddings import MockEmbedding
from llama_index.core.schema import Document, MetadataMode, NodeRelationship, TextNode
from llama_index.core.vector_stores import VectorStoreQuery

import toy_models
from llama_index_stores import STORES
from rag_embeddings import (
    IndexDirectory,
    Indexer,
    Pipeline,
    Profile,
    RecursiveSplitter,
    SpaceMismatchError,
    StoreError,
    export_index,
)
from rag_embeddings.encode.transformer import TransformerEncoder
from rag_embeddings.llama_index import (
    BollingerNodeParser,
    InstructionEmbedding,
    LateChunkingNodeParser,
    LayoutNodeParser,
    LLMNodeParser,
    RecursiveNodeParser,
    RegexNodeParser,
    SemanticNodeParser,
    SlidingWindowNodeParser,
    TopicNodeParser,
)
from rag_embeddings.llama_index.artifact import aupload, save_nodes, to_node, upload
from rag_embeddings.llama_index.convert import to_core
from rag_embeddings.testing.encoder import DeterministicEncoder

TEXT = """# The mill

The old mill stood by the river. It burned down in the autumn of 1902.

| part | price |
|---|---|
| wheel | 12 |
| stone | 9 |

## The bridge

The stone bridge has three arches. A flood carried away the middle arch. It was repaired within a year.
"""
DOCUMENTS = [
    Document(text=TEXT, id_="mill.md", metadata={"year": 1902}),
    Document(text=TEXT.replace("mill", "weir"), id_="weir.md", metadata={"year": 1911}),
]
MEANT = {"chunk_size": 60, "tokenizer": len, "embed_model": DeterministicEncoder()}


def second(prompt):
    """A model that finds a topic at the second sentence."""
    return "[2]"


PARSERS = {
    "recursive": RecursiveNodeParser(chunk_size=30, tokenizer=len),
    "sliding": SlidingWindowNodeParser(chunk_size=60, chunk_overlap=20, tokenizer=len),
    "layout": LayoutNodeParser(chunk_size=80, tokenizer=len, layout="markdown"),
    "semantic": SemanticNodeParser(**MEANT),
    "bollinger": BollingerNodeParser(**MEANT),
    "topics": TopicNodeParser(**MEANT),
    "regex": RegexNodeParser(chunk_size=60, tokenizer=len),
    "llm": LLMNodeParser(llm=second, chunk_size=60, tokenizer=len),
}

pytestmark = pytest.mark.filterwarnings("ignore:Payload indexes have no effect in the local Qdrant:UserWarning")


@pytest.fixture(scope="module")
def embed_model():
    return InstructionEmbedding(str(toy_models.folder("mean")))


@pytest.fixture(params=STORES, ids=lambda make: make.__name__)
def made(request):
    return request.param()


@pytest.fixture
def encoded(monkeypatch):
    """Number of texts that were encoded."""
    counts = []
    encode = TransformerEncoder.encode
    monkeypatch.setattr(
        TransformerEncoder, "encode", lambda self, texts, role: counts.append(len(texts)) or encode(self, texts, role)
    )
    return counts


def check(vector_of, nodes):
    assert nodes
    for node in nodes:
        found, expected = (np.asarray(vector, dtype=np.float64) for vector in (vector_of(node.node_id), node.embedding))
        assert found @ expected / np.linalg.norm(found) / np.linalg.norm(expected) > 1 - 1e-6


@pytest.mark.parametrize("kind", PARSERS)
def test_nodes_of_every_parser_with_their_vectors(embed_model, made, kind):
    """With LlamaIndex's own index only, as a user's existing code has it."""
    store, vector_of = made
    context = StorageContext.from_defaults(vector_store=store)
    index = VectorStoreIndex.from_documents(
        DOCUMENTS, storage_context=context, transformations=[PARSERS[kind]], embed_model=embed_model
    )
    nodes = PARSERS[kind].get_nodes_from_documents(DOCUMENTS)
    texts = [node.get_content(MetadataMode.EMBED) for node in nodes]
    for node, vector in zip(nodes, embed_model.get_text_embedding_batch(texts), strict=True):
        node.embedding = vector
    check(vector_of, nodes)
    by_id = {node.node_id: node for node in nodes}
    found = index.as_retriever(similarity_top_k=4).retrieve("a flood carried away the arch")
    assert len(found) == 4
    for item in found:
        expected = by_id[item.node_id]
        assert (item.text, item.node.ref_doc_id) == (expected.text, expected.ref_doc_id)
        assert item.metadata == expected.metadata
        source = next(document for document in DOCUMENTS if document.node_id == item.node.ref_doc_id)
        if "spans" not in item.metadata:
            assert source.text[item.node.start_char_idx : item.node.end_char_idx] == item.text


class TestArtifacts:
    @pytest.fixture(params=["plain", "late"])
    def saved(self, request, embed_model, tmp_path):
        """An artifact, and the nodes that it was saved from."""
        parser = RecursiveNodeParser(chunk_size=20, embed_model=embed_model)
        if request.param == "late":
            nodes = LateChunkingNodeParser(splitter=parser, embed_model=embed_model).get_nodes_from_documents(DOCUMENTS)
        else:
            nodes = parser.get_nodes_from_documents(DOCUMENTS)
        with save_nodes(tmp_path / "a", iter(nodes), embed_model) as artifact:
            if request.param == "plain":
                embed_model(nodes)
            yield artifact, nodes

    def test_nodes_come_back_as_they_were_but_for_their_neighbours(self, saved, embed_model):
        artifact, nodes = saved
        assert artifact.profile == embed_model.encoder.profile
        for record, node in zip(artifact, nodes, strict=True):
            found, expected = to_node(record), node.to_dict()
            source = expected["relationships"][NodeRelationship.SOURCE]["node_id"]
            for name in ("relationships", "embedding", "class_name"):
                expected.pop(name)
            assert {name: value for name, value in found.to_dict().items() if name in expected} == expected
            assert found.source_node.node_id == source
            assert np.allclose(found.embedding, node.embedding, atol=1e-6)

    def test_into_every_store_and_again_without_embedding(self, saved, made, encoded):
        artifact, nodes = saved
        store, vector_of = made
        for _ in range(2):
            assert upload(artifact, store) == [node.node_id for node in nodes]
        assert encoded == []
        check(vector_of, nodes)
        found = store.query(VectorStoreQuery(query_embedding=nodes[0].embedding, similarity_top_k=500))
        assert len(set(found.ids)) == len(found.ids) == len(nodes)

    async def test_async_too(self, saved, made):
        artifact, nodes = saved
        store, vector_of = made
        assert await aupload(artifact, store) == [node.node_id for node in nodes]
        check(vector_of, nodes)

    def test_into_an_index_that_answers(self, saved, made, embed_model, encoded):
        artifact, nodes = saved
        store, vector_of = made
        context = StorageContext.from_defaults(vector_store=store)
        index = VectorStoreIndex([], storage_context=context, embed_model=embed_model)
        encoded.clear()
        upload(artifact, index)
        upload(artifact, index)
        assert encoded == []
        check(vector_of, nodes)
        by_id = {node.node_id: node for node in nodes}
        found = index.as_retriever(similarity_top_k=3).retrieve("a flood carried away the arch")
        assert len(found) == 3
        assert all(item.text == by_id[item.node_id].text for item in found)
        index.delete_ref_doc("mill.md")
        assert {item.node.ref_doc_id for item in index.as_retriever(similarity_top_k=500).retrieve("x")} == {"weir.md"}

    def test_saved_by_langchain(self, embed_model, made, tmp_path, encoded):
        """And the other way round: one file, both frameworks, the same ids, places and vectors."""
        from langchain_core.documents import Document as LangChainDocument
        from langchain_core.vectorstores import InMemoryVectorStore

        from rag_embeddings.langchain import InstructionEmbeddings, RecursiveTextSplitter
        from rag_embeddings.langchain import artifact as langchain_artifact

        embeddings = InstructionEmbeddings(model=embed_model.model_name)
        splitter = RecursiveTextSplitter(chunk_size=20, embeddings=embeddings)
        documents = [
            LangChainDocument(page_content=item.text, id=item.id_, metadata=item.metadata) for item in DOCUMENTS
        ]
        chunks, vectors = embeddings.split_and_embed(documents, splitter)
        encoded.clear()
        store, vector_of = made
        with langchain_artifact.save_documents(tmp_path / "a", chunks, embeddings, vectors=vectors) as artifact:
            upload(artifact, store)
            nodes = [to_node(record) for record in artifact]
            check(vector_of, nodes)
        expected = RecursiveNodeParser(chunk_size=20, embed_model=embed_model).get_nodes_from_documents(DOCUMENTS)
        for node, other in zip(nodes, expected, strict=True):
            for name in ("node_id", "text", "start_char_idx", "end_char_idx", "ref_doc_id"):
                assert getattr(node, name) == getattr(other, name)
            assert node.metadata == other.metadata
        with save_nodes(tmp_path / "b", nodes, embed_model) as artifact:
            back = InMemoryVectorStore(embeddings)
            langchain_artifact.upload(artifact, back)
            assert back.get_by_ids([chunk.id for chunk in chunks]) == chunks
        assert encoded == []

    def test_an_index_directory_into_every_store(self, embed_model, made, tmp_path):
        encoder = embed_model.encoder
        store, vector_of = made
        with IndexDirectory.open(None) as directory:
            Indexer(directory, Pipeline(encoder, RecursiveSplitter(20, tokenizer=encoder))).upsert(
                map(to_core, DOCUMENTS)
            )
            with export_index(directory, tmp_path / "a") as artifact:
                ids = upload(artifact, store)
                assert sorted(ids) == sorted(directory.ledger.unit_ids()[1])
                nodes = [to_node(record) for record in artifact.records(["chunk"])]
        check(vector_of, nodes)
        for node in nodes:
            source = next(document for document in DOCUMENTS if document.node_id == node.ref_doc_id)
            assert source.text[node.start_char_idx : node.end_char_idx] == node.text
            assert node.metadata == source.metadata

    def test_a_model_of_somebody_else(self, tmp_path, made):
        nodes = [
            TextNode(text=f"text {number}", id_=f"00000000-0000-0000-0000-00000000000{number}") for number in range(3)
        ]
        nodes[1].embedding = [0.0, 1.0, 0.0]
        with save_nodes(tmp_path / "a", nodes, MockEmbedding(embed_dim=3)) as artifact:
            assert np.array_equal(artifact.vectors, [[0.5, 0.5, 0.5], [0, 1, 0], [0.5, 0.5, 0.5]])
            store, vector_of = made
            upload(artifact, store)
            assert np.allclose(vector_of(nodes[1].node_id), [0, 1, 0])

    def test_refusals(self, saved, tmp_path):
        artifact, nodes = saved
        other = InstructionEmbedding(str(toy_models.folder("prompts")))
        with pytest.raises(SpaceMismatchError, match="another space"):
            upload(artifact, VectorStoreIndex([], embed_model=other))
        bare = [TextNode(text="a", id_="a")]
        with pytest.raises(StoreError, match="node 'a' has no embedding"):
            save_nodes(tmp_path / "b", bare, Profile("m", dimensions=3))
        with pytest.raises(StoreError, match="occurs twice"):
            save_nodes(tmp_path / "b", [*nodes, nodes[0]], Profile("m", dimensions=toy_models.WIDTH))
        assert not (tmp_path / "b").exists()
