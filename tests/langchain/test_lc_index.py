"""SentenceParentIndex beyond LangChain's own suites."""

import asyncio
import copy
import gc
import pickle
import re
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.indexing import InMemoryRecordManager, aindex, index
from langchain_text_splitters import RecursiveCharacterTextSplitter
from pydantic import ValidationError

import toy_models
from hostile_texts import texts
from rag_embeddings.errors import IndexNotFoundError, SpaceMismatchError, StoreError, VectorError
from rag_embeddings.index.indexer import Indexer
from rag_embeddings.index.pipeline import Pipeline
from rag_embeddings.langchain import (
    InstructionEmbeddings,
    RecursiveTextSplitter,
    SentenceParentIndex,
    SlidingWindowTextSplitter,
)
from rag_embeddings.langchain.convert import from_match, to_core
from rag_embeddings.retrieve.sentence_parent import SentenceParentSearch
from rag_embeddings.split.layout import LayoutSplitter
from rag_embeddings.split.recursive import RecursiveSplitter
from rag_embeddings.store.directory import IndexDirectory
from rag_embeddings.testing.encoder import DeterministicEncoder
from rag_embeddings.text import Document as CoreDocument

# JSON, in which metadata is kept, joins two halves of a character that stand side by side; single ones survive.
json_texts = texts.filter(lambda text: not re.search("[\ud800-\udbff][\udc00-\udfff]", text))
RIVER = "The river rose in spring. The miller opened both gates. Nobody slept that night."
BRIDGE = "The old bridge carried forty carts a day. It did so for ninety years. Then the flood took it."


def make(directory=None, *, size=60, encoder=None, **options):
    splitter = RecursiveTextSplitter(chunk_size=size, tokenizer=len)
    return SentenceParentIndex(
        embeddings=encoder or DeterministicEncoder(), directory=directory, splitter=splitter, **options
    )


def stocked(directory=None, **options):
    made = make(directory, **options)
    made.upsert(
        [
            Document(page_content=RIVER, id="river", metadata={"title": "River", "tags": ["a", {"b": None}]}),
            Document(page_content=BRIDGE, id="bridge", metadata={"title": "Bridge"}),
        ]
    )
    return made


@pytest.fixture(params=["memory", "disk"])
def place(request, tmp_path):
    return None if request.param == "memory" else tmp_path / "index"


def test_a_result_is_the_passage_with_its_place_and_its_sentence(place):
    with stocked(place) as found:
        best = found.invoke("who opened the gates, the miller?", k=1)[0]
    facts = best.metadata
    assert RIVER[facts["start_index"] : facts["end_index"]] == best.page_content
    start, end = facts["matches"][0]
    assert RIVER[start:end].strip() == "The miller opened both gates."
    assert facts["start_index"] <= start < end <= facts["end_index"]
    assert facts["source_id"] == "river"
    assert facts["title"] == "River"
    assert facts["tags"] == ["a", {"b": None}]
    assert isinstance(facts["score"], float)
    assert best.id not in {None, "river"}


def test_results_are_the_cores(place):
    question = "the bridge carried the flood"
    with stocked(place) as found, IndexDirectory.open(None) as directory:
        encoder = DeterministicEncoder()
        pipeline = Pipeline(encoder, RecursiveSplitter(60, tokenizer=len))
        Indexer(directory, pipeline).upsert(to_core(document) for document in found.get(["river", "bridge"]))
        for score in ("best", "mean"):
            with make(found.directory, score=score, k=3) as same:
                expected = SentenceParentSearch(directory, encoder, score=score).search(question, 3)
                got = same.invoke(question)
                assert [document.id for document in got] == [match.chunk.id for match in expected]
                for document, match in zip(got, map(from_match, expected), strict=True):
                    assert document.metadata.pop("score") == pytest.approx(match.metadata.pop("score"), abs=1e-5)
                    assert document == match


def test_queries_are_embedded_as_queries_and_sentences_as_documents(place):
    embeddings = InstructionEmbeddings(model=str(toy_models.folder("prompts")))
    with SentenceParentIndex(embeddings=embeddings, directory=place) as found:
        found.upsert([Document(page_content=RIVER, id="river")])
        (best,) = found.invoke("the gates", k=1)
    start, end = best.metadata["matches"][0]
    sentence = np.array(embeddings.embed_documents([RIVER[start:end]])[0])
    assert best.metadata["score"] == pytest.approx(sentence @ np.array(embeddings.embed_query("the gates")), abs=1e-5)
    assert best.metadata["score"] != pytest.approx(sentence @ np.array(embeddings.embed_documents(["the gates"])[0]))


def test_k_counts_passages_and_can_be_given_anywhere(place):
    with stocked(place, k=2) as found:
        assert len(found.invoke("the")) == 2
        assert len(found.invoke("the", k=3)) == 3
        ids = [document.id for document in found.invoke("the", k=4)]
        assert len(set(ids)) == 4
        with pytest.raises(ValueError, match="k must be"):
            found.invoke("the", k=0)


async def test_async_equals_sync_with_k(place):
    with stocked(place) as found:
        assert await found.ainvoke("the bridge", k=3) == found.invoke("the bridge", k=3)
        assert len(await found.ainvoke("the bridge", k=3)) == 3
        assert await found.ainvoke("the bridge") == found.invoke("the bridge")
        assert await found.aget(["river"]) == found.get(["river"])
        assert await found.aadd_documents([Document(page_content="New. ")], ids=["new"]) == ["new"]
        assert (await found.adelete(["new", "x"]))["succeeded"] == ["new"]
        assert (await found.aupsert([Document(page_content="New.", id="n")]))["succeeded"] == ["n"]


async def test_sixteen_calls_at_once_equal_one_after_the_other(place):
    with stocked(place) as found:
        questions = [f"{word} {number}" for number in range(4) for word in ("river", "bridge", "miller", "flood")]
        expected = [found.invoke(question) for question in questions]
        assert await asyncio.gather(*(found.ainvoke(question) for question in questions)) == expected


def test_get_gives_documents_as_they_were_upserted(place):
    with stocked(place) as found:
        (river,) = found.get(["river", "no such", "river"])
        assert river == Document(
            page_content=RIVER, id="river", metadata={"title": "River", "tags": ["a", {"b": None}]}
        )
        river.metadata["tags"].append("x")
        assert found.get(["river"])[0].metadata["tags"] == ["a", {"b": None}]


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.builds(
            Document,
            page_content=texts,
            metadata=st.dictionaries(
                json_texts, st.lists(json_texts | st.none() | st.integers(), max_size=2), max_size=2
            ),
            id=st.none() | st.text(min_size=1),
        ),
        max_size=3,
        unique_by=lambda document: document.id or to_core(document).id,
    )
)
def test_any_document_comes_back_whole(documents):
    with make(size=20) as found:
        ids = found.upsert(documents)["succeeded"]
        assert found.get(ids) == [
            Document(page_content=document.page_content, metadata=document.metadata, id=id_)
            for document, id_ in zip(documents, ids, strict=True)
        ]
        for passage in found.invoke("river", k=5):
            source = found.get([passage.metadata["source_id"]])[0].page_content
            assert source[passage.metadata["start_index"] : passage.metadata["end_index"]] == passage.page_content


def test_nothing_that_was_replaced_or_deleted_is_found(place):
    with stocked(place) as found:
        found.upsert([Document(page_content="The miller left.", id="river")])
        contents = [document.page_content for document in found.invoke("gates miller river night", k=50)]
        assert "The miller left." in contents
        assert not any("gates" in content for content in contents)
        assert found.delete(["river", "unknown"]) == {
            "succeeded": ["river"],
            "num_deleted": 1,
            "failed": [],
            "num_failed": 0,
        }
        assert {document.metadata["source_id"] for document in found.invoke("miller", k=50)} == {"bridge"}
        assert found.prune([]) == ["bridge"]
        assert found.invoke("miller") == []


def test_unchanged_documents_are_not_embedded_again(place):
    encoder = DeterministicEncoder()
    with stocked(place, encoder=encoder) as found:
        before = encoder.encoded
        assert before > 0
        found.upsert(found.get(["river", "bridge"]))
        assert encoder.encoded == before


def test_the_input_is_not_changed(place):
    documents = [Document(page_content=RIVER, metadata={"a": [1]})]
    before = copy.deepcopy(documents)
    with make(place) as found:
        found.upsert(documents)
        found.add_documents(documents, ids=["x"])
        assert documents == before


def test_ids(place):
    with make(place) as found:
        plain = Document(page_content="One.", metadata={"a": 1})
        first = found.upsert([plain, plain])["succeeded"]
        assert first == [to_core(plain).id]
        assert found.add_documents(iter([plain]), ids=["mine"]) == ["mine"]
        assert found.get(["mine"])[0].page_content == "One."
        with pytest.raises(ValueError, match="1 documents need as many ids"):
            found.add_documents([plain], ids=[])


def test_an_empty_document_is_kept_and_never_found(place):
    with make(place) as found:
        assert found.upsert([Document(page_content=" \n", id="e")])["succeeded"] == ["e"]
        assert found.get(["e"])[0].page_content == " \n"
        assert found.invoke("anything") == []


def test_a_failure_is_raised_and_loses_nothing(place):
    class Broken(DeterministicEncoder):
        def encode(self, texts, role):
            vectors = super().encode(texts, role)
            return np.full_like(vectors, np.nan) if any("poison" in text for text in texts) else vectors

    with stocked(place, encoder=Broken()) as found:
        with pytest.raises(VectorError):
            found.upsert([Document(page_content="All poison.", id="river")])
        assert found.get(["river"])[0].page_content == RIVER
        assert "miller" in found.invoke("the miller opened both gates", k=1)[0].page_content


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda found: found.delete(), ValueError),
        (lambda found: found.delete(["a"], where={}), TypeError),
        (lambda found: found.upsert([], batch_size=3), TypeError),
        (lambda found: found.get([], limit=3), TypeError),
        (lambda found: found.upsert([Document(page_content="a", metadata={"x": object()})]), ValueError),
        (lambda found: setattr(found, "embeddings", DeterministicEncoder()), ValidationError),
        (lambda found: setattr(found, "directory", "elsewhere"), ValidationError),
    ],
)
def test_mistakes_are_refused(call, error):
    with make() as found, pytest.raises(error):
        call(found)


@pytest.mark.parametrize(
    "options",
    [
        {"k": 0},
        {"score": "worst"},
        {"embedding": DeterministicEncoder()},
        {"embeddings": "all-MiniLM-L6-v2"},
        {"splitter": RecursiveCharacterTextSplitter()},
    ],
)
def test_wrong_settings_are_refused(options):
    with pytest.raises(ValidationError):
        SentenceParentIndex(**{"embeddings": DeterministicEncoder(), **options})


def test_core_splitters_and_foreign_embeddings_are_welcome(place):
    foreign = DeterministicFakeEmbedding(size=8)
    with SentenceParentIndex(embeddings=foreign, directory=place) as found:
        found.upsert([Document(page_content=RIVER, id="river")])
        assert found.invoke("x")[0].page_content == RIVER  # 256 tokens of cl100k_base by default
    with SentenceParentIndex(embeddings=foreign, splitter=RecursiveSplitter(30, tokenizer=len)) as found:
        found.upsert([Document(page_content=RIVER, id="river")])
        assert len(found.invoke("x", k=9)) >= 3
    with SentenceParentIndex(
        embeddings=foreign, splitter=SlidingWindowTextSplitter(chunk_size=60, chunk_overlap=30, tokenizer=len)
    ) as found:
        found.upsert([Document(page_content=RIVER, id="river")])
        assert len(found.invoke("x", k=9)) >= 2


def test_without_the_splitter_of_the_index_all_but_upsert_works(tmp_path):
    encoder = DeterministicEncoder()
    with IndexDirectory.open(tmp_path, create=True) as directory:
        documents = [CoreDocument(RIVER, "river"), CoreDocument(BRIDGE, "bridge"), CoreDocument("Nothing.", "rest")]
        Indexer(directory, Pipeline(encoder, LayoutSplitter(90, tokenizer=len))).upsert(documents)
    with SentenceParentIndex(embeddings=encoder, directory=tmp_path) as found:
        assert found.invoke("the bridge")[0].metadata["source_id"] == "bridge"
        assert found.get(["river"])[0].page_content == RIVER
        assert found.delete(["rest"])["succeeded"] == ["rest"]
        assert found.prune(["bridge"]) == ["river"]
        assert found.document_ids() == ["bridge"]


def test_asking_where_nothing_was_indexed_says_so(tmp_path):
    missing = make(tmp_path / "typo")
    with pytest.raises(IndexNotFoundError, match="typo"):
        missing.invoke("x")
    assert missing.get(["a"]) == []
    assert missing.delete(["a"])["num_deleted"] == 0
    assert missing.prune([]) == []
    assert not (tmp_path / "typo").exists()


def test_vectors_of_another_model_are_refused(tmp_path):
    with stocked(tmp_path), make(tmp_path, encoder=DeterministicEncoder(query_prompt="q: ")) as other:
        with pytest.raises(SpaceMismatchError):
            other.invoke("x")
        with pytest.raises(SpaceMismatchError):
            other.upsert([Document(page_content="x", id="x")])


def test_a_closed_index_opens_again_from_disk(tmp_path):
    found = stocked(str(tmp_path))
    expected = found.invoke("the bridge")
    found.close()
    found.close()
    assert found.invoke("the bridge") == expected
    found.close()
    with make(tmp_path) as reader:
        assert reader.invoke("the bridge") == expected


def test_a_closed_index_in_memory_is_gone():
    found = stocked()
    found.close()
    with pytest.raises(StoreError):
        found.invoke("x")


def test_an_open_directory_is_used_and_left_open():
    with IndexDirectory.open(None) as directory:
        with stocked(directory) as found:
            expected = found.invoke("the bridge")
        with make(directory) as again:
            assert again.invoke("the bridge") == expected


WRITER = """
import sys
from langchain_core.documents import Document
from rag_embeddings.langchain import InstructionEmbeddings, RecursiveTextSplitter, SentenceParentIndex
from rag_embeddings.testing.encoder import DeterministicEncoder
from rag_embeddings.text import Document as CoreDocument
index = SentenceParentIndex(embeddings=DeterministicEncoder(), directory=sys.argv[1],
                            splitter=RecursiveTextSplitter(chunk_size=60, tokenizer=len))
index.upsert([Document(page_content="A second process wrote this.", id="second")])
"""


def test_an_index_that_is_never_closed_harms_nobody(tmp_path):
    found = stocked(tmp_path)
    del found
    gc.collect()  # the writer's lock went with the object, so another process may write; it never closes either
    subprocess.run([sys.executable, "-c", WRITER, str(tmp_path)], check=True, timeout=120)
    with make(tmp_path) as reader:
        assert reader.invoke("second process wrote", k=1)[0].metadata["source_id"] == "second"
        assert len(reader.get(["river", "bridge", "second"])) == 3


def test_copies_and_pickles_see_the_same_documents(tmp_path):
    with stocked(tmp_path) as found:
        expected = found.invoke("the bridge")
        for other in (copy.copy(found), copy.deepcopy(found), pickle.loads(pickle.dumps(found))):  # noqa: S301
            with other:
                assert other.invoke("the bridge") == expected
        assert found.invoke("the bridge") == expected
    with stocked() as memory, copy.deepcopy(memory) as other:
        assert other.invoke("the bridge") == memory.invoke("the bridge")


def corpus(**changes):
    pages = {
        "a": "Ants build hills. Ants are small.",
        "b": "Bees make honey. Bees dance.",
        "c": "Cats sleep. Cats purr.",
    }
    pages.update(changes)
    return [Document(page_content=text, metadata={"source": name}) for name, text in pages.items() if text is not None]


def sentences(found):
    passages = found.invoke("ants bees cats", k=100)
    return {
        found.get([passage.metadata["source_id"]])[0].page_content[start:end].strip()
        for passage in passages
        for start, end in passage.metadata["matches"]
    }


@pytest.mark.parametrize("cleanup", ["incremental", "full", "scoped_full"])
@pytest.mark.parametrize("key_encoder", ["blake2b", "sha256"])
def test_a_cycle_of_index_leaves_no_stale_sentence(place, cleanup, key_encoder):
    encoder = DeterministicEncoder()
    records = InMemoryRecordManager("test")
    records.create_schema()
    with make(place, encoder=encoder) as found:

        def run(documents, how=cleanup):
            return index(
                documents, records, found, cleanup=how, source_id_key="source", key_encoder=key_encoder, batch_size=2
            )

        assert run(corpus())["num_added"] == 3
        before = encoder.encoded
        assert run(corpus()) == {"num_added": 0, "num_updated": 0, "num_skipped": 3, "num_deleted": 0}
        assert encoder.encoded == before
        result = run(corpus(b="Bees sting."))
        assert (result["num_added"], result["num_deleted"], result["num_skipped"]) == (1, 1, 2)
        assert sentences(found) == {
            "Ants build hills.",
            "Ants are small.",
            "Bees sting.",
            "Cats sleep.",
            "Cats purr.",
        }
        assert run(corpus(a=None, b="Bees sting."), "full")["num_deleted"] == 1
        assert sentences(found) == {"Bees sting.", "Cats sleep.", "Cats purr."}


async def test_a_cycle_of_aindex_leaves_no_stale_sentence(place):
    records = InMemoryRecordManager("test")
    await records.acreate_schema()
    with make(place) as found:
        for documents in (corpus(), corpus(c="Cats eat.", a=None)):
            await aindex(documents, records, found, cleanup="full", source_id_key="source", key_encoder="blake2b")
        assert sentences(found) == {"Bees make honey.", "Bees dance.", "Cats eat."}
