"""LayoutNodeParser: the core's chunks, whose context models see."""

from __future__ import annotations

import asyncio
import copy
import pickle
from itertools import pairwise

import pytest
from llama_index.core.ingestion import IngestionPipeline
from llama_index.core.schema import Document, MetadataMode, NodeRelationship

from rag_embeddings import Boundary, LayoutSplitter, ScopeNotes
from rag_embeddings.llama_index import LayoutNodeParser, RecursiveNodeParser, SentenceParentRetriever
from rag_embeddings.llama_index.convert import to_core
from rag_embeddings.read.layout import LayoutReader
from rag_embeddings.read.markdown import read_markdown
from rag_embeddings.testing.encoder import DeterministicEncoder

GUIDE = """# Guide

All numbers in this document are in millions.

## Gates

The upper gate cost 12. It is opened in spring.

### Upper gates

Each winter the ice is broken by hand, and the chains are greased. The chains cost 3 a year.
"""


def words(text: str) -> int:
    return len(text.split())


def no_notes(document):
    return []


def parser(size: int = 30, **options) -> LayoutNodeParser:
    return LayoutNodeParser(chunk_size=size, tokenizer=words, **options)


def nodes(found: LayoutNodeParser, text: str = GUIDE, metadata=None):
    return found.get_nodes_from_documents([Document(text=text, id_="guide", metadata=metadata or {})])


def test_nodes_are_the_cores_chunks():
    made = nodes(parser(layout="markdown", notes=ScopeNotes()))
    core = LayoutSplitter(30, tokenizer=words, reader=LayoutReader("markdown"), notes=ScopeNotes())
    chunks = core.split(to_core(Document(text=GUIDE, id_="guide")))
    assert [node.node_id for node in made] == [chunk.id for chunk in chunks]
    assert [(node.start_char_idx, node.end_char_idx) for node in made] == [(chunk.start, chunk.end) for chunk in chunks]
    assert all(GUIDE[node.start_char_idx : node.end_char_idx] == node.text for node in made)
    for before, after in pairwise(made):
        assert before.next_node.node_id == after.node_id
        assert after.prev_node.hash == before.hash


@pytest.mark.parametrize("mode", [MetadataMode.EMBED, MetadataMode.LLM])
def test_both_models_see_the_heading_path_and_the_note_once(mode):
    made = nodes(parser(layout="markdown", notes=ScopeNotes()))
    deep = next(node for node in made if "chains are greased" in node.text)
    assert deep.metadata["headings"] == "Guide > Gates > Upper gates"
    seen = deep.get_content(mode)
    assert "Guide > Gates" in seen
    assert seen.count("Upper gates") == 1
    assert seen.count("in millions") == 1
    assert "kinds" not in seen
    assert "start_index" not in seen


def test_page_numbers_are_for_language_models():
    made = nodes(parser(), "One. Two.", {"page": 3})
    assert "page: 3" in made[0].get_content(MetadataMode.EMBED), "a document's own metadata stays visible"


def test_layout_goes_by_the_metadata():
    assert "kinds" in nodes(parser(), metadata={"file_name": "guide.md", "file_type": "text/markdown"})[0].metadata
    assert "kinds" not in nodes(parser(), metadata={"file_name": "guide.txt"})[0].metadata
    assert "kinds" not in nodes(parser(layout=None), metadata={"file_name": "guide.md"})[0].metadata
    with pytest.raises(ValueError, match="layout"):
        parser(layout="pdf")


def test_documents_of_a_reader_keep_their_layout():
    document = read_markdown(GUIDE, id="guide.md", metadata={"topic": "mills"})
    found = parser(layout=None)
    made = found.get_nodes_from_documents([document])
    core = LayoutSplitter(30, tokenizer=words).split(document)
    assert [(node.node_id, node.text, node.metadata.get("context", "")) for node in made] == [
        (chunk.id, chunk.text, chunk.context) for chunk in core
    ]
    assert {(node.ref_doc_id, node.metadata["topic"]) for node in made} == {("guide.md", "mills")}
    assert NodeRelationship.NEXT in made[0].relationships
    assert asyncio.run(found.aget_nodes_from_documents([document])) == found([document]) == made


def test_boundaries_and_their_values():
    made = nodes(parser(boundaries=["speaker"]), "Good day. Hello.", {"speaker": [[0, "Alice"], [10, "Bob"]]})
    assert [(node.metadata["speaker"], node.text) for node in made] == [("Alice", "Good day."), ("Bob", "Hello.")]
    assert "speaker: Bob" in made[1].get_content(MetadataMode.EMBED)


def test_assigned_settings_count():
    found = parser(layout="markdown")
    before = nodes(found)
    found.context_tokens = 0
    assert any("context" in node.metadata for node in before)
    assert not any("context" in node.metadata for node in nodes(found))
    found.boundaries.append("section")
    assert len(nodes(found)) > len(before)


@pytest.mark.parametrize("notes", [None, ScopeNotes(limit=7)])
def test_settings_survive_serialisation(notes):
    found = LayoutNodeParser(
        chunk_size=40, layout="markdown", boundaries=["page", Boundary("section", level=2)], notes=notes
    )
    again = LayoutNodeParser.from_dict(found.to_dict())
    assert again.splitter.settings() == found.splitter.settings()
    assert LayoutNodeParser.from_json(found.to_json()).notes == notes
    assert nodes(pickle.loads(pickle.dumps(found))) == nodes(copy.deepcopy(found)) == nodes(found)  # noqa: S301


def test_functions_of_ones_own_are_named_and_cannot_be_rebuilt():
    found = LayoutNodeParser(notes=no_notes)
    assert "no_notes" in str(found.to_dict()["notes"])
    with pytest.raises(ValueError, match="no_notes"):
        LayoutNodeParser.from_dict(found.to_dict())
    assert LayoutNodeParser.from_dict(found.to_dict(), notes=no_notes).notes is no_notes


def test_html_is_read_as_a_browser_shows_it():
    pytest.importorskip("lxml")
    page = "<html><body><h1>Guide</h1><p>Gates &amp; wheels.</p><h2>Gates</h2><p>Opened in <b>spring</b>.</p></body></html>"
    made = nodes(parser(6, layout="html"), page)
    assert made[-1].metadata["headings"] == "Guide > Gates"
    assert "Opened in spring." in made[-1].text


async def test_pipelines_and_async_give_the_same():
    document = Document(text=GUIDE, id_="guide", metadata={"file_name": "guide.md"})
    found = parser()
    expected = found.get_nodes_from_documents([document])
    assert IngestionPipeline(transformations=[found]).run(documents=[document]) == expected
    assert await found.aget_nodes_from_documents([document]) == expected


def test_an_index_gives_the_context_back_and_shows_it():
    with SentenceParentRetriever.from_documents(
        [Document(text=GUIDE, id_="guide")],
        embed_model=DeterministicEncoder(),
        node_parser=parser(layout="markdown", notes=ScopeNotes()),
        similarity_top_k=9,
    ) as retriever:
        found = [item.node for item in retriever.retrieve("The chains cost 3 a year.")]
        best = next(node for node in found if "chains cost 3" in node.text)
        assert best.metadata["context"] == "Gates > Upper gates\nNote: All numbers in this document are in millions."
        assert "in millions" in best.get_content(MetadataMode.LLM)
        assert "in millions" in best.get_content(MetadataMode.EMBED)
        assert "kinds" not in best.get_content(MetadataMode.LLM)


def test_a_piece_of_html_has_no_places_in_the_root_document():
    """What is split is the text that a browser shows; counted in that, offsets would point to other text."""
    text = "<html><body>" + "".join(f"<h2>Gate {n}</h2><p>It is <b>opened</b> in spring.</p>" for n in range(9))
    pieces = RecursiveNodeParser(chunk_size=40)([Document(text=text, id_="root", metadata={"file_name": "a.html"})])
    nodes = LayoutNodeParser(chunk_size=20)(pieces)
    assert "<b>" in pieces[0].text
    assert "<b>" not in nodes[0].text
    for node in nodes:
        assert node.start_char_idx is node.end_char_idx is None
        assert not {"start_index", "end_index"} & node.metadata.keys()
        assert node.ref_doc_id == node.metadata["source_id"] == "root"
