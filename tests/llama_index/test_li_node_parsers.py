"""Node parsers: places, ids, chains, settings; the same spans and ids as the core."""

import asyncio
import pickle
from copy import deepcopy
from functools import partial
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llama_index.core import VectorStoreIndex
from llama_index.core.embeddings import MockEmbedding
from llama_index.core.ingestion.pipeline import get_transformation_hash
from llama_index.core.node_parser import HierarchicalNodeParser, MarkdownNodeParser, SentenceSplitter
from llama_index.core.schema import (
    Document,
    MediaResource,
    MetadataMode,
    Node,
    NodeRelationship,
    ObjectType,
    RelatedNodeInfo,
    TextNode,
)
from pydantic import ValidationError

import toy_tokenizers
from hostile_texts import texts
from rag_embeddings.llama_index import InstructionEmbedding, RecursiveNodeParser, SlidingWindowNodeParser
from rag_embeddings.split.recursive import RecursiveSplitter
from rag_embeddings.split.sliding import SlidingWindowSplitter
from rag_embeddings.testing.encoder import DeterministicEncoder
from rag_embeddings.testing.llama_index import DOCUMENTS
from rag_embeddings.text import Document as CoreDocument

KINDS = [RecursiveNodeParser, SlidingWindowNodeParser]
CORE = {RecursiveNodeParser: RecursiveSplitter, SlidingWindowNodeParser: SlidingWindowSplitter}
WORDPIECE = toy_tokenizers.wordpiece()
MARKDOWN = "".join(
    f"# Part {part}\n\nThe river rose in part {part}. The miller slept.\n\nThe river rose again. Nobody woke.\n\n"
    f"## Detail\n\nThe same words stand here.\n\nThe same words stand here.\n\n"
    for part in range(6)
)


def count_words(text):
    return len(text.split())


def count_bytes(text):
    return len(text.encode())


def count_of_width(text, *, width):
    return -(-len(text) // width)


def name_by_position(position, document):
    return f"{document.node_id}/{position}"


def name_by_position_too(position, document):
    return f"{document.node_id}:{position}"


def place(node):
    return node.node_id, node.start_char_idx, node.end_char_idx, node.get_content(MetadataMode.NONE)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60, deadline=None)
@given(text=texts, size=st.integers(2, 30), share=st.integers(0, 9))
def test_spans_and_ids_are_the_cores(kind, text, size, share):
    overlap = size * share // 10
    core = CORE[kind](size, overlap, tokenizer=WORDPIECE).split(CoreDocument(text, "name"))
    nodes = kind(chunk_size=size, chunk_overlap=overlap, tokenizer=WORDPIECE)([Document(text=text, id_="name")])
    assert [place(node) for node in nodes] == [(chunk.id, chunk.start, chunk.end, chunk.text) for chunk in core]
    for node in nodes:
        assert text[node.start_char_idx : node.end_char_idx] == node.text
        assert node.metadata == {
            "start_index": node.start_char_idx,
            "end_index": node.end_char_idx,
            "source_id": "name",
        }


@pytest.mark.parametrize("kind", KINDS)
def test_the_defaults_are_the_cores(kind):
    text = "The river rose quickly in the spring of that year. " * 200
    core = CORE[kind]().split(CoreDocument(text, "name"))
    assert [node.node_id for node in kind()([Document(text=text, id_="name")])] == [chunk.id for chunk in core]


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=40, deadline=None)
@given(text=texts, cuts=st.lists(st.integers(0, 400), max_size=4))
def test_in_a_chain_places_are_those_in_the_root_document(kind, text, cuts):
    ends = sorted({min(cut, len(text)) for cut in [0, *cuts, len(text)]})
    source = {NodeRelationship.SOURCE: RelatedNodeInfo(node_id="root", node_type=ObjectType.DOCUMENT, hash="h")}
    parts = [
        TextNode(text=text[a:b], start_char_idx=a, end_char_idx=b, relationships=source) for a, b in pairwise(ends)
    ]
    nodes = kind(chunk_size=6, chunk_overlap=2, tokenizer=len)(parts)
    for node in nodes:
        assert text[node.start_char_idx : node.end_char_idx] == node.text
        assert (node.metadata["start_index"], node.metadata["end_index"]) == (node.start_char_idx, node.end_char_idx)
        assert node.ref_doc_id == node.metadata["source_id"] == "root"
        assert node.source_node.hash == "h"
    covered = {at for node in nodes for at in range(node.start_char_idx, node.end_char_idx)}
    assert all(at in covered or text[at].isspace() for at in range(len(text)))
    linked(nodes)


def linked(nodes):
    """Neighbours are joined both ways, with their hashes."""
    for before, node, after in zip([None, *nodes], nodes, [*nodes[1:], None], strict=False):
        assert (node.prev_node.node_id if node.prev_node else None) == (before.node_id if before else None)
        assert (node.next_node.node_id if node.next_node else None) == (after.node_id if after else None)
        assert node.prev_node is None or node.prev_node.hash == before.hash
        assert node.next_node is None or node.next_node.hash == after.hash


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "first",
    [
        MarkdownNodeParser(),
        SentenceSplitter(chunk_size=40, chunk_overlap=0),
        RecursiveNodeParser(chunk_size=40),
        SlidingWindowNodeParser(chunk_size=40, chunk_overlap=10),
    ],
    ids=lambda parser: type(parser).__name__,
)
def test_behind_another_parser(first, kind):
    root = Document(text=MARKDOWN, id_="root", metadata={"title": "t"})
    middle = first([root])
    assert len(middle) > 5
    nodes = kind(chunk_size=8, chunk_overlap=0)(middle)
    assert len(nodes) > len(middle)
    for node in nodes:
        assert MARKDOWN[node.start_char_idx : node.end_char_idx] == node.text
        assert node.ref_doc_id == node.metadata["source_id"] == "root"
        assert node.metadata["title"] == "t"
    starts = [node.start_char_idx for node in nodes]
    if starts == sorted(set(starts)):
        linked(nodes)


def test_ours_behind_ours_have_the_same_places_and_ids_each_time():
    roots = [Document(text=MARKDOWN, id_="a"), Document(text=MARKDOWN[50:], id_="b")]
    chain = [RecursiveNodeParser(chunk_size=40), SlidingWindowNodeParser(chunk_size=12, chunk_overlap=4)]
    runs = []
    for _ in range(2):
        nodes = roots
        for parser in chain:
            nodes = parser(nodes)
        runs.append(nodes)
    assert [place(node) for node in runs[0]] == [place(node) for node in runs[1]]
    assert len({node.node_id for node in runs[0]}) == len(runs[0])
    for root in roots:
        linked([node for node in runs[0] if node.ref_doc_id == root.id_])


def test_layers_of_one_document_are_not_joined_to_each_other():
    layers = HierarchicalNodeParser.from_defaults(chunk_sizes=[64, 32])([Document(text=MARKDOWN, id_="root")])
    nodes = RecursiveNodeParser(chunk_size=16)(layers)
    by_id = {node.node_id: node for node in nodes}
    jumps = [
        node for node in nodes if node.next_node and by_id[node.next_node.node_id].start_char_idx <= node.start_char_idx
    ]
    assert jumps == []


def test_a_place_that_is_not_known_is_not_made_up():
    source = {NodeRelationship.SOURCE: Document(text=MARKDOWN, id_="root").as_related_node_info()}
    for known in ({}, {"start_char_idx": 5}, {"start_char_idx": 5, "end_char_idx": 9}):
        stale = {"start_index": 7, "end_index": 8}
        part = TextNode(text="The river rose. The miller slept.", relationships=source, metadata=stale, **known)
        for node in RecursiveNodeParser(chunk_size=4)([part]):
            assert (node.start_char_idx, node.end_char_idx, node.ref_doc_id) == (None, None, "root")
            assert node.metadata == {"source_id": "root"}


def test_a_node_without_a_source_is_its_own_root():
    part = TextNode(text="The river rose. The miller slept.", id_="n", start_char_idx=100, end_char_idx=133)
    nodes = RecursiveNodeParser(chunk_size=4)([part])
    assert all(part.text[node.start_char_idx : node.end_char_idx] == node.text for node in nodes)
    assert {node.ref_doc_id for node in nodes} == {"n"}


def test_plain_nodes_and_empty_ones():
    parser = RecursiveNodeParser(chunk_size=4)
    node = Node(text_resource=MediaResource(text="The river rose. The miller slept."), metadata={"a": 1})
    assert [found.metadata["a"] for found in parser([node])] == [1] * len(parser([node]))
    for empty in (Document(text=""), Document(text=" \n "), TextNode(text=""), Node()):
        assert parser([empty]) == []
    assert parser([]) == []


@pytest.mark.parametrize("kind", KINDS)
def test_metadata_that_models_see_is_the_documents_own(kind):
    for node in kind(chunk_size=16, chunk_overlap=2)([DOCUMENTS[3]]):
        assert node.get_content(MetadataMode.LLM) == node.text
        assert node.get_content(MetadataMode.EMBED) == f"title=Short | {node.text}"


def test_a_document_is_hashed_once(monkeypatch):
    """It takes as long as the document is long; once per chunk would be quadratic."""
    document = Document(text=MARKDOWN * 10)
    hashed = []
    spelled = MediaResource.hash.fget
    monkeypatch.setattr(MediaResource, "hash", property(lambda self: hashed.append(1) or spelled(self)))
    assert len(RecursiveNodeParser(chunk_size=16)([document])) > 50
    assert len(hashed) == 1


def test_metadata_is_not_shared():
    document = Document(text=MARKDOWN, metadata={"tags": ["x"]})
    first, second, *_ = RecursiveNodeParser(chunk_size=16)([document])
    first.metadata["tags"].append("y")
    assert document.metadata["tags"] == second.metadata["tags"] == ["x"]


def test_id_func_is_honoured_and_metadata_left_out():
    document = Document(text=MARKDOWN, id_="d", metadata={"a": 1})
    nodes = RecursiveNodeParser(chunk_size=16, id_func=name_by_position, include_metadata=False)([document])
    assert [node.node_id for node in nodes] == [f"d/{position}" for position in range(len(nodes))]
    assert all(node.metadata == {} for node in nodes)
    assert all(MARKDOWN[node.start_char_idx : node.end_char_idx] == node.text for node in nodes)
    linked(nodes)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"tokenizer": "gpt2"},
        {"chunk_size": 10, "chunk_overlap": 3},
        {"embed_model": InstructionEmbedding("m", query_prompt="q")},
    ],
)
@pytest.mark.parametrize("kind", KINDS)
def test_settings_are_kept(kind, options):
    parser = kind(**options)
    again = kind.from_json(parser.to_json())
    assert type(again) is kind
    assert again.to_dict() == parser.to_dict()
    assert pickle.loads(pickle.dumps(parser)).to_dict() == parser.to_dict()  # noqa: S301
    assert deepcopy(parser).to_dict() == parser.to_dict()
    assert kind(**parser.model_dump()).to_dict() == parser.to_dict()


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("tokenizer", len),
        ("tokenizer", WORDPIECE),
        ("id_func", name_by_position),
        ("embed_model", DeterministicEncoder()),
    ],
)
def test_what_cannot_be_rebuilt_says_so_and_can_be_passed_along(option, value):
    parser = RecursiveNodeParser(chunk_size=30, **{option: value})
    data = parser.to_dict()
    with pytest.raises(ValidationError, match=rf"pass it along: from_dict\(data, {option}=...\)"):
        RecursiveNodeParser.from_dict(data)
    again = RecursiveNodeParser.from_dict(data, **{option: value})
    assert again.to_dict() == data
    assert [place(node) for node in again(DOCUMENTS)] == [place(node) for node in parser(DOCUMENTS)]


def test_the_pipelines_cache_key_tells_settings_apart():
    made_here = [lambda i, doc, k=k: f"{doc.node_id}-{i * k}" for k in (1, 2)]
    parsers = [
        RecursiveNodeParser(**options)
        for options in [
            {},
            {"chunk_size": 255},
            {"chunk_overlap": 1},
            {"language": "ja"},
            {"tokenizer": "gpt2"},
            {"tokenizer": len},
            {"tokenizer": count_words},
            {"tokenizer": count_bytes},
            {"tokenizer": lambda text: len(text) + 2},
            {"tokenizer": lambda text: len(text) + 1},
            {"tokenizer": partial(count_of_width, width=2)},
            {"tokenizer": partial(count_of_width, width=3)},
            {"tokenizer": WORDPIECE},
            {"tokenizer": toy_tokenizers.bpe()},
            {"embed_model": InstructionEmbedding("a")},
            {"embed_model": InstructionEmbedding("b")},
            {"embed_model": DeterministicEncoder()},
            {"embed_model": DeterministicEncoder(8)},
            {"id_func": name_by_position},
            {"id_func": name_by_position_too},
            {"id_func": made_here[0]},
            {"id_func": made_here[1]},
            {"include_metadata": False},
            {"include_prev_next_rel": False},
        ]
    ]
    parsers.append(SlidingWindowNodeParser(chunk_overlap=0))
    assert len({get_transformation_hash(DOCUMENTS, parser) for parser in parsers}) == len(parsers)


def test_a_callable_without_a_spelling_is_refused_when_one_is_needed():
    lock_holder = partial(count_of_width, width=(part for part in "ab"))
    with pytest.raises(Exception, match="top of a module"):
        RecursiveNodeParser(tokenizer=lock_holder).to_dict()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tokenizer": len, "embed_model": InstructionEmbedding("m")}, "counted by one of them"),
        ({"chunk_size": 5, "chunk_overlap": 5}, "smaller than max_tokens"),
        ({"chunk_size": 5, "target": 6}, "target must be between"),
        ({"chunk_size": 0}, "greater than 0"),
        ({"chunk_overlap": -1}, "greater than or equal to 0"),
        ({"chunksize": 5}, "chunksize"),
        ({"embed_model": {"class_name": "OpenAIEmbedding"}}, "OpenAIEmbedding"),
    ],
)
def test_nonsense_is_refused(options, message):
    with pytest.raises(ValidationError, match=message):
        RecursiveNodeParser(**options)


def test_an_embedding_without_a_tokenizer_is_refused():
    with pytest.raises(ValueError, match="MockEmbedding has no tokenizer of its own; give tokenizer="):
        RecursiveNodeParser(embed_model=MockEmbedding(embed_dim=4))(DOCUMENTS)
    with pytest.raises(TypeError, match="got 'x'"):
        RecursiveNodeParser(embed_model="x")


def test_a_pickle_that_would_lose_something_is_an_error_and_does_no_harm():
    parser = RecursiveNodeParser(chunk_size=30, tokenizer=lambda text: len(text) + 1)
    before = [place(node) for node in parser(DOCUMENTS)]
    with pytest.raises((pickle.PicklingError, AttributeError), match="lambda"):
        pickle.dumps(parser)
    assert [place(node) for node in parser(DOCUMENTS)] == before
    parser = RecursiveNodeParser(chunk_size=30, tokenizer=WORDPIECE)
    again = pickle.loads(pickle.dumps(parser))  # noqa: S301
    assert [place(node) for node in again(DOCUMENTS)] == [place(node) for node in parser(DOCUMENTS)]


def test_an_assigned_setting_takes_effect():
    parser = RecursiveNodeParser(chunk_size=40)
    many = RecursiveNodeParser(chunk_size=10)(DOCUMENTS)
    assert len(parser(DOCUMENTS)) < len(many)
    parser.chunk_size = 10
    assert [place(node) for node in parser(DOCUMENTS)] == [place(node) for node in many]


def test_async_is_sync_and_leaves_the_loop_free():
    parser = RecursiveNodeParser(chunk_size=16)
    threads = set()

    async def ask():
        import threading

        split = parser.splitter.split
        parser.splitter.split = lambda document: threads.add(threading.get_ident()) or split(document)
        found = await asyncio.gather(*(parser.acall(DOCUMENTS) for _ in range(4)))
        assert threading.get_ident() not in threads
        return found

    for nodes in asyncio.run(ask()):
        assert [place(node) for node in nodes] == [
            place(node) for node in RecursiveNodeParser(chunk_size=16)(DOCUMENTS)
        ]
    assert threads


def test_a_vector_store_index_takes_parser_and_model(prompted):
    embedding = InstructionEmbedding(prompted)
    parser = RecursiveNodeParser(chunk_size=20, embed_model=embedding)
    documents = [Document(text=MARKDOWN, id_="d", embedding=[1.0] * 32)]
    index = VectorStoreIndex.from_documents(documents, transformations=[parser], embed_model=embedding)
    expected = parser(documents)
    assert set(index.docstore.docs) == {node.node_id for node in expected}
    assert set(index.ref_doc_info) == {"d"}
    target = expected[3]
    bare = target.get_content(MetadataMode.EMBED)
    assert bare == target.text
    found = index.as_retriever(similarity_top_k=3).retrieve("The miller slept.")
    assert len(found) == 3
    for result in found:
        assert MARKDOWN[result.node.start_char_idx : result.node.end_char_idx] == result.text
    stored = index.vector_store.get(target.node_id)
    assert stored == pytest.approx(embedding.get_text_embedding(bare), abs=1e-5)
    index.insert(Document(text="One more.", id_="e"))
    index.delete_ref_doc("d", delete_from_docstore=True)
    assert {node.ref_doc_id for node in index.docstore.docs.values()} == {"e"}
