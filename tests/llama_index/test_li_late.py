"""Nodes that leave the parser with late vectors, and are stored with them."""

import asyncio
import copy
import pickle

import numpy as np
import pytest
from llama_index.core import StorageContext, VectorStoreIndex
from llama_index.core.ingestion import IngestionPipeline
from llama_index.core.schema import Document, MetadataMode, TextNode

import toy_models
from llama_index_stores import STORES
from rag_embeddings import Document as CoreDocument
from rag_embeddings import LatePass, RecursiveSplitter
from rag_embeddings.encode.transformer import TransformerEncoder
from rag_embeddings.llama_index import InstructionEmbedding, LateChunkingNodeParser, RecursiveNodeParser


@pytest.fixture(scope="module")
def embed_model():
    return InstructionEmbedding(str(toy_models.folder("mean")))


@pytest.fixture(scope="module")
def parser(embed_model):
    inner = RecursiveNodeParser(chunk_size=20, embed_model=embed_model)
    return LateChunkingNodeParser(splitter=inner, embed_model=embed_model)


def document(name, metadata=None, lines=10):
    text = "\n\n".join(f"The river {name} rose {line} feet. Nobody in {name} believed it." for line in range(lines))
    return Document(text=text, id_=name, metadata=metadata or {})


@pytest.fixture
def documents():
    return [document("Aller"), document("Bode"), Document(text="  ", id_="blank"), document("Diemel")]


@pytest.fixture
def counted(monkeypatch):
    calls = []
    encode, late = TransformerEncoder.encode, TransformerEncoder.encode_tokens_many
    monkeypatch.setattr(TransformerEncoder, "encode", lambda self, *args: calls.append("encode") or encode(self, *args))
    monkeypatch.setattr(
        TransformerEncoder, "encode_tokens_many", lambda self, *a, **k: calls.append("late") or late(self, *a, **k)
    )
    return calls


@pytest.fixture(params=STORES, ids=lambda make: make.__name__)
def made(request):
    return request.param()


def check(vector_of, nodes):
    assert nodes
    for node in nodes:
        found = np.asarray(vector_of(node.node_id), dtype=np.float64)
        expected = np.asarray(node.embedding)
        assert found @ expected / np.linalg.norm(found) / np.linalg.norm(expected) > 1 - 1e-6


def test_vectors_places_and_ids_are_the_cores(parser, embed_model, documents):
    nodes = parser.get_nodes_from_documents(documents)
    splitter = RecursiveSplitter(20, tokenizer=embed_model.encoder)
    late = [
        found
        for item in documents
        for found in [LatePass(embed_model.encoder).run(CoreDocument(item.text, item.id_), splitter)]
    ]
    assert [node.node_id for node in nodes] == [chunk.id for found in late for chunk in found.chunks]
    assert np.allclose([node.embedding for node in nodes], np.concatenate([found.vectors for found in late]), atol=1e-5)
    plain = parser.inner.get_nodes_from_documents(documents)
    for node, other in zip(nodes, plain, strict=True):
        assert {**node.to_dict(), "embedding": None} == other.to_dict()
    assert asyncio.run(parser.aget_nodes_from_documents(documents)) == nodes


@pytest.mark.filterwarnings("ignore:Payload indexes have no effect in the local Qdrant:UserWarning")
class TestStores:
    def test_from_documents_and_insert_store_them_without_another_call(
        self, parser, embed_model, documents, made, counted
    ):
        store, vector_of = made
        index = VectorStoreIndex.from_documents(
            documents[:1],
            storage_context=StorageContext.from_defaults(vector_store=store),
            transformations=[parser],
            embed_model=embed_model,
        )
        index.insert(documents[1])
        assert counted == ["late", "late"]
        check(vector_of, parser.get_nodes_from_documents(documents[:2]))
        found = index.as_retriever(similarity_top_k=1).retrieve("The river Bode")[0]
        assert found.node.get_content() in documents[0].text + documents[1].text

    def test_the_ingestion_pipeline_too(self, parser, documents, made, counted):
        store, vector_of = made
        nodes = IngestionPipeline(transformations=[parser], vector_store=store).run(documents=documents)
        assert counted == ["late"]
        check(vector_of, nodes)
        assert len(nodes) == len(parser.get_nodes_from_documents(documents))

    def test_a_document_deleted_and_inserted_again_has_its_new_vectors(self, parser, embed_model, documents, made):
        store, vector_of = made
        context = StorageContext.from_defaults(vector_store=store)
        index = VectorStoreIndex.from_documents(
            documents[:1], storage_context=context, transformations=[parser.inner], embed_model=embed_model
        )
        plain = [vector_of(node.node_id) for node in parser.get_nodes_from_documents(documents[:1])]
        index.delete_ref_doc("Aller", delete_from_docstore=True)
        late = VectorStoreIndex([], storage_context=context, embed_model=embed_model, transformations=[parser])
        late.insert(documents[0])
        nodes = parser.get_nodes_from_documents(documents[:1])
        check(vector_of, nodes)
        assert not np.allclose(plain, [node.embedding for node in nodes], atol=1e-2)


class TestPipelines:
    def test_a_model_behind_the_parser_is_warned_of(self, parser, embed_model, documents):
        with pytest.warns(UserWarning, match="leave that model out"):
            IngestionPipeline(transformations=[parser, embed_model]).run(documents=documents)

    async def test_in_async_pipelines_too(self, parser, embed_model, documents):
        with pytest.warns(UserWarning, match="leave that model out"):
            await IngestionPipeline(transformations=[parser, embed_model]).arun(documents=documents)

    def test_other_steps_behind_it_keep_the_vectors(self, parser, documents):
        def title(nodes, **kwargs):
            for node in nodes:
                node.metadata["seen"] = True
            return nodes

        from llama_index.core.schema import TransformComponent

        class Step(TransformComponent):
            def __call__(self, nodes, **kwargs):
                return title(nodes)

        nodes = IngestionPipeline(transformations=[parser, Step()]).run(documents=documents)
        assert all(node.embedding and node.metadata["seen"] for node in nodes)

    def test_a_cached_run_gives_the_same_nodes(self, parser, documents, counted):
        pipeline = IngestionPipeline(transformations=[parser])
        nodes = pipeline.run(documents=documents)
        again = pipeline.run(documents=documents)
        assert counted == ["late"]
        assert [node.embedding for node in again] == [node.embedding for node in nodes]


class TestContext:
    def test_metadata_that_would_be_embedded_is_looked_at_and_not_pooled(self, parser, embed_model):
        plain, titled, hidden = (
            document("Aller"),
            document("Aller", {"title": "Copper"}),
            document("Aller", {"title": "Copper"}),
        )
        hidden.excluded_embed_metadata_keys = ["title"]
        first, second, third = (parser.get_nodes_from_documents([item]) for item in (plain, titled, hidden))
        assert np.allclose([node.embedding for node in first], [node.embedding for node in third], atol=1e-6)
        assert not np.allclose(first[0].embedding, second[0].embedding, atol=1e-2)
        assert second[0].get_content(MetadataMode.EMBED).startswith("title: Copper\n\n")
        core = CoreDocument(titled.text, "Aller")
        expected = LatePass(embed_model.encoder).run(core, parser.splitter, context="title: Copper\n\n")
        assert np.allclose([node.embedding for node in second], expected.vectors, atol=1e-5)

    def test_without_metadata_there_is_no_context(self, parser, embed_model):
        bare = LateChunkingNodeParser(splitter=parser.inner, embed_model=embed_model, include_metadata=False)
        titled = bare.get_nodes_from_documents([document("Aller", {"title": "Copper"})])
        plain = parser.get_nodes_from_documents([document("Aller")])
        assert np.allclose([node.embedding for node in titled], [node.embedding for node in plain], atol=1e-6)


class TestObject:
    def test_settings_survive_every_way_of_copying(self, parser, documents):
        nodes = parser.get_nodes_from_documents(documents)
        pickled = pickle.loads(pickle.dumps(parser))  # noqa: S301
        for other in (pickled, copy.deepcopy(parser), LateChunkingNodeParser.from_dict(parser.to_dict())):
            assert other.to_dict() == parser.to_dict()
            found = other.get_nodes_from_documents(documents)
            assert np.allclose([node.embedding for node in found], [node.embedding for node in nodes], atol=1e-6)

    def test_every_setting_is_in_the_cache_key(self, parser, embed_model):
        changes = [
            {"window": 30}, {"overlap": 0.5}, {"mix": 0.5}, {"paper_compat": True}, {"force": True},
            {"splitter": RecursiveNodeParser(chunk_size=21, embed_model=embed_model)}, {"splitter": None},
        ]  # fmt: skip
        spelled = [str(parser.to_dict())]
        for change in changes:
            options = {"splitter": parser.inner, "embed_model": embed_model, **change}
            spelled.append(str(LateChunkingNodeParser(**options).to_dict()))
        assert len(set(spelled)) == len(spelled)

    def test_a_splitter_of_the_core_will_do_but_has_to_be_given_again(self, embed_model, documents):
        core = RecursiveSplitter(20, tokenizer=embed_model.encoder)
        parser = LateChunkingNodeParser(splitter=core, embed_model=embed_model)
        assert parser.get_nodes_from_documents(documents)
        with pytest.raises(ValueError, match="cannot be rebuilt"):
            LateChunkingNodeParser.from_dict(parser.to_dict())

    def test_without_a_splitter_it_cuts_recursively(self, embed_model, documents):
        parser = LateChunkingNodeParser(chunk_size=20, embed_model=embed_model)
        nodes = parser.get_nodes_from_documents(documents)
        expected = RecursiveSplitter(20, tokenizer=embed_model.encoder).split(CoreDocument(documents[0].text, "Aller"))
        assert [node.text for node in nodes[: len(expected)]] == [chunk.text for chunk in expected]

    def test_what_cannot_work_is_refused(self, embed_model):
        from llama_index.core.embeddings import MockEmbedding
        from llama_index.core.node_parser import SentenceSplitter

        with pytest.raises(ValueError, match="no token vectors"):
            LateChunkingNodeParser(embed_model=MockEmbedding(embed_dim=8))
        with pytest.raises(ValueError, match="cannot say exactly"):
            LateChunkingNodeParser(splitter=SentenceSplitter(), embed_model=embed_model)

    def test_nodes_are_stored_as_text_nodes(self, parser, documents):
        node = parser.get_nodes_from_documents(documents)[0]
        assert TextNode.from_dict(node.to_dict()).embedding == node.embedding
        node.embedding = None  # not another vector
