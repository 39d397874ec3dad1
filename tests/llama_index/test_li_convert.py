"""Documents in, documents and nodes out."""

import subprocess
import sys

from hypothesis import given, settings
from hypothesis import strategies as st
from llama_index.core.schema import Document, MediaResource, MetadataMode, Node, NodeRelationship, TextNode

from hostile_texts import texts
from rag_embeddings.llama_index.convert import BOOKKEEPING, from_core, from_match, to_core
from rag_embeddings.retrieve.base import Match
from rag_embeddings.text import Chunk, Span
from rag_embeddings.text import Document as CoreDocument

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
metadatas = st.dictionaries(st.text(max_size=8), json_values, max_size=4)
keys = st.lists(st.text(max_size=8), max_size=3)
presentations = st.fixed_dictionaries(
    {},
    optional={
        "excluded_embed_metadata_keys": keys,
        "excluded_llm_metadata_keys": keys,
        "metadata_template": st.just("{key}={value}"),
        "metadata_separator": st.text(max_size=3),
        "text_template": st.just("{content} ({metadata_str})"),
    },
)


@settings(deadline=None)
@given(text=texts, identity=st.text(min_size=1, max_size=9), metadata=metadatas, presentation=presentations)
def test_there_and_back(text, identity, metadata, presentation):
    document = Document(text=text, id_=identity, metadata=metadata, **presentation)
    core = to_core(document)
    assert (core.text, core.id) == (text, identity)
    assert from_core(core).to_dict() == document.to_dict()
    assert to_core(from_core(core)) == core
    assert core.metadata == metadata or presentation


@settings(deadline=None)
@given(text=texts, metadata=metadatas)
def test_core_documents_come_back_too(text, metadata):
    core = CoreDocument(text, "name", metadata)
    assert to_core(from_core(core)) == core


def test_the_text_is_the_text_alone():
    for node in (
        Document(text="body", metadata={"title": "t"}),
        TextNode(text="body", metadata={"title": "t"}),
        Node(text_resource=MediaResource(text="body"), metadata={"title": "t"}),
    ):
        assert to_core(node).text == "body"
    assert to_core(Document()).text == ""


def test_metadata_is_copied():
    document = Document(text="a", metadata={"tags": ["x"]})
    core = to_core(document)
    core.metadata["tags"].append("y")
    again = from_core(core)
    again.metadata["tags"].append("z")
    assert document.metadata == {"tags": ["x"]}
    assert core.metadata == {"tags": ["x", "y"]}


def test_a_match_is_a_scored_node():
    source = Document(
        text="One. Two. Three.",
        id_="d",
        metadata={"title": "T", "secret": 1},
        excluded_llm_metadata_keys=["secret"],
        text_template="{content}<{metadata_str}>",
    )
    chunk = Chunk(to_core(source), (Span(5, 16),))
    found = from_match(Match(chunk, 0.5, (Span(10, 16), Span(5, 9))))
    node = found.node
    assert (found.score, node.node_id, node.text) == (0.5, chunk.id, "Two. Three.")
    assert (node.start_char_idx, node.end_char_idx) == (5, 16)
    assert node.ref_doc_id == "d"
    assert set(node.relationships) == {NodeRelationship.SOURCE}
    assert node.metadata == {
        "title": "T",
        "secret": 1,
        "start_index": 5,
        "end_index": 16,
        "source_id": "d",
        "chunk_id": chunk.id,
        "score": 0.5,
        "matches": [[10, 16], [5, 9]],
    }
    assert set(node.metadata) - {"title", "secret"} <= set(BOOKKEEPING)
    assert node.get_content(MetadataMode.LLM) == "Two. Three.<title: T>"
    assert node.get_content(MetadataMode.EMBED) == "Two. Three.<title: T\nsecret: 1>"


def test_without_llama_index_the_error_names_the_extra():
    code = """
import sys
sys.modules["llama_index.core"] = None
from rag_embeddings.errors import MissingExtraError
for module in ("rag_embeddings.llama_index", "rag_embeddings.testing.llama_index"):
    try:
        __import__(module)
    except MissingExtraError as error:
        print(error)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.count("pip install 'rag-embeddings[llama-index]'") == 2
