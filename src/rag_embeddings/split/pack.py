"""The one place that decides where a text is cut: a dynamic programme over atoms and the costs between them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from rag_embeddings.errors import BudgetError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

    from rag_embeddings.split.atoms import Atoms
    from rag_embeddings.split.base import Cut

_UNWANTED = 1e6
"""Stands for an infinite cost, and for an atom larger than the budget: worse than anything, yet sums stay exact."""


class Pack(NamedTuple):
    """A chunk, as a range of atoms.

    Attributes:
        first: The first atom, repeated from the chunk before where there is an overlap.
        own: The first atom that no earlier chunk has.
        end: Behind the last atom.
    """

    first: int
    own: int
    end: int


def check_budget(maximum: int, overlap: int = 0, target: int | None = None) -> None:
    """Refuse a budget that no chunk could satisfy.

    Args:
        maximum: Most tokens of a chunk.
        overlap: Most tokens that a chunk repeats of the one before.
        target: Tokens that a chunk should have.

    Raises:
        BudgetError: If maximum < 1, overlap < 0, overlap >= maximum, or target is not within 1..maximum.
    """
    if maximum < 1:
        raise BudgetError(f"max_tokens must be at least 1, got {maximum}")
    if not 0 <= overlap < maximum:
        raise BudgetError(f"overlap must be at least 0 and smaller than max_tokens ({maximum}), got {overlap}")
    if target is not None and not 1 <= target <= maximum:
        raise BudgetError(f"target must be between 1 and max_tokens ({maximum}), got {target}")


def pack(
    atoms: Atoms,
    maximum: int,
    *,
    target: int | None = None,
    overlap: int = 0,
    overhead: Callable[[int], int] | None = None,
    cuts: Iterable[Cut] = (),
) -> list[Pack]:
    """Choose the cuts whose costs, with a penalty for every chunk that misses the target, are least.

    The penalty is the squared relative distance from the target, so a chunk of half the target costs 0.25. Time is
    linear in the number of atoms, times the number of atoms that fit into one chunk.

    Args:
        atoms: What to pack. An atom without tokens counts as one.
        maximum: Most tokens of a chunk, overlap and overhead included. Only a chunk of one atom may have more.
        target: Tokens that a chunk should have; the maximum by default.
        overlap: Most tokens repeated from before the chunk. As many whole atoms as fit are, unless the first own atom
            then had no room; none across a forced cut.
        overhead: From the index of a chunk's first atom to the tokens that its context takes.
        cuts: Costs that replace those of the atoms, and forced cuts. Each must lie at the start of an atom.

    Returns:
        Chunks in order. ``own`` and ``end`` tile the atoms; ``first`` strictly increases.

    Raises:
        BudgetError: If the budget is impossible, or a cut does not lie between atoms.
    """
    check_budget(maximum, overlap, target)
    count = len(atoms)
    if count == 0:
        return []
    costs, forced = _costs(atoms, cuts)
    sums = np.concatenate([[0.0], np.cumsum(np.maximum(atoms.tokens, 1), dtype=np.float64)])
    heads = np.zeros(count) if overhead is None else np.fromiter(map(overhead, range(count)), np.float64, count)
    # The last forced cut at or before each atom: no chunk, and no overlap, reaches behind it.
    walls = np.maximum.accumulate(np.where(forced, np.arange(count), 0))
    firsts = _overlaps(sums, heads, walls, maximum, overlap)
    extra = heads[firsts] + sums[:-1] - sums[firsts]
    starts = _cheapest(sums, costs, extra, walls, maximum=maximum, target=maximum if target is None else target)
    packs: list[Pack] = []
    before = -1
    for own, end in zip(starts, [*starts[1:], count], strict=True):
        before = max(int(firsts[own]), before + 1)
        packs.append(Pack(before, own, end))
    return packs


def _costs(atoms: Atoms, cuts: Iterable[Cut]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    costs = atoms.costs.copy()
    forced = np.zeros(len(atoms), dtype=np.bool_)
    for cut in cuts:
        index = int(np.searchsorted(atoms.marks[:-1], cut.at))
        if index == len(atoms) or atoms.marks[index] != cut.at:
            raise BudgetError(f"a cut at character {cut.at} does not lie at the start of an atom")
        costs[index] = cut.cost
        forced[index] = cut.forced
    costs[forced] = 0
    costs[0] = 0
    return np.minimum(costs, _UNWANTED), forced


def _overlaps(
    sums: NDArray[np.float64], heads: NDArray[np.float64], walls: NDArray[np.int64], maximum: int, overlap: int
) -> NDArray[np.int64]:
    """Where a chunk whose first own atom is i begins."""
    own = np.arange(len(heads))
    if overlap == 0:
        return own
    room = np.clip(maximum - heads - np.diff(sums), 0, overlap)
    firsts = np.clip(np.searchsorted(sums, sums[:-1] - room), walls, own)
    for index in np.flatnonzero(heads[firsts] > heads):  # the context of the earlier atom is longer
        first = firsts[index]
        while first < index and sums[index + 1] - sums[first] + heads[first] > maximum:
            first += 1
        firsts[index] = first
    return firsts


def _cheapest(
    sums: NDArray[np.float64],
    costs: NDArray[np.float64],
    extra: NDArray[np.float64],
    walls: NDArray[np.int64],
    *,
    maximum: int,
    target: int,
) -> list[int]:
    """Return the first own atoms of the best chunks; ``extra`` tokens are taken at each start beside its own atoms."""
    count = len(costs)
    lowest = np.searchsorted(sums, sums - maximum)
    lowest[1:] = np.minimum(np.maximum(lowest[1:], walls), np.arange(count))
    lows = lowest.tolist()
    # A chunk misses the target by behind[end] - before[start], relative to the target.
    before = (sums[:-1] - extra) / target
    behind = (sums / target - 1).tolist()
    prices = [*costs[1:].tolist(), 0.0]
    allowed = maximum / target - 1 + 1e-9
    shifted = bool(extra.any())  # otherwise everything from lows[end] on fits
    best = np.zeros(count + 1)
    previous = [0] * (count + 1)
    for end in range(1, count + 1):
        low = lows[end]
        missed = behind[end] - before[low:end]
        totals = missed * missed
        totals += best[low:end]
        if shifted:
            fits = missed <= allowed
            fits[-1] = True  # where nothing fits: the last atom alone
            totals[~fits] = np.inf
        choice = int(totals.argmin())
        previous[end] = low + choice
        best[end] = totals[choice] + prices[end - 1]
    return chunk_starts(previous)


def chunk_starts(previous: Sequence[int]) -> list[int]:
    """Walk back through the best chunks that end at each place; ``previous[end]`` is where such a chunk starts.

    Returns:
        The first unit of each chunk, ascending.
    """
    starts = []
    end = len(previous) - 1
    while end > 0:
        end = previous[end]
        starts.append(end)
    return starts[::-1]
