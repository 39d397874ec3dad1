"""Filters mean the same in Chroma, in SQL and in Python, for every kind of value that trips one of them."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from rag_embeddings.store.base import Record
from rag_embeddings.store.chroma import ChromaStore
from rag_embeddings.store.memory import MemoryStore
from rag_embeddings.store.quantized import QuantizedStore
from rag_embeddings.store.sqlite import SqliteStore
from rag_embeddings.store.where import Where
from rag_embeddings.testing.store import conditions

KEYS = st.sampled_from(["k", "k", "m.n", "with space", "é", 'quote"d', "back\\slash", "nul\0", "nul", "[0]"])
TEXTS = st.sampled_from(
    ["", "some text", "a%b_c", "nul\0nul", "nul", "\ufffe0", "\ufffe\ufffe\0", "Some Text", "emoji 🙂", "'quoted'"]
)
NUMBERS = st.one_of(
    st.integers(-2, 2),
    st.floats(-2, 2),
    st.sampled_from([0.5, -1.5, 1.5, 0.1 + 0.2, 2**53, 2**53 + 1, 2**63 - 1, -(2**63), 1e300, -2.1879166393254574e-05]),
)
SCALARS = st.one_of(st.booleans(), NUMBERS, TEXTS)
LISTS = [
    st.lists(items, min_size=1, max_size=3) for items in (TEXTS, st.integers(-2, 2), st.floats(-2, 2), st.booleans())
]
METADATA = st.dictionaries(KEYS, st.one_of(SCALARS, *LISTS), max_size=3)
# What no record can hold is asked for as well.
ASKED = st.one_of(SCALARS, st.sampled_from([2**70, float("inf"), float("nan"), "\ud800", 2.0**53, 2.0**70]))
CONDITIONS = conditions(st.one_of(KEYS, st.sampled_from(["absent", "$or", "#document", "", "\ud800"])), ASKED, TEXTS)
QUIET = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]


def open_chroma(path):
    return ChromaStore(path, "records")


STORES = {
    "chroma": open_chroma,
    "quantized": lambda path: QuantizedStore(path, build_after=10),
    "sqlite": lambda path: SqliteStore(path / "records.sqlite3"),
}


def own(rows):
    """Conditions that at least one row fulfils."""
    for text, metadata in rows:
        yield Where.text_contains(text[:3])
        for key, value in metadata.items():
            if isinstance(value, list):
                yield Where.has(key, value[-1])
            else:
                yield Where.equals(key, value)
                if not isinstance(value, bool | str):
                    yield Where.between(key, value, value)
                    yield Where.between(key, None, value) & ~Where.equals(key, value)


def check(store, rows, asked):
    store.upsert([Record(str(n), vector(n), text, metadata) for n, (text, metadata) in enumerate(rows)])
    memory = MemoryStore()
    memory.upsert([Record(str(n), vector(n), text, metadata) for n, (text, metadata) in enumerate(rows)])
    for condition in asked:
        for where in (condition, ~condition, condition & Where.exists("k"), condition | ~Where.exists("nul")):
            expected = sorted(memory.ids(where))
            assert sorted(store.ids(where)) == expected, where
        found = [hit.id for hit in store.search(vector(0), 5, where=condition)]
        assert found == [hit.id for hit in memory.search(vector(0), 5, where=condition)], condition


def vector(seed):
    return np.random.default_rng(seed).normal(size=8).astype(np.float32)


@pytest.mark.parametrize("kind", STORES)
@given(rows=st.lists(st.tuples(TEXTS, METADATA), min_size=15, max_size=30), asked=st.lists(CONDITIONS, min_size=8))
@settings(max_examples=8, phases=[Phase.generate], deadline=None, database=None, suppress_health_check=QUIET)
def test_filters_mean_the_same_as_in_python(kind, rows, asked):
    with tempfile.TemporaryDirectory() as root:
        store = STORES[kind](Path(root))
        check(store, rows, [*asked[:12], *own(rows[:10])])
        store.close()


@given(rows=st.lists(st.tuples(TEXTS, METADATA), min_size=15, max_size=30), asked=st.lists(CONDITIONS, min_size=8))
@settings(max_examples=200, phases=[Phase.generate], deadline=None, database=None, suppress_health_check=QUIET)
@pytest.mark.slow
@pytest.mark.parametrize("kind", STORES)
def test_filters_mean_the_same_as_in_python_at_length(kind, rows, asked):
    with tempfile.TemporaryDirectory() as root:
        store = STORES[kind](Path(root))
        check(store, rows, [*asked, *own(rows)])
        store.close()


@pytest.mark.parametrize("kind", ["memory", *STORES])
def test_what_is_no_filter_is_refused_and_a_number_may_be_numpys(kind, tmp_path):
    store = MemoryStore() if kind == "memory" else STORES[kind](tmp_path)
    store.upsert([Record(name, np.ones(2, dtype=np.float32)) for name in "ab"])
    for ask in (lambda: store.search(np.ones(2), 1, where={"k": 1}), lambda: list(store.ids({"k": 1}))):
        with pytest.raises(TypeError, match="a filter is made by Where"):
            ask()
    assert len(store.search(np.ones(2), np.int64(2))) == 2
    store.close()
