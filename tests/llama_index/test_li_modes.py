"""The modes of retrieval as LlamaIndex users reach them: settings, engines, postprocessors."""

import asyncio
import pickle
import threading

import pytest
from llama_index.core.chat_engine import ContextChatEngine
from llama_index.core.llms import MockLLM
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.query_engine import CitationQueryEngine, RetrieverQueryEngine
from llama_index.core.retrievers import QueryFusionRetriever
from llama_index.core.schema import Document, MetadataMode, Node, NodeWithScore, QueryBundle, TextNode
from llama_index.core.vector_stores import FilterOperator, MetadataFilter, MetadataFilters
from llama_index.core.vector_stores.types import VectorStoreQueryMode

from rag_embeddings.encode.base import Role
from rag_embeddings.errors import StoreError
from rag_embeddings.llama_index import (
    InstructionEmbedding,
    LinkedChunkRetriever,
    RecursiveNodeParser,
    SentenceHighlightPostprocessor,
    SentenceParentRetriever,
)
from rag_embeddings.llama_index.convert import from_match
from rag_embeddings.retrieve.merge import Merge
from rag_embeddings.retrieve.search import Retrieval
from rag_embeddings.retrieve.window import Window
from rag_embeddings.store.directory import IndexDirectory
from rag_embeddings.store.links import LinkRule
from rag_embeddings.store.where import Where
from rag_embeddings.testing.encoder import DeterministicEncoder

pytest.importorskip("bm25s", reason="hybrid search needs the extra 'keywords'")

PAGES = {
    "bees": "Bees make honey. A hive has one queen. The queen lays eggs. Workers guard the hive.",
    "cats": "Cats purr. A cat sleeps most of the day. Kittens play at night. Cats hunt mice.",
    "wasps": "Wasps sting. A nest has one queen. The queen lays many eggs. Wasps eat meat.",
    "ships": "Ships float. The harbour is full of ships. Sailors sleep on board. Ships carry honey.",
}
DOCUMENTS = [Document(id_=name, text=text, metadata={"size": len(name)}) for name, text in PAGES.items()]
PARSER = RecursiveNodeParser(chunk_size=32, tokenizer=len)
ENCODER = DeterministicEncoder(128)
QUESTION = "the queen of the hive"


def make(kind=SentenceParentRetriever, encoder=ENCODER, **options):
    options = {"node_parser": PARSER, "similarity_top_k": 3, "links": LinkRule(0.5)} | options
    return kind.from_documents(DOCUMENTS, embed_model=encoder, **options)


@pytest.fixture(scope="module")
def retriever():
    """Nobody changes it."""
    with make() as made:
        yield made


def by_length(query, texts):
    return [len(text) for text in texts]


def shape(found):
    return [(item.node_id, item.score, item.text, item.metadata) for item in found]


SIZES = MetadataFilters(filters=[MetadataFilter(key="size", value=5, operator=FilterOperator.GTE)])
MODES = [
    ({}, {}),
    ({"similarity_top_k": 2}, {"k": 2}),
    ({"vector_store_query_mode": "mmr", "mmr_threshold": 0.2}, {"search_type": "mmr", "balance": 0.2}),
    ({"vector_store_query_mode": VectorStoreQueryMode.HYBRID}, {"search_type": "hybrid"}),
    ({"vector_store_query_mode": "hybrid", "fusion": "minmax"}, {"search_type": "hybrid", "fusion": "minmax"}),
    ({"filters": SIZES}, {"where": Where.between("size", 5, None)}),
    ({"filters": Where.equals("size", 4)}, {"where": Where.equals("size", 4)}),
    ({"pattern": "(?i)queen"}, {"pattern": "(?i)queen"}),
    ({"score": "sum"}, {"score": "sum"}),
    ({"token_budget": 70, "tokenizer": len}, {"token_budget": 70, "tokenizer": len}),
    ({"window": Window(1)}, {"window": 1}),
    ({"merge": Merge(0.3), "window": 1}, {"merge": Merge(0.3), "window": 1}),
    ({"link_tokens": 60}, {"link_tokens": 60}),
    ({"reranker": by_length}, {"reranker": by_length}),
]


@pytest.mark.parametrize(("options", "core"), MODES, ids=lambda value: ",".join(value) or "plain")
async def test_each_mode_is_the_cores(retriever, options, core):
    expected = shape(
        from_match(one) for one in Retrieval(retriever._directory, ENCODER, **{"k": 3} | core).search(QUESTION)
    )
    assert expected
    other = retriever.with_settings(**options)
    assert shape(other.retrieve(QUESTION)) == expected
    assert shape(await other.aretrieve(QUESTION)) == expected
    with make(**options) as made:
        found = shape(made.retrieve(QUESTION))
        assert [item[2:] for item in found] == [item[2:] for item in expected]
        assert shape(await made.aretrieve(QUESTION)) == found
    assert len(retriever.retrieve(QUESTION)) == 3


def test_with_settings_closes_nothing_and_changes_nothing(retriever):
    before = shape(retriever.retrieve(QUESTION))
    with retriever.with_settings(similarity_top_k=1, window=3) as other:
        assert len(other.retrieve(QUESTION)) == 1
    assert shape(retriever.retrieve(QUESTION)) == before
    budgeted = retriever.with_settings(token_budget=60, tokenizer=len)
    assert sum(len(item.text) for item in budgeted.retrieve(QUESTION)) <= 60
    assert len(budgeted.with_settings(similarity_top_k=5).retrieve(QUESTION)) == 5
    budgeted.similarity_top_k = 7
    assert budgeted.similarity_top_k == 7
    assert retriever.similarity_top_k == 3


def test_impossible_settings_are_named(retriever):
    with pytest.raises(ValueError, match="'fuzzy' is not known here; known are 'default', 'hybrid', 'mmr'"):
        retriever.with_settings(vector_store_query_mode="fuzzy")
    with pytest.raises(ValueError, match="'svm' is not known here"):
        make(vector_store_query_mode=VectorStoreQueryMode.SVM)
    with pytest.raises(ValueError, match="at least 1, got 0"):
        retriever.similarity_top_k = 0
    with pytest.raises(TypeError, match="windows"):
        retriever.with_settings(windows=3)
    with pytest.raises(TypeError, match="windows"):
        make(windows=3)
    with pytest.raises(ValueError, match="undo the order"):
        retriever.with_settings(vector_store_query_mode="mmr", reranker=by_length)


async def test_a_query_that_brings_a_vector_is_still_searched_for_its_words(retriever):
    vector = ENCODER.encode(["ships carry honey"], Role.QUERY)[0].tolist()
    bundle = QueryBundle("kittens", embedding=vector)
    assert retriever.retrieve(bundle)[0].node.ref_doc_id == "ships"
    both = retriever.with_settings(vector_store_query_mode="hybrid", beta=100.0)
    assert "Kittens" in both.retrieve(bundle)[0].text
    assert shape(await both.aretrieve(bundle)) == shape(both.retrieve(bundle))


async def test_async_search_leaves_the_loop_free():
    """While searches wait for encoder and reranker, the loop goes on: counted in turns, not in time."""
    release, turns = threading.Event(), 0

    class Waiting(DeterministicEncoder):
        def encode(self, texts, role):
            assert role is Role.DOCUMENT or release.wait(60)
            return super().encode(texts, role)

    def waiting(query, texts):
        assert release.wait(60)
        return [1.0] * len(texts)

    with make(encoder=Waiting(128), reranker=waiting, links=None) as made:
        tasks = [asyncio.create_task(made.with_settings(similarity_top_k=n + 1).aretrieve(QUESTION)) for n in range(3)]
        while turns < 50:
            await asyncio.sleep(0)
            turns += 1
        assert not any(task.done() for task in tasks)
        release.set()
        assert [len(found) for found in await asyncio.gather(*tasks)] == [1, 2, 3]


# --- linked chunks ---------------------------------------------------------------------------------------------------


async def test_linked_passages_of_other_documents_come_along(tmp_path):
    question = "the queen lays eggs"
    with make(LinkedChunkRetriever, directory=tmp_path, similarity_top_k=1) as linked:
        found = linked.retrieve(question)
        assert [(item.text, item.node.ref_doc_id) for item in found] == [
            ("The queen lays eggs.", "bees"),
            ("The queen lays many eggs.", "wasps"),
        ]
        assert found[1].metadata["linked_from"] == found[0].node_id
        assert "linked_from" not in found[1].get_content(MetadataMode.LLM)
        assert shape(await linked.aretrieve(question)) == shape(found)
        linked.delete_ref_doc("wasps")
        assert [item.node.ref_doc_id for item in linked.retrieve(question)] == ["bees"]
        linked.insert(Document(id_="ants", text="The queen lays very many eggs."))
        assert [item.node.ref_doc_id for item in linked.retrieve(question)] == ["bees", "ants"]
        assert len(linked.with_settings(link_tokens=10).retrieve(question)) == 1
    with LinkedChunkRetriever.from_directory(tmp_path, embed_model=ENCODER, similarity_top_k=1) as again:
        assert len(again.retrieve(question)) == 2
    with IndexDirectory.open(None) as empty:
        assert LinkedChunkRetriever(empty, ENCODER).retrieve("anything") == []
    with make(links=None, link_tokens=50) as unlinked, pytest.raises(StoreError, match="not linked"):
        unlinked.retrieve(question)


# --- highlighting ----------------------------------------------------------------------------------------------------


async def test_highlighting_our_own_results_computes_nothing(retriever):
    found = retriever.with_settings(merge=True).retrieve("one queen in a hive")
    before = shape(found)
    marker = SentenceHighlightPostprocessor(before="<mark>", after="</mark>", sentences=1)
    shown = marker.postprocess_nodes(found)
    assert "<mark>A hive has one queen.</mark>" in shown[0].text
    assert shape(found) == before
    assert [item.score for item in shown] == [item.score for item in found]
    assert [item.node_id for item in shown] == [item.node_id for item in found]
    assert "highlights" not in shown[0].get_content(MetadataMode.LLM)
    assert "highlights" not in shown[0].get_content(MetadataMode.EMBED)
    start, end = shown[0].metadata["highlights"][0]
    assert found[0].text[start:end] == "A hive has one queen."
    assert shape(await marker.apostprocess_nodes(found)) == shape(shown)


def test_highlighting_behind_any_other_retriever():
    nodes = [NodeWithScore(node=TextNode(text=text, id_=name), score=0.5) for name, text in PAGES.items()]
    marker = SentenceHighlightPostprocessor(embed_model=ENCODER, sentences=1)
    shown = marker.postprocess_nodes(nodes, query_str="who guards the hive? workers")
    assert "**Workers guard the hive.**" in shown[0].text
    assert all(item.text.count("**") == 2 for item in shown)
    with pytest.raises(ValueError, match="4 of 4 passages do not say"):
        SentenceHighlightPostprocessor().postprocess_nodes(nodes, query_str="hive")
    with pytest.raises(ValueError, match="4 of 4 passages do not say"):
        marker.postprocess_nodes(nodes)  # no query
    with pytest.raises(TypeError, match="is a Node"):
        marker.postprocess_nodes([NodeWithScore(node=Node())], query_str="hive")
    assert marker.postprocess_nodes([], query_str="hive") == []


def test_a_highlighter_obeys_its_fields_as_they_are_now():
    marker = SentenceHighlightPostprocessor(embed_model=ENCODER, sentences=1)

    def marks(one, kind=TextNode):
        (shown,) = one.postprocess_nodes([NodeWithScore(node=kind(text=PAGES["bees"]))], query_str="queen eggs")
        return shown.node.get_content(MetadataMode.NONE).count("**") // 2

    assert marks(marker) == 1
    marker.sentences = 3
    assert marks(marker) == marks(marker, Document) == 3
    assert marks(marker.model_copy(update={"sentences": 2})) == 2
    marker = SentenceHighlightPostprocessor(sentences=2)
    marker.embed_model = ENCODER
    assert marks(marker) == 2


def test_the_postprocessor_as_a_component(bytewise):
    marker = SentenceHighlightPostprocessor(sentences=3, before="<b>", after="</b>", least=0.1)
    assert marker.class_name() == "SentenceHighlightPostprocessor"
    again = SentenceHighlightPostprocessor.from_dict(marker.to_dict())
    assert again.to_dict() == marker.to_dict()
    model = InstructionEmbedding(bytewise)
    marker = SentenceHighlightPostprocessor(embed_model=model)
    thawed = pickle.loads(pickle.dumps(marker))  # noqa: S301 - our own
    nodes = [NodeWithScore(node=TextNode(text=PAGES["bees"]))]
    expected = marker.postprocess_nodes(nodes, query_str="hive")[0].text
    assert thawed.postprocess_nodes(nodes, query_str="hive")[0].text == expected
    with pytest.raises((TypeError, ValueError), match="encode"):
        SentenceHighlightPostprocessor(embed_model=3)


# --- in what users build ---------------------------------------------------------------------------------------------


async def test_in_a_query_engine(retriever):
    engine = RetrieverQueryEngine.from_args(
        retriever.with_settings(token_budget=120, tokenizer=len, merge=True, vector_store_query_mode="hybrid"),
        llm=MockLLM(),
        node_postprocessors=[SentenceHighlightPostprocessor(sentences=1)],
    )
    response = engine.query("What guards the hive?")
    assert "**Workers guard the hive.**" in response.source_nodes[0].text
    assert "**Workers guard the hive.**" in str(response)  # the mock answers with its prompt
    again = await engine.aquery("What guards the hive?")
    assert [item.text for item in again.source_nodes] == [item.text for item in response.source_nodes]


def test_in_a_fusion_retriever_that_asks_several_queries(retriever):
    queries = [QUESTION, "what wasps eat", "a nest, a hive, one queen"]

    class Asking(QueryFusionRetriever):
        def _get_queries(self, original_query):
            return [QueryBundle(query) for query in queries[1:]]

    fusion = Asking([retriever], llm=MockLLM(), num_queries=3, mode="reciprocal_rerank", use_async=False)
    fusion.similarity_top_k = 20
    expected = {}
    for query in queries:
        for rank, item in enumerate(retriever.retrieve(query)):
            expected[item.node_id] = expected.get(item.node_id, 0) + 1 / (60 + rank)
    found = {item.node_id: item.score for item in fusion.retrieve(QUESTION)}
    assert any(score > 1.5 / 60 for score in expected.values())  # one is found by several
    assert found == pytest.approx(expected)
    node = retriever.retrieve(QUESTION)[0].node
    assert TextNode.from_dict(node.to_dict()).to_dict() == node.to_dict()
    assert node.class_name() == TextNode.class_name()


async def test_in_a_citation_query_engine(retriever):
    engine = CitationQueryEngine.from_args(
        None,  # asked for a language model, and for a retriever, only where none is given
        llm=MockLLM(),
        retriever=retriever.with_settings(window=1, similarity_top_k=2),
        citation_chunk_size=512,
    )
    response = engine.query("What guards the hive?")
    assert [item.text.split("\n")[0] for item in response.source_nodes] == ["Source 1:", "Source 2:"]
    assert "Workers guard the hive." in response.source_nodes[0].text
    assert response.source_nodes[0].node.ref_doc_id == "bees"
    assert len((await engine.aquery("What guards the hive?")).source_nodes) == 2


async def test_in_a_chat_engine(retriever):
    engine = ContextChatEngine.from_defaults(
        retriever.with_settings(vector_store_query_mode="mmr", similarity_top_k=2),
        llm=MockLLM(),
        memory=ChatMemoryBuffer.from_defaults(token_limit=2_000),
    )
    assert [len(engine.chat(question).source_nodes) for question in ("What guards the hive?", "And a nest?")] == [2, 2]
    assert len((await engine.achat("And the queen?")).source_nodes) == 2
