"""The kit fails for components that are broken in the ways LlamaIndex components are."""

from functools import partial
from threading import Lock

import pytest
from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.bridge.pydantic import Field, PrivateAttr
from llama_index.core.node_parser import NodeParser, SentenceSplitter, SentenceWindowNodeParser
from llama_index.core.schema import Document, MetadataMode, NodeWithScore, QueryBundle, TextNode

from rag_embeddings.encode.base import Role
from rag_embeddings.llama_index import RecursiveNodeParser, SentenceParentRetriever
from rag_embeddings.llama_index.component import PortableComponent
from rag_embeddings.testing.encoder import DeterministicEncoder
from rag_embeddings.testing.llama_index import check_embedding, check_node_parser, check_retriever


class GoodEmbedding(PortableComponent, BaseEmbedding):
    """Obeys every law; each broken one below differs from it in one point."""

    query_prompt: str = ""

    @classmethod
    def class_name(cls):
        return "GoodEmbedding"

    def _encode(self, texts, role):
        return DeterministicEncoder(16, query_prompt=self.query_prompt).encode(texts, role).tolist()

    def _get_query_embedding(self, query):
        return self._encode([query], Role.QUERY)[0]

    def _get_text_embedding(self, text):
        return self._encode([text], Role.DOCUMENT)[0]

    def _get_text_embeddings(self, texts):
        return self._encode(texts, Role.DOCUMENT)

    async def _aget_query_embedding(self, query):
        return self._get_query_embedding(query)

    async def _aget_text_embedding(self, text):
        return self._get_text_embedding(text)

    async def _aget_text_embeddings(self, texts):
        return self._get_text_embeddings(texts)


class ForgetfulEmbedding(GoodEmbedding):
    """An option is missing from to_dict()."""

    query_prompt: str = Field(default="", exclude=True)


class NamelessEmbedding(BaseEmbedding):
    """No class_name of its own, no batches, no async of its own."""

    def _get_query_embedding(self, query):
        return [1.0, float(len(query))]

    def _get_text_embedding(self, text):
        return [1.0, float(len(text))]

    async def _aget_query_embedding(self, query):
        return self._get_query_embedding(query)


class SlowEmbedding(NamelessEmbedding):
    """Has a name; the rest is left to the base class."""

    @classmethod
    def class_name(cls):
        return "SlowEmbedding"


class DamagedEmbedding(GoodEmbedding):
    """Pickles as the base class does, which takes from the original what cannot be pickled."""

    tool: object = Field(default_factory=lambda: lambda text: text, exclude=True)
    __getstate__ = BaseEmbedding.__getstate__

    def _encode(self, texts, role):
        return super()._encode([self.tool(text) for text in texts], role)


class HeavyEmbedding(GoodEmbedding):
    """Ships its weights."""

    _weights: bytes = PrivateAttr(default=b"\x00" * 1_000_000)
    __getstate__ = BaseEmbedding.__getstate__


class ShuffledEmbedding(GoodEmbedding):
    def _get_text_embeddings(self, texts):
        return self._encode(sorted(texts), Role.DOCUMENT)


class NumpyEmbedding(GoodEmbedding):
    def _get_text_embedding(self, text):
        return DeterministicEncoder(16).encode([text], Role.DOCUMENT)[0]


class CachingEmbedding(GoodEmbedding):
    """A prompt of its own and LlamaIndex's cache, which does not know of prompts."""

    query_prompt: str = "find this: "


class LockedEmbedding(GoodEmbedding):
    tool: object = Field(default_factory=Lock, exclude=True)


def test_a_good_embedding_passes():
    check_embedding(GoodEmbedding, options={"query_prompt": "q: "})


@pytest.mark.parametrize(
    ("kind", "law"),
    [
        (ForgetfulEmbedding, "changes to_dict"),
        (NamelessEmbedding, "class_name"),
        (SlowEmbedding, "_get_text_embeddings is the class's own|_aget_text_embedding is the class's own"),
        (ShuffledEmbedding, "in order"),
        (NumpyEmbedding, "list of float"),
        (CachingEmbedding, "a cache does not answer a query"),
        (HeavyEmbedding, "settings only"),
    ],
)
def test_a_broken_embedding_fails(kind, law):
    options = {"query_prompt": "q: "} if "query_prompt" in kind.model_fields else {}
    with pytest.raises(AssertionError, match=law):
        check_embedding(kind, options=options)


@pytest.mark.parametrize("kind", [DamagedEmbedding, LockedEmbedding])
def test_an_embedding_that_does_not_survive_pickling_fails(kind):
    with pytest.raises((AssertionError, AttributeError, TypeError)):
        check_embedding(kind)


class SearchingParser(RecursiveNodeParser):
    """Exact offsets, then the base class searches for them."""

    _postprocess_parsed_nodes = NodeParser._postprocess_parsed_nodes


class InheritingParser(RecursiveNodeParser):
    """Hands a document's embedding to its nodes."""

    def _parse_nodes(self, nodes, show_progress=False, **kwargs):
        found = super()._parse_nodes(nodes, show_progress, **kwargs)
        for node in found:
            node.embedding = next(item.embedding for item in nodes if item.node_id == node.ref_doc_id)
        return found


class UnlinkedParser(RecursiveNodeParser):
    def _postprocess_parsed_nodes(self, nodes, parent_doc_map):
        return nodes


class LooseParser(RecursiveNodeParser):
    """Rewrites the text."""

    def _parse_nodes(self, nodes, show_progress=False, **kwargs):
        found = super()._parse_nodes(nodes, show_progress, **kwargs)
        for node in found:
            node.text = " ".join(node.get_content(MetadataMode.NONE).split())
        return found


class LosingParser(RecursiveNodeParser):
    def _parse_nodes(self, nodes, show_progress=False, **kwargs):
        return super()._parse_nodes(nodes, show_progress, **kwargs)[:-1]


class StrictParser(RecursiveNodeParser):
    """Knows no keyword of a pipeline."""

    def _parse_nodes(self, nodes, show_progress=False):
        return super()._parse_nodes(nodes, show_progress)

    async def _aparse_nodes(self, nodes, show_progress=False):
        return self._parse_nodes(nodes, show_progress)


class BlockingParser(RecursiveNodeParser):
    _aparse_nodes = NodeParser._aparse_nodes


class LocalOffsetParser(RecursiveNodeParser):
    """In a chain, its offsets count in the node it was given."""

    def _parse_nodes(self, nodes, show_progress=False, **kwargs):
        found = super()._parse_nodes(nodes, show_progress, **kwargs)
        for node in found:
            inside = next(item for item in nodes if node.get_content() in item.get_content())
            node.start_char_idx = inside.get_content().index(node.get_content())
            node.end_char_idx = node.start_char_idx + len(node.text)
        return found


@pytest.mark.parametrize(
    ("kind", "law"),
    [
        (SearchingParser, "cover the text"),
        (InheritingParser, "inherit"),
        (UnlinkedParser, "NEXT and PREVIOUS"),
        (LooseParser, "is its node's text"),
        (LosingParser, "cover the text"),
        (BlockingParser, "_aparse_nodes"),
        (LocalOffsetParser, "cover the text"),
    ],
)
def test_a_broken_parser_fails(kind, law):
    with pytest.raises(AssertionError, match=law):
        check_node_parser(partial(kind, chunk_size=16, tokenizer="cl100k_base"))


def test_a_parser_that_refuses_a_pipelines_keywords_fails():
    with pytest.raises(TypeError, match="unknown_option"):
        check_node_parser(partial(StrictParser, chunk_size=16, tokenizer="cl100k_base"))


def test_llama_index_own_parsers_fail():
    """Why the kit exists. If one of these passes one day, a reason for a parser of ours is gone."""
    with pytest.raises(AssertionError):
        check_node_parser(partial(SentenceSplitter, chunk_size=16, chunk_overlap=0))
    with pytest.raises(AssertionError):
        check_node_parser(SentenceWindowNodeParser)


class BrokenRetriever(BaseRetriever):
    """Passes on what a good retriever finds, after `spoil` had it."""

    def __init__(self, inner, spoil):
        super().__init__()
        self._inner, self._spoil = inner, spoil

    def _retrieve(self, query_bundle):
        return self._spoil(self._inner.retrieve(query_bundle))

    async def _aretrieve(self, query_bundle):
        return self._spoil(await self._inner.aretrieve(query_bundle))


class BlockingRetriever(BrokenRetriever):
    _aretrieve = BaseRetriever._aretrieve


def _worst_first(found):
    return found[::-1]


def _unscored(found):
    return [NodeWithScore(node=result.node) for result in found]


def _moved(found):
    node = found[0].node.model_copy(update={"start_char_idx": 1, "end_char_idx": 2})
    return [NodeWithScore(node=node, score=found[0].score), *found[1:]]


def _orphaned(found):
    return [NodeWithScore(node=TextNode(id_=one.node_id, text=one.text), score=one.score) for one in found]


@pytest.fixture
def searched():
    texts = {"a": "The cat sat. The dog ran. Fish swim in water. " * 20, "b": "Birds fly. Cats sleep all day. " * 20}
    documents = [Document(id_=name, text=text) for name, text in texts.items()]
    parser = RecursiveNodeParser(chunk_size=100, tokenizer=len)
    with SentenceParentRetriever.from_documents(
        documents, embed_model=DeterministicEncoder(), node_parser=parser, similarity_top_k=20
    ) as retriever:
        yield retriever, texts


def test_a_good_retriever_passes(searched):
    retriever, texts = searched
    check_retriever(BrokenRetriever(retriever, list), ["the cat", "birds fly in water"], texts=texts)


@pytest.mark.parametrize(
    ("kind", "spoil", "law"),
    [
        (BrokenRetriever, _worst_first, "best first"),
        (BrokenRetriever, _unscored, "a score"),
        (BrokenRetriever, _moved, "offsets are exact"),
        (BrokenRetriever, _orphaned, "which document"),
        (BrokenRetriever, lambda found: [], "finds something"),
        (BlockingRetriever, list, "_aretrieve"),
    ],
)
def test_a_broken_retriever_fails(searched, kind, spoil, law):
    retriever, texts = searched
    assert len({result.score for result in retriever.retrieve("birds fly in water")}) > 1
    with pytest.raises(AssertionError, match=law):
        check_retriever(kind(retriever, spoil), ["birds fly in water"], texts=texts)


def test_a_retriever_whose_nodes_look_otherwise_to_every_query_fails(searched):
    def plain(found):
        return [NodeWithScore(node=TextNode.from_dict(one.node.to_dict()), score=one.score) for one in found]

    retriever, texts = searched
    with pytest.raises(AssertionError, match="one hash"):
        check_retriever(BrokenRetriever(retriever, plain), ["the cat", "birds fly in water"], texts=texts)


def test_a_retriever_deaf_to_a_querys_own_vector_fails(searched):
    retriever, texts = searched

    class Deaf(BrokenRetriever):
        def _retrieve(self, query_bundle):
            return super()._retrieve(QueryBundle(query_bundle.query_str or "something else"))

    embedding = GoodEmbedding()
    with pytest.raises(AssertionError, match="own vector"):
        check_retriever(Deaf(retriever, list), ["birds fly in water"], texts=texts, embed_model=embedding)
