"""Laws of splitting by layout, on generated documents with generated blocks, notes and boundaries."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_splitters import SOURCES, budgets, counter

import layouts
from hostile_texts import texts
from rag_embeddings.split.boundaries import Boundary
from rag_embeddings.split.graphemes import boundaries
from rag_embeddings.split.layout import LayoutSplitter
from rag_embeddings.split.recursive import RecursiveSplitter
from rag_embeddings.testing.splitter import check_splitter
from rag_embeddings.text import Document

# Some of the documents say nothing of who speaks.
pytestmark = pytest.mark.filterwarnings("ignore:the boundary 'speaker' cuts nothing")

PER_CASE = 250
slow = settings(max_examples=10_000, deadline=None, suppress_health_check=list(HealthCheck))
fast = settings(max_examples=PER_CASE, deadline=None, suppress_health_check=list(HealthCheck))


@st.composite
def cases(draw):
    document = draw(layouts.documents)
    notes = draw(layouts.notes_for(len(document.text)))
    names = draw(st.lists(st.sampled_from(["page", "section", "block", "speaker"]), unique=True, max_size=2))
    marks = [Boundary(name, forced=draw(st.booleans()), cost=draw(st.floats(0, 9))) for name in names]
    return document, notes, marks, draw(budgets())


def check(name, case):
    document, notes, marks, (maximum, overlap) = case
    splitter = LayoutSplitter(
        maximum, overlap, tokenizer=counter(name), boundaries=marks, notes=(lambda _: notes) if notes else None
    )
    check_splitter(splitter, [document])
    chunks = splitter.split(document)
    check_furniture(document, chunks)
    check_boundaries(document, splitter, chunks)


def check_furniture(document, chunks):
    """What lies in furniture and in no other block is in no chunk, and no span has outer white space."""
    length = len(document.text)
    other, furniture = bytearray(length), bytearray(length)
    for block in document.blocks:
        mask = furniture if block.kind == "furniture" else other
        mask[block.span.start : block.span.end] = b"\1" * len(block.span)
    edges = boundaries(document.text)
    starts = [at for at in range(length) if edges[at]]
    for start, end in pairwise([*starts, length]):
        grapheme = document.text[start:end]
        if all(furniture[start:end]) and not any(other[start:end]) and not grapheme.isspace():
            inside = [chunk for chunk in chunks for span in chunk.spans if span.start <= start < span.end]
            assert not inside, f"furniture {grapheme!r} at {start} is in {inside[0].spans}"
    for chunk in chunks:
        for span in chunk.spans:
            assert not document.text[span.start].isspace() or not edges[span.start + 1]


def check_boundaries(document, splitter, chunks):
    """No chunk reaches across a forced boundary."""
    forced = [mark for mark in splitter.boundaries if mark.forced]
    if not forced:
        return
    from rag_embeddings.split.layout_atoms import mark_places
    from rag_embeddings.split.segments import outline

    edges = boundaries(document.text)
    segments = outline(document, edges).segments
    for mark in forced:
        for at in mark_places((place for place, _ in mark.places(document, segments)), edges):
            crossing = [chunk for chunk in chunks if chunk.start < at < chunk.end]
            assert not crossing, f"{mark} at {at} is inside {crossing[0].spans}"


@pytest.mark.parametrize("name", SOURCES)
@fast
@given(case=cases())
def test_laws_hold_on_generated_layouts(name, case):
    check(name, case)


@pytest.mark.slow
@pytest.mark.parametrize("name", SOURCES)
@slow
@given(case=cases())
def test_laws_hold_on_ten_thousand_generated_layouts(name, case):
    check(name, case)


@pytest.mark.parametrize("name", SOURCES)
@settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
@given(text=texts, budget=budgets())
def test_without_blocks_it_splits_as_the_recursive_splitter(name, text, budget):
    document = Document(text, id="plain")
    plain = RecursiveSplitter(*budget, tokenizer=counter(name)).split(document)
    assert LayoutSplitter(*budget, tokenizer=counter(name)).split(document) == plain
