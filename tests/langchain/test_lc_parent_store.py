"""Sentence-to-passage retrieval over other people's vector stores and key-value stores."""

import asyncio
import copy
import pickle
import re
import threading
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.stores import InMemoryByteStore
from langchain_core.vectorstores import InMemoryVectorStore
from langchain_tests.integration_tests import RetrieversIntegrationTests
from pydantic import ValidationError

import toy_models
from langchain_stores import STORES, in_memory
from rag_embeddings import LatePass
from rag_embeddings.encode.base import Role
from rag_embeddings.encode.transformer import TransformerEncoder
from rag_embeddings.langchain import (
    InstructionEmbeddings,
    LateChunkingEmbeddings,
    LayoutTextSplitter,
    RecursiveTextSplitter,
    SentenceParentIndex,
    SentenceParentRetriever,
    SlidingWindowTextSplitter,
)
from rag_embeddings.langchain.convert import to_core
from rag_embeddings.testing.encoder import DeterministicEncoder


@cache
def plain():
    return InstructionEmbeddings(model=str(toy_models.folder("mean")))


@cache
def late():
    return LateChunkingEmbeddings(model=str(toy_models.folder("mean")))


SPLITTER = RecursiveTextSplitter(chunk_size=120, tokenizer=len)


def document(number, version=0, lines=6):
    text = " ".join(f"River {number} rose {line} feet in version {version}." for line in range(lines))
    return Document(page_content=text, id=f"doc-{number}", metadata={"number": number, "version": version})


def retriever(store=None, byte_store=None, **options):
    options = {"splitter": SPLITTER, **options}
    return SentenceParentRetriever(
        vectorstore=store if store is not None else InMemoryVectorStore(plain()),
        byte_store=byte_store if byte_store is not None else InMemoryByteStore(),
        **options,
    )


@pytest.fixture(params=STORES, ids=lambda make: make.__name__)
def made(request):
    """A vector store of each kind, and how to read its vectors."""
    return request.param(plain(), toy_models.WIDTH)


@pytest.fixture
def folder_store(tmp_path):
    storage = pytest.importorskip("langchain_classic.storage")
    return storage.LocalFileStore(tmp_path / "parents")


def expected_ids(documents, splitter=SPLITTER):
    """Ids of the passages and sentences of some documents, as the core's index has them."""
    with SentenceParentIndex(embeddings=DeterministicEncoder(), splitter=splitter) as index:
        index.upsert(documents)
        sentences, chunks = index.directory.ledger.unit_ids()
    return chunks, sentences


def held(found):
    """Ids of what both stores of a retriever hold."""
    parents = {
        key for key in found.byte_store.yield_keys() if key != "passages/state" and not key.startswith("sources/")
    }
    return parents, set(found.vectorstore.store)


class TestStores:
    def test_passages_come_with_place_score_and_sentences(self, made, folder_store):
        store, _ = made
        found = retriever(store, folder_store, k=3)
        documents = [document(number) for number in range(8)]
        assert found.add_documents(iter(documents)) == [item.id for item in documents]
        results = found.invoke("River 5 rose 3 feet in version 0.")
        assert len({item.id for item in results}) == 3
        first = results[0]
        source = next(item for item in documents if item.id == first.metadata["source_id"])
        assert source.page_content[first.metadata["start_index"] : first.metadata["end_index"]] == first.page_content
        assert first.metadata["chunk_id"] == first.id
        start, end = first.metadata["matches"][0]
        assert source.page_content[start:end] == "River 5 rose 3 feet in version 0."
        assert first.metadata["number"] == 5
        assert isinstance(first.metadata["score"], float)

    async def test_async_is_the_same(self, made, folder_store):
        store, _ = made
        found = retriever(store, folder_store)
        await found.aadd_documents([document(number) for number in range(4)])
        query = "River 2 rose 4 feet in version 0."
        assert await found.ainvoke(query, k=2) == found.invoke(query, k=2)
        await found.adelete(["doc-2"])
        assert all(item.metadata["number"] != 2 for item in await found.ainvoke(query, k=20))

    async def test_neither_model_nor_documents_are_waited_for_in_the_event_loop(self, monkeypatch):
        loop = threading.get_ident()
        load = TransformerEncoder._load_now

        def watched(encoder):
            assert threading.get_ident() != loop
            return load(encoder)

        def drawn():
            for number in range(40):
                assert threading.get_ident() != loop
                yield document(number)

        monkeypatch.setattr(TransformerEncoder, "_load_now", watched)
        fresh = LateChunkingEmbeddings(model=str(toy_models.folder("mean")))
        found = retriever(InMemoryVectorStore(fresh))
        assert await found.aadd_documents(drawn()) == [f"doc-{number}" for number in range(40)]

    def test_a_changed_document_leaves_nothing_behind(self, made, folder_store):
        store, _ = made
        found = retriever(store, folder_store, k=100)
        found.add_documents([document(1), document(2)])
        found.add_documents([document(1, version=7, lines=3)])
        results = found.invoke("River 1 rose 5 feet in version 0.")
        assert {item.id for item in results} == expected_ids([document(1, version=7, lines=3), document(2)])[0]
        found.delete(["doc-2", "absent"])
        results = found.invoke("River 2 rose 5 feet in version 0.")
        assert {item.metadata["version"] for item in results} == {7}
        assert found.document_ids() == ["doc-1"]

    def test_passages_and_their_order_are_those_of_the_index(self, made):
        store, vector_of = made
        documents = [document(number) for number in range(6)]
        found = retriever(store, k=5)
        found.add_documents(documents)
        with SentenceParentIndex(embeddings=plain(), splitter=SPLITTER, k=5) as index:
            index.upsert(documents)
            for query in ("River 3 rose 1 feet in version 0.", "River 0 rose 5 feet in version 0."):
                expected = index.invoke(query)
                results = found.invoke(query)
                assert results[0].id == expected[0].id
                assert results[0].metadata["matches"][0] == expected[0].metadata["matches"][0]
                assert results[0].page_content == expected[0].page_content
            with index.directory.reading() as view:
                for record in view.sentences.get(sorted(view.sentences.ids())):
                    vector = np.asarray(vector_of(record.id), dtype=np.float64)
                    assert vector @ record.vector / np.linalg.norm(vector) > 1 - 1e-6


@settings(max_examples=15, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("add"), st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), max_size=3)),
            st.tuples(st.just("delete"), st.lists(st.integers(0, 4), max_size=3)),
        ),
        max_size=8,
    )
)
def test_both_stores_hold_exactly_what_the_last_versions_need(steps):
    found, model = retriever(), {}
    for step, values in steps:
        if step == "add":
            for number, version in values:
                model[number] = document(number, version)
            found.add_documents([document(*value) for value in values])
        else:
            found.delete([f"doc-{number}" for number in values])
            for number in values:
                model.pop(number, None)
        assert held(found) == expected_ids(list(model.values()))
        assert sorted(found.document_ids()) == sorted(item.id for item in model.values())


class Failing(InMemoryByteStore):
    """Raises at the n-th write."""

    left = 0

    def mset(self, pairs):
        self._count()
        super().mset(pairs)

    def mdelete(self, keys):
        self._count()
        super().mdelete(keys)

    def _count(self):
        self.left -= 1
        if self.left == 0:
            raise OSError("no room")


class FailingVectors(InMemoryVectorStore):
    left = 0

    def add_documents(self, documents, ids=None, **options):
        self._count()
        return super().add_documents(documents, ids, **options)

    def delete(self, ids=None, **options):
        self._count()
        return super().delete(ids, **options)

    _count = Failing._count


@pytest.mark.parametrize("where", ["parents", "vectors"])
def test_a_write_cut_off_at_any_step_leaves_the_old_version_or_the_new_and_can_be_repeated(where):
    old, new = [document(1), document(2)], [document(1, 9), document(2, 9)]
    versions = [expected_ids(old)[0], expected_ids(new)[0]]
    failures = 0
    for hit in range(1, 30):
        found = retriever(FailingVectors(plain()), Failing(), k=100)
        found.add_documents(old)
        failing = found.byte_store if where == "parents" else found.vectorstore
        failing.left = hit
        try:
            found.add_documents(new)
        except OSError:
            failures += 1
        left, failing.left = failing.left, 0
        seen = {item.id for item in found.invoke("River 1 rose 2 feet in version 9.")}
        assert seen in versions
        for item in found.invoke("River 1 rose 2 feet in version 0."):
            assert item.id in seen
        found.add_documents(new)
        assert held(found) == expected_ids(new)
        if left > 0:
            break
    assert failures >= 2


class TestVectors:
    def test_unchanged_documents_are_not_embedded_again(self, monkeypatch):
        found = retriever()
        documents = [document(number) for number in range(3)]
        found.add_documents(documents)
        calls = []
        encoder = type(plain().encoder)
        encode = encoder.encode
        monkeypatch.setattr(
            encoder, "encode", lambda self, texts, role: calls.append(len(texts)) or encode(self, texts, role)
        )
        found.add_documents(documents)
        assert calls == []
        found.add_documents([*documents[:2], document(2, version=1)])
        assert calls == [6]

    def test_late_vectors_where_the_store_was_made_for_them(self):
        store, vector_of = in_memory(late(), toy_models.WIDTH)
        found = retriever(store)
        found.add_documents([document(1)])
        expected = LatePass(late().encoder).run(to_core(document(1)), SPLITTER.core)
        ids = list(store.store)
        assert np.allclose([vector_of(id_) for id_ in ids], expected.sentence_vectors, atol=1e-5)

    def test_context_is_embedded_and_shown_where_asked_for(self):
        text = "# Mill\n\nThe wheel turned every day of the year.\n\nIt burned down in 1902."
        splitter = LayoutTextSplitter(chunk_size=50, tokenizer=len, layout="markdown")
        store, vector_of = in_memory(plain(), toy_models.WIDTH)
        found = retriever(store, splitter=splitter, context_in_content=True)
        source = Document(page_content=text, id="a")
        found.add_documents([source])
        context = splitter.split_documents([source])[-1].metadata["context"]
        by_text = {entry["text"]: id_ for id_, entry in store.store.items()}
        expected = plain().encoder.encode([f"{context}\n\nIt burned down in 1902."], Role.DOCUMENT)[0]
        assert np.allclose(vector_of(by_text["It burned down in 1902."]), expected, atol=1e-5)
        (first,) = [item for item in found.invoke("It burned down in 1902.", k=10) if "1902" in item.page_content]
        assert first.page_content.startswith(f"{context}\n\n")
        assert first.page_content.endswith(text[first.metadata["start_index"] : first.metadata["end_index"]])

    def test_foreign_embeddings_will_do(self):
        found = retriever(InMemoryVectorStore(DeterministicFakeEmbedding(size=16)))
        found.add_documents([document(1), document(2)])
        found.add_documents([document(1, version=3)])
        assert held(found) == expected_ids([document(1, version=3), document(2)])
        assert found.invoke("River 2 rose 0 feet in version 0.")[0].metadata["number"] == 2

    def test_a_sentence_in_several_passages(self):
        splitter = SlidingWindowTextSplitter(chunk_size=120, chunk_overlap=60, tokenizer=len)
        found = retriever(splitter=splitter, k=100)
        found.add_documents([document(1)])
        assert held(found) == expected_ids([document(1)], splitter)
        with SentenceParentIndex(embeddings=plain(), splitter=splitter, k=100) as index:
            index.upsert([document(1)])
            query = "River 1 rose 2 feet in version 0."
            assert {item.id for item in found.invoke(query)} == {item.id for item in index.invoke(query)}


NOTES = [
    Document(page_content=text, id=f"n-{number}")
    for number, text in enumerate(["The weir held the flood.", "Zanzibar exports cloves.", "A mill ground corn."])
]


class TestKeywords:
    @pytest.fixture
    def filled(self, folder_store):
        found = retriever(None, folder_store, keywords="", k=3)
        found.add_documents([*NOTES, *(document(number) for number in range(6))])
        return found

    def test_a_word_is_found_whatever_the_vectors_say(self, filled):
        for query in ("cloves", "what does Zanzibar sell"):
            first = filled.invoke(query, k=1)[0]
            assert first.page_content == "Zanzibar exports cloves."
            assert 0 < first.metadata["score"] <= 2 / 61

    def test_the_scores_are_reciprocal_ranks_of_both_sides(self, filled):
        query = "River 3 rose 1 feet in version 0 and the flood."
        plain = retriever(filled.vectorstore, filled.byte_store).invoke(query, k=100)
        near = [item.id for item in plain]
        words = list(filled.scored_by_words(query, 100))
        assert set(words) <= set(near)
        expected = {
            id_: sum(1 / (61 + ranking.index(id_)) for ranking in (near, words) if id_ in ranking) for id_ in near
        }
        found = filled.invoke(query, k=100)
        assert {item.id: item.metadata["score"] for item in found} == pytest.approx(expected)
        assert [item.metadata["score"] for item in found] == sorted(expected.values(), reverse=True)
        assert asyncio.run(filled.ainvoke(query, k=100)) == found

    def test_words_are_those_of_the_passages_that_are_there(self, filled):
        other = retriever(filled.vectorstore, filled.byte_store, keywords="")  # as another process would have it
        assert other.scored_by_words("cloves", 5)
        filled.add_documents([Document(page_content="Zanzibar exports nutmeg.", id="n-1")])
        assert other.scored_by_words("cloves", 5) == {}
        assert len(other.scored_by_words("nutmeg", 5)) == 1
        filled.delete(["n-1"])
        assert other.scored_by_words("nutmeg zanzibar", 5) == {}
        assert all(item.metadata["source_id"] != "n-1" for item in other.invoke("nutmeg", k=50))

    def test_copies_count_for_themselves(self, filled):
        assert copy.deepcopy(filled._words).language == ""
        assert pickle.loads(pickle.dumps(filled._words)).language == ""  # noqa: S301
        with pytest.raises(ValueError, match="does not search for words"):
            retriever().scored_by_words("x", 1)
        with pytest.raises(ValueError, match="stemmer"):
            retriever(keywords="xx")
        with pytest.raises(ValueError, match="past its filter"):
            retriever(keywords="", search_kwargs={"filter": {"tenant": 1}})


class TestOptions:
    def test_k_counts_passages_however_many_sentences_they_have(self):
        found = retriever(splitter=RecursiveTextSplitter(chunk_size=4_000, tokenizer=len))
        found.add_documents([document(number, lines=60) for number in range(5)])
        assert len({item.id for item in found.invoke("River 1 rose 2 feet.", k=5)}) == 5
        assert len(found.invoke("River 1 rose 2 feet.", k=1)) == 1
        with pytest.raises(ValueError, match="at least 1"):
            found.invoke("River", k=0)

    def test_filters_of_the_store(self):
        found = retriever(search_kwargs={"filter": lambda item: item.metadata["number"] == 2})
        found.add_documents([document(number) for number in range(4)])
        assert {item.metadata["number"] for item in found.invoke("River 1 rose 2 feet.", k=10)} == {2}

    def test_other_documents_in_the_store_are_left_alone(self):
        found = retriever()
        found.vectorstore.add_texts(["River 1 rose 2 feet in version 0."])
        found.add_documents([document(1)])
        assert all(item.metadata["source_id"] == "doc-1" for item in found.invoke("River 1 rose 2 feet in version 0."))

    def test_metadata_is_data(self):
        found = retriever()
        evil = {"lc": 1, "type": "constructor", "id": ["os", "system"], "kwargs": {"command": "true"}}
        found.add_documents(
            [Document(page_content="River one rose.", id="a\ud800", metadata={"evil": evil, "none": None})]
        )
        (result,) = found.invoke("River one rose.")
        assert (result.metadata["evil"], result.metadata["none"]) == (evil, None)
        assert found.document_ids() == ["a\ud800"]

    def test_a_slice_of_a_document_cites_the_document(self):
        whole = document(1, lines=20)
        parts = RecursiveTextSplitter(chunk_size=400, tokenizer=len).split_documents([whole])
        found = retriever(k=50)
        found.add_documents(parts)
        for item in found.invoke("River 1 rose 12 feet in version 0."):
            assert item.metadata["source_id"] == "doc-1"
            place = slice(item.metadata["start_index"], item.metadata["end_index"])
            assert whole.page_content[place] == item.page_content
            for start, end in item.metadata["matches"]:
                assert whole.page_content[start:end] in item.page_content

    def test_a_document_of_several_slices_cites_the_first_text(self):
        whole = document(1, lines=20).page_content
        lines = list(re.finditer(r"River[^.]+\.", whole))
        taken = [lines[index].span() for index in (1, 7, 15)]
        part = Document(
            id="part",
            page_content="\n".join(whole[slice(*span)] for span in taken),
            metadata={
                "source_id": "doc-1",
                "start_index": taken[0][0],
                "end_index": taken[-1][1],
                "spans": ",".join(f"{start}-{end}" for start, end in taken),
            },
        )
        found = retriever(k=50)
        found.add_documents([part])
        for line in (1, 7, 15):
            (best, *_) = found.invoke(lines[line][0])
            start, end = best.metadata["matches"][0]
            assert whole[start:end].strip() == lines[line][0].strip()

    def test_wrong_arguments(self):
        with pytest.raises(ValidationError, match="Extra inputs"):
            retriever(docstore=1)
        with pytest.raises(ValidationError, match="splitter"):
            retriever(splitter=3)

    def test_without_a_splitter(self):
        found = retriever(splitter=None)
        found.add_documents([document(1)])
        assert found.invoke("River 1")

    def test_in_a_chain_in_batches_and_copied(self):
        found = retriever()
        found.add_documents([document(number) for number in range(3)])
        chain = found | (lambda passages: [passage.metadata["number"] for passage in passages])
        assert chain.invoke("River 2 rose 1 feet in version 0.")[0] == 2
        assert [batch[0].metadata["number"] for batch in found.batch(["River 1 rose 0 feet in version 0."] * 4)] == [
            1
        ] * 4
        assert copy.copy(found).invoke("River 1")
        assert asyncio.run(found.with_config(tags=["x"]).ainvoke("River 1"))


class TestSuite(RetrieversIntegrationTests):
    @pytest.fixture(autouse=True)
    def _filled(self):
        found = retriever()
        found.add_documents([document(number) for number in range(6)])
        self.params = {"vectorstore": found.vectorstore, "byte_store": found.byte_store}

    @property
    def retriever_constructor(self):
        return SentenceParentRetriever

    @property
    def retriever_constructor_params(self):
        return self.params

    @property
    def retriever_query_example(self):
        return "River 1 rose 2 feet"
