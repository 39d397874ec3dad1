"""What the indexer promises: increments, counts, resuming, and nothing done twice."""

import pytest

from index_corpus import SLICE, Windows, check_index, corpus, document, pipeline
from rag_embeddings.index import indexer as module
from rag_embeddings.index.indexer import Indexer, Summary
from rag_embeddings.index.pipeline import Pipeline
from rag_embeddings.retrieve.sentence_parent import SentenceParentSearch
from rag_embeddings.split.recursive import RecursiveSplitter
from rag_embeddings.split.sentences import sentence_spans
from rag_embeddings.store.directory import IndexDirectory
from rag_embeddings.testing.encoder import DeterministicEncoder
from rag_embeddings.text import Block, Document, Span


@pytest.fixture
def directory():
    with IndexDirectory.open(None) as opened:
        yield opened


class Counting:
    """A store that counts what is written through it."""

    def __init__(self, store):
        self.store, self.writes = store, 0

    def __getattr__(self, name):
        if name in {"upsert", "delete"}:
            self.writes += 1
        return getattr(self.store, name)


def test_added_unchanged_replaced(directory):
    made_by = pipeline()
    indexer = Indexer(directory, made_by)
    first = indexer.upsert(corpus(0, 4))
    assert first.added == ("doc-0", "doc-1", "doc-2", "doc-3")
    assert (first.unchanged, first.replaced, first.removed) == ((), (), ())
    assert directory.counts() == {"documents": 4, "chunks": first.chunks, "sentences": first.sentences}
    sentences, chunks = directory.ledger.unit_ids()
    assert first.encoded == len(sentences) + len(chunks) == made_by.encoder.encoded
    second = indexer.upsert([document(0), document(1, 1), document(9)])
    assert (second.added, second.unchanged, second.replaced) == (("doc-9",), ("doc-0",), ("doc-1",))
    check_index(directory, [document(0), document(1, 1), document(2), document(3), document(9)], pipeline())


def test_an_unchanged_corpus_costs_no_encoder_call_no_write_and_no_lock(directory, monkeypatch):
    made_by = pipeline()
    Indexer(directory, made_by).upsert(corpus(0, 20))
    before = made_by.encoder.encoded
    generation = directory.ledger.generation
    shared = directory._shared
    shared._stores = tuple(Counting(store) for store in shared._stores)
    monkeypatch.setattr(shared, "writing", lambda profile: pytest.fail("the writer's turn was taken"))
    summary = Indexer(directory, made_by).upsert(corpus(0, 20))
    assert len(summary.unchanged) == 20
    assert summary == Summary(unchanged=summary.unchanged)
    assert made_by.encoder.encoded == before
    assert [store.writes for store in shared._stores] == [0, 0]
    assert directory.ledger.generation == generation


def test_counting_stores_count(directory):
    Indexer(directory, pipeline()).upsert(corpus(0, 1))
    shared = directory._shared
    shared._stores = tuple(Counting(store) for store in shared._stores)
    Indexer(directory, pipeline()).upsert(corpus(1, 1))
    assert all(store.writes for store in shared._stores)


def test_changed_metadata_is_stored_without_encoding(directory):
    made_by = pipeline()
    indexer = Indexer(directory, made_by)
    indexer.upsert([document(0), document(1)])
    before = made_by.encoder.encoded
    changed = Document(document(0).text, "doc-0", {"colour": "green"})
    summary = indexer.upsert([changed, document(1)])
    assert (summary.replaced, summary.unchanged, summary.encoded) == (("doc-0",), ("doc-1",), 0)
    assert made_by.encoder.encoded == before
    assert indexer.get(["doc-0"])[0].metadata == {"colour": "green"}
    with directory.reading() as view:
        for store in (view.sentences, view.chunks):
            mine = [record for record in store.get(list(store.ids())) if record.metadata["source_id"] == "doc-0"]
            assert mine
            assert all(record.metadata == {"colour": "green", "source_id": "doc-0"} for record in mine)


def test_changed_blocks_and_another_splitter_replace(directory):
    Indexer(directory, pipeline()).upsert([document(0)])
    with_blocks = Document(document(0).text, "doc-0", document(0).metadata, (Block(Span(0, 8), "heading", 1, 3),))
    assert Indexer(directory, pipeline()).upsert([with_blocks]).replaced == ("doc-0",)
    assert Indexer(directory, pipeline()).get(["doc-0"])[0].blocks == with_blocks.blocks
    assert Indexer(directory, pipeline(size=80, step=80)).upsert([with_blocks]).replaced == ("doc-0",)
    check_index(directory, [with_blocks], pipeline(size=80, step=80))


def test_another_context_is_encoded_though_the_spans_are_the_same(directory):
    plain, scoped = pipeline(), pipeline(context="Amounts in millions")
    Indexer(directory, plain).upsert([document(0)])
    summary = Indexer(directory, scoped).upsert([document(0)])
    assert summary.replaced == ("doc-0",)
    with directory.reading() as view:
        sentences, chunks = directory.ledger.unit_ids()
        assert summary.encoded == len(sentences) + len(chunks)
        for store, ids in ((view.sentences, sentences), (view.chunks, chunks)):
            for record in store.get(sorted(ids)):
                (expected,) = scoped.encoder.encode([f"Amounts in millions\n\n{record.text}"], "document")
                assert abs(record.vector - expected).max() < 1e-6


def test_the_same_id_twice_leaves_the_last(directory, monkeypatch):
    for limit in (1, 256):  # in two batches, and in one
        monkeypatch.setattr(module, "_CHECK_DOCUMENTS", limit)
        summary = Indexer(directory, pipeline()).upsert([document(limit, 0), document(limit, 1)])
        assert (summary.added, summary.replaced, summary.unchanged) == ((f"doc-{limit}",), (), ())
        check_index(directory, [document(limit, 1)], pipeline())
        assert Indexer(directory, pipeline()).delete([f"doc-{limit}"]) == [f"doc-{limit}"]


def test_the_corpus_is_drawn_as_needed(directory, monkeypatch):
    monkeypatch.setattr(module, "_CHECK_DOCUMENTS", 2)
    drawn, held = 0, []

    def documents():
        nonlocal drawn
        for number in range(10):
            drawn += 1
            held.append(drawn - len(Indexer(directory, pipeline()).document_ids()))
            yield document(number)

    seen = []
    summary = Indexer(directory, pipeline()).upsert(
        documents(), progress=lambda done, total: seen.append((done, total))
    )
    assert len(summary.added) == 10
    assert max(held) <= 3
    assert seen == [(2, None), (4, None), (6, None), (8, None), (10, None)]


def test_progress_reaches_the_total(directory):
    seen = []
    Indexer(directory, pipeline()).upsert(corpus(0, 3), progress=lambda *counts: seen.append(counts))
    Indexer(directory, pipeline()).upsert([*corpus(0, 3), document(0)], progress=lambda *counts: seen.append(counts))
    assert seen == [(3, 3), (4, 4)]


def test_a_large_document_is_encoded_in_slices(directory):
    sizes = []

    class Sized(DeterministicEncoder):
        def encode(self, texts, role):
            sizes.append(len(texts))
            return super().encode(texts, role)

    Indexer(directory, pipeline(Sized(96)), slice_size=SLICE).upsert([document(0, sentences=200)])
    assert len(sizes) > 20
    assert max(sizes) == SLICE


def test_delete_get_prune(directory):
    indexer = Indexer(directory, pipeline())
    assert indexer.delete(["doc-0"]) == []
    assert indexer.prune([]) == []
    assert indexer.get(["doc-0"]) == []
    indexer.upsert(corpus(0, 5))
    assert [item.id for item in indexer.get(["doc-3", "nobody", "doc-1", "doc-3"])] == ["doc-3", "doc-1", "doc-3"]
    assert indexer.delete(["doc-3", "nobody", "doc-3"]) == ["doc-3"]
    assert indexer.prune(["doc-0", "doc-4", "nobody"]) == ["doc-1", "doc-2"]
    assert indexer.document_ids() == ["doc-0", "doc-4"]
    check_index(directory, [document(0), document(4)], pipeline())
    indexer.upsert([document(1)])
    check_index(directory, [document(0), document(4), document(1)], pipeline())


def test_documents_without_text_are_documents(directory):
    indexer = Indexer(directory, pipeline())
    summary = indexer.upsert([Document("", "empty"), Document(" \n ", "blank")])
    assert (summary.added, summary.chunks, summary.encoded) == (("empty", "blank"), 0, 0)
    assert indexer.upsert([Document("", "empty")]).unchanged == ("empty",)
    assert indexer.get(["blank"])[0].text == " \n "
    assert indexer.delete(["empty"]) == ["empty"]


def interrupted(directory, documents, calls):
    """Upsert until the encoder fails."""

    class Failing(DeterministicEncoder):
        def encode(self, texts, role):
            nonlocal calls
            calls -= 1
            if calls < 0:
                raise ConnectionError("no answer")
            return super().encode(texts, role)

    with pytest.raises(ConnectionError):
        Indexer(directory, pipeline(Failing(96)), slice_size=SLICE).upsert(documents)


@pytest.mark.parametrize("calls", [0, 1, 3])
def test_a_failed_run_leaves_the_old_and_the_next_stores_everything(directory, calls):
    indexer = Indexer(directory, pipeline(), slice_size=SLICE)
    indexer.upsert(corpus(0, 5))
    interrupted(directory, corpus(1, 5), calls)
    assert [item.text for item in indexer.get(["doc-0", "doc-4"])] == [document(0).text, document(4).text]
    search = SentenceParentSearch(directory, DeterministicEncoder(96))
    for number in range(5):
        assert search.search(document(number).text.split(". ")[0], 1)[0].chunk.document == document(number)
    again = Indexer(directory, pipeline(), slice_size=SLICE)
    summary = again.upsert(corpus(1, 5))
    sentences, chunks = directory.ledger.unit_ids()
    assert summary.encoded == len(sentences) + len(chunks) - calls * SLICE
    check_index(directory, corpus(1, 5), pipeline())


def test_what_was_begun_and_not_wanted_any_more_is_cleaned_up(directory):
    indexer = Indexer(directory, pipeline(), slice_size=SLICE)
    indexer.upsert([document(0), document(1)])
    interrupted(directory, [document(0, 1), document(5)], 2)
    assert indexer.upsert([document(0)]).unchanged == ("doc-0",)  # back to what is live
    assert indexer.delete(["doc-5"]) == []  # never was there
    check_index(directory, [document(0), document(1)], pipeline())
    interrupted(directory, [document(1, 1), document(6)], 2)
    assert indexer.upsert([document(1, 2)]).replaced == ("doc-1",)
    assert indexer.prune(["doc-0", "doc-1"]) == []  # doc-6 never was there either
    check_index(directory, [document(0), document(1, 2)], pipeline())


def test_settings_and_profile_are_remembered(tmp_path):
    made_by = pipeline()
    with IndexDirectory.open(tmp_path / "index", create=True) as directory:
        assert (directory.profile, directory.settings) == (None, {})
        Indexer(directory, made_by).upsert([document(0)])
    with IndexDirectory.open(tmp_path / "index") as directory:
        assert directory.profile == made_by.encoder.profile
        assert directory.settings == made_by.settings()


def test_fingerprint_changes_with_splitter_and_prompts_and_not_with_the_longest_input():
    prints = {
        pipeline().fingerprint,
        pipeline(size=161).fingerprint,
        pipeline(DeterministicEncoder(96, document_prompt="passage: ")).fingerprint,
    }
    assert len(prints) == 3
    assert pipeline().fingerprint in prints


def test_sentences_are_those_of_the_language_within_the_chunks():
    text = "Dr. Smith came.  He left. A very long sentence follows here, and is cut by the edge of the window."
    made_by = Pipeline(DeterministicEncoder(), Windows(size=40, step=40))
    version = made_by.version(Document(text, "d"), "name")
    tiles = sentence_spans(text)
    for chunk, sentences in zip(version.chunks, version.sentences, strict=True):
        assert sentences
        for unit in sentences:
            piece = unit.span.of(text)
            assert piece == piece.strip()
            assert chunk.start <= unit.span.start < unit.span.end <= chunk.end
            assert any(tile.start <= unit.span.start and unit.span.end <= tile.end for tile in tiles)
    together = "".join(unit.span.of(text) for group in version.sentences for unit in group)
    assert "".join(together.split()) == "".join(text.split())


def test_with_the_real_splitter(directory):
    splitter = RecursiveSplitter(max_tokens=120, tokenizer=len)
    indexer = Indexer(directory, Pipeline(DeterministicEncoder(96), splitter))
    assert len(indexer.upsert(corpus(0, 4)).added) == 4
    assert indexer.upsert(corpus(0, 4)).encoded == 0
    assert directory.counts()["chunks"] > 4
