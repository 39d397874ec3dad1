"""The packer finds the cheapest cuts, and keeps its promises about overlap, overhead and forced cuts."""

from __future__ import annotations

from itertools import combinations, pairwise
from math import inf

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rag_embeddings.errors import BudgetError
from rag_embeddings.split.atoms import Atoms
from rag_embeddings.split.base import Cut
from rag_embeddings.split.pack import Pack, check_budget, pack


def atoms_of(tokens, costs=None) -> Atoms:
    count = len(tokens)
    prices = np.array(costs, dtype=np.float64) if costs else np.zeros(count)
    return Atoms(np.arange(count + 1, dtype=np.int64) * 10, np.array(tokens, dtype=np.int64), prices)


@st.composite
def problems(draw):
    tokens = draw(st.lists(st.integers(0, 12), min_size=1, max_size=9))
    costs = draw(st.lists(st.sampled_from([0.0, 0.1, 0.5, 1.0, 3.0]), min_size=len(tokens), max_size=len(tokens)))
    maximum = draw(st.integers(1, 25))
    target = draw(st.integers(1, maximum))
    overlap = draw(st.integers(0, maximum - 1))
    forced = draw(st.sets(st.integers(0, len(tokens) - 1), max_size=2))
    heads = draw(st.lists(st.integers(0, 3), min_size=len(tokens), max_size=len(tokens)))
    return (
        atoms_of(tokens, costs),
        maximum,
        target,
        overlap,
        [Cut(index * 10, 0.0, forced=True) for index in forced],
        heads,
    )


def size(atoms: Atoms, start: int, end: int) -> int:
    return int(np.maximum(atoms.tokens[start:end], 1).sum())


@settings(max_examples=400, deadline=None)
@given(problems())
def test_packs_tile_the_atoms_and_begin_in_order(problem):
    atoms, maximum, target, overlap, cuts, heads = problem
    packs = pack(atoms, maximum, target=target, overlap=overlap, overhead=heads.__getitem__, cuts=cuts)
    assert packs[0].own == packs[0].first == 0
    assert packs[-1].end == len(atoms)
    assert all(before.end == after.own and before.first < after.first for before, after in pairwise(packs))
    walls = {cut.at // 10 for cut in cuts}
    for first, own, end in packs:
        assert first <= own < end
        assert size(atoms, first, own) <= overlap
        assert end - own == 1 or size(atoms, first, end) <= maximum
        assert not any(first < wall < end for wall in walls)


@settings(max_examples=400, deadline=None)
@given(problems())
def test_no_other_cuts_are_cheaper(problem):
    atoms, maximum, target, _, cuts, heads = problem
    count = len(atoms)
    walls = {cut.at // 10 for cut in cuts}

    def price(starts: tuple[int, ...]) -> float:
        total = 0.0
        for start, end in pairwise((*starts, count)):
            tokens = size(atoms, start, end) + heads[start]
            if (tokens > maximum and end - start > 1) or any(start < wall < end for wall in walls):
                return inf
            total += (tokens / target - 1) ** 2
        return total + sum(0.0 if start in walls else atoms.costs[start] for start in starts[1:])

    found = tuple(item.own for item in pack(atoms, maximum, target=target, overhead=heads.__getitem__, cuts=cuts))
    every = [(0, *rest) for size in range(count) for rest in combinations(range(1, count), size)]
    assert price(found) == pytest.approx(min(map(price, every)))


def test_overlap_is_the_longest_that_leaves_room():
    atoms = atoms_of([3, 3, 3, 3, 9, 3])
    packs = pack(atoms, 12, overlap=7)
    for first, own, _ in packs[1:]:
        room = min(7, 12 - int(atoms.tokens[own]))
        longest = min(start for start in range(own + 1) if size(atoms, start, own) <= room)
        assert first == longest
    assert any(first < own for first, own, _ in packs)


def test_chunks_fill_the_budget():
    assert pack(atoms_of([5] * 6), 15) == [Pack(0, 0, 3), Pack(3, 3, 6)]


def test_a_free_cut_beyond_half_of_the_budget_wins():
    costs = [0.0, 0.5, 0.5, 0.0, 0.5, 0.5]
    assert [item.own for item in pack(atoms_of([5] * 6, costs), 24)] == [0, 3]


def test_a_rest_is_shared_out_rather_than_left_alone():
    assert [item.own for item in pack(atoms_of([4] * 6), 20)] == [0, 3]


def test_an_infinite_cost_is_paid_only_if_the_budget_demands_it():
    atoms = atoms_of([4] * 5)
    forbidden = [Cut(10, inf), Cut(20, inf), Cut(40, inf)]
    assert [item.own for item in pack(atoms, 12, cuts=forbidden)] == [0, 3]
    assert len(pack(atoms, 4, cuts=forbidden)) == 5


def test_a_cut_replaces_the_cost_of_an_atom():
    atoms = atoms_of([4] * 4, [1.0] * 4)
    assert [item.own for item in pack(atoms, 12, cuts=[Cut(10, 0.0)])] == [0, 1]


def test_an_atom_larger_than_the_budget_stands_alone():
    assert pack(atoms_of([2, 30, 2]), 10) == [Pack(0, 0, 1), Pack(1, 1, 2), Pack(2, 2, 3)]


def test_the_overhead_is_that_of_the_first_atom():
    packs = pack(atoms_of([5] * 4), 15, overhead=lambda index: 5 if index == 0 else 0)
    assert packs[0] == Pack(0, 0, 2)


def test_nothing_gives_nothing():
    assert pack(atoms_of([]), 10) == []


@pytest.mark.parametrize("at", [5, -10, 30, 1000])
def test_a_cut_inside_an_atom_is_refused(at):
    with pytest.raises(BudgetError, match=str(at)):
        pack(atoms_of([1, 1, 1]), 10, cuts=[Cut(at)])


@pytest.mark.parametrize(
    ("maximum", "overlap", "target"),
    [(0, 0, None), (-3, 0, None), (10, -1, None), (10, 10, None), (10, 11, None), (10, 0, 0), (10, 0, 11)],
)
def test_impossible_budgets_are_refused(maximum, overlap, target):
    with pytest.raises(BudgetError):
        check_budget(maximum, overlap, target)
