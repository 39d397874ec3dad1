"""Spans, documents, chunks, ids and the canonical spelling of metadata: laws on any text."""

import itertools
import json
from datetime import date
from decimal import Decimal
from pathlib import PurePosixPath
from threading import Lock
from uuid import UUID

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from rag_embeddings.errors import DocumentError
from rag_embeddings.text import Chunk, Document, Span, canonical_json, content_id, span_id, without_surrogates

ANY_TEXT = st.text(st.characters())  # lone surrogates included
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(ANY_TEXT, inner, max_size=4),
    max_leaves=12,
)


@given(ANY_TEXT, st.data())
def test_a_span_is_a_slice(text, data):
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, len(text)))
    assume(start < end)
    assert Span(start, end).of(text) == text[start:end]


@pytest.mark.parametrize(("start", "end"), [(-1, 3), (5, 4)])
def test_an_impossible_span_is_refused(start, end):
    with pytest.raises(DocumentError, match=str(start)):
        Span(start, end)


@given(ANY_TEXT, st.dictionaries(ANY_TEXT, st.integers()))
def test_a_document_without_an_id_gets_one_from_text_and_metadata(text, metadata):
    document = Document(text, metadata=metadata)
    assert str(UUID(document.id)) == document.id
    assert document.id == Document(text, metadata=dict(reversed(metadata.items()))).id
    assert document.id != Document(text + "x", metadata=metadata).id
    assert document.id != Document(text, metadata={**metadata, "one more": 0}).id


def test_metadata_is_copied():
    metadata = {"a": 1, "tags": ["x"]}
    document = Document("text", metadata=metadata)
    metadata["a"] = 2
    metadata["tags"].append("y")
    assert document.metadata == {"a": 1, "tags": ["x"]}
    with pytest.raises(DocumentError, match="cannot be copied"):
        Document("text", "id", {"lock": Lock()})


def test_a_chunk_is_its_slices_and_its_context():
    document = Document("One. Two. Three.", id="d")
    chunk = Chunk(document, (Span(0, 4), Span(10, 16)), headings=("A",), context="A")
    assert (chunk.start, chunk.end, chunk.text) == (0, 16, "One.\nThree.")
    assert chunk.embedding_text == "A\n\nOne.\nThree."
    assert Chunk(document, (Span(0, 4),)).embedding_text == "One."
    assert chunk.id == span_id(document, "chunk", chunk.spans) != span_id(document, "sentence", chunk.spans)
    assert {chunk, Chunk(document, chunk.spans, ("A",), "A")} == {chunk}
    with pytest.raises(DocumentError, match="16 characters"):
        Chunk(document, (Span(0, 17),))
    with pytest.raises(DocumentError, match="at least one span"):
        Chunk(document, ())
    for spans in ((Span(10, 16), Span(0, 4)), (Span(0, 4), Span(3, 9))):
        with pytest.raises(DocumentError, match="ordered and disjoint"):
            Chunk(document, spans)


@given(st.lists(ANY_TEXT, max_size=4), st.lists(ANY_TEXT, max_size=4))
def test_two_lists_of_fields_never_share_an_id(first, second):
    assert (content_id(*first) == content_id(*second)) == (first == second)


@given(JSON)
def test_canonical_json_can_be_read_back(value):
    try:
        spelled = canonical_json(value)
    except DocumentError:
        plain = json.dumps(value, ensure_ascii=False)
        pairs = itertools.pairwise(plain)
        assert any("\ud800" <= high <= "\udbff" and "\udc00" <= low <= "\udfff" for high, low in pairs)
        return
    assert json.loads(spelled) == value
    assert canonical_json(json.loads(spelled)) == spelled
    assert spelled.isascii()


def test_two_halves_of_a_character_are_not_taken_for_it():
    assert json.loads(canonical_json({"a": "\U0001f600", "b": "\ud83d"})) == {"a": "\U0001f600", "b": "\ud83d"}
    with pytest.raises(DocumentError, match="surrogate pair"):
        canonical_json({"a": "\ud83d\ude00"})


def test_keys_that_are_numbers_stand_beside_any_character():
    assert json.loads(canonical_json({2: "\U0001f600", 10: "\ud83d"})) == {"2": "\U0001f600", "10": "\ud83d"}


def test_what_cannot_end_is_refused():
    circle: list = []
    circle.append(circle)
    deep: list = []
    for _ in range(100_000):
        deep = [deep]
    for value in (circle, deep):
        with pytest.raises(DocumentError, match="cannot be"):
            canonical_json(value)
        with pytest.raises(DocumentError, match="cannot be"):
            Document("text", metadata={"value": value})


def test_what_else_has_a_stable_spelling():
    values = [date(2026, 1, 2), PurePosixPath("a/b"), UUID(int=1), Decimal("1.50")]
    assert json.loads(canonical_json(values)) == ["2026-01-02", "a/b", str(UUID(int=1)), "1.50"]


@pytest.mark.parametrize(
    ("value", "message"), [({"a": object()}, "object"), ({1: 2, "a": 3}, "keys"), ({(1, 2): 3}, "keys")]
)
def test_what_has_none_is_refused(value, message):
    with pytest.raises(DocumentError, match=message):
        canonical_json(value)
    with pytest.raises(DocumentError, match=message):
        Document("text", metadata={"value": value})


@given(ANY_TEXT)
def test_without_surrogates_keeps_every_place(text):
    clean = without_surrogates(text)
    assert len(clean) == len(text)
    clean.encode()
    assert all(new == old or "\ud800" <= old <= "\udfff" for new, old in zip(clean, text, strict=True))
