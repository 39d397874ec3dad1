"""The standard suites of both frameworks over `HybridRetriever`, and that it finds what the core finds."""

import copy
import pickle

import pytest
from langchain_core.documents import Document
from langchain_tests.integration_tests import RetrieversIntegrationTests
from llama_index.core.schema import Document as LlamaIndexDocument
from llama_index.core.schema import QueryBundle

from rag_embeddings import llama_index
from rag_embeddings.encode.base import Role
from rag_embeddings.errors import StoreError
from rag_embeddings.langchain import HybridRetriever, RecursiveTextSplitter, SentenceParentIndex
from rag_embeddings.retrieve.hybrid import HybridSearch
from rag_embeddings.store.directory import IndexDirectory
from rag_embeddings.store.where import Where
from rag_embeddings.testing.encoder import DeterministicEncoder
from rag_embeddings.testing.llama_index import check_retriever

PASSAGES = ["Cats purr.", "Dogs bark.", "Cows moo.", "A cat sat on the mat.", "Purring is a cat's song, E1047."]
QUERY = "the cats purred E1047"


def index(directory=None, kind=HybridRetriever, **settings):
    return kind(
        embeddings=DeterministicEncoder(),
        directory=directory,
        splitter=RecursiveTextSplitter(chunk_size=200, tokenizer=len),
        **settings,
    )


def fill(made):
    made.upsert(
        [Document(page_content=text, id=str(n), metadata={"even": n % 2 == 0}) for n, text in enumerate(PASSAGES)]
    )
    return made


class TestLangChain(RetrieversIntegrationTests):
    @pytest.fixture(autouse=True, params=["memory", "disk"])
    def _directory(self, request, tmp_path):
        with IndexDirectory.open(tmp_path / "index" if request.param == "disk" else None, create=True) as directory:
            self.directory = directory
            fill(index(directory))
            yield

    @property
    def retriever_constructor(self):
        return HybridRetriever

    @property
    def retriever_constructor_params(self):
        return {"embeddings": DeterministicEncoder(), "directory": self.directory}

    @property
    def retriever_query_example(self):
        return "the cat purrs"


def found(documents):
    return [(document.id, document.metadata["score"]) for document in documents]


def core(directory, query, k, *, fusion="calibrated", beta=None, score="mean", **filters):
    matches = HybridSearch(directory, DeterministicEncoder(), fusion=fusion, beta=beta, score=score).search(
        query, k, **filters
    )
    return [(match.chunk.id, match.score) for match in matches]


async def test_langchain_finds_what_the_core_finds():
    with fill(index(k=3)) as retriever:
        directory = retriever.directory
        assert found(retriever.invoke(QUERY)) == core(directory, QUERY, 3)
        assert found(await retriever.ainvoke(QUERY, k=2)) == core(directory, QUERY, 2)
        for settings in ({"fusion": "rrf"}, {"fusion": "minmax", "beta": 3.0}, {"beta": 0.0}, {"score": "sum"}):
            assert found(retriever.invoke(QUERY, **settings)) == core(directory, QUERY, 3, **settings)
            other = HybridRetriever(embeddings=DeterministicEncoder(), directory=directory, k=3, **settings)
            assert found(other.invoke(QUERY)) == core(directory, QUERY, 3, **settings)
        expected = core(directory, QUERY, 3, where=Where.equals("even", True), pattern="(?i)purr")
        assert found(retriever.invoke(QUERY, filter={"even": True}, pattern="(?i)purr")) == expected
        assert len(expected) == 2
        dense = index(directory, kind=SentenceParentIndex, k=3)
        assert found(retriever.invoke(QUERY, search_type="similarity")) == found(dense.invoke(QUERY))
        assert found(dense.invoke(QUERY, search_type="hybrid")) == found(retriever.invoke(QUERY))
        passage = retriever.invoke("E1047")[0]
        assert passage.page_content == PASSAGES[4]
        assert passage.metadata.keys() == dense.invoke("E1047")[0].metadata.keys()


def test_langchain_copies_and_pickles(tmp_path):
    with fill(index(tmp_path, k=2, beta=0.5)) as retriever:
        expected = found(retriever.invoke(QUERY))
        for again in (copy.deepcopy(retriever), pickle.loads(pickle.dumps(retriever))):  # noqa: S301
            assert isinstance(again, HybridRetriever)
            assert found(again.invoke(QUERY)) == expected


def test_langchain_without_keywords_says_so():
    with fill(index(keywords=False)) as retriever, pytest.raises(StoreError, match="has no keywords"):
        retriever.invoke(QUERY)


def llama(**options):
    documents = [LlamaIndexDocument(id_=str(n), text=text) for n, text in enumerate(PASSAGES)]
    return llama_index.HybridRetriever.from_documents(documents, embed_model=DeterministicEncoder(), **options)


def test_llama_index_laws():
    texts = {str(number): text for number, text in enumerate(PASSAGES)}
    with llama() as retriever:
        check_retriever(retriever, [QUERY, "dogs", "number"], texts=texts)


@pytest.mark.parametrize("options", [{}, {"fusion": "rrf", "beta": 2.0}, {"pattern": "[Cc]at"}, {"beta": 0.0}])
async def test_llama_index_finds_what_the_core_finds(options, tmp_path):
    with llama(directory=tmp_path, similarity_top_k=3, **options) as retriever:
        with IndexDirectory.open(tmp_path) as directory:
            expected = core(directory, QUERY, 3, **options)
        assert [(one.node_id, one.score) for one in retriever.retrieve(QUERY)] == expected
        assert [(one.node_id, one.score) for one in await retriever.aretrieve(QUERY)] == expected
        # A query's own vector: keywords still go by the words.
        vector = DeterministicEncoder().encode([QUERY], Role.QUERY)[0].tolist()
        again = retriever.retrieve(QueryBundle(QUERY, embedding=vector))
        assert [(one.node_id, one.score) for one in again] == expected
    with llama_index.HybridRetriever.from_directory(
        tmp_path, embed_model=DeterministicEncoder(), similarity_top_k=3, **options
    ) as retriever:
        assert [(one.node_id, one.score) for one in retriever.retrieve(QUERY)] == expected
