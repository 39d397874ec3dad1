"""Chroma, quantized and exact memory, step by step: the same ids, filters, deletes and rankings, through restarts."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from rag_embeddings.codec.binary import BinaryCodec
from rag_embeddings.codec.int8 import Int8Codec
from rag_embeddings.codec.truncate import TruncateCodec
from rag_embeddings.store.base import Record
from rag_embeddings.store.chroma import ChromaStore
from rag_embeddings.store.memory import MemoryStore
from rag_embeddings.store.quantized import QuantizedStore
from rag_embeddings.testing.store import conditions

WIDTH = 16
KEYS = st.sampled_from(["k", "k", "m.n", "with space", "é", "nul\0"])
TEXTS = st.sampled_from(["", "some text", "a%b_c", "nul\0nul", "Some Text", "emoji 🙂", "'quoted'"])
SCALARS = st.one_of(st.booleans(), st.integers(-2, 2), st.sampled_from([-1.5, 0.5, 1.0, 0.1 + 0.2]), TEXTS)
METADATA = st.dictionaries(
    KEYS, st.one_of(SCALARS, st.lists(st.integers(-2, 2), min_size=1), st.lists(TEXTS, min_size=1)), max_size=3
)
CONDITIONS = conditions(KEYS, SCALARS, TEXTS)
IDS = st.integers(0, 60).map(str)


def vector(seed):
    """One of few, so that some are equal."""
    return np.random.default_rng(seed % 40).normal(size=WIDTH).astype(np.float32)


class Chroma:
    """A Chroma collection in its own directory, one slice being seven records."""

    def open(self, path):
        store = ChromaStore(path / "chroma", "records")
        store._slice = 7
        return store


class Quantized:
    """A quantized store whose index is made after 20 records."""

    def __init__(self, codec):
        self.codec = codec

    def open(self, path):
        return QuantizedStore(path / "quantized", codec=self.codec, build_after=20)


class Congruence(RuleBasedStateMachine):
    """Every store beside exact memory."""

    def __init__(self, root, kinds):
        super().__init__()
        self.root, self.kinds = root, kinds

    @initialize()
    def open(self):
        self.path = Path(tempfile.mkdtemp(dir=self.root))
        self.memory = MemoryStore()
        self.stores = [kind.open(self.path) for kind in self.kinds]

    @rule(rows=st.lists(st.tuples(IDS, st.integers(0, 999), TEXTS, METADATA), max_size=25))
    def upsert(self, rows):
        records = [Record(identity, vector(seed), text, metadata) for identity, seed, text, metadata in rows]
        for store in (self.memory, *self.stores):
            store.upsert(records)

    @rule(ids=st.lists(IDS, max_size=10))
    def delete(self, ids):
        for store in (self.memory, *self.stores):
            store.delete(ids)

    @rule(seed=st.integers(0, 999), k=st.integers(1, 12), condition=st.none() | CONDITIONS)
    def search(self, seed, k, condition):
        expected = self.memory.search(vector(seed), k, where=condition)
        matching = set(self.memory.ids(condition))
        for store in self.stores:
            found = store.search(vector(seed), k, where=condition)
            assert [hit.score for hit in found] == pytest.approx([hit.score for hit in expected], abs=1e-6)
            assert {hit.id for hit in found} <= matching
            if isinstance(store, QuantizedStore):
                assert store.search(vector(seed), k, where=condition, exact=True) == expected

    @rule(condition=st.none() | CONDITIONS)
    def filter(self, condition):
        for store in self.stores:
            assert sorted(store.ids(condition)) == sorted(self.memory.ids(condition))

    @rule(ids=st.lists(IDS, max_size=4))
    def get(self, ids):
        expected = self.memory.get(ids)
        for store in self.stores:
            found = store.get(ids)
            assert [(item.id, item.text, item.metadata) for item in found] == [
                (item.id, item.text, item.metadata) for item in expected
            ]
            assert all(np.allclose(one.vector, two.vector) for one, two in zip(found, expected, strict=True))

    @rule(anew=st.booleans())
    def build(self, anew):
        for store in self.stores:
            if isinstance(store, QuantizedStore) and len(store) >= 2:
                store.build(anew=anew)

    @rule()
    def restart(self):
        for store in self.stores:
            store.close()
        self.stores = [kind.open(self.path) for kind in self.kinds]

    @invariant()
    def holds_the_same(self):
        for store in self.stores:
            assert len(store) == len(self.memory)
            assert sorted(store.ids()) == sorted(self.memory.ids())

    def teardown(self):
        for store in getattr(self, "stores", ()):
            store.close()


def run(root, kinds, examples, steps):
    run_state_machine_as_test(
        lambda: Congruence(root, kinds),
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            database=None,
            phases=[Phase.generate],  # shrinking on a disk takes minutes
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
        ),
    )


def test_chroma_quantized_and_memory_agree(tmp_path):
    run(tmp_path, [Chroma(), Quantized(BinaryCodec())], 50, 30)


@pytest.mark.slow
def test_chroma_quantized_and_memory_agree_at_length(tmp_path):
    run(tmp_path, [Chroma(), Quantized(BinaryCodec())], 500, 50)


CODECS = [BinaryCodec(), Int8Codec(), Int8Codec(dimensions=8), TruncateCodec()]


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: f"{codec.kind}-{codec.dimensions or 'all'}")
def test_every_codec_agrees_with_memory(codec, tmp_path):
    run(tmp_path, [Quantized(codec)], 6, 30)


@pytest.mark.slow
@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: f"{codec.kind}-{codec.dimensions or 'all'}")
def test_every_codec_agrees_with_memory_at_length(codec, tmp_path):
    run(tmp_path, [Quantized(codec)], 125, 50)
