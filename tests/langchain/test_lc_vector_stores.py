"""The LangChain vector stores: what goes in comes out, filters, MMR in the order of choice, scores from 0 to 1."""

import gc
import math
import weakref
from datetime import UTC, datetime

import numpy as np
import pytest
from filelock import FileLock
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.indexing import InMemoryRecordManager, index
from langchain_core.vectorstores.utils import maximal_marginal_relevance

from rag_embeddings import BinaryCodec, Int8Codec, SpaceMismatchError, StoreLockedError, Where
from rag_embeddings.errors import DocumentError, StoreError
from rag_embeddings.langchain import ChromaVectorStore, InstructionEmbeddings, QuantizedVectorStore
from rag_embeddings.store.records import relevance

EMBEDDINGS = DeterministicFakeEmbedding(size=32)


def quantized(path, embeddings=EMBEDDINGS, **options):
    return QuantizedVectorStore(embeddings, path, codec=BinaryCodec(), build_after=20, **options)


def chroma(path, embeddings=EMBEDDINGS, **options):
    return ChromaVectorStore(embeddings, path, **options)


@pytest.fixture(params=[quantized, chroma])
def store(request, tmp_path):
    store = request.param(tmp_path / "store")
    yield store
    store.close()


def documents(count=60):
    return [
        Document(page_content=f"text {n}", id=f"id-{n}", metadata={"n": n, "even": n % 2 == 0, "tags": ["all", str(n)]})
        for n in range(count)
    ]


def test_every_document_is_found_by_its_own_text(store):
    store.add_documents(documents())
    for item in documents():
        found, score = store.similarity_search_with_score(item.page_content, k=1)[0]
        assert found == item
        assert score == pytest.approx(1.0, abs=1e-5)


def test_whole_metadata_comes_back_though_no_store_can_filter_by_it(store):
    metadata = {"nested": {"a": [1, None]}, "none": None, "empty": [], "mixed": [1, "x"], "plain": 3, "$odd": 1}
    ids = store.add_documents([Document(page_content="text", metadata=metadata)])
    assert store.get_by_ids(ids)[0].metadata == metadata
    assert store.similarity_search("text", filter={"plain": 3})[0].metadata == metadata
    store.add_documents([Document(page_content="text", id=ids[0], metadata={"_metadata": "mine"})])
    assert store.get_by_ids(ids)[0].metadata == {"_metadata": "mine"}
    with pytest.raises(DocumentError, match="not JSON"):
        store.add_documents([Document(page_content="text", id="x", metadata={"when": {datetime.now(UTC): 1}})])


def test_filters(store):
    store.add_documents(documents())
    found = store.similarity_search("text 1", k=100, filter=Where.equals("even", True) & Where.between("n", 10, 20))
    assert sorted(item.metadata["n"] for item in found) == [10, 12, 14, 16, 18, 20]
    assert [item.id for item in store.similarity_search("x", k=9, filter={"n": 7, "even": False})] == ["id-7"]
    assert [item.id for item in store.similarity_search("x", k=9, filter=Where.has("tags", "8"))] == ["id-8"]
    assert [item.id for item in store.similarity_search("x", k=9, filter=Where.text_contains("xt 59"))] == ["id-59"]
    assert [item.id for item in store.max_marginal_relevance_search("x", filter={"n": 7})] == ["id-7"]
    with pytest.raises(TypeError, match="filter is a Where"):
        store.similarity_search("x", filter={"$or": [{"n": 1}]})
    with pytest.raises(TypeError, match=r"unknown arguments: where$"):
        store.similarity_search("text", where={"n": 1})
    with pytest.raises(TypeError, match="unknown arguments: wher"):
        store.similarity_search("x", wher={})


def test_mmr_gives_documents_in_the_order_of_choice(store):
    store.add_documents(documents())
    query = EMBEDDINGS.embed_query("a question")
    near = store.similarity_search_by_vector(query, k=20)
    vectors = [EMBEDDINGS.embed_documents([item.page_content])[0] for item in near]
    expected = maximal_marginal_relevance(np.array(query), vectors, 0.3, 6)
    found = store.max_marginal_relevance_search("a question", k=6, fetch_k=20, lambda_mult=0.3)
    assert [item.id for item in found] == [near[place].id for place in expected]
    assert expected != sorted(expected)


def test_an_impossible_batch_size_is_no_batch_at_all(store):
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        store.add_documents(documents(3), batch_size=0)


def test_ready_vectors(store):
    items = documents(30)
    vectors = np.random.default_rng(0).normal(size=(30, 32))
    assert store.add_vectors(items, vectors) == [item.id for item in items]
    assert store.similarity_search_by_vector(vectors[7].tolist(), k=1) == [items[7]]
    with pytest.raises(ValueError, match="zip"):
        store.add_vectors(items, vectors[:3])
    with pytest.raises(ValueError, match="30 documents need as many ids"):
        store.add_vectors(items, vectors, ids=["a"])


def test_ids_are_made_of_text_and_metadata(store):
    item = Document(page_content="text", metadata={"a": 1})
    assert store.add_documents([item]) == store.add_documents([item])
    assert len(store.store) == 1
    assert len({*store.add_texts(["text", "text"], [{"a": 1}, {"a": 2}])}) == 2


@pytest.mark.parametrize("similarity", ["cosine", "dot", "euclidean"])
def test_relevance_is_from_0_to_1_in_the_order_of_scores(similarity):
    scores = [-1.0, -0.5, -0.1, 0.0] + ([] if similarity == "euclidean" else [0.5, 1.0])
    found = [relevance(score, similarity) for score in scores]
    assert found == sorted(found)
    assert all(0 <= value <= 1 for value in found)
    if similarity == "cosine":
        assert (found[0], found[-1]) == (0, 1)
    if similarity == "euclidean":
        assert found[-1] == 1


def test_scores_as_a_retriever_sees_them(store):
    store.add_documents(documents())
    pairs = store.similarity_search_with_relevance_scores("text 3", k=60)
    assert math.isclose(pairs[0][1], 1.0, abs_tol=1e-5)
    assert all(0 <= score <= 1 for _, score in pairs)
    retriever = store.as_retriever(search_type="similarity_score_threshold", search_kwargs={"score_threshold": 0.99})
    assert [item.id for item in retriever.invoke("text 3")] == ["id-3"]


def test_langchain_index_leaves_unchanged_documents_alone_and_deletes_old_ones(store):
    manager = InMemoryRecordManager("test")
    manager.create_schema()
    items = [Document(page_content=f"t{n}", metadata={"source": f"s{n}"}) for n in range(5)]
    options = {"cleanup": "full", "source_id_key": "source", "key_encoder": "blake2b"}
    assert index(items, manager, store, **options)["num_added"] == 5
    assert index(items, manager, store, **options)["num_skipped"] == 5
    assert index(items[:3], manager, store, **options)["num_deleted"] == 2
    assert len(store.store) == 3


def test_a_quantized_directory_is_opened_again_without_its_codec(tmp_path):
    store = QuantizedVectorStore.from_texts(
        ["a", "b", "c"], EMBEDDINGS, directory=tmp_path, codec=Int8Codec(), build_after=2, space="one"
    )
    with pytest.raises(StoreLockedError):
        QuantizedVectorStore(EMBEDDINGS, tmp_path).add_texts(["d"])
    store.close()
    again = QuantizedVectorStore(EMBEDDINGS, tmp_path)
    assert again.similarity_search("b", k=1)[0].page_content == "b"
    again.close()
    with pytest.raises(SpaceMismatchError):
        QuantizedVectorStore(EMBEDDINGS, tmp_path, space="other")


@pytest.mark.parametrize("make", [QuantizedVectorStore, ChromaVectorStore])
async def test_async_and_a_temporary_directory(make):
    store = make(EMBEDDINGS)
    ids = await store.aadd_documents(documents(5))
    assert [item.id for item in await store.asimilarity_search("text 2", k=1)] == ["id-2"]
    assert await store.adelete(ids[:2])
    assert [item.id for item in await store.aget_by_ids(ids)] == ids[2:]
    assert store.delete()
    assert len(store.store) == 0
    store.close()


@pytest.mark.parametrize("make", [quantized, chroma])
def test_embeddings_of_another_space_are_refused(make, tmp_path):
    store = make(tmp_path, InstructionEmbeddings())
    store.add_texts(["a text"])
    store.close()
    for other in (InstructionEmbeddings(query_prompt="query: "), InstructionEmbeddings(dimensions=128)):
        with pytest.raises(SpaceMismatchError):
            make(tmp_path, other)
    again = make(tmp_path, InstructionEmbeddings())
    assert again.similarity_search("a text", k=1)[0].page_content == "a text"
    again.close()
    make(tmp_path, space="").close()  # who says nothing is not asked


@pytest.mark.parametrize("make", [quantized, chroma])
def test_a_failure_costs_one_batch(make, tmp_path):
    class Failing(DeterministicFakeEmbedding):
        calls: int = 0

        def embed_documents(self, texts):
            self.calls += 1
            if self.calls == 3:
                raise ConnectionError("the service has gone away")
            return super().embed_documents(texts)

    store = make(tmp_path, Failing(size=32))
    with pytest.raises(ConnectionError):
        store.add_documents(documents(60), batch_size=20)
    assert len(store.store) == 40
    store.add_documents(documents(60), batch_size=20)
    assert len(store.store) == 60
    store.close()


def test_more_documents_than_chroma_takes_at_once_and_an_update_that_drops_metadata(tmp_path):
    store = chroma(tmp_path, DeterministicFakeEmbedding(size=4))
    count = store.store._client.get_max_batch_size() + 10
    ids = store.add_texts((f"text {n}" for n in range(count)), [{"a": 1, "b": n} for n in range(count)])
    assert len(store.store) == len(set(ids)) == count
    store.add_documents([Document(page_content="new", id=ids[0], metadata={"a": 2})])
    (found,) = store.get_by_ids(ids[:1])
    assert (found.page_content, found.metadata) == ("new", {"a": 2})
    assert store.get_by_ids([]) == []
    assert store.add_documents([]) == []
    store.delete()
    assert len(store.store) == 0
    store.close()


@pytest.mark.parametrize("similarity", ["cosine", "dot", "euclidean"])
def test_relevance_of_a_document_is_highest_for_its_own_text(similarity, tmp_path):
    for make in (ChromaVectorStore, QuantizedVectorStore):
        store = make(EMBEDDINGS, tmp_path / make.__name__, similarity=similarity)
        store.add_documents(documents(30))
        pairs = store.similarity_search_with_relevance_scores("text 3", k=30)
        scores = [score for _, score in pairs]
        assert scores == sorted(scores, reverse=True)
        assert all(0 <= score <= 1 for score in scores)
        assert pairs[0][0].id == "id-3"
        store.close()


def test_stores_made_of_documents_hold_what_an_index_finds(tmp_path):
    store = ChromaVectorStore.from_documents(documents(9), EMBEDDINGS, directory=tmp_path, collection="nine")
    assert store.as_retriever(search_kwargs={"k": 1, "filter": {"n": 4}}).invoke("any")[0].id == "id-4"
    store.close()
    with pytest.raises(ValueError, match="as many metadatas"):
        ChromaVectorStore.from_texts(["a"], EMBEDDINGS, [], directory=tmp_path)
    with FileLock(tmp_path / "writer.lock", timeout=0):
        pass  # it is free
    other = ChromaVectorStore(EMBEDDINGS, tmp_path, collection="other")
    assert other.similarity_search("any") == []
    other.close()


@pytest.mark.parametrize("make", [QuantizedVectorStore, ChromaVectorStore])
def test_vectors_are_compared_as_the_model_was_trained_for(make, tmp_path):
    embeddings = InstructionEmbeddings(similarity="dot")
    store = make(embeddings, tmp_path / "dot")
    store.add_texts(["a text"])
    assert store.store.similarity == "dot"
    store.close()
    store = make(embeddings, tmp_path / "asked", similarity="euclidean")  # the caller wins
    assert store.store.similarity == "euclidean"
    store.close()
    store = make(EMBEDDINGS, tmp_path / "foreign")
    assert store.store.similarity == "cosine"
    store.close()
    with pytest.raises(StoreError, match=r"compares vectors by dot, .*cosine"):
        make(EMBEDDINGS, tmp_path / "dot", similarity="cosine")


def test_a_quantized_directory_and_a_codec_say_how_they_compare(tmp_path):
    QuantizedVectorStore(InstructionEmbeddings(), tmp_path, similarity="dot").close()
    store = QuantizedVectorStore(InstructionEmbeddings(), tmp_path)
    assert store.store.similarity == "dot"
    store.close()
    store = QuantizedVectorStore(InstructionEmbeddings(similarity="dot"), codec=Int8Codec(similarity="euclidean"))
    assert store.store.similarity == "euclidean"
    store.close()


def test_a_store_that_is_let_go_leaves_no_lock_and_no_files_open(tmp_path):
    store = chroma(tmp_path)
    store.add_documents(documents(3))
    kept = weakref.ref(store.store)
    del store
    gc.collect()
    with FileLock(tmp_path / "writer.lock", timeout=0):
        pass  # it is free
    assert kept() is None
