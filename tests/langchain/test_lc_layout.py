"""LayoutTextSplitter: the core's chunks, with context beside or in front of the content."""

from __future__ import annotations

import copy
import json
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.documents import Document
from langchain_text_splitters import TextSplitter

from hostile_texts import texts
from rag_embeddings import Boundary, LayoutSplitter, ScopeNotes
from rag_embeddings.errors import DocumentError
from rag_embeddings.langchain import LayoutTextSplitter, SentenceParentIndex
from rag_embeddings.langchain.convert import to_core
from rag_embeddings.read.layout import LayoutReader
from rag_embeddings.testing.encoder import DeterministicEncoder

GUIDE = """# Guide

All numbers in this document are in millions.

## Gates

The upper gate cost 12. It is opened in spring.

### Upper gates

Each winter the ice is broken by hand, and the chains are greased. The chains cost 3 a year.

| part | price |
|------|-------|
| chain | 3 |
| wheel | 14 |
| beam | 2 |
"""
PAGE = "<html><body><h1>Guide</h1><p>Gates &amp; wheels.</p><h2>Gates</h2><p>Opened in <b>spring</b>.</p></body></html>"


def words(text: str) -> int:
    return len(text.split())


def split(text: str = GUIDE, size: int = 30, metadata=None, **options) -> list[Document]:
    splitter = LayoutTextSplitter(chunk_size=size, tokenizer=words, **options)
    return splitter.split_documents([Document(page_content=text, id="guide", metadata=metadata or {})])


@settings(max_examples=60, deadline=None)
@given(text=texts | st.text("# \n|-ab.", max_size=60))
def test_chunks_are_the_cores(text):
    core = LayoutSplitter(12, 3, tokenizer=len, reader=LayoutReader("markdown"))
    expected = core.split(to_core(Document(page_content=text, id="x")))
    splitter = LayoutTextSplitter(chunk_size=12, chunk_overlap=3, tokenizer=len, layout="markdown")
    found = splitter.split_documents([Document(page_content=text, id="x")])
    assert [chunk.id for chunk in found] == [chunk.id for chunk in expected]
    assert splitter.split_text(text) == [made.page_content for made in splitter.create_documents([text])]
    for chunk, wanted in zip(found, expected, strict=True):
        assert chunk.page_content == wanted.text
        assert chunk.metadata.get("context", "") == wanted.context
        assert json.loads(json.dumps(chunk.metadata)) == chunk.metadata


def test_a_chunk_from_deep_inside_shows_its_heading_path():
    deep = next(chunk for chunk in split(layout="markdown") if "chains are greased" in chunk.page_content)
    assert deep.metadata["headings"] == "Guide > Gates > Upper gates"
    seen = f"{deep.metadata['context']}\n\n{deep.page_content}"
    assert all(heading in seen for heading in ("Guide", "Gates", "Upper gates"))
    assert GUIDE[deep.metadata["start_index"] : deep.metadata["end_index"]] == deep.page_content


def test_context_in_content_stands_in_front_of_the_slice():
    plain, joined = (
        split(layout="markdown", notes=ScopeNotes()),
        split(layout="markdown", notes=ScopeNotes(), context_in_content=True),
    )
    assert any("context" in chunk.metadata for chunk in plain)
    for one, both in zip(plain, joined, strict=True):
        context = one.metadata.get("context")
        assert both.page_content == (f"{context}\n\n{one.page_content}" if context else one.page_content)
        assert both.page_content.endswith(GUIDE[both.metadata["start_index"] : both.metadata["end_index"]])
        assert words(both.page_content) <= 30
    splitter = LayoutTextSplitter(30, tokenizer=words, layout="markdown", context_in_content=True)
    assert splitter.split_text(GUIDE) == [made.page_content for made in splitter.create_documents([GUIDE])]


@pytest.mark.parametrize(
    ("metadata", "blocks"),
    [
        ({"source": "docs/guide.md"}, True),
        ({"source": "https://example.org/guide.markdown?raw=1"}, True),
        ({"content_type": "text/markdown; charset=utf-8"}, True),
        ({"source": "guide.txt"}, False),
        ({"source": "guide.html"}, False),  # the loader took the tags off
        ({"source": 7}, False),
        ({}, False),
    ],
)
def test_auto_goes_by_the_metadata(metadata, blocks):
    assert any("kinds" in chunk.metadata for chunk in split(metadata=metadata)) is blocks


def test_no_layout_is_plain_text():
    assert all("kinds" not in chunk.metadata for chunk in split(metadata={"source": "a.md"}, layout=None))
    with pytest.raises(DocumentError, match="'pdf'"):
        LayoutTextSplitter(layout="pdf")


@pytest.mark.parametrize(
    "options", [{"layout": "html"}, {"metadata": {"source": "page.html"}}, {"metadata": {"content_type": "text/html"}}]
)
def test_html_is_read_as_a_browser_shows_it(options):
    pytest.importorskip("lxml")
    chunks = split(PAGE, 6, **options)
    assert chunks[-1].metadata["headings"] == "Guide > Gates"
    assert "Opened in spring." in chunks[-1].page_content
    assert "<" not in "".join(chunk.page_content for chunk in chunks)


def test_pages_of_a_loader_stay_apart_as_boundaries():
    text = "One page. Another page."
    chunks = split(text, metadata={"speaker": [[0, "Alice"], [10, "Bob"]]}, boundaries=[Boundary("speaker")])
    assert [(chunk.metadata["speaker"], chunk.page_content) for chunk in chunks] == [
        ("Alice", "One page."),
        ("Bob", "Another page."),
    ]


def test_it_is_a_text_splitter_that_copies_and_pickles():
    splitter = LayoutTextSplitter(30, tokenizer=words, layout="markdown", boundaries=["page"], notes=ScopeNotes())
    assert isinstance(splitter, TextSplitter)
    expected = splitter.create_documents([GUIDE])
    assert copy.deepcopy(splitter).create_documents([GUIDE]) == expected
    assert pickle.loads(pickle.dumps(splitter)).create_documents([GUIDE]) == expected  # noqa: S301
    assert splitter.core.settings() != LayoutTextSplitter(30, tokenizer=words).core.settings()


async def test_async_is_the_same():
    splitter = LayoutTextSplitter(30, tokenizer=words, layout="markdown")
    documents = [Document(page_content=GUIDE, id="guide")]
    assert await splitter.atransform_documents(documents) == splitter.split_documents(documents)


@pytest.mark.parametrize("text", [GUIDE, PAGE], ids=["markdown", "html"])
def test_an_index_embeds_the_context_and_gives_it_back(text):
    if text is PAGE:
        pytest.importorskip("lxml")
    layout = "html" if text is PAGE else "markdown"
    seen: list[str] = []

    class Recording(DeterministicEncoder):
        def encode(self, found, role):
            seen.extend(found)
            return super().encode(found, role)

    splitter = LayoutTextSplitter(chunk_size=6 if layout == "html" else 12, tokenizer=words, layout=layout)
    with SentenceParentIndex(embeddings=Recording(), splitter=splitter, k=50) as index:
        index.upsert([Document(page_content=text, id="guide")])
        wanted = {made.id: made for made in splitter.split_documents([Document(page_content=text, id="guide")])}
        found = index.invoke("gates")
        whole = index.get(["guide"])[0].page_content
        assert {item.id for item in found} == wanted.keys()
        for item in found:
            context = wanted[item.id].metadata.get("context")
            assert item.metadata.get("context") == context
            assert item.page_content == wanted[item.id].page_content
            start, end = item.metadata["matches"][0]
            sentence = whole[start:end]
            assert (f"{context}\n\n{sentence}" if context else sentence) in seen
        joined = index.model_copy(update={"context_in_content": True}).invoke("gates")
        assert [item.page_content.endswith(plain.page_content) for item, plain in zip(joined, found, strict=True)]
        assert any(
            item.page_content.startswith("Guide") and "Guide" not in plain.page_content
            for item, plain in zip(joined, found, strict=True)
        )
        again = index.upsert([Document(page_content=text, id="guide")])
        assert again["succeeded"] == ["guide"]
        before = len(seen)
        index.upsert([Document(page_content=text, id="guide")])
        assert len(seen) == before, "an unchanged document is not embedded again"
