"""The quantized store against the plainest model of a store, exact and through its index, with every codec."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from rag_embeddings.codec.binary import BinaryCodec
from rag_embeddings.codec.int8 import Int8Codec
from rag_embeddings.codec.truncate import TruncateCodec
from rag_embeddings.store.base import Record
from rag_embeddings.store.memory import MemoryStore
from rag_embeddings.store.quantized import QuantizedStore
from rag_embeddings.store.where import Where
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


# --- wider vectors, filters, every codec: the same answers as from memory --------------------------------------------

WIDTH = 16
KEYS = st.sampled_from(["k", "k", "m.n", "with space", "é", 'quote"d', "back\\slash", "nul\0", "nul", "[0]"])
TEXTS = st.sampled_from(
    ["", "some text", "a%b_c", "nul\0nul", "nul", "\ufffe0", "\ufffe\ufffe\0", "Some Text", "emoji 🙂", "'quoted'"]
)
SCALARS = st.one_of(st.booleans(), st.integers(-2, 2), st.floats(-2, 2), st.sampled_from([2**53 + 1, 2**63 - 1]), TEXTS)
METADATA = st.dictionaries(
    KEYS, st.one_of(SCALARS, st.lists(st.integers(-2, 2), min_size=1), st.lists(TEXTS, min_size=1)), max_size=3
)
LEAVES = st.one_of(
    st.builds(Where.equals, KEYS, SCALARS),
    st.builds(Where.among, KEYS, st.lists(SCALARS, max_size=3)),
    st.builds(Where.between, KEYS, st.one_of(st.none(), st.integers(-2, 1)), st.one_of(st.none(), st.floats(-1, 2))),
    st.builds(Where.has, KEYS, SCALARS),
    st.builds(Where.exists, KEYS),
    st.builds(Where.text_contains, TEXTS),
)
CONDITIONS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.builds(lambda one, two: one & two, inner, inner),
        st.builds(lambda one, two: one | two, inner, inner),
        st.builds(lambda one: ~one, inner),
    ),
    max_leaves=4,
)
IDS = st.integers(0, 60).map(str)


def vector(seed):
    """One of few directions, so that some are equal."""
    return np.random.default_rng(seed % 40).normal(size=WIDTH).astype(np.float32)


class Congruence(RuleBasedStateMachine):
    """Ids, filters and deletes as in memory; rankings in exact mode, and near enough in the other."""

    def __init__(self, root, codec):
        super().__init__()
        self.disk = OnDisk(root, codec=codec, build_after=20)

    @initialize()
    def open(self):
        self.store, self.memory = self.disk.make(), MemoryStore()

    @rule(rows=st.lists(st.tuples(IDS, st.integers(0, 999), TEXTS, METADATA), max_size=25))
    def upsert(self, rows):
        records = [Record(identity, vector(seed), text, metadata) for identity, seed, text, metadata in rows]
        for store in (self.store, self.memory):
            store.upsert(records)

    @rule(ids=st.lists(IDS, max_size=10))
    def delete(self, ids):
        for store in (self.store, self.memory):
            store.delete(ids)

    @rule(seed=st.integers(0, 999), k=st.integers(1, 12), condition=st.none() | CONDITIONS)
    def search(self, seed, k, condition):
        kept = MemoryStore()
        kept.upsert(
            [item for item in self.records() if condition is None or condition.matches(item.text, item.metadata)]
        )
        expected = kept.search(vector(seed), k) if len(kept) else []
        exact = self.store.search(vector(seed), k, where=condition, exact=True)
        assert [hit.id for hit in exact] == [hit.id for hit in expected]
        assert [hit.score for hit in exact] == pytest.approx([hit.score for hit in expected], abs=1e-6)
        near = self.store.search(vector(seed), k, where=condition)
        assert len(near) == len(expected)
        assert {hit.id for hit in near} <= set(kept.ids())
        assert [hit.score for hit in near] == pytest.approx([hit.score for hit in expected], abs=1e-6)
        if condition is not None:
            assert set(self.store.ids(condition)) == set(kept.ids())

    @rule(anew=st.booleans())
    def build(self, anew):
        if len(self.store) >= 2:
            self.store.build(anew=anew)

    @rule()
    def purge(self):
        self.store.purge()

    @rule()
    def restart(self):
        self.store = self.disk.reopen(self.store)

    @invariant()
    def holds_the_same(self):
        assert sorted(self.store.ids()) == sorted(self.memory.ids())
        assert len(self.store) == len(self.memory)

    def records(self):
        return self.memory.get(list(self.memory.ids()))

    def teardown(self):
        if hasattr(self, "store"):
            self.store.close()


CODECS = [BinaryCodec(), Int8Codec(), Int8Codec(dimensions=8), TruncateCodec()]


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: f"{codec.kind}-{codec.dimensions or 'all'}")
def test_answers_are_those_of_memory(codec, tmp_path):
    run_state_machine_as_test(lambda: Congruence(tmp_path, codec), settings=few(6, 30))


@pytest.mark.slow
@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: f"{codec.kind}-{codec.dimensions or 'all'}")
def test_answers_are_those_of_memory_at_length(codec, tmp_path):
    run_state_machine_as_test(lambda: Congruence(tmp_path, codec), settings=few(125, 50))


@given(st.lists(st.tuples(TEXTS, METADATA), min_size=20, max_size=40), st.lists(CONDITIONS, min_size=20, max_size=40))
@settings(max_examples=20, deadline=None, database=None, suppress_health_check=QUIET)
def test_filters_mean_the_same_in_sql_and_in_python(rows, conditions):
    with tempfile.TemporaryDirectory() as root:
        store = QuantizedStore(Path(root))
        store.upsert([Record(str(n), vector(n), text, metadata) for n, (text, metadata) in enumerate(rows)])
        kept = store.get([str(n) for n in range(len(rows))])
        assert [item.metadata for item in kept] == [metadata for _, metadata in rows]
        own = [
            Where.equals(key, value) for _, metadata in rows for key, value in metadata.items() if type(value) is str
        ]
        own += [
            Where.has(key, value[0]) for _, metadata in rows for key, value in metadata.items() if type(value) is list
        ]
        for condition in [*conditions, *own]:
            expected = {item.id for item in kept if condition.matches(item.text, item.metadata)}
            assert set(store.ids(condition)) == expected, condition
        store.close()
