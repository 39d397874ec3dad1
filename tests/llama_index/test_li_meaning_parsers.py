"""The node parsers that look at meaning, structure or topics: the core's chunks, through LlamaIndex's doors."""

import pickle
from copy import deepcopy
from threading import Lock

import pytest
from hypothesis import given, settings
from llama_index.core.embeddings import MockEmbedding
from llama_index.core.ingestion.pipeline import IngestionPipeline, get_transformation_hash
from llama_index.core.llms import MockLLM
from llama_index.core.schema import Document, MetadataMode
from pydantic import ValidationError

import toy_tokenizers
from hostile_texts import texts
from rag_embeddings.llama_index import (
    BollingerNodeParser,
    LLMNodeParser,
    RecursiveNodeParser,
    RegexNodeParser,
    SemanticNodeParser,
    TopicNodeParser,
)
from rag_embeddings.split.bollinger import BollingerSplitter
from rag_embeddings.split.llm import LLMSplitter
from rag_embeddings.split.regex import RegexSplitter
from rag_embeddings.split.semantic import SemanticSplitter
from rag_embeddings.split.topics import TopicSplitter
from rag_embeddings.testing.encoder import DeterministicEncoder
from rag_embeddings.text import Document as CoreDocument

ENCODER = DeterministicEncoder(dimensions=32)
TOKENS = toy_tokenizers.wordpiece()
MILL = "The mill ground the corn of the village. The mill wheel turned in the river. The miller sold the corn. "
LAW = "The court heard the case of the bridge toll. The judge read the law of tolls. The court fined the owner. "
PROSE = (MILL + LAW) * 3


def second(prompt):
    """A model that finds a topic at the second sentence."""
    return "[2]"


def third(prompt):
    """Another model."""
    return "[3]"


COUNTED = {"tokenizer": TOKENS}
MEANT = {"embed_model": ENCODER, **COUNTED}
KINDS = {
    "semantic": (SemanticNodeParser, {"chunk_size": 40, **MEANT}, SemanticSplitter(ENCODER, 40, **COUNTED)),
    "threshold": (
        SemanticNodeParser,
        {"chunk_size": 40, "breakpoint_threshold_type": "interquartile", **MEANT},
        SemanticSplitter(ENCODER, 40, breakpoint_threshold_type="interquartile", **COUNTED),
    ),
    "bollinger": (
        BollingerNodeParser,
        {"chunk_size": 40, "window": 5, "glue": 1.0, **MEANT},
        BollingerSplitter(ENCODER, 40, window=5, glue=1.0, **COUNTED),
    ),
    "topics": (
        TopicNodeParser,
        {"chunk_size": 80, "min_chunk_size": 10, **MEANT},
        TopicSplitter(ENCODER, 80, 10, **COUNTED),
    ),
    "regex": (
        RegexNodeParser,
        {"chunk_size": 40, "chunk_overlap": 5, "rules": {"Q:": 0.0}, **COUNTED},
        RegexSplitter(40, 5, rules={"Q:": 0.0}, **COUNTED),
    ),
    "llm": (LLMNodeParser, {"chunk_size": 40, "llm": second, **COUNTED}, LLMSplitter(second, 40, **COUNTED)),
}


def parser(kind):
    cls, options, _ = KINDS[kind]
    return cls(**options)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25, deadline=None)
@given(text=texts)
def test_nodes_are_the_cores_chunks(kind, text):
    expected = KINDS[kind][2].split(CoreDocument(text, "name"))
    nodes = parser(kind)([Document(text=text, id_="name")])
    assert [(node.node_id, node.text) for node in nodes] == [(chunk.id, chunk.text) for chunk in expected]
    for node, chunk in zip(nodes, expected, strict=True):
        assert (node.start_char_idx, node.end_char_idx, node.ref_doc_id) == (chunk.start, chunk.end, "name")
        spans = node.metadata.get("spans", f"{chunk.start}-{chunk.end}").split(",")
        assert "\n".join(text[slice(*map(int, span.split("-")))] for span in spans) == node.text
        for mode in (MetadataMode.EMBED, MetadataMode.LLM):
            assert node.get_content(mode) == node.text  # bookkeeping is not for models


@pytest.mark.parametrize("kind", KINDS)
async def test_every_door_gives_the_same(kind):
    documents = [Document(text=PROSE, id_="prose"), Document(text="", id_="empty")]
    first = parser(kind)
    expected = [node.node_id for node in first(documents)]
    assert len(expected) > 1
    copies = [deepcopy(first), pickle.loads(pickle.dumps(first))]  # noqa: S301
    for copy in copies:
        assert [node.node_id for node in copy(documents)] == expected
    assert [node.node_id for node in await first.acall(documents)] == expected
    pipeline = IngestionPipeline(transformations=[first], disable_cache=True)
    assert [node.node_id for node in pipeline.run(documents=documents)] == expected
    assert [node.node_id for node in await pipeline.arun(documents=documents)] == expected


@pytest.mark.parametrize("kind", KINDS)
def test_in_a_chain_places_count_in_the_root_document(kind):
    text = MILL + "\n\n" + PROSE
    halves = RecursiveNodeParser(chunk_size=90, tokenizer=TOKENS)([Document(text=text, id_="root")])
    nodes = parser(kind)(halves)
    assert len(nodes) >= len(halves) > 1
    for node in nodes:
        spans = node.metadata.get("spans", f"{node.start_char_idx}-{node.end_char_idx}").split(",")
        assert "\n".join(text[slice(*map(int, span.split("-")))] for span in spans) == node.text
        assert node.ref_doc_id == "root"


def by_threes(vectors):
    return [index // 3 % 2 for index in range(len(vectors))]


@pytest.mark.parametrize("kind", KINDS)
def test_parts_of_a_node_of_several_slices_have_their_places(kind):
    options = {"chunk_size": 200, "min_chunk_size": 20, "cluster": by_threes, **MEANT}
    topics = TopicNodeParser(**options)([Document(text=PROSE, id_="root")])
    nodes = parser(kind)(topics)
    assert len(nodes) > len(topics)
    for node in nodes:
        start, end = node.start_char_idx, node.end_char_idx
        spans = node.metadata.get("spans", f"{start}-{end}").split(",")
        assert "\n".join(PROSE[slice(*map(int, span.split("-")))] for span in spans) == node.text
        assert (node.metadata["start_index"], node.metadata["end_index"]) == (start, end)
        assert node.ref_doc_id == "root"
    blind = TopicNodeParser(include_metadata=False, **options)([Document(text=PROSE, id_="root")])
    assert {node.start_char_idx for node in parser(kind)(blind)} == {None}  # nothing says where the slices are


def test_settings_reach_the_cache_and_the_splitter():
    changes = {
        "semantic": {"weight": 9.0},
        "threshold": {"breakpoint_threshold_amount": 0.1},
        "bollinger": {"k": 0.0},
        "topics": {"distance": 0.01},
        "regex": {"rules": {"The": 0.0}},
        "llm": {"llm": third},
    }
    for kind, change in changes.items():
        cls, options, _ = KINDS[kind]
        one, other = cls(**options), cls(**{**options, **change})
        assert get_transformation_hash([], one) != get_transformation_hash([], other), kind
        assert get_transformation_hash([], one) == get_transformation_hash([], cls(**options)), kind
        before = one.splitter
        assert one.splitter is before
        for name, value in change.items():
            setattr(one, name, value)
        assert one.splitter is not before
        assert one.splitter.settings() == other.splitter.settings()


def test_what_cannot_be_rebuilt_says_so():
    saved = parser("llm").to_dict()
    with pytest.raises(ValidationError, match="pass it along"):
        LLMNodeParser.from_dict(saved, tokenizer=TOKENS)
    again = LLMNodeParser.from_dict(saved, llm=second, tokenizer=TOKENS)
    assert again.splitter.settings() == parser("llm").splitter.settings()


def test_impossible_settings_are_refused_at_once():
    with pytest.raises(ValidationError, match="embed_model"):
        SemanticNodeParser(tokenizer=TOKENS)
    with pytest.raises(ValidationError, match="breakpoint_threshold_type"):
        SemanticNodeParser(**MEANT, breakpoint_threshold_amount=5)
    with pytest.raises(ValidationError, match="min_tokens"):
        BollingerNodeParser(**MEANT, min_chunk_size=1000)
    with pytest.raises(ValidationError, match="regular expression"):
        RegexNodeParser(rules={"(": 0})
    with pytest.raises(ValidationError, match="LLM"):
        LLMNodeParser(llm=3)


def test_models_of_llama_index():
    documents = [Document(text=PROSE, id_="prose")]
    assert (
        len(SemanticNodeParser(embed_model=MockEmbedding(embed_dim=4), chunk_size=30, tokenizer=TOKENS)(documents)) > 1
    )
    nodes = LLMNodeParser(llm=MockLLM(), chunk_size=60, tokenizer=TOKENS)(documents)  # it echoes the prompt
    assert {node.metadata["boundaries"] for node in nodes} <= {"llm", "recursive"}
    assert LLMNodeParser(llm=MockLLM()).splitter.settings()["model"] == "MockLLM unknown"


def test_a_model_has_the_name_that_it_is_given():
    lock = Lock()

    def locked(prompt):
        with lock:
            return second(prompt)

    with pytest.raises(ValidationError, match="cannot be spelled"):
        LLMNodeParser(llm=locked, **COUNTED)
    named = LLMNodeParser(llm=locked, name="mine", **COUNTED)
    assert named.splitter.settings()["model"] == "mine"
    assert named.to_dict()["llm"] == {"class_name": "function", "model": "mine"}
    assert get_transformation_hash([], named) != get_transformation_hash([], named.model_copy(update={"name": "other"}))
    assert LLMNodeParser(llm=MockLLM(), name="mine").to_dict()["llm"]["model"] == "mine"
