"""Embeddings, every splitter, and artifacts through LangChain's other vector stores, read back from each."""

import threading
from functools import cache

import numpy as np
import pytest
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding, Embeddings
from langchain_core.vectorstores import InMemoryVectorStore

import toy_models
from langchain_stores import STORES
from rag_embeddings import (
    EmbeddingArtifact,
    IndexDirectory,
    Indexer,
    MemoryStore,
    Pipeline,
    Profile,
    RecursiveSplitter,
    SpaceMismatchError,
    StoreError,
    export_index,
)
from rag_embeddings.encode.transformer import TransformerEncoder
from rag_embeddings.langchain import (
    BollingerTextSplitter,
    CachedEmbeddings,
    InstructionEmbeddings,
    LateChunkingEmbeddings,
    LayoutTextSplitter,
    LLMTextSplitter,
    RecursiveTextSplitter,
    RegexTextSplitter,
    SemanticTextSplitter,
    SlidingWindowTextSplitter,
    TopicTextSplitter,
)
from rag_embeddings.langchain.artifact import aupload, save_documents, to_document, upload
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
    Document(page_content=TEXT, id="mill.md", metadata={"year": 1902, "tags": ["mill", "bridge"]}),
    Document(page_content=TEXT.replace("mill", "weir"), id="weir.md", metadata={"year": 1911, "tags": ["weir"]}),
]
COUNTED = {"chunk_size": 30, "tokenizer": len}
MEANING = {"chunk_size": 60, "tokenizer": len}
ENCODER = DeterministicEncoder()
SPLITTERS = {
    "recursive": RecursiveTextSplitter(**COUNTED),
    "sliding": SlidingWindowTextSplitter(chunk_size=60, chunk_overlap=20, tokenizer=len),
    "layout": LayoutTextSplitter(chunk_size=80, tokenizer=len, layout="markdown"),
    "semantic": SemanticTextSplitter(ENCODER, **MEANING),
    "bollinger": BollingerTextSplitter(ENCODER, **MEANING),
    "topics": TopicTextSplitter(ENCODER, **MEANING),
    "regex": RegexTextSplitter(**MEANING),
    "llm": LLMTextSplitter(lambda prompt: "[2]", **MEANING),
}


@pytest.fixture(scope="module")
def embeddings():
    return InstructionEmbeddings(model=str(toy_models.folder("prompts")))


@cache
def loaded(kind):
    return kind(model=str(toy_models.folder("mean")))


@pytest.fixture(params=STORES, ids=lambda make: make.__name__)
def make(request):
    return lambda embeddings: request.param(embeddings, toy_models.WIDTH)


@pytest.fixture
def encoded(monkeypatch):
    """Number of texts that were encoded."""
    counts = []
    encode = TransformerEncoder.encode
    monkeypatch.setattr(
        TransformerEncoder, "encode", lambda self, texts, role: counts.append(len(texts)) or encode(self, texts, role)
    )
    return counts


def check(vector_of, ids, vectors):
    assert len(ids) == len(vectors) > 0
    for id_, expected in zip(ids, vectors, strict=True):
        found = np.asarray(vector_of(id_), dtype=np.float64)
        assert found @ expected / np.linalg.norm(found) / np.linalg.norm(expected) > 1 - 1e-6


@pytest.mark.parametrize("kind", SPLITTERS)
def test_chunks_of_every_splitter_with_their_vectors(embeddings, make, kind):
    """With the store's own methods only, as a user's existing code has them."""
    chunks = SPLITTERS[kind].split_documents(DOCUMENTS)
    store, vector_of = make(embeddings)
    ids = store.add_documents(chunks, ids=[chunk.id for chunk in chunks])
    check(vector_of, ids, embeddings.embed_documents([chunk.page_content for chunk in chunks]))
    assert ids == [chunk.id for chunk in chunks]
    by_id = {chunk.id: chunk for chunk in chunks}
    found = store.similarity_search("a flood carried away the arch", k=4)
    assert len(found) == 4
    for document in found:
        expected = by_id[document.id or document.metadata["_id"]]
        assert document.page_content == expected.page_content
        assert {key: document.metadata[key] for key in expected.metadata} == expected.metadata
        source = next(item for item in DOCUMENTS if item.id == document.metadata["source_id"])
        if "spans" not in document.metadata:
            start, end = document.metadata["start_index"], document.metadata["end_index"]
            assert source.page_content[start:end] == document.page_content


def test_the_query_has_the_query_prompt(embeddings, make):
    store, _ = make(embeddings)
    store.add_texts(["text: a", "find: a b c", "b"])
    scored = store.similarity_search_with_score("a b c", k=3)
    by_vector = store.similarity_search_by_vector(embeddings.embed_query("a b c"), k=3)
    assert [document.page_content for document, _ in scored] == [document.page_content for document in by_vector]


class TestArtifacts:
    @pytest.fixture(params=[InstructionEmbeddings, LateChunkingEmbeddings], ids=lambda kind: kind.__name__)
    def made(self, request, tmp_path):
        """An artifact, and embeddings, chunks and vectors that it was saved from."""
        embeddings = loaded(request.param)
        splitter = RecursiveTextSplitter(chunk_size=20, embeddings=embeddings)
        chunks, vectors = embeddings.split_and_embed(DOCUMENTS, splitter)
        with save_documents(tmp_path / "a", chunks, embeddings, vectors=vectors) as artifact:
            yield artifact, embeddings, chunks, vectors

    def test_documents_come_back_as_they_were(self, made):
        artifact, embeddings, chunks, vectors = made
        assert [to_document(record) for record in artifact] == chunks
        assert np.array_equal(artifact.vectors, np.asarray(vectors, dtype=np.float32))
        assert artifact.profile == embeddings.encoder.profile
        for record in artifact:
            source = next(item for item in DOCUMENTS if item.id == record.source_id)
            assert [span.of(source.page_content) for span in record.spans] == [record.text]

    def test_into_every_store_and_again_without_encoding(self, made, make, encoded):
        artifact, embeddings, chunks, vectors = made
        store, vector_of = make(embeddings)
        encoded.clear()  # Qdrant's store embeds a text when it is made
        for _ in range(2):
            assert upload(artifact, store) == [chunk.id for chunk in chunks]
        assert encoded == []
        check(vector_of, [chunk.id for chunk in chunks], vectors)
        assert len(store.similarity_search_by_vector(vectors[0], k=500)) == len(chunks)
        found = store.similarity_search_by_vector(vectors[0], k=1)[0]
        assert (found.page_content, found.metadata["year"]) == (chunks[0].page_content, 1902)

    async def test_async_too(self, made, make, encoded):
        artifact, embeddings, chunks, vectors = made
        store, vector_of = make(embeddings)
        encoded.clear()
        assert await aupload(artifact, store) == [chunk.id for chunk in chunks]
        assert encoded == []
        check(vector_of, [chunk.id for chunk in chunks], vectors)

    async def test_the_model_is_not_loaded_in_the_event_loop(self, made, monkeypatch):
        artifact, embeddings, chunks, _ = made
        fresh = type(embeddings)(**{name: getattr(embeddings, name) for name in type(embeddings).model_fields})
        loop = threading.get_ident()
        load = TransformerEncoder._load_now

        def watched(encoder):
            assert threading.get_ident() != loop
            return load(encoder)

        monkeypatch.setattr(TransformerEncoder, "_load_now", watched)
        assert await aupload(artifact, InMemoryVectorStore(fresh)) == [chunk.id for chunk in chunks]

    def test_vectors_are_made_where_none_are_given(self, embeddings, tmp_path, encoded):
        chunks = LayoutTextSplitter(chunk_size=80, tokenizer=len, layout="markdown").split_documents(DOCUMENTS)
        with save_documents(tmp_path / "a", iter(chunks), embeddings) as artifact:
            assert sum(encoded) == len(chunks)
            assert any(chunk.metadata.get("context") for chunk in chunks)
            texts = [
                "\n\n".join(part for part in (chunk.metadata.get("context"), chunk.page_content) if part)
                for chunk in chunks
            ]
            assert np.allclose(artifact.vectors, embeddings.embed_documents(texts), atol=1e-6)
            assert [to_document(record) for record in artifact] == chunks

    def test_an_index_into_every_store(self, embeddings, make, tmp_path, encoded):
        encoder = embeddings.encoder
        with IndexDirectory.open(None) as directory:
            Indexer(directory, Pipeline(encoder, RecursiveSplitter(20, tokenizer=encoder))).upsert(
                [_core(document) for document in DOCUMENTS]
            )
            with export_index(directory, tmp_path / "a") as artifact:
                (store, vector_of), (other, _) = make(embeddings), make(embeddings)
                encoded.clear()
                ids = upload(artifact, store)
                assert sorted(ids) == sorted(directory.ledger.unit_ids()[1])
                assert len(upload(artifact, other, kinds=["sentence"])) == artifact.kinds["sentence"]
                assert encoded == []
                check(vector_of, ids, [record.vector for record in artifact.records(["chunk"])])
        for document in store.similarity_search("the flood", k=3):
            source = next(item for item in DOCUMENTS if item.id == document.metadata["source_id"])
            assert source.page_content[document.metadata["start_index"] : document.metadata["end_index"]] == (
                document.page_content
            )

    def test_foreign_embeddings(self, tmp_path, make):
        class Counting(DeterministicFakeEmbedding):
            def embed_documents(self, texts):
                calls.extend(texts)
                return super().embed_documents(texts)

        calls = []
        foreign: Embeddings = Counting(size=toy_models.WIDTH)
        chunks = SPLITTERS["recursive"].split_documents(DOCUMENTS)
        with save_documents(tmp_path / "a", chunks, foreign) as artifact:
            assert calls == [chunk.page_content for chunk in chunks]
            store = InMemoryVectorStore(foreign)
            with pytest.raises(StoreError, match=r"CachedEmbeddings\(embeddings=...\)"):
                upload(artifact, store)
            assert store.store == {}
            inside = CachedEmbeddings(embeddings=foreign, model="Counting", cache_path=str(tmp_path / "cache"))
            store, vector_of = make(inside)
            calls.clear()
            ids = upload(artifact, store)
            assert len(calls) <= 1  # to learn how many dimensions it has
            check(vector_of, ids, artifact.vectors)

    def test_a_profile_will_do_where_vectors_are_given(self, tmp_path):
        profile = Profile("other-model", dimensions=2)
        documents = [Document(page_content="a"), Document(page_content="b", metadata={"k": None})]
        with save_documents(tmp_path / "a", documents, profile, vectors=[[1, 0], [0, 1]]) as artifact:
            found = list(artifact)
            assert [(record.text, record.metadata, record.kind) for record in found] == [
                ("a", {}, ""),
                ("b", {"k": None}, ""),
            ]
            store = MemoryStore()
            assert artifact.upload(store) == 2
        with pytest.raises(TypeError, match="a profile cannot embed"):
            save_documents(tmp_path / "b", documents, profile)
        for vectors in ([[1, 0]], [[1, 0], [0, 1], [1, 1]]):
            with pytest.raises(StoreError, match="not as many vectors"):
                save_documents(tmp_path / "b", documents, profile, vectors=vectors)
        assert [file.name for file in tmp_path.iterdir()] == ["a"]

    def test_another_space_is_refused(self, made, make):
        artifact, _, _, _ = made
        other = InstructionEmbeddings(model=str(toy_models.folder("prompts")))
        with pytest.raises(SpaceMismatchError, match="another space"):
            upload(artifact, make(other)[0])

    def test_a_damaged_artifact_is_refused(self, made, make):
        artifact, embeddings, _, _ = made
        artifact.close()
        with pytest.raises(StoreError, match="closed"):
            upload(artifact, make(embeddings)[0])
        artifact.path.write_bytes(artifact.path.read_bytes()[:-3])
        with pytest.raises(ValueError, match="damaged"):
            EmbeddingArtifact(artifact.path)


def _core(document):
    from rag_embeddings.langchain.convert import to_core

    return to_core(document)
