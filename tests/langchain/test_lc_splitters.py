"""The text splitters: exact places, ids, metadata, and the same chunks as the core."""

import copy
import json
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_text_splitters import TextSplitter

import toy_models
from hostile_texts import texts
from rag_embeddings.langchain import InstructionEmbeddings, RecursiveTextSplitter, SlidingWindowTextSplitter
from rag_embeddings.langchain.convert import to_core
from rag_embeddings.split.recursive import RecursiveSplitter
from rag_embeddings.split.sliding import SlidingWindowSplitter
from rag_embeddings.testing.encoder import DeterministicEncoder
from rag_embeddings.testing.splitter import check_splitter
from toy_tokenizers import bpe, wordpiece

PAIRS = [(RecursiveTextSplitter, RecursiveSplitter), (SlidingWindowTextSplitter, SlidingWindowSplitter)]
both = pytest.mark.parametrize("kind", [pair[0] for pair in PAIRS])
PROSE = "The river rose. The miller opened both gates.\n\nNobody believed it! Copper melts at 1085 degrees.\r\n" * 6

documents = st.builds(
    Document,
    page_content=texts,
    metadata=st.dictionaries(
        st.text(max_size=3), st.integers() | st.lists(st.text(max_size=3), max_size=2), max_size=2
    ),
    id=st.none() | st.text(min_size=1, max_size=4),
)


@pytest.mark.parametrize(("kind", "core_kind"), PAIRS)
@pytest.mark.parametrize("tokenizer", [len, wordpiece(), bpe()], ids=["characters", "wordpiece", "bpe"])
@settings(max_examples=60)
@given(found=st.lists(documents, max_size=3))
def test_chunks_are_the_cores_slices(kind, core_kind, tokenizer, found):
    before = copy.deepcopy(found)
    splitter = kind(chunk_size=20, chunk_overlap=4, tokenizer=tokenizer)
    core = core_kind(20, 4, tokenizer=tokenizer)
    chunks = splitter.split_documents(found)
    assert found == before
    assert splitter.transform_documents(found) == chunks
    expected = [chunk for document in found for chunk in core.split(to_core(document))]
    assert [chunk.id for chunk in chunks] == [chunk.id for chunk in expected]
    for chunk, wanted in zip(chunks, expected, strict=True):
        start, end = chunk.metadata["start_index"], chunk.metadata["end_index"]
        assert (start, end) == (wanted.start, wanted.end)
        assert chunk.metadata["source_id"] == wanted.document.id
        assert chunk.page_content == wanted.document.text[start:end]
        assert json.loads(json.dumps(chunk.metadata)) == chunk.metadata
        assert wanted.document.metadata.items() <= chunk.metadata.items()


@both
@settings(max_examples=60)
@given(text=texts)
def test_split_text_is_the_content_of_create_documents(kind, text):
    splitter = kind(chunk_size=20, chunk_overlap=4, tokenizer=len)
    assert splitter.split_text(text) == [made.page_content for made in splitter.create_documents([text])]


@both
@settings(max_examples=30)
@given(found=st.lists(documents, max_size=2))
def test_the_laws_of_every_splitter_hold(kind, found):
    check_splitter(kind(chunk_size=20, chunk_overlap=4, tokenizer=len).core, [to_core(document) for document in found])


@both
async def test_every_door_gives_the_same(kind):
    splitter = kind(chunk_size=60, chunk_overlap=10, tokenizer=len)
    found = [Document(page_content=PROSE, metadata={"a": [1]}), Document(page_content=""), Document(page_content="b")]
    chunks = splitter.split_documents(iter(found))
    assert len(chunks) > 5
    assert splitter.transform_documents(found) == chunks
    assert await splitter.atransform_documents(found) == chunks
    made = splitter.create_documents([PROSE, "", "b"], [{"a": [1]}, {}, {}])
    assert made == chunks
    assert not {chunk.metadata["source_id"] for chunk in chunks} & {chunk.id for chunk in chunks}


@both
def test_repeated_text_has_exact_places(kind):
    text = "again and again. " * 40
    chunks = kind(chunk_size=50, chunk_overlap=0, tokenizer=len).create_documents([text])
    starts = [chunk.metadata["start_index"] for chunk in chunks]
    assert starts == sorted(set(starts))
    assert all(text[c.metadata["start_index"] : c.metadata["end_index"]] == c.page_content for c in chunks)


@both
def test_metadata_is_copied_deeply(kind):
    document = Document(page_content=PROSE, metadata={"inner": {"list": [1]}})
    first, second, *_ = kind(chunk_size=60, chunk_overlap=0, tokenizer=len).split_documents([document])
    first.metadata["inner"]["list"].append(2)
    assert second.metadata["inner"] == document.metadata["inner"] == {"list": [1]}


@both
def test_chunks_of_chunks_cite_the_first_text(kind):
    document = Document(page_content=PROSE, id="report", metadata={"title": "T"})
    large = kind(chunk_size=200, chunk_overlap=0, tokenizer=len).split_documents([document])
    small = kind(chunk_size=60, chunk_overlap=0, tokenizer=len).split_documents(large)
    assert len(small) > len(large)
    assert len({chunk.id for chunk in small}) == len(small)
    for chunk in small:
        assert chunk.metadata["source_id"] == "report"
        assert PROSE[chunk.metadata["start_index"] : chunk.metadata["end_index"]] == chunk.page_content


@both
def test_metadata_that_only_looks_like_a_place_is_no_place(kind):
    document = Document(page_content="One.", id="d", metadata={"start_index": 7, "end_index": 9, "source_id": "other"})
    (chunk,) = kind(chunk_size=60, chunk_overlap=0, tokenizer=len).split_documents([document])
    assert chunk.metadata == {"start_index": 0, "end_index": 4, "source_id": "d"}


@both
def test_the_tokenizer_sees_line_breaks_as_they_are(kind):
    seen = []

    def count(text):
        seen.append(text)
        return len(text)

    kind(chunk_size=30, chunk_overlap=0, tokenizer=count).split_text("One\ntwo\r\nthree.\n\n\tFour five six seven.")
    assert all(text in "One\ntwo\r\nthree.\n\n\tFour five six seven." for text in seen)
    assert any("\n" in text for text in seen)


@both
def test_a_budget_in_tokens_of_the_embeddings_model(kind):
    embeddings = InstructionEmbeddings(model=str(toy_models.folder("mean")))
    splitter = kind(chunk_size=16, chunk_overlap=4, embeddings=embeddings)
    tokenize = embeddings.encoder.tokenizer
    counts = [len(tokenize(chunk, add_special_tokens=False)["input_ids"]) for chunk in splitter.split_text(PROSE)]
    assert 8 < max(counts) <= 16
    assert kind(chunk_size=16, chunk_overlap=4, tokenizer=tokenize).split_text(PROSE) == splitter.split_text(PROSE)


@pytest.mark.parametrize(("kind", "core_kind"), PAIRS)
def test_defaults_are_the_cores(kind, core_kind):
    assert kind(tokenizer=len).core.settings() == core_kind(tokenizer=len).settings()
    assert kind().core.settings() == core_kind().settings()


@both
def test_tiktoken_is_the_default_and_can_be_named(kind):
    default = kind(chunk_size=16, chunk_overlap=4).split_text(PROSE)
    assert kind(chunk_size=16, chunk_overlap=4, tokenizer="cl100k_base").split_text(PROSE) == default
    made = kind.from_tiktoken_encoder("cl100k_base", chunk_size=16, chunk_overlap=4)
    assert type(made) is kind
    assert made.split_text(PROSE) == default
    by_model = kind.from_tiktoken_encoder(model_name="gpt-4", chunk_size=16, chunk_overlap=4)
    assert by_model.split_text(PROSE) == default
    assert made.split_text("Say <|endoftext|> twice: <|endoftext|>.")


@both
def test_hugging_face_tokenizers_count(kind):
    made = kind.from_huggingface_tokenizer(wordpiece(), chunk_size=16, chunk_overlap=4)
    assert type(made) is kind
    assert made.split_text(PROSE) == kind(chunk_size=16, chunk_overlap=4, tokenizer=wordpiece()).split_text(PROSE)


@both
def test_a_core_encoder_counts_too(kind):
    by_encoder = kind(chunk_size=60, chunk_overlap=0, embeddings=DeterministicEncoder())
    assert by_encoder.split_text(PROSE) == kind(chunk_size=60, chunk_overlap=0, tokenizer=len).split_text(PROSE)


@both
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"embeddings": DeterministicEncoder(), "tokenizer": len}, "both"),
        ({"embeddings": DeterministicFakeEmbedding(size=3)}, "no tokenizer"),
        ({"chunk_size": 0}, "chunk_size"),
        ({"chunk_size": 5, "chunk_overlap": 5, "tokenizer": len}, "overlap"),
        ({"chunk_overlap": -1}, "overlap"),
    ],
)
def test_mistakes_are_refused(kind, arguments, message):
    with pytest.raises(ValueError, match=message):
        kind(**arguments)


@both
def test_special_tokens_cannot_be_allowed(kind):
    with pytest.raises(ValueError, match="allowed_special"):
        kind.from_tiktoken_encoder("cl100k_base", allowed_special={"<|endoftext|>"})


@both
def test_metadatas_must_be_as_many_as_texts(kind):
    with pytest.raises(ValueError, match="2 texts"):
        kind(tokenizer=len, chunk_size=100).create_documents(["a", "b"], [{}])


@both
def test_it_is_a_text_splitter_wherever_one_is_asked_for(kind):
    splitter = kind(chunk_size=60, chunk_overlap=0, tokenizer=len)
    assert isinstance(splitter, TextSplitter)
    classic = pytest.importorskip("langchain_classic.retrievers", reason="langchain-classic is legacy, and optional")
    from langchain_core.stores import InMemoryStore
    from langchain_core.vectorstores import InMemoryVectorStore

    retriever = classic.ParentDocumentRetriever(
        vectorstore=InMemoryVectorStore(DeterministicFakeEmbedding(size=8)),
        docstore=InMemoryStore(),
        child_splitter=splitter,
    )
    retriever.add_documents([Document(page_content=PROSE)])
    assert retriever.invoke("river")[0].page_content == PROSE


@both
def test_copies_and_pickles_split_the_same(kind):
    splitter = kind(chunk_size=16, chunk_overlap=4, tokenizer=wordpiece())
    expected = splitter.split_text(PROSE)
    assert copy.deepcopy(splitter).split_text(PROSE) == expected
    assert pickle.loads(pickle.dumps(splitter)).split_text(PROSE) == expected  # noqa: S301  # our own bytes
    assert splitter.split_text(PROSE) == expected
