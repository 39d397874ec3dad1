"""The LlamaIndex vector store: nodes come back whole, by id, document and metadata; in an index; through a pickle."""

import pickle
from copy import deepcopy

import numpy as np
import pytest
from llama_index.core import MockEmbedding, StorageContext, VectorStoreIndex
from llama_index.core.indices.query.embedding_utils import get_top_k_mmr_embeddings
from llama_index.core.schema import Document as LlamaIndexDocument
from llama_index.core.schema import NodeRelationship, RelatedNodeInfo, TextNode
from llama_index.core.vector_stores.simple import SimpleVectorStore
from llama_index.core.vector_stores.types import (
    FilterCondition,
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryMode,
)

from rag_embeddings import BinaryCodec, Int8Codec, QuantizedStore, Record
from rag_embeddings.errors import StoreError
from rag_embeddings.llama_index import QuantizedVectorStore

WIDTH = 32


def nodes(count=40):
    vectors = np.random.default_rng(0).normal(size=(count, WIDTH))
    return [
        TextNode(
            id_=f"node-{n}",
            text=f"text {n}\n",
            metadata={"n": n, "half": n / 2, "kind": "even" if n % 2 == 0 else "odd", "tags": ["all", str(n)]},
            excluded_llm_metadata_keys=["n"],
            start_char_idx=n,
            end_char_idx=n + 7,
            relationships={NodeRelationship.SOURCE: RelatedNodeInfo(node_id=f"document-{n // 10}")},
            embedding=vector.tolist(),
        )
        for n, vector in enumerate(vectors)
    ]


@pytest.fixture(params=[20_000, 10], ids=["exact", "index"])
def store(request, tmp_path):
    store = QuantizedVectorStore(tmp_path / "store", codec=BinaryCodec(), build_after=request.param)
    yield store
    store.close()


def ask(vector, k=5, **options):
    return VectorStoreQuery(query_embedding=list(vector), similarity_top_k=k, **options)


def test_nodes_come_back_whole(store):
    items = nodes()
    assert store.add(items) == [node.node_id for node in items]
    for node in items:
        found = store.query(ask(node.embedding, 1))
        assert found.ids == [node.node_id]
        assert found.similarities == [pytest.approx(1.0, abs=1e-5)]
        back = found.nodes[0]
        assert np.allclose(back.embedding, node.embedding, atol=1e-6)
        back.embedding = node.embedding
        assert back == node
    assert [node.node_id for node in store.get_nodes(["node-3", "absent", "node-1"])] == ["node-3", "node-1"]
    assert [node.node_id for node in store.get_nodes()] == [node.node_id for node in items]


def test_adding_again_replaces(store):
    items = nodes()
    store.add(items)
    store.add([TextNode(id_="node-4", text="new", metadata={"m": 1}, embedding=items[4].embedding)])
    assert len(store.client) == 40
    found = store.get_nodes(["node-4"])[0]
    assert (found.text, found.metadata) == ("new", {"m": 1})


def test_deletes_by_document_id_and_metadata(store):
    store.add(nodes())
    store.delete("document-1")
    assert {node.ref_doc_id for node in store.get_nodes()} == {"document-0", "document-2", "document-3"}
    store.delete_nodes(["node-0", "node-1", "node-2"], condition("kind", "even"))
    assert {node.node_id for node in store.get_nodes() if node.metadata["n"] < 4} == {"node-1", "node-3"}
    store.delete_nodes()
    assert len(store.client) == 28
    store.clear()
    assert store.get_nodes() == []
    assert store.query(ask(np.ones(WIDTH))).ids == []


def condition(key, value, operator=FilterOperator.EQ):
    return MetadataFilters(filters=[MetadataFilter(key=key, value=value, operator=operator)])


FILTERS = [
    condition("kind", "even"),
    condition("kind", "even", FilterOperator.NE),
    condition("absent", "x", FilterOperator.NE),
    condition("n", 7, FilterOperator.GT),
    condition("n", 7, FilterOperator.GTE),
    condition("half", 3.5, FilterOperator.LT),
    condition("half", 3.5, FilterOperator.LTE),
    condition("n", [1, 5, 99], FilterOperator.IN),
    condition("kind", ["odd"], FilterOperator.NIN),
    condition("tags", "7", FilterOperator.CONTAINS),
    condition("tags", ["7", "9"], FilterOperator.ANY),
    condition("tags", ["all", "9"], FilterOperator.ALL),
    condition("absent", None, FilterOperator.IS_EMPTY),
    condition("kind", None, FilterOperator.IS_EMPTY),
    MetadataFilters(filters=[]),
    *(
        MetadataFilters(filters=[*condition("kind", "odd").filters, *condition("n", 30).filters], condition=word)
        for word in FilterCondition
    ),
]


@pytest.mark.parametrize("filters", FILTERS, ids=str)
def test_filters_mean_what_they_mean_to_the_simple_store(filters, store):
    simple = SimpleVectorStore()
    for each in (simple, store):
        each.add(nodes())
    query = ask(np.ones(WIDTH), 50, filters=filters)
    expected, found = simple.query(query), store.query(query)
    assert found.ids == expected.ids
    assert found.similarities == pytest.approx(expected.similarities, abs=1e-5)


def test_what_it_does_not_know_is_an_error(store):
    store.add(nodes(5))
    with pytest.raises(ValueError, match="'text_match' is not known"):
        store.query(ask(np.ones(WIDTH), filters=condition("kind", "ev", FilterOperator.TEXT_MATCH)))
    with pytest.raises(ValueError, match="'sparse' is not known"):
        store.query(ask(np.ones(WIDTH), mode=VectorStoreQueryMode.SPARSE))
    with pytest.raises(ValueError, match="no embedding"):
        store.query(VectorStoreQuery(query_str="text"))
    with pytest.raises(ValueError, match="embedding not set"):
        store.add([TextNode(text="no embedding")])


def test_restricted_to_nodes_and_documents(store):
    store.add(nodes())
    found = store.query(ask(np.ones(WIDTH), 50, node_ids=["node-3", "node-12"], doc_ids=["document-1"]))
    assert found.ids == ["node-12"]


def test_mmr_gives_nodes_in_the_order_of_choice(store):
    items = nodes()
    store.add(items)
    query = np.ones(WIDTH)
    found = store.query(ask(query, 6, mode=VectorStoreQueryMode.MMR), mmr_threshold=0.3, mmr_prefetch_factor=10)
    _, expected = get_top_k_mmr_embeddings(
        query, [node.embedding for node in items], similarity_top_k=6,
        embedding_ids=[node.node_id for node in items], mmr_threshold=0.3,
    )  # fmt: skip
    assert found.ids == expected
    assert [node.node_id for node in found.nodes] == expected


def test_in_an_index(store):
    context = StorageContext.from_defaults(vector_store=store)
    documents = [LlamaIndexDocument(text=f"Document {n}.", doc_id=f"d{n}") for n in range(6)]
    embedding = MockEmbedding(embed_dim=WIDTH)
    index = VectorStoreIndex.from_documents(documents, storage_context=context, embed_model=embedding)
    again = VectorStoreIndex.from_vector_store(store, embed_model=embedding)
    assert {item.node.ref_doc_id for item in again.as_retriever(similarity_top_k=9).retrieve("x")} == {
        f"d{n}" for n in range(6)
    }
    index.delete_ref_doc("d2")
    assert len(again.as_retriever(similarity_top_k=9).retrieve("x")) == 5


def test_pickles_and_copies_open_the_same_directory(tmp_path):
    store = QuantizedVectorStore(tmp_path, codec=Int8Codec(), build_after=10)
    store.add(nodes())
    for copy in (pickle.loads(pickle.dumps(store)), deepcopy(store), QuantizedVectorStore.from_dict(store.to_dict())):  # noqa: S301
        assert copy.query(ask(nodes()[3].embedding, 1)).ids == ["node-3"]
        assert copy.client.codec.kind == "int8"
    store.close()


async def test_async(store):
    await store.async_add(nodes())
    found = await store.aquery(ask(nodes()[3].embedding, 1))
    assert found.ids == ["node-3"]
    assert [node.node_id for node in await store.aget_nodes(["node-3"])] == ["node-3"]
    await store.adelete_nodes(["node-3"])
    await store.adelete("document-1")
    assert len(store.client) == 29
    await store.aclear()
    assert len(store.client) == 0


def test_a_persisted_storage_context_is_loaded_again(tmp_path):
    store = QuantizedVectorStore(tmp_path / "vectors", codec=BinaryCodec(), build_after=10)
    context = StorageContext.from_defaults(vector_store=store)
    embedding = MockEmbedding(embed_dim=WIDTH)
    VectorStoreIndex(nodes(), storage_context=context, embed_model=embedding)
    context.persist(str(tmp_path / "context"))  # what the store holds is on the disk already
    store.close()
    again = QuantizedVectorStore(tmp_path / "vectors")
    loaded = StorageContext.from_defaults(vector_store=again, persist_dir=str(tmp_path / "context"))
    index = VectorStoreIndex([], storage_context=loaded, embed_model=embedding)
    assert len(index.as_retriever(similarity_top_k=50).retrieve("x")) == 40
    again.close()


def test_what_is_no_node_is_told(tmp_path):
    plain = QuantizedStore(tmp_path / "store", codec=BinaryCodec())
    plain.upsert([Record("a", np.ones(WIDTH, dtype=np.float32), "written by another framework", {"n": 1})])
    plain.close()
    store = QuantizedVectorStore(tmp_path / "store", codec=BinaryCodec())
    with pytest.raises(StoreError, match="'a' is no LlamaIndex node"):
        store.query(ask(np.ones(WIDTH), 1))
    store.close()
