"""The round trip between the two kinds of document, and what a chunk becomes."""

from copy import deepcopy

from hypothesis import given
from hypothesis import strategies as st
from langchain_core.documents import Document as LangChainDocument

from rag_embeddings.langchain.convert import from_chunk, from_core, from_match, to_core
from rag_embeddings.retrieve.base import Match
from rag_embeddings.text import Chunk, Document, Span

texts = st.text(st.characters(), max_size=30) | st.sampled_from(["\ud800", "a\udfffb", "👩‍👩‍👧", "\r\n\x00", "e\u0301"])
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
documents = st.builds(
    LangChainDocument, page_content=texts, metadata=st.dictionaries(texts, values, max_size=4), id=st.none() | texts
)


@given(documents)
def test_there_and_back_is_the_same_document(document):
    before = deepcopy(document)
    core = to_core(document)
    back = from_core(core)
    assert document == before
    assert (back.page_content, back.metadata) == (document.page_content, document.metadata)
    assert back.id == (document.id or core.id)
    assert to_core(back) == core


def test_nothing_is_shared():
    document = LangChainDocument(page_content="a", metadata={"list": [1], "inner": {"x": []}})
    core = to_core(document)
    back = from_core(core)
    back.metadata["list"].append(2)
    core.metadata["inner"]["x"].append(3)
    assert document.metadata == {"list": [1], "inner": {"x": []}}


def test_an_id_follows_from_text_and_metadata_alone():
    ids = {
        to_core(LangChainDocument(page_content=text, metadata=metadata)).id
        for text, metadata in [("a", {"x": 1, "y": 2}), ("a", {"y": 2, "x": 1}), ("a", {}), ("b", {})]
    }
    assert len(ids) == 3


def test_a_chunk_brings_its_place_and_its_context():
    document = Document("One. Two.", id="doc", metadata={"title": ["T"]})
    chunk = Chunk(document, (Span(5, 9),), context="Chapter 1", metadata={"page": 3})
    made = from_chunk(chunk)
    assert made == LangChainDocument(
        page_content="Two.",
        id=chunk.id,
        metadata={
            "title": ["T"],
            "page": 3,
            "start_index": 5,
            "end_index": 9,
            "source_id": "doc",
            "context": "Chapter 1",
        },
    )
    made.metadata["title"].append("x")
    assert document.metadata["title"] == ["T"]


def test_a_match_is_its_passage_and_what_matched():
    chunk = Chunk(Document("One. Two.", id="doc", metadata={"title": ["T"]}), (Span(0, 9),))
    made = from_match(Match(chunk, 0.5, (Span(5, 9), Span(0, 4))))
    assert (made.page_content, made.id) == ("One. Two.", chunk.id)
    assert made.metadata["matches"] == [[5, 9], [0, 4]]
    assert made.metadata["score"] == 0.5
    made.metadata["title"].append("x")
    assert chunk.document.metadata["title"] == ["T"]
