"""The laws of a store, as a state machine against the plainest model of one."""

# ruff: noqa: S101 - asserting is what this module is for

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from rag_embeddings.errors import StoreError, VectorError
from rag_embeddings.store.base import Record, Store
from rag_embeddings.store.records import similarities
from rag_embeddings.store.where import Where

if TYPE_CHECKING:
    from collections.abc import Callable

    from rag_embeddings.encode.base import Vectors
    from rag_embeddings.encode.profile import Similarity

_WIDTH = 4
_IDS = st.sampled_from(["a", "b", "c", "d", "é", "'; DROP TABLE records; --", "$or", "nul\0", "../up", " ", "x" * 5000])
_NUMBERS = st.integers(-3, 3)
_VECTORS = st.lists(_NUMBERS, min_size=_WIDTH, max_size=_WIDTH).filter(any)
_TEXTS = st.sampled_from(["", "text", "nul\0", "emoji 🙂", "'quoted'"])
_SCALARS = st.one_of(st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(-1e6, 1e6), _TEXTS)
_LISTS = st.one_of(st.lists(st.integers(-9, 9), min_size=1, max_size=3), st.lists(_TEXTS, min_size=1, max_size=3))
_KEYS = st.sampled_from(["k", "l", "m.n", "with space", "é"])
_METADATA = st.dictionaries(_KEYS, st.one_of(_SCALARS, _LISTS), max_size=4)
_RECORDS = st.lists(st.tuples(_IDS, _VECTORS, _TEXTS, _METADATA), max_size=6)


def conditions(
    keys: st.SearchStrategy[str], scalars: st.SearchStrategy[Any], texts: st.SearchStrategy[str]
) -> st.SearchStrategy[Where]:
    """Return a strategy of filters of every kind, joined and negated.

    Args:
        keys: Keys of metadata.
        scalars: What metadata is compared with.
        texts: What the text may contain.
    """
    ends = st.one_of(st.none(), st.integers(-9, 9), st.floats(-9, 9), st.sampled_from([math.inf, -math.inf]))
    leaves = st.one_of(
        st.builds(Where.equals, keys, scalars),
        st.builds(Where.among, keys, st.lists(scalars, max_size=3)),
        st.builds(Where.between, keys, ends, ends),
        st.builds(Where.has, keys, scalars),
        st.builds(Where.exists, keys),
        st.builds(Where.text_contains, texts),
    )
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.builds(lambda one, two: one & two, inner, inner),
            st.builds(lambda one, two: one | two, inner, inner),
            st.builds(lambda one: ~one, inner),
        ),
        max_leaves=4,
    )


_WHERE = st.none() | conditions(_KEYS, st.one_of(_SCALARS, st.integers(-9, 9)), _TEXTS)
# Chroma compares in float32.
_TOLERANCE = 1e-4


def check_store(
    make_store: Callable[[], Store],
    *,
    reopen: Callable[[Store], Store] | None = None,
    settings: hypothesis_settings | None = None,
) -> None:
    """Check that a store obeys its protocol: after any sequence of steps it holds and finds what a dictionary would.

    Steps are: write, replace, delete, search with and without a filter, get, refuse bad records, and restart.

    Args:
        make_store: Makes an empty store.
        reopen: Closes a store and opens its files again, where it has files.
        settings: Number of examples and steps; 50 examples of 30 steps if not given.

    Raises:
        AssertionError: If a store and the model differ, with the steps that lead there.
    """

    class Machine(_StoreMachine):
        def make(self) -> Store:
            return make_store()

        def again(self, store: Store) -> Store:
            return store if reopen is None else reopen(store)

    chosen = settings or hypothesis_settings(max_examples=50, stateful_step_count=30, deadline=None)
    run_state_machine_as_test(Machine, settings=chosen)


class _StoreMachine(RuleBasedStateMachine):
    def make(self) -> Store:
        raise NotImplementedError

    def again(self, store: Store) -> Store:
        raise NotImplementedError

    @initialize()
    def open(self) -> None:
        self.store = self.make()
        self.similarity: Similarity = getattr(self.store, "similarity", "cosine")
        self.model: dict[str, Record] = {}

    @rule(rows=_RECORDS)
    def upsert(self, rows: list[tuple[str, list[int], str, dict[str, Any]]]) -> None:
        records = [Record(identity, _vector(values), text, metadata) for identity, values, text, metadata in rows]
        self.store.upsert(records)
        self.model.update((record.id, record) for record in records)

    @rule(ids=st.lists(_IDS, max_size=5))
    def delete(self, ids: list[str]) -> None:
        self.store.delete(ids)
        for identity in ids:
            self.model.pop(identity, None)

    @rule(values=_VECTORS, k=st.integers(1, 14), where=_WHERE)
    def search(self, values: list[int], k: int, where: Where | None) -> None:
        query = _vector(values)
        matching = {name: item for name, item in self.model.items() if where is None or _fulfils(item, where)}
        hits = self.store.search(query, k, where=where)
        assert len(hits) == min(k, len(matching)), (len(hits), k, len(matching))
        assert len({hit.id for hit in hits}) == len(hits)
        assert {hit.id for hit in hits} <= matching.keys()
        expected = sorted((self._score(query, record) for record in matching.values()), reverse=True)
        for hit, best in zip(hits, expected, strict=False):
            assert abs(hit.score - self._score(query, self.model[hit.id])) < _TOLERANCE
            assert abs(hit.score - best) < _TOLERANCE

    @rule(where=_WHERE)
    def filter(self, where: Where | None) -> None:
        expected = [name for name, item in self.model.items() if where is None or _fulfils(item, where)]
        assert sorted(self.store.ids(where)) == sorted(expected)

    @rule(ids=st.lists(_IDS, max_size=6))
    def get(self, ids: list[str]) -> None:
        found = self.store.get(ids)
        assert [record.id for record in found] == [identity for identity in ids if identity in self.model]
        for record in found:
            expected = self.model[record.id]
            assert record.vector.dtype == np.float32
            assert record.text == expected.text
            assert record.metadata.keys() == expected.metadata.keys()
            for key, value in expected.metadata.items():
                assert _same(record.metadata[key], value), (key, record.metadata[key], value)
            assert np.allclose(_direction(record.vector, self.similarity), _direction(expected.vector, self.similarity))

    @rule(ids=st.lists(_IDS, max_size=6))
    def contains(self, ids: list[str]) -> None:
        assert self.store.contains(ids) == self.model.keys() & set(ids)

    @rule(bad=st.sampled_from(["nan", "inf", "zero", "empty id", "surrogate"]), good=_RECORDS)
    def refuse(self, bad: str, good: list[tuple[str, list[int], str, dict[str, Any]]]) -> None:
        values = {"nan": [np.nan] * _WIDTH, "inf": [np.inf, 1, 1, 1], "zero": [0] * _WIDTH}.get(bad, [1] * _WIDTH)
        identity = {"empty id": "", "surrogate": "\ud800"}.get(bad, "bad")
        records = [Record(name, _vector(vector), text, metadata) for name, vector, text, metadata in good]
        self._refused([*records, Record(identity, np.array(values, dtype=np.float32))])

    @precondition(lambda self: self.model)
    @rule()
    def refuse_width(self) -> None:
        self._refused([Record("wide", np.ones(_WIDTH + 1, dtype=np.float32))])

    @rule()
    def restart(self) -> None:
        self.store = self.again(self.store)

    @invariant()
    def holds_the_same(self) -> None:
        assert len(self.store) == len(self.model)
        assert sorted(self.store.ids()) == sorted(self.model)

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.store.close()
            try:
                len(self.store)
            except StoreError:
                return
            raise AssertionError("a closed store must raise StoreError")

    def _refused(self, records: list[Record]) -> None:
        try:
            self.store.upsert(records)
        except (StoreError, VectorError):
            return
        raise AssertionError(f"the store took {records[-1]!r}")

    def _score(self, query: Vectors, record: Record) -> float:
        return float(similarities(record.vector[np.newaxis], query, self.similarity)[0])


def _fulfils(record: Record, where: Where) -> bool:
    return where.matches(record.text, record.metadata)


def _vector(values: list[int]) -> Vectors:
    return np.array(values, dtype=np.float32)


def _direction(vector: Vectors, similarity: str) -> Vectors:
    """A store that compares by cosine may keep vectors at length 1."""
    return vector / np.linalg.norm(vector) if similarity == "cosine" else vector


def _same(found: Any, expected: Any) -> bool:
    """Equal in type and value; Chroma may round a float in its last digit."""
    if isinstance(expected, float):
        return isinstance(found, float) and math.isclose(found, expected, rel_tol=1e-12)
    if isinstance(expected, list):
        return len(found) == len(expected) and all(map(_same, found, expected))
    return type(found) is type(expected) and bool(found == expected)
