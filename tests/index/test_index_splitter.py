"""The splitter of an index: the same through every door, and what the index was last written with."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

import toy_models
from index_corpus import corpus
from rag_embeddings.encode.profile import Profile
from rag_embeddings.errors import BudgetError, DocumentError
from rag_embeddings.index.indexer import Indexer
from rag_embeddings.index.pipeline import Pipeline
from rag_embeddings.index.splitter import index_splitter
from rag_embeddings.read.layout import LayoutReader
from rag_embeddings.read.scope import ScopeNotes
from rag_embeddings.split.base import DEFAULT_MAX_TOKENS
from rag_embeddings.split.boundaries import Boundary
from rag_embeddings.split.layout import LayoutSplitter
from rag_embeddings.split.recursive import RecursiveSplitter
from rag_embeddings.split.sliding import SlidingWindowSplitter
from rag_embeddings.store.directory import IndexDirectory
from rag_embeddings.testing.encoder import DeterministicEncoder

ENCODER = DeterministicEncoder(dimensions=16)


class Short:
    """An encoder that takes few tokens, or does not say how many."""

    tokenizer = staticmethod(len)

    def __init__(self, document_tokens):
        self.profile = Profile("short", 16, document_tokens=document_tokens)

    def encode(self, texts, role):
        raise AssertionError("nothing is encoded here")


@pytest.mark.parametrize(
    ("takes", "budget"), [(None, DEFAULT_MAX_TOKENS), (126, 126), (8190, DEFAULT_MAX_TOKENS), (0, 1)]
)
def test_a_new_index_has_chunks_that_its_encoder_takes_in_one_piece(takes, budget):
    splitter = index_splitter(Short(takes), {})
    assert (splitter.max_tokens, splitter.target, splitter.overlap) == (budget, budget, 0)


def test_the_default_model_takes_a_default_chunk_in_one_piece():
    minilm = toy_models.minilm()
    assert minilm.profile.document_tokens == DEFAULT_MAX_TOKENS == index_splitter(minilm, {}).max_tokens


def test_a_layout_splitter_comes_back_with_its_boundaries():
    splitter = LayoutSplitter(
        90, 9, tokenizer=ENCODER, target=60, context_tokens=20, boundaries=["page", Boundary("section", level=2)]
    )
    assert index_splitter(ENCODER, {"splitter": splitter.settings()}).settings() == splitter.settings()
    smaller = index_splitter(ENCODER, {"splitter": splitter.settings()}, max_tokens=15)
    assert (smaller.target, smaller.context_tokens, len(smaller.boundaries)) == (15, 7, 2)
    read = LayoutSplitter(90, tokenizer=ENCODER, notes=ScopeNotes(), reader=LayoutReader("html"))
    assert index_splitter(ENCODER, {"splitter": read.settings()}).settings() == read.settings()
    for options in ({"notes": lambda _: []}, {"reader": lambda document: document}, {"notes": ScopeNotes(limit=3)}):
        written = LayoutSplitter(90, tokenizer=ENCODER, **options)
        with pytest.raises(DocumentError, match="'layout', which has to be given again"):
            index_splitter(ENCODER, {"splitter": written.settings()})


def test_another_kind_keeps_the_budget_and_the_language():
    sliding = SlidingWindowSplitter(80, tokenizer=ENCODER, language="de").settings()
    layout = index_splitter(ENCODER, {"splitter": sliding}, kind="layout")
    assert layout.settings() == LayoutSplitter(80, tokenizer=ENCODER, language="de").settings()
    assert index_splitter(ENCODER, {}, kind="layout").settings() == LayoutSplitter(tokenizer=ENCODER).settings()


def test_what_was_written_comes_back():
    @given(st.integers(2, 300), st.integers(0, 299), st.sampled_from(["en", "de", "ja"]), st.booleans())
    def law(size, overlap, language, slides):
        overlap %= size
        kind = SlidingWindowSplitter if slides else RecursiveSplitter
        options = {} if slides else {"target": max(1, size // 2)}
        splitter = kind(size, overlap, tokenizer=ENCODER, language=language, **options)
        again = index_splitter(ENCODER, {"splitter": splitter.settings()})
        assert type(again) is kind
        assert again.settings() == splitter.settings()

    law()


def test_what_the_caller_says_stands_above_what_was_written():
    stored = {"splitter": RecursiveSplitter(100, 20, tokenizer=ENCODER, target=80).settings()}
    wider = index_splitter(ENCODER, stored, max_tokens=200)
    assert (wider.max_tokens, wider.target, wider.overlap) == (200, 200, 20)
    apart = index_splitter(ENCODER, stored, overlap=0)
    assert (apart.max_tokens, apart.target, apart.overlap) == (100, 80, 0)
    with pytest.raises(BudgetError, match="20"):
        index_splitter(ENCODER, stored, max_tokens=20)


def test_what_cannot_come_back_is_asked_for():
    with pytest.raises(DocumentError, match="'own'"):
        index_splitter(ENCODER, {"splitter": {"splitter": "own"}})
    counted = {"splitter": RecursiveSplitter(100, tokenizer="cl100k_base").settings()}
    with pytest.raises(DocumentError, match="cl100k_base"):
        index_splitter(ENCODER, counted)


def test_an_index_goes_on_as_it_was_written(tmp_path):
    splitter = SlidingWindowSplitter(40, 10, tokenizer=ENCODER)
    with IndexDirectory.open(tmp_path / "db", create=True) as directory:
        Indexer(directory, Pipeline(ENCODER, splitter)).upsert(corpus())
    with IndexDirectory.open(tmp_path / "db") as directory:
        pipeline = Pipeline(ENCODER, index_splitter(ENCODER, directory.settings))
        assert len(Indexer(directory, pipeline).upsert(corpus()).unchanged) == len(corpus())
