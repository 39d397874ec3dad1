"""`SentenceParentRetriever`: over a real directory, in query and chat engines, changed while it is open."""

import asyncio
import threading

import numpy as np
import pytest
from llama_index.core.chat_engine import CondensePlusContextChatEngine, ContextChatEngine
from llama_index.core.embeddings import MockEmbedding
from llama_index.core.indices.query.query_transform import HyDEQueryTransform
from llama_index.core.llms import MockLLM
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.node_parser import SentenceSplitter
from llama_index.core.postprocessor import SimilarityPostprocessor
from llama_index.core.query_engine import RetrieverQueryEngine, TransformQueryEngine
from llama_index.core.schema import Document, MetadataMode, QueryBundle

from rag_embeddings.encode.base import Role
from rag_embeddings.errors import DocumentError, IndexNotFoundError, SpaceMismatchError, StoreError
from rag_embeddings.index.indexer import Indexer
from rag_embeddings.index.pipeline import Pipeline
from rag_embeddings.llama_index import RecursiveNodeParser, SentenceParentRetriever, SlidingWindowNodeParser
from rag_embeddings.llama_index.convert import to_core
from rag_embeddings.retrieve.sentence_parent import SentenceParentSearch
from rag_embeddings.split.layout import LayoutSplitter
from rag_embeddings.split.recursive import RecursiveSplitter
from rag_embeddings.store.directory import IndexDirectory
from rag_embeddings.testing.encoder import DeterministicEncoder

TEXTS = {
    "cats": "Cats sleep all day. They hunt at night.\n\nA cat purrs when it is content. Kittens play.\n\n" * 3,
    "river": "The river rose in spring.\n\nThe miller opened both gates. Water ran over the weir.\n\n" * 3,
    "pay": "Invoices are paid within thirty days.\n\nLate payment costs two percent a month.\n\n" * 3,
}
DOCUMENTS = [Document(text=text, id_=name, metadata={"title": name.upper()}) for name, text in TEXTS.items()]
PARSER = RecursiveNodeParser(chunk_size=120, tokenizer=len)


@pytest.fixture
def encoder():
    return DeterministicEncoder(256)


@pytest.fixture
def retriever(encoder, tmp_path):
    with SentenceParentRetriever.from_documents(
        DOCUMENTS, embed_model=encoder, directory=tmp_path / "index", node_parser=PARSER
    ) as made:
        yield made


def shape(found):
    return [(result.node_id, result.score, result.text, result.metadata) for result in found]


def test_the_matched_sentence_is_in_the_passage(retriever):
    best = retriever.retrieve("who opened the gates?")[0]
    assert best.node.ref_doc_id == "river"
    start, end = best.metadata["matches"][0]
    assert TEXTS["river"][start:end].strip() == "The miller opened both gates."
    assert TEXTS["river"][best.node.start_char_idx : best.node.end_char_idx] == best.text
    assert best.get_content(MetadataMode.LLM) == f"title: RIVER\n\n{best.text}"
    assert best.score == best.metadata["score"]


def test_it_finds_what_the_core_finds(retriever, encoder, tmp_path):
    with IndexDirectory.open(tmp_path / "index") as directory:
        matches = SentenceParentSearch(directory, encoder).search("cat water payment", 5)
    retriever.similarity_top_k = 5
    found = retriever.retrieve("cat water payment")
    assert [(one.node_id, one.score, one.metadata) for one in found] == [
        (match.chunk.id, match.score, match.metadata()) for match in matches
    ]
    assert len(found) == 5


def test_what_the_core_indexed_is_found_and_not_embedded_again(encoder, tmp_path):
    splitter = RecursiveSplitter(120, tokenizer=len)
    with IndexDirectory.open(tmp_path, create=True) as directory:
        Indexer(directory, Pipeline(encoder, splitter)).upsert([to_core(document) for document in DOCUMENTS])
    with SentenceParentRetriever.from_directory(tmp_path, embed_model=encoder, node_parser=splitter) as opened:
        assert opened.retrieve("cats")[0].node.ref_doc_id == "cats"
        encoded = encoder.encoded
        assert opened.refresh_ref_docs(DOCUMENTS) == [False, False, False]
        assert encoder.encoded == encoded
        assert opened.upsert(DOCUMENTS).unchanged == ("cats", "river", "pay")


def test_from_directory_reads_what_was_written(retriever, encoder, tmp_path):
    expected = shape(retriever.retrieve("late payment"))
    retriever.close()
    with SentenceParentRetriever.from_directory(tmp_path / "index", embed_model=encoder) as opened:
        assert shape(opened.retrieve("late payment")) == expected
        opened.similarity_top_k = 1
        assert shape(opened.retrieve("late payment")) == expected[:1]
    with SentenceParentRetriever.from_directory(tmp_path / "index", embed_model=encoder, score="mean") as opened:
        assert [one.score for one in opened.retrieve("late payment")] != [score for _, score, _, _ in expected]


def test_a_changed_and_a_deleted_document_leave_no_sentence(retriever):
    retriever.similarity_top_k = 100
    changed = Document(text="Dogs bark. Dogs run.", id_="cats", metadata={"title": "DOGS"})
    assert retriever.refresh_ref_docs([changed, DOCUMENTS[1]]) == [True, False]
    found = retriever.retrieve("cats sleep all day and hunt at night")
    mine = [one for one in found if one.node.ref_doc_id == "cats"]
    assert [one.text for one in mine] == ["Dogs bark. Dogs run."]
    assert mine[0].metadata["title"] == "DOGS"
    assert retriever.delete_ref_doc("river") is True
    assert retriever.delete_ref_doc("river") is False
    assert {one.node.ref_doc_id for one in retriever.retrieve("the river rose")} == {"cats", "pay"}
    assert sorted(retriever.ref_doc_ids()) == ["cats", "pay"]
    retriever.insert(DOCUMENTS[1])
    assert {one.node.ref_doc_id for one in retriever.retrieve("the river rose")} == {"cats", "pay", "river"}


def test_documents_come_back_as_they_were(retriever):
    special = Document(
        text="Some text.\r\n",
        id_="s",
        metadata={"a": [1, {"b": 2}]},
        excluded_llm_metadata_keys=["a"],
        text_template="{content}",
    )
    retriever.insert(special)
    assert [document.to_dict() for document in retriever.get_documents(["s", "none", "pay"])] == [
        special.to_dict(),
        DOCUMENTS[2].to_dict(),
    ]
    found = next(one for one in retriever.retrieve("Some text") if one.node.ref_doc_id == "s")
    assert found.get_content(MetadataMode.LLM) == "Some text."
    assert found.metadata["a"] == [1, {"b": 2}]
    assert "_llama_index" not in found.metadata


def test_a_querys_own_vector_comes_first(retriever, encoder):
    vector = encoder.encode(["late payment"], Role.QUERY)[0].tolist()
    expected = retriever.retrieve("late payment")
    encoded = encoder.encoded
    found = retriever.retrieve(QueryBundle("cats", embedding=vector, custom_embedding_strs=["river"]))
    assert [one.node_id for one in found] == [one.node_id for one in expected]
    assert encoder.encoded == encoded


def test_several_strings_are_searched_by_their_mean(retriever, encoder):
    strings = ["late payment", "kittens play"]
    mean = encoder.encode(strings, Role.QUERY).mean(axis=0)
    found = retriever.retrieve(QueryBundle("river", custom_embedding_strs=strings))
    assert shape(found) == shape(retriever.retrieve(QueryBundle("x", embedding=mean.tolist())))
    assert {one.node.ref_doc_id for one in found} == {"pay", "cats"}
    assert shape(retriever.retrieve(QueryBundle("river", custom_embedding_strs=[]))) == shape(
        retriever.retrieve("river")
    )


def test_async_is_sync_and_leaves_the_loop_free(retriever, encoder, monkeypatch):
    questions = ["late payment", "cats", "gates", "water"] * 4
    expected = [shape(retriever.retrieve(question)) for question in questions]
    threads = set()
    encode = DeterministicEncoder.encode

    def spy(self, texts, role):
        threads.add(threading.get_ident())
        return encode(self, texts, role)

    async def ask():
        monkeypatch.setattr(DeterministicEncoder, "encode", spy)
        found = await asyncio.gather(*(retriever.aretrieve(question) for question in questions))
        await retriever.ainsert(Document(text="One more.", id_="more"))
        summary = await retriever.aupsert([Document(text="One more.", id_="more")])
        assert summary.unchanged == ("more",)
        assert await retriever.arefresh_ref_docs([Document(text="Another.", id_="more")]) == [True]
        assert await retriever.adelete_ref_doc("more") is True
        assert threading.get_ident() not in threads
        return found

    assert [shape(found) for found in asyncio.run(ask())] == expected
    assert threads


def test_in_a_query_engine(retriever):
    engine = RetrieverQueryEngine.from_args(retriever, llm=MockLLM())
    response = engine.query("who opened the gates?")
    assert response.source_nodes[0].node.ref_doc_id == "river"
    assert "The miller opened both gates." in str(response)
    assert "matches" not in str(response)
    assert "start_index" not in str(response)
    again = asyncio.run(engine.aquery("who opened the gates?"))
    assert str(again) == str(response)


def test_with_a_postprocessor_and_a_query_transform(retriever):
    cutoff = SimilarityPostprocessor(similarity_cutoff=0.3)
    engine = RetrieverQueryEngine.from_args(retriever, llm=MockLLM(), node_postprocessors=[cutoff])
    assert all(one.score >= 0.3 for one in engine.query("the miller opened the gates").source_nodes)
    hyde = TransformQueryEngine(engine, HyDEQueryTransform(llm=MockLLM(), include_original=True))
    assert hyde.query("the miller opened the gates").source_nodes


def test_in_chat_engines(retriever):
    for kind in (ContextChatEngine, CondensePlusContextChatEngine):
        memory = ChatMemoryBuffer.from_defaults(token_limit=4000)  # the default one leaves a connection open
        engine = kind.from_defaults(retriever=retriever, llm=MockLLM(), memory=memory)
        response = engine.chat("who opened the gates?")
        assert response.source_nodes[0].node.ref_doc_id == "river"
        assert asyncio.run(engine.achat("and the cats?")).source_nodes


def test_in_memory_and_empty(encoder):
    with SentenceParentRetriever.from_documents([], embed_model=encoder) as made:
        assert made.retrieve("anything") == []
        assert made.ref_doc_ids() == []
        assert made.delete_ref_doc("none") is False
        made.insert(Document(text="Now there is something.", id_="d"))
        assert [one.node.ref_doc_id for one in made.retrieve("something")] == ["d"]
    with pytest.raises(StoreError, match="closed"):
        made.retrieve("something")


def test_without_the_splitter_of_the_index_all_but_insertion_works(encoder, tmp_path):
    splitter = LayoutSplitter(120, tokenizer=len)
    with SentenceParentRetriever.from_documents(
        DOCUMENTS, embed_model=encoder, directory=tmp_path, node_parser=splitter
    ) as made:
        expected = shape(made.retrieve("late payment"))
    with SentenceParentRetriever.from_directory(tmp_path, embed_model=encoder) as again:
        assert shape(again.retrieve("late payment")) == expected
        assert again.ref_doc_ids() == list(TEXTS)
        assert again.get_documents(["pay"])[0].text == TEXTS["pay"]
        assert again.delete_ref_doc("pay")
        assert again.ref_doc_ids() == ["cats", "river"]


def test_any_embedding_of_llama_index_will_do():
    with SentenceParentRetriever.from_documents(DOCUMENTS, embed_model=MockEmbedding(embed_dim=8)) as made:
        assert len(made.retrieve("anything")) == 3


def test_windows_that_overlap(encoder):
    parser = SlidingWindowNodeParser(chunk_size=90, chunk_overlap=40, tokenizer=len)
    with SentenceParentRetriever.from_documents(
        DOCUMENTS, embed_model=encoder, node_parser=parser, similarity_top_k=50
    ) as made:
        found = made.retrieve("late payment")
        expected = {node.node_id for node in parser(DOCUMENTS)}
        assert {one.node_id for one in found} == expected


def test_mistakes_are_named(encoder, tmp_path, retriever):
    with pytest.raises(IndexNotFoundError, match="no index"):
        SentenceParentRetriever.from_directory(tmp_path / "none", embed_model=encoder)
    assert not (tmp_path / "none").exists()
    with pytest.raises(ValueError, match="similarity_top_k must be at least 1, got 0"):
        SentenceParentRetriever.from_documents([], embed_model=encoder, similarity_top_k=0)
    with pytest.raises(ValueError, match="score must be"):
        SentenceParentRetriever.from_documents([], embed_model=encoder, score="worst")
    with pytest.raises(ValueError, match="SentenceSplitter cannot say exactly where its nodes stand"):
        SentenceParentRetriever.from_documents([], embed_model=encoder, node_parser=SentenceSplitter())
    with pytest.raises(TypeError, match="similarity_topk"):
        SentenceParentRetriever.from_directory(tmp_path / "index", embed_model=encoder, similarity_topk=3)
    with SentenceParentRetriever.from_directory(tmp_path / "index", embed_model=DeterministicEncoder(8)) as other:
        with pytest.raises(SpaceMismatchError):
            other.retrieve("cats")
        with pytest.raises(SpaceMismatchError):
            other.insert(Document(text="New.", id_="n"))
    with pytest.raises(DocumentError, match="'bad'"):
        retriever.insert(Document(text="New.", id_="bad", metadata={"a": object()}))
    with pytest.raises(StoreError, match="has shape"):
        retriever.retrieve(QueryBundle("x", embedding=[1.0, 2.0]))
    assert retriever.retrieve("cats")[0].node.ref_doc_id == "cats"


def test_progress_is_shown_when_asked_for(encoder, capsys):
    SentenceParentRetriever.from_documents(DOCUMENTS, embed_model=encoder).close()
    assert "Indexing" not in capsys.readouterr().err
    SentenceParentRetriever.from_documents(DOCUMENTS, embed_model=encoder, show_progress=True).close()
    assert "Indexing documents: 100%" in capsys.readouterr().err


def test_the_real_model(minilm, tmp_path):
    with SentenceParentRetriever.from_documents(DOCUMENTS, embed_model=minilm, directory=tmp_path) as made:
        assert made.retrieve("What is the fee when a bill is settled too late?")[0].node.ref_doc_id == "pay"
        assert made.retrieve("flooding")[0].node.ref_doc_id == "river"
        vector = made.retrieve(QueryBundle("", embedding=minilm.get_query_embedding("flooding")))
        assert np.isclose(vector[0].score, made.retrieve("flooding")[0].score, atol=1e-5)
