"""Late vectors in other people's stores: the very vectors, and no call of the encoder beside the pass."""

import asyncio
import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.indexing import InMemoryRecordManager, index
from langchain_core.vectorstores import InMemoryVectorStore
from pydantic import ValidationError

import toy_models
from langchain_stores import STORES
from rag_embeddings.encode.transformer import TransformerEncoder
from rag_embeddings.errors import StoreError, UnsupportedModelError
from rag_embeddings.langchain import (
    InstructionEmbeddings,
    LateChunkingEmbeddings,
    RecursiveTextSplitter,
    SentenceParentIndex,
)
from rag_embeddings.langchain import door as door_module
from rag_embeddings.text import Chunk
from rag_embeddings.text import Document as CoreDocument

DIMENSIONS = toy_models.WIDTH


@pytest.fixture(scope="module")
def embeddings():
    return LateChunkingEmbeddings(model=str(toy_models.folder("mean")))


@pytest.fixture(scope="module")
def splitter(embeddings):
    return RecursiveTextSplitter(chunk_size=20, embeddings=embeddings)


def document(name, lines=12):
    text = "\n\n".join(f"The river {name} rose {line} feet. Nobody in {name} believed it." for line in range(lines))
    return Document(page_content=f"{text}\n\nThe end.\n\nThe end.", id=name, metadata={"town": name})


DOCUMENTS = [document("Aller"), document("Bode"), Document(page_content=" ", id="blank"), document("Diemel")]


@pytest.fixture(params=STORES, ids=lambda make: make.__name__)
def make(request):
    return lambda embeddings: request.param(embeddings, DIMENSIONS)


class Counted:
    """Counts calls of the encoder, and the texts in them."""

    def __init__(self, monkeypatch):
        self.encoded, self.passes = 0, 0
        encode, late = TransformerEncoder.encode, TransformerEncoder.encode_tokens_many

        def counted_encode(encoder, texts, role):
            self.encoded += len(texts)
            return encode(encoder, texts, role)

        def counted_late(encoder, texts, role, **options):
            self.passes += len(texts)
            return late(encoder, texts, role, **options)

        monkeypatch.setattr(TransformerEncoder, "encode", counted_encode)
        monkeypatch.setattr(TransformerEncoder, "encode_tokens_many", counted_late)


def check(vector_of, chunks, vectors):
    assert len(chunks) == len(vectors) > 0
    for chunk, expected in zip(chunks, vectors, strict=True):
        found = np.asarray(vector_of(chunk.id), dtype=np.float64)
        assert found @ expected / np.linalg.norm(found) / np.linalg.norm(expected) > 1 - 1e-6


def test_the_store_holds_the_late_vectors_and_nothing_was_encoded_beside(embeddings, splitter, make, monkeypatch):
    chunks, vectors = embeddings.split_and_embed(DOCUMENTS, splitter)
    plain = embeddings.embed_documents([chunk.page_content for chunk in chunks])
    assert not np.allclose(vectors, plain, atol=1e-2)
    store, vector_of = make(embeddings)
    counted = Counted(monkeypatch)
    ids = embeddings.add_documents(store, iter(DOCUMENTS), splitter)
    assert ids == [chunk.id for chunk in chunks]
    assert (counted.encoded, counted.passes) == (0, 3)
    check(vector_of, chunks, vectors)
    found = store.similarity_search_by_vector(vectors[5], k=1)[0]
    assert (found.page_content, found.metadata["town"]) == (chunks[5].page_content, "Aller")
    assert found.metadata["start_index"] == chunks[5].metadata["start_index"]
    assert store.similarity_search("the river", k=2)


async def test_async_too(embeddings, splitter, make, monkeypatch):
    chunks, vectors = embeddings.split_and_embed(DOCUMENTS, splitter)
    store, vector_of = make(embeddings)
    counted = Counted(monkeypatch)
    assert await embeddings.aadd_documents(store, DOCUMENTS, splitter) == [chunk.id for chunk in chunks]
    assert (counted.encoded, counted.passes) == (0, 3)
    check(vector_of, chunks, vectors)


def test_writing_again_replaces_vectors(embeddings, splitter, make):
    store, vector_of = make(embeddings)
    plain = LateChunkingEmbeddings(model=embeddings.model_name, mix=0.9)
    chunks, _ = embeddings.split_and_embed(DOCUMENTS, splitter)
    other, other_vectors = plain.split_and_embed(DOCUMENTS, splitter)
    store.add_documents(other, ids=[chunk.id for chunk in other])
    embeddings.add_documents(store, DOCUMENTS, splitter)
    _, vectors = embeddings.split_and_embed(DOCUMENTS, splitter)
    assert not np.allclose(vectors, other_vectors, atol=1e-3)
    check(vector_of, chunks, vectors)
    assert len(store.similarity_search("river", k=500)) == len(chunks)


def test_threads_and_tasks_do_not_mix_vectors_up(embeddings, splitter, make):
    store, vector_of = make(embeddings)
    towns = [document(f"Town{number}", lines=6) for number in range(12)]
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda town: embeddings.add_documents(store, [town], splitter), towns[:6]))

    async def all_at_once():
        await asyncio.gather(*(embeddings.aadd_documents(store, [town], splitter) for town in towns[6:]))

    asyncio.run(all_at_once())
    check(vector_of, *embeddings.split_and_embed(towns, splitter))


def test_a_store_that_fails_halfway_is_put_right_by_writing_again(embeddings, splitter, make, monkeypatch):
    store, vector_of = make(embeddings)
    add = type(store).add_documents

    def broken(self, items, **options):
        add(self, items[:3], **{**options, "ids": options["ids"][:3]})
        raise OSError("disk full")

    monkeypatch.setattr(type(store), "add_documents", broken)
    with pytest.raises((OSError, StoreError)):
        embeddings.add_documents(store, DOCUMENTS, splitter)
    monkeypatch.setattr(type(store), "add_documents", add)
    assert embeddings.embed_documents(["another text"])  # nothing waits for its vector any more
    embeddings.add_documents(store, DOCUMENTS, splitter)
    chunks, vectors = embeddings.split_and_embed(DOCUMENTS, splitter)
    check(vector_of, chunks, vectors)
    assert len(store.similarity_search("river", k=500)) == len(chunks)


async def test_a_task_that_is_cancelled_holds_nobody_up(embeddings, splitter, make):
    store, vector_of = make(embeddings)
    writing = asyncio.Event()
    add = store.aadd_documents

    async def stuck(items, **options):
        writing.set()
        await asyncio.Event().wait()

    store.aadd_documents = stuck
    task = asyncio.create_task(embeddings.aadd_documents(store, DOCUMENTS, splitter))
    await asyncio.wait_for(writing.wait(), 60)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    store.aadd_documents = add
    await asyncio.wait_for(embeddings.aadd_documents(store, DOCUMENTS, splitter), 60)
    check(vector_of, *embeddings.split_and_embed(DOCUMENTS, splitter))


def test_slices_are_no_larger_than_a_store_takes(embeddings, splitter, make, monkeypatch):
    monkeypatch.setattr(door_module, "SLICE", 7)
    store, vector_of = make(embeddings)
    sizes = []
    add = type(store).add_documents
    monkeypatch.setattr(
        type(store),
        "add_documents",
        lambda self, items, **options: sizes.append(len(items)) or add(self, items, **options),
    )
    embeddings.add_documents(store, DOCUMENTS, splitter)
    chunks, vectors = embeddings.split_and_embed(DOCUMENTS, splitter)
    assert max(sizes) == 7
    assert sum(sizes) == len(chunks)
    check(vector_of, chunks, vectors)


class TestRefusals:
    def test_a_store_made_with_another_object(self, embeddings, splitter, make):
        store, _ = make(LateChunkingEmbeddings(model=embeddings.model_name))
        with pytest.raises(StoreError, match="not the object"):
            embeddings.add_documents(store, DOCUMENTS, splitter)
        store = InMemoryVectorStore(DeterministicFakeEmbedding(size=DIMENSIONS))
        with pytest.raises(StoreError, match="not the object"):
            asyncio.run(embeddings.aadd_documents(store, DOCUMENTS, splitter))

    def test_ids_of_the_callers_own(self, embeddings, splitter, make):
        """The store would hold these ids, and the ids that come back would not be in it."""
        store, _ = make(embeddings)
        with pytest.raises(ValueError, match="leave out ids="):
            embeddings.add_documents(store, DOCUMENTS, splitter, ids=["1"])
        with pytest.raises(ValueError, match="leave out ids="):
            asyncio.run(embeddings.aadd_documents(store, DOCUMENTS, splitter, ids=["1"]))

    def test_a_store_that_changes_texts_writes_nothing(self, embeddings, splitter):
        class Upper(InMemoryVectorStore):
            def add_documents(self, documents, ids=None, **options):
                changed = [item.model_copy(update={"page_content": item.page_content.upper()}) for item in documents]
                return super().add_documents(changed, ids, **options)

        store = Upper(embeddings)
        with pytest.raises(StoreError, match="seems to change texts"):
            embeddings.add_documents(store, DOCUMENTS, splitter)
        assert store.store == {}
        assert embeddings.embed_documents(["another text"])  # the context is over

    @pytest.mark.parametrize("times", [0, 2])
    def test_a_store_that_asks_for_too_few_or_too_many(self, embeddings, splitter, times):
        class Asking(InMemoryVectorStore):
            def add_documents(self, documents, ids=None, **options):
                for _ in range(times):
                    self.embedding.embed_documents([item.page_content for item in documents])
                return ids

        with pytest.raises(StoreError, match="did not ask" if times == 0 else "not being written"):
            embeddings.add_documents(Asking(embeddings), DOCUMENTS, splitter)

    def test_a_store_that_embeds_in_threads_of_its_own_is_noticed(self, embeddings, splitter):
        class Threaded(InMemoryVectorStore):
            def add_documents(self, documents, ids=None, **options):
                with ThreadPoolExecutor(1) as pool:
                    return pool.submit(InMemoryVectorStore.add_documents, self, documents, ids).result()

        with pytest.raises(StoreError, match="did not ask"):
            embeddings.add_documents(Threaded(embeddings), DOCUMENTS, splitter)

    def test_a_sync_call_inside_a_loop_that_is_writing_says_so(self, embeddings, splitter):
        class Waiting(InMemoryVectorStore):
            async def aadd_documents(self, documents, ids=None, **options):
                with pytest.raises(StoreError, match="await aadd_documents"):
                    embeddings.add_documents(InMemoryVectorStore(embeddings), DOCUMENTS[:1], splitter)
                return await super().aadd_documents(documents, ids, **options)

        asyncio.run(embeddings.aadd_documents(Waiting(embeddings), DOCUMENTS[:1], splitter))

    def test_a_model_that_cannot(self, splitter):
        with pytest.raises(UnsupportedModelError, match="'cls'"):
            LateChunkingEmbeddings(model=str(toy_models.folder("cls"))).split_and_embed(DOCUMENTS, splitter)
        forced = LateChunkingEmbeddings(model=str(toy_models.folder("cls")), force=True)
        assert forced.split_and_embed(DOCUMENTS, splitter)[1]


class TestObject:
    def test_texts_by_themselves_are_embedded_as_ever(self, embeddings):
        plain = InstructionEmbeddings(model=embeddings.model_name)
        assert embeddings.embed_documents(["a b", "c"]) == plain.embed_documents(["a b", "c"])
        assert embeddings.embed_query("a b") == plain.embed_query("a b")

    def test_pickles_and_copies_after_use(self, embeddings, splitter):
        embeddings.add_documents(InMemoryVectorStore(embeddings), DOCUMENTS[:1], splitter)
        pickled = pickle.loads(pickle.dumps(embeddings))  # noqa: S301
        for other in (pickled, copy.deepcopy(embeddings), copy.copy(embeddings)):
            assert other == embeddings
            other.add_documents(InMemoryVectorStore(other), DOCUMENTS[:1], splitter)

    def test_mix_is_the_mean_with_the_chunk_by_itself(self, embeddings, splitter):
        mixed = LateChunkingEmbeddings(model=embeddings.model_name, mix=0.5)
        chunks, late = embeddings.split_and_embed(DOCUMENTS, splitter)
        plain = embeddings.embed_documents([chunk.page_content for chunk in chunks])
        expected = np.array(late) + np.array(plain)
        expected /= np.linalg.norm(expected, axis=1, keepdims=True)
        assert np.allclose(mixed.split_and_embed(DOCUMENTS, splitter)[1], expected, rtol=0, atol=1e-5)


class Headed:
    """A splitter whose chunks have context."""

    def __init__(self, inner):
        self.inner = inner

    def split(self, document: CoreDocument):
        return [Chunk(item.document, item.spans, context=f"In {document.id}") for item in self.inner.split(document)]

    def settings(self):
        return {"splitter": "headed", "inner": self.inner.settings()}


def test_context_reaches_any_store_through_the_same_door(splitter, make):
    embeddings = InstructionEmbeddings(model=str(toy_models.folder("mean")))
    headed = Headed(splitter.core)
    store, vector_of = make(embeddings)
    embeddings.add_documents(store, DOCUMENTS, headed)
    chunks, vectors = embeddings.split_and_embed(DOCUMENTS, headed)
    assert chunks[0].page_content in DOCUMENTS[0].page_content
    expected = embeddings.embed_documents(
        [f"In {item.metadata['source_id']}\n\n{item.page_content}" for item in chunks]
    )
    assert np.allclose(vectors, expected, rtol=0, atol=1e-5)
    check(vector_of, chunks, vectors)


class TestIndex:
    def test_late_sentences_and_passages_are_in_the_index(self, embeddings, splitter):
        with SentenceParentIndex(embeddings=embeddings, splitter=splitter, late=True) as index:
            index.upsert(DOCUMENTS)
            chunks, vectors = embeddings.split_and_embed(DOCUMENTS, splitter)
            with index.directory.reading() as view:
                records = view.chunks.get([chunk.id for chunk in chunks])
                assert np.allclose([record.vector for record in records], vectors, rtol=0, atol=1e-6)
            assert index.invoke("The river Bode rose 3 feet.")

    def test_a_directory_stays_late_for_those_who_do_not_say(self, tmp_path, embeddings, splitter, monkeypatch):
        with SentenceParentIndex(embeddings=embeddings, splitter=splitter, directory=tmp_path, late=True) as index:
            index.upsert(DOCUMENTS[:1])
        counted = Counted(monkeypatch)
        with SentenceParentIndex(embeddings=embeddings, splitter=splitter, directory=tmp_path) as index:
            index.upsert(DOCUMENTS[:2])
            assert (counted.encoded, counted.passes) == (0, 1)
        with SentenceParentIndex(embeddings=embeddings, splitter=splitter, directory=tmp_path, late=False) as index:
            index.upsert(DOCUMENTS[:1])
            assert counted.encoded > 0

    def test_langchains_own_indexing_writes_late_vectors_into_it(self, embeddings, splitter, monkeypatch):
        records = InMemoryRecordManager("late")
        records.create_schema()
        options = {"cleanup": "full", "key_encoder": "sha256"}
        with SentenceParentIndex(embeddings=embeddings, splitter=splitter, late=True) as index_of_ours:
            counted = Counted(monkeypatch)
            assert index(DOCUMENTS[:2], records, index_of_ours, **options)["num_added"] == 2
            assert index([DOCUMENTS[0]], records, index_of_ours, **options)["num_deleted"] == 1
            assert (counted.encoded, counted.passes) == (0, 2)
            with index_of_ours.directory.reading() as view:
                _, ids = index_of_ours.directory.ledger.unit_ids()
                stored = np.array([record.vector for record in view.chunks.get(sorted(ids))])
        _, vectors = embeddings.split_and_embed(DOCUMENTS[:1], splitter)
        assert len(stored) == len(vectors)
        assert np.allclose((stored @ np.array(vectors).T).max(axis=1), 1, rtol=0, atol=1e-6)

    def test_embeddings_without_tokens_are_refused_at_once(self):
        with pytest.raises(ValidationError, match="no token vectors"):
            SentenceParentIndex(embeddings=DeterministicFakeEmbedding(size=8), late=True)
