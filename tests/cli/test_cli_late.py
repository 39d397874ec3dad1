"""`rag-embeddings index --late`: whole documents through the model, remembered by the index."""

import numpy as np
import pytest

import toy_models
from rag_embeddings import find_files, read_file
from rag_embeddings.cli.progress import Meter
from rag_embeddings.encode.late import LatePass
from rag_embeddings.encode.transformer import TransformerEncoder
from rag_embeddings.store.directory import IndexDirectory


@pytest.fixture(scope="module")
def encoder():
    return TransformerEncoder(toy_models.folder("mean"))


def test_vectors_are_late_and_stay_so(world, encoder) -> None:
    options = {"encoder": encoder}
    assert world.index(world.docs, "--late", "--max-tokens", 20, **options)["encoded"] == 2
    assert world.index(**options)["unchanged"] == [world.id("mill.md"), world.id("sub/bridge.txt")]
    document = read_file(world.docs / "mill.md")
    with IndexDirectory.open(world.db) as directory:
        assert directory.settings["late"] == LatePass(encoder).settings()
        ids = sorted(directory.ledger.unit_ids()[1])
        chunks = [directory.ledger.chunk(place) for place in directory.ledger.live_chunks(ids).values()]
        own = [chunk for chunk in chunks if chunk.document.id == document.id]
        assert len(own) > 1
        tokens = encoder.encode_tokens(own[0].document.text, "document")
        with directory.reading() as view:
            stored = view.chunks.get([chunk.id for chunk in own])
        expected = {chunk.id: tokens.pool(chunk.spans)[0] for chunk in own}
        assert len(stored) == len(own)
        for record in stored:
            assert np.abs(record.vector - expected[record.id]).max() < 1e-5
    plain = world.index(world.docs, "--no-late", **options)
    assert len(plain["replaced"]) == 2
    assert plain["encoded"] == plain["chunks"] + plain["sentences"]


def test_an_encoder_without_token_vectors_is_a_clear_error(world) -> None:
    result = world.call("index", world.docs, "--db", world.db, "--late", code=1)
    assert "no token vectors" in result.stderr


def test_the_bar_moves_while_documents_are_under_way(world, encoder) -> None:
    files = find_files([world.docs])
    with Meter(files, visible=False) as meter:
        watched = meter.watch(encoder)
        for path in files:
            meter.add(path)
        assert meter.completed == 0
        documents = [read_file(path) for path in files]
        list(LatePass(watched).run_many(documents, world_splitter()))
        assert 0 < meter.completed <= sum(path.stat().st_size for path in files)


def world_splitter():
    from rag_embeddings.split.recursive import RecursiveSplitter

    return RecursiveSplitter(60, tokenizer=len)
