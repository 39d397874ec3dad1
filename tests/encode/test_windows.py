"""Windows: every token kept once, where it has most context, at a known price."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rag_embeddings.encode.windows import Windows, frames, paper_frames
from rag_embeddings.errors import BudgetError


class TestFrames:
    @settings(deadline=None)
    @given(st.integers(0, 3000), st.integers(1, 300), st.floats(0, 0.9))
    @example(3, 1, 0.0)
    @example(301, 300, 0.9)
    def test_keep_each_token_once_where_it_has_most_context(self, count, size, overlap):
        laid = frames(count, size, overlap)
        assert [place for _, _, keep, until in laid for place in range(keep, until)] == list(range(count))
        assert len({stop - start for start, stop, _, _ in laid}) == 1
        for start, stop, keep, until in laid:
            assert 0 <= start <= keep <= until <= stop <= count
            assert stop - start <= size

        def context(frame, place):
            start, stop, _, _ = frame
            left = np.inf if start == 0 else place - start
            right = np.inf if stop == count else stop - 1 - place
            return min(left, right) if start <= place < stop else -1

        for place in {*range(0, count, max(1, count // 50)), *range(max(0, count - 3), count)}:
            chosen = next(frame for frame in laid if frame.keep <= place < frame.until)
            assert context(chosen, place) >= max(context(frame, place) for frame in laid) - 1

    @settings(deadline=None)
    @given(st.integers(1, 5000), st.integers(20, 600))
    def test_a_quarter_of_overlap_costs_at_most_two_fifths(self, count, size):
        laid = frames(count, size)
        # Lengths are whole numbers of tokens: each window may round up by one.
        assert sum(frame.stop - frame.start for frame in laid) <= 1.4 * count + len(laid)

    @settings(deadline=None)
    @given(st.integers(1, 5000), st.integers(20, 600), st.floats(0, 0.9))
    def test_neighbours_share_what_was_asked_for(self, count, size, overlap):
        laid = frames(count, size, overlap)
        for one, other in pairwise(laid):
            assert one.stop - other.start >= overlap * (one.stop - one.start) - 2


class TestPaperFrames:
    @settings(deadline=None)
    @given(st.integers(0, 3000), st.integers(1, 300), st.floats(0, 0.9))
    def test_later_windows_keep_what_is_new(self, count, size, overlap):
        laid = paper_frames(count, size, overlap)
        assert [place for _, _, keep, until in laid for place in range(keep, until)] == list(range(count))
        repeated = min(round(size * overlap), size - 1)
        for index, (start, stop, keep, until) in enumerate(laid):
            assert until == stop <= start + size
            assert keep - start == (repeated if index else 0)
            assert index == 0 or keep < until


@pytest.mark.parametrize("options", [{"size": 0}, {"overlap": 1.0}, {"overlap": -0.1}])
def test_impossible_windows_are_refused(options):
    with pytest.raises(BudgetError):
        Windows(**options)
