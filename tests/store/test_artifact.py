"""Artifacts: what is saved comes back to the last bit, from any reader; what is not one is one clear error."""

import json
import tempfile
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostile_texts import ALPHABETS
from rag_embeddings import (
    ArtifactError,
    ArtifactRecord,
    DocumentError,
    EmbeddingArtifact,
    MemoryStore,
    Profile,
    Record,
    SpaceMismatchError,
    Span,
    SqliteStore,
    StoreError,
    VectorError,
)
from rag_embeddings.store import artifact, artifact_save
from rag_embeddings.store.artifact_save import ArtifactSave
from rag_embeddings.text import canonical_json

WIDTH = 6
PROFILE = Profile("some-model", dimensions=WIDTH, query_prompt="query: ", similarity="dot")

texts = st.lists(st.sampled_from(sorted({piece for pieces in ALPHABETS.values() for piece in pieces})), max_size=8).map(
    "".join
)
plain = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=5)
metadata = st.dictionaries(
    st.text(max_size=5), st.recursive(plain, lambda inner: st.lists(inner, max_size=3), max_leaves=4), max_size=3
)
numbers = st.floats(-(2.0**90), 2.0**90, width=32).filter(lambda value: value != 0)
places = st.lists(st.integers(0, 10**7), max_size=6, unique=True).map(
    lambda ends: tuple(Span(*pair) for pair in zip(sorted(ends)[::2], sorted(ends)[1::2], strict=False))
)


@st.composite
def records(draw):
    names = draw(st.lists(st.text(min_size=1, max_size=8), max_size=8, unique=True))
    return [
        ArtifactRecord(
            name,
            np.array(draw(st.lists(numbers, min_size=WIDTH, max_size=WIDTH)), dtype=np.float32),
            draw(texts),
            draw(metadata),
            draw(texts),
            draw(places),
            draw(st.sampled_from(["", "chunk", "sentence"])),
            draw(st.just({}) | metadata),
        )
        for name in names
    ]


def some(count, first=0, **options):
    random = np.random.default_rng(first)
    return [
        ArtifactRecord(
            f"id-{number}",
            random.normal(size=WIDTH).astype(np.float32),
            f"text {number}",
            {"number": number},
            "source",
            (Span(number, number + 5),),
            kind=options.get("kind", "chunk"),
        )
        for number in range(first, first + count)
    ]


def same(found, expected):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.vector.tobytes() == np.asarray(other.vector, dtype=np.float32).tobytes()
        for name in ("id", "text", "metadata", "source_id", "spans", "kind", "extra"):
            assert getattr(one, name) == getattr(other, name), name


@given(records(), st.sampled_from([1, 3, 1000]))
def test_what_is_saved_comes_back_to_the_last_bit(items, batch):
    before = artifact._BATCH
    artifact._BATCH = artifact_save._BATCH = batch
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "a.safetensors")
            with EmbeddingArtifact.save(path, iter(items), PROFILE, settings={"late": None}, fingerprint="f") as saved:
                same(list(saved), items)
            with EmbeddingArtifact(path) as opened:
                same(list(opened), items)
                assert (opened.profile, opened.settings, opened.fingerprint) == (PROFILE, {"late": None}, "f")
                assert len(opened) == len(items) == sum(opened.kinds.values())
                for kind in ("", "chunk", "sentence"):
                    same(list(opened.records([kind])), [item for item in items if item.kind == kind])
                expected = np.array([item.vector for item in items], dtype=np.float32).reshape(len(items), WIDTH)
                assert np.array_equal(opened.vectors, expected)
                opened.write_npy(Path(folder, "a.npy"))
                assert np.array_equal(np.load(Path(folder, "a.npy"), mmap_mode="r" if items else None), expected)
            assert sorted(file.name for file in Path(folder).iterdir()) == ["a.npy", "a.safetensors"]
    finally:
        artifact._BATCH = artifact_save._BATCH = before


def test_other_readers_of_the_format_find_the_matrix(tmp_path):
    numpy = pytest.importorskip("safetensors.numpy")
    items = some(5)
    EmbeddingArtifact.save(tmp_path / "a", items, PROFILE).close()
    found = numpy.load_file(tmp_path / "a")
    assert np.array_equal(found["vectors"], [item.vector for item in items])
    lines = found["records"].tobytes().decode().splitlines()
    assert [json.loads(line)["text"] for line in lines] == [item.text for item in items]
    from safetensors import safe_open

    with safe_open(tmp_path / "a", "np") as file:
        assert json.loads(file.metadata()["manifest"])["profile"]["model"] == "some-model"
        assert np.array_equal(file.get_slice("vectors")[2:4], [item.vector for item in items[2:4]])


def test_an_empty_artifact_is_one(tmp_path):
    with EmbeddingArtifact.save(tmp_path / "a", [], PROFILE) as saved:
        assert (len(saved), list(saved), saved.vectors.shape, saved.kinds) == (0, [], (0, WIDTH), {})
        assert saved.upload(MemoryStore("dot")) == 0
    pytest.importorskip("safetensors.numpy").load_file(tmp_path / "a")


def test_plain_records_will_do_and_metadata_is_spelled_as_json(tmp_path):
    record = Record("a", np.ones(WIDTH, dtype=np.float32), "text", {"day": date(2026, 1, 2), "pair": (1, 2)})
    with EmbeddingArtifact.save(tmp_path / "a", [record], PROFILE) as saved:
        (found,) = saved
    assert found.metadata == {"day": "2026-01-02", "pair": [1, 2]}
    assert found.placed_metadata() == found.metadata


def test_the_place_is_spelled_as_splitters_do():
    record = ArtifactRecord("a", np.ones(2), "t", {"k": 1}, "doc", (Span(3, 9), Span(12, 20)), "chunk")
    assert record.placed_metadata() == {
        "k": 1, "source_id": "doc", "start_index": 3, "end_index": 20, "spans": "3-9,12-20",
    }  # fmt: skip


class TestUpload:
    @pytest.mark.parametrize(
        "make", [lambda path: MemoryStore("dot"), lambda path: SqliteStore(path, similarity="dot")]
    )
    def test_into_a_store_and_again(self, make, tmp_path):
        items = some(2_500)
        store = make(tmp_path / "store")
        store.upsert([Record("id-3", np.ones(WIDTH, dtype=np.float32), "old", {"old": True})])
        with EmbeddingArtifact.save(tmp_path / "a", items, PROFILE) as saved:
            for _ in range(2):
                assert saved.upload(store, profile=PROFILE) == 2_500
        assert len(store) == 2_500
        for found, item in zip(store.get([item.id for item in items]), items, strict=True):
            assert found.vector.tobytes() == item.vector.tobytes()
            assert (found.text, found.metadata) == (item.text, item.placed_metadata())
        store.close()

    def test_into_chroma_and_the_quantized_store(self, tmp_path):
        pytest.importorskip("chromadb")
        pytest.importorskip("usearch")
        from rag_embeddings import ChromaStore, Int8Codec, QuantizedStore

        items = some(40)
        with EmbeddingArtifact.save(tmp_path / "a", items, PROFILE) as saved:
            for store in (
                ChromaStore(tmp_path / "chroma", "chunks", similarity="dot", space=PROFILE.space),
                QuantizedStore(tmp_path / "quantized", codec=Int8Codec(similarity="dot"), space=PROFILE.space),
            ):
                assert saved.upload(store) == 40
                found = store.get([item.id for item in items])
                assert np.array_equal([one.vector for one in found], [item.vector for item in items])
                assert [one.metadata for one in found] == [item.placed_metadata() for item in items]
                store.close()
            other = ChromaStore(tmp_path / "chroma", "others", similarity="dot", space="another")
            with pytest.raises(SpaceMismatchError, match="another space"):
                saved.upload(other)
            assert len(other) == 0
            other.close()

    def test_some_kinds(self, tmp_path):
        items = [*some(3), *some(4, first=10, kind="sentence")]
        with EmbeddingArtifact.save(tmp_path / "a", items, PROFILE) as saved:
            store = MemoryStore("dot")
            assert saved.upload(store, kinds=["sentence"]) == 4
            assert sorted(store.ids()) == [f"id-{number}" for number in range(10, 14)]
            for kinds in ("chunk", ["chunks"]):
                with pytest.raises(ValueError, match="kinds is a list"):
                    saved.upload(store, kinds=kinds)

    def test_another_space_similarity_or_width_is_refused(self, tmp_path):
        with EmbeddingArtifact.save(tmp_path / "a", some(3), PROFILE) as saved:
            store = MemoryStore("dot")
            other = Profile("some-model", dimensions=WIDTH, query_prompt="search: ", similarity="dot")
            with pytest.raises(SpaceMismatchError, match="query_prompt: 'query: ' there, 'search: ' here"):
                saved.upload(store, profile=other)
            with pytest.raises(StoreError, match="compares vectors by cosine"):
                saved.upload(MemoryStore("cosine"))
            store.upsert([Record("a", np.ones(3, dtype=np.float32))])
            with pytest.raises(StoreError, match="dimensions"):
                saved.upload(store)
            assert len(store) == 1


class TestRefusals:
    @pytest.mark.parametrize(
        ("record", "error", "match"),
        [
            (Record("a", np.ones(3)), StoreError, "shape"),
            (Record("a", np.ones((2, WIDTH))), StoreError, "shape"),
            (Record("", np.ones(WIDTH)), StoreError, "cannot be the id"),
            (Record("\ud800", np.ones(WIDTH)), StoreError, "cannot be the id"),
            (Record("id-1", np.ones(WIDTH)), StoreError, "occurs twice"),
            (Record("a", np.zeros(WIDTH)), VectorError, "zeros"),
            (Record("a", np.full(WIDTH, np.nan)), VectorError, "NaN"),
            (Record("a", np.ones(WIDTH), "", {"key": object()}), DocumentError, "record 'a'"),
            (ArtifactRecord("a", np.ones(WIDTH), kind="chunks"), ValueError, "kinds"),
        ],
    )
    def test_a_bad_record_leaves_what_was_there(self, record, error, match, tmp_path):
        EmbeddingArtifact.save(tmp_path / "a", some(2), PROFILE).close()
        before = (tmp_path / "a").read_bytes()
        with pytest.raises(error, match=match):
            EmbeddingArtifact.save(tmp_path / "a", [*some(4), record], PROFILE)
        assert (tmp_path / "a").read_bytes() == before
        assert [file.name for file in tmp_path.iterdir()] == ["a"]

    def test_what_is_no_artifact(self, tmp_path):
        path = tmp_path / "a"
        with pytest.raises(FileNotFoundError):
            EmbeddingArtifact(path)
        foreign = b'{"__metadata__":{"format":"pt"},"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
        header = canonical_json({"__metadata__": {"format": "rag-embeddings artifact", "version": "2", "manifest": ""}})
        for content, match in [
            (b"", "does not begin"),
            (b"hello, world, this is a text", "does not begin"),
            (len(foreign).to_bytes(8, "little") + foreign + b"\0\0\0\0", "no artifact of this package"),
            ((4).to_bytes(8, "little") + b"[[[[", "no artifact of this package"),
            ((200_000).to_bytes(8, "little") + b"[" * 200_000, "no artifact of this package"),
            (len(header).to_bytes(8, "little") + header.encode(), "version 2.*upgrade"),
        ]:
            path.write_bytes(content)
            with pytest.raises(ArtifactError, match=match):
                EmbeddingArtifact(path)
        with pytest.raises(StoreError, match="is a directory"):
            EmbeddingArtifact.save(tmp_path, [], PROFILE)
        with pytest.raises(StoreError, match="cannot be written"):
            EmbeddingArtifact.save(tmp_path / "absent" / "a", [], PROFILE)

    def test_a_closed_one(self, tmp_path):
        saved = EmbeddingArtifact.save(tmp_path / "a", some(3), PROFILE)
        saved.close()
        for use in (
            lambda: list(saved),
            lambda: saved.vectors,
            lambda: saved.take([1]),
            lambda: list(saved.documents()),
        ):
            with pytest.raises(StoreError, match="is closed"):
                use()

    def test_rows_that_are_not_there(self, tmp_path):
        with EmbeddingArtifact.save(tmp_path / "a", some(3), PROFILE) as saved:
            assert np.array_equal(saved.take([2, 0]), saved.vectors[[2, 0]])
            for rows in ([3], [-1, 2]):
                with pytest.raises(ArtifactError, match="row that cannot be read"):
                    saved.take(rows)


def test_iterating_takes_bounded_memory(tmp_path):
    import tracemalloc

    wide = Profile("wide", dimensions=1_000)
    rows = np.random.default_rng(0).normal(size=(20_000, 1_000)).astype(np.float32)
    with ArtifactSave(tmp_path / "a", wide) as save:
        for number, row in enumerate(rows):
            save.add(Record(str(number), row, "text " * 20))
    size = rows.nbytes
    tracemalloc.start()
    try:
        with EmbeddingArtifact(tmp_path / "a") as opened:
            count = sum(1 for _ in opened)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 20_000
    assert peak < size / 4, (peak, size)
