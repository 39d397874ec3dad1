"""Laws of codecs: order of the steps, bounds of the error, honest estimates, damaged files refused."""

import json
from pathlib import Path
from tempfile import NamedTemporaryFile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from safetensors.numpy import load, save
from sentence_transformers.util.quantization import quantize_embeddings

from rag_embeddings.codec.binary import BinaryCodec, hamming
from rag_embeddings.codec.int8 import Int8Codec
from rag_embeddings.codec.product import ProductCodec
from rag_embeddings.codec.saved import dump_codec, load_codec, save_codec
from rag_embeddings.codec.truncate import TruncateCodec
from rag_embeddings.errors import CodecError, VectorError
from rag_embeddings.store.records import similarities

KINDS = [TruncateCodec, Int8Codec, BinaryCodec, ProductCodec]
SIMILARITIES = ["cosine", "dot", "euclidean"]
WIDTH = 32


def sample(count=600, seed=0):
    """Vectors in clumps, of uneven length, as a model that does not normalise gives."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(40, WIDTH))
    return (centres[random.integers(0, 40, count)] + 0.4 * random.normal(size=(count, WIDTH))).astype(np.float32)


def fitted(kind, **options):
    return kind(**options).fit(sample())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_truncates_then_normalises_then_quantises(kind, similarity):
    codec = fitted(kind, dimensions=16, similarity=similarity)
    vectors = sample(50, 1)
    short = vectors[:, :16]
    if similarity == "cosine":
        short = short / np.linalg.norm(short, axis=1, keepdims=True)
    assert np.allclose(codec.prepared(vectors), short, atol=1e-6)
    whole = kind(similarity=similarity).fit(sample()[:, :16])
    assert np.array_equal(codec.encode(vectors), whole.encode(vectors[:, :16]))
    if similarity == "cosine":
        assert np.array_equal(codec.encode(vectors), codec.encode(vectors * np.float32(4)))
        noise = vectors.copy()
        noise[:, 16:] = 99.0
        assert np.array_equal(codec.encode(vectors), codec.encode(noise))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_a_score_is_that_of_the_vector_the_code_stands_for(kind, similarity):
    codec = fitted(kind, similarity=similarity)
    codes, query = codec.encode(sample(100, 2)), sample(1, 3)[0]
    prepared = codec.prepared(query)
    expected = similarities(codec.decode(codes), prepared, "dot" if similarity == "cosine" else similarity)
    assert codec.score(query, codes) == pytest.approx(expected, abs=1e-4)
    assert codes.dtype == codec.code_dtype
    assert codes.shape == (100, codec.code_width)
    assert codes.nbytes == 100 * codec.bytes_per_vector
    assert codec.score(query, codes[:0]).shape == (0,)
    assert codec.encode(np.empty((0, WIDTH), np.float32)).shape == (0, codec.code_width)


@pytest.mark.parametrize(
    ("kind", "least"), [(TruncateCodec, 0.9999), (Int8Codec, 0.99), (BinaryCodec, 0.5), (ProductCodec, 0.6)]
)
def test_scores_rank_as_the_vectors_do(kind, least):
    codec, vectors = fitted(kind), sample(300, 4)
    codes = codec.encode(vectors)
    for query in sample(5, 5):
        exact = similarities(vectors, query, "cosine")
        assert np.corrcoef(codec.score(query, codes), exact)[0, 1] > least


columns = arrays.arrays(
    np.float32,
    st.tuples(st.integers(2, 20), st.just(8)),
    elements=st.one_of(st.floats(-(2.0**100), 2.0**100, width=32), st.sampled_from([0.0, 1e-45, -1e-40, 5.0])),
)


@given(columns)
@settings(max_examples=200, deadline=None)
def test_int8_is_off_by_half_a_step_at_most(vectors):
    codec = Int8Codec(similarity="dot").fit(vectors)
    assert not (vectors == vectors[0]).all() or np.array_equal(codec.decode(codec.encode(vectors)), vectors)
    step = codec.state()["step"]
    spread = vectors.max(axis=0).astype(np.float64) - vectors.min(axis=0)
    assert np.allclose(step[spread > 0], (spread / 255)[spread > 0], rtol=1e-9, atol=0)
    off = np.abs(codec.decode(codec.encode(vectors)).astype(np.float64) - vectors)
    rounding = np.spacing(np.abs(vectors).max(axis=0)).astype(np.float64)
    assert (off <= np.where(spread > 0, step, 0) / 2 * (1 + 1e-6) + 2 * rounding).all()


def test_values_beyond_the_sample_stay_at_the_end():
    codec = fitted(Int8Codec, similarity="dot")
    far = codec.decode(codec.encode(np.full((1, WIDTH), 1e6, dtype=np.float32)))
    assert far == pytest.approx(sample().max(axis=0)[np.newaxis], rel=1e-5)


def test_codes_are_those_of_sentence_transformers():
    unit = sample() / np.linalg.norm(sample(), axis=1, keepdims=True)
    ranges = np.stack([unit.min(axis=0), unit.max(axis=0)])
    inside = unit[10:50]
    theirs = quantize_embeddings(inside, "int8", ranges=ranges).astype(int)
    ours = Int8Codec().fit(unit).encode(inside).astype(int)
    assert np.abs(ours - theirs).max() <= 1  # the nearest step, and the step below
    balanced = np.concatenate([unit, -unit])
    assert np.array_equal(
        BinaryCodec()
        .fit(balanced)
        .with_state({**BinaryCodec().fit(balanced).state(), "threshold": np.zeros(WIDTH, np.float32)})
        .encode(inside),
        quantize_embeddings(inside, "ubinary"),
    )


def test_hamming_counts_the_bits_that_differ():
    codes = np.random.default_rng(0).integers(0, 256, (50, 6), dtype=np.uint8)
    bits = np.unpackbits(codes, axis=1)
    assert np.array_equal(hamming(codes[3], codes), (bits != bits[3]).sum(axis=1))


@pytest.mark.parametrize("kind", KINDS)
def test_what_cannot_be_coded_is_refused(kind):
    codec = fitted(kind)
    with pytest.raises(CodecError, match="not fitted"):
        kind().encode(sample(2))
    with pytest.raises(CodecError, match=f"at least {kind.least_sample} vectors"):
        kind().fit(sample(1))
    with pytest.raises(CodecError, match="64 dimensions are to be kept"):
        kind(dimensions=64).fit(sample())
    with pytest.raises(CodecError, match="fitted on vectors of 32"):
        codec.encode(sample()[:, :31])
    with pytest.raises(CodecError, match="expected"):
        codec.score(sample(1)[0], np.zeros((2, 99), codec.code_dtype))
    bad = sample(3)
    bad[1, 4] = np.nan
    with pytest.raises(VectorError, match="NaN"):
        codec.encode(bad)
    with pytest.raises(VectorError, match="zeros only"):
        codec.encode(np.zeros((1, WIDTH)))
    with pytest.raises(ValueError, match="at least 1"):
        kind(dimensions=0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_vector_by_itself_is_no_row_of_codes(kind):
    with pytest.raises(CodecError, match=r"shape \(n, dim\), got \(32,\)"):
        fitted(kind).encode(sample()[0])
    assert fitted(kind).encode([]).shape == (0, fitted(kind).code_width)


def test_what_does_not_divide_is_refused():
    with pytest.raises(CodecError, match="not divisible by 8"):
        BinaryCodec(dimensions=12).fit(sample())
    with pytest.raises(CodecError, match="parts of 5"):
        ProductCodec(part_width=5).fit(sample())
    with pytest.raises(CodecError, match="at least 256"):
        ProductCodec().fit(sample(255))
    with pytest.raises(ValueError, match="part_width"):
        ProductCodec(part_width=0)


# --- files ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_codec_gives_the_same_codes(kind, tmp_path):
    codec = fitted(kind, dimensions=16, similarity="euclidean")
    save_codec(codec, tmp_path / "codec")
    loaded = load_codec(tmp_path / "codec")
    assert type(loaded) is kind
    assert loaded.settings() == codec.settings()
    assert loaded.fingerprint == codec.fingerprint
    assert np.array_equal(loaded.encode(sample(20, 7)), codec.encode(sample(20, 7)))
    with pytest.raises(CodecError, match="not fitted"):
        save_codec(kind(), tmp_path / "other")


def test_fingerprints_tell_settings_and_samples_apart():
    codecs = [
        fitted(Int8Codec),
        fitted(Int8Codec, dimensions=16),
        fitted(Int8Codec, similarity="dot"),
        Int8Codec().fit(sample(seed=1)),
        fitted(BinaryCodec),
    ]
    assert len({codec.fingerprint for codec in codecs}) == len(codecs)
    assert fitted(Int8Codec).fingerprint == codecs[0].fingerprint


def altered(content, **metadata):
    length = int.from_bytes(content[:8], "little")
    fields = json.loads(content[8 : 8 + length])["__metadata__"] | metadata
    return save(load(content), {name: value for name, value in fields.items() if value is not None})


def test_files_that_are_no_codec_are_refused(tmp_path):
    content = dump_codec(fitted(Int8Codec))
    short = {name: array[:-1] for name, array in load(content).items()}
    fields = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"]
    wrong = {
        "nothing": b"",
        "text": b"not a codec at all",
        "cut": content[:-3],
        "no metadata": save(load(content)),
        "newer": altered(content, format="2"),
        "unknown kind": altered(content, kind="other"),
        "other kind": altered(content, kind="binary"),
        "no settings": altered(content, settings=None),
        "other settings": altered(content, settings='{"dimensions": 8}'),
        "settings that are none": altered(content, settings='{"surprise": 1}'),
        "settings that are a list": altered(content, settings="[1]"),
        "other fingerprint": altered(content, fingerprint="0"),
        "other shapes": save(short, fields),
        "not finite": save({**load(content), "step": np.full(WIDTH, np.nan)}, fields),
    }
    for name, damaged in wrong.items():
        (tmp_path / name).write_bytes(damaged)
        with pytest.raises(CodecError, match=name):
            load_codec(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        load_codec(tmp_path / "absent")


CONTENT = dump_codec(fitted(Int8Codec))


@given(st.integers(0, len(CONTENT) * 8 - 1))
@settings(max_examples=150, deadline=None)
def test_a_flipped_bit_is_noticed(place):
    content = bytearray(CONTENT)
    content[place // 8] ^= 1 << (place % 8)
    with NamedTemporaryFile() as file:
        Path(file.name).write_bytes(content)
        try:
            loaded = load_codec(file.name)
        except CodecError:
            return
    # White space of the header may change without harm.
    assert loaded.fingerprint == fitted(Int8Codec).fingerprint
