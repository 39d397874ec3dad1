"""Parts of chunks are found again in the text that the chunks were taken from."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_embeddings.split.slices import slices_of, spelled, traced
from rag_embeddings.text import Span

TEXT = "".join(chr(ord("a") + number % 26) for number in range(200))


def ordered(length: int) -> st.SearchStrategy[list[Span]]:
    """Ordered, disjoint spans that are not empty."""
    places = st.lists(st.integers(0, length), min_size=2, max_size=12, unique=True).map(sorted)
    return places.map(lambda ends: [Span(*pair) for pair in zip(ends[::2], ends[1::2], strict=False)])


@given(slices=ordered(len(TEXT)), data=st.data())
def test_what_is_traced_is_the_same_text(slices, data):
    chunk = "\n".join(span.of(TEXT) for span in slices)
    # White space at its edges is no part of a chunk, and all there is here stands between slices.
    parts = [span for span in data.draw(ordered(len(chunk))) if span.of(chunk).strip() == span.of(chunk)]
    found = traced(parts, slices)
    assert "\n".join(span.of(TEXT) for span in found) == "\n".join(span.of(chunk) for span in parts)
    assert all(before.end <= after.start for before, after in pairwise(found))
    assert slices_of(chunk, slices[0].start, slices[-1].end, spelled(slices)) == slices


@pytest.mark.parametrize(
    ("start", "end", "several"),
    [
        (None, None, None),
        (3, "9", None),
        (3, 10, None),  # too long for the text
        (3, 20, "3-6"),  # not up to the end
        (3, 20, "3-6,18-21"),  # behind the end
        (3, 20, "17-20,3-5"),  # out of order
        (3, 20, "3-6,5-8"),
        (3, 20, [[3, 6], [18, 20]]),
        (9, 3, None),
    ],
)
def test_what_does_not_say_where_a_chunk_stands_is_no_place(start, end, several):
    assert slices_of("abcdef", start, end, several) is None
    assert slices_of("abcdef", 3, 9, None) == [Span(3, 9)]
    assert slices_of("abc\nef", 3, 20, "3-6,18-20") == [Span(3, 6), Span(18, 20)]
