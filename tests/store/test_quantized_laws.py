"""The quantized store against the plainest model of a store, exact and through its index."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from rag_embeddings.codec.binary import BinaryCodec, hamming
from rag_embeddings.codec.int8 import Int8Codec
from rag_embeddings.codec.product import ProductCodec
from rag_embeddings.errors import CodecError, StoreError
from rag_embeddings.store.base import Record
from rag_embeddings.store.bit_file import BitFile
from rag_embeddings.store.quantized import QuantizedStore
from rag_embeddings.testing.store import check_store

SIMILARITIES = ["cosine", "dot", "euclidean"]
QUIET = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]


def few(examples, steps):
    return settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        phases=[Phase.generate],  # shrinking on a disk takes minutes
        suppress_health_check=QUIET,
    )


class OnDisk:
    """Makes stores in fresh directories, and opens them again."""

    def __init__(self, root, **options):
        self.root, self.options = root, options

    def make(self):
        return QuantizedStore(Path(tempfile.mkdtemp(dir=self.root)), **self.options)

    def reopen(self, store):
        store.close()
        return QuantizedStore(store.path, **self.options)


@pytest.mark.parametrize("build_after", [3, 20_000], ids=["index", "exact"])
@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_quantized_store(similarity, build_after, tmp_path):
    disk = OnDisk(tmp_path, similarity=similarity, build_after=build_after)
    check_store(disk.make, reopen=disk.reopen, settings=few(6, 30))


@pytest.mark.slow
@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_quantized_store_at_length(similarity, tmp_path):
    disk = OnDisk(tmp_path, similarity=similarity, build_after=4)
    check_store(disk.make, reopen=disk.reopen, settings=few(500 if similarity == "cosine" else 100, 50))


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_a_file_of_bits_finds_the_nearest_codes_and_all_as_near_as_the_last(data):
    width = data.draw(st.sampled_from([8, 40, 64, 200, 384, 512]))
    random = np.random.default_rng(data.draw(st.integers(0, 1_000)))
    codec = BinaryCodec().fit(random.normal(size=(50, width)))
    vectors = random.normal(size=(data.draw(st.integers(1, 300)), width)).astype(np.float32)
    codes = codec.encode(vectors)
    file = BitFile(codec)
    middle = data.draw(st.integers(0, len(codes)))
    nodes = np.concatenate([file.add(codes[:middle]), file.add(codes[middle:])])
    assert nodes.tolist() == list(range(len(codes)))
    query, count = random.normal(size=width).astype(np.float32), data.draw(st.integers(1, 400))
    distances = hamming(codec.encode(query[np.newaxis])[0], codes)
    least = np.sort(distances)[min(count, len(codes)) - 1]
    expected = np.flatnonzero(distances <= least).tolist()
    assert file.search(query, count).tolist() == expected
    with tempfile.TemporaryDirectory() as root:
        path = Path(root) / "codes"
        file.save(path)
        again = BitFile(codec, path)
        assert again.search(query, count).tolist() == expected
        assert again.add(codes).tolist() == list(range(len(codes), 2 * len(codes)))
        nearest = np.flatnonzero(np.tile(distances, 2) == distances.min())
        assert again.search(query, 1).tolist() == nearest.tolist()
        with pytest.raises(StoreError, match="another codec"):
            BitFile(BinaryCodec().fit(random.normal(size=(50, width + 64))), path)
        path.write_bytes(b"not codes")
        with pytest.raises(StoreError, match="no file of codes"):
            BitFile(codec, path)


@pytest.mark.parametrize(
    ("codec", "message"),
    [
        (BinaryCodec(), "13 is not divisible by 8"),
        (ProductCodec(), "13 dimensions cannot be cut into parts of 8"),
        (Int8Codec(dimensions=20), "20 dimensions are to be kept and the vectors have 13"),
        (Int8Codec().fit(np.eye(4)), "fitted on vectors of 4 dimensions, got 13"),
    ],
)
def test_vectors_that_the_codec_cannot_code_are_refused_at_the_first_write(codec, message, tmp_path):
    store = QuantizedStore(tmp_path, codec=codec)
    with pytest.raises(CodecError, match=message):
        store.upsert([Record("one", np.ones(13, dtype=np.float32))])
    assert len(store) == 0
    store.close()
