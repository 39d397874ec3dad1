"""Which sentences are marked, and that marking changes nothing else."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hostile_texts import texts
from rag_embeddings.encode.base import Role
from rag_embeddings.retrieve.base import Match
from rag_embeddings.retrieve.highlight import Highlighter, highlighted, marked, matched_sentences
from rag_embeddings.testing.encoder import DeterministicEncoder
from rag_embeddings.text import Chunk, Document, Span

ENCODER = DeterministicEncoder(128)
PASSAGE = "Cats purr at night. The river rose in spring. Bridges carry carts."


def slices(text, spans):
    return [span.of(text) for span in spans]


def test_the_most_similar_sentences_best_first():
    (found,) = Highlighter(ENCODER).sentences("when the river rose; carts", [PASSAGE])
    assert slices(PASSAGE, found) == ["The river rose in spring.", "Bridges carry carts."]
    (one,) = Highlighter(ENCODER, most=1).sentences("carts", [PASSAGE])
    assert slices(PASSAGE, one) == ["Bridges carry carts."]
    (none,) = Highlighter(ENCODER, least=0.99).sentences("carts", [PASSAGE])
    assert none == []


def test_sentences_are_encoded_as_documents_in_one_call_and_equal_ones_once():
    calls = []

    class Recording(DeterministicEncoder):
        def encode(self, texts, role):
            calls.append((list(texts), role))
            return super().encode(texts, role)

    found = Highlighter(Recording(64)).sentences("cats", [PASSAGE, "Cats purr at night. Eels swim.", "", " \n "])
    assert [len(one) for one in found] == [2, 2, 0, 0]
    (sentences, role), query = calls
    assert role is Role.DOCUMENT
    assert sentences == ["Cats purr at night.", "The river rose in spring.", "Bridges carry carts.", "Eels swim."]
    assert query == (["cats"], Role.QUERY)
    calls.clear()
    assert Highlighter(Recording(64)).sentences("cats", ["", " "]) == [[], []]
    assert calls == []


@settings(max_examples=60, deadline=None)
@given(texts, st.integers(1, 3))
def test_any_text_can_be_highlighted_and_unmarked(text, most):
    (found,) = Highlighter(ENCODER, most).sentences("a question", [text])
    assert len(found) <= most
    assert all(span.of(text).strip() == span.of(text) for span in found)
    shown = marked(text, found, "\x02<", ">\x03")
    assert shown.replace("\x02<", "").replace(">\x03", "") == text.replace("\x02<", "").replace(">\x03", "")
    assert marked(text, found, "", "") == text
    assert marked(text, []) == text


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 20), st.integers(0, 8)).map(lambda p: Span(p[0], min(sum(p), 20))), max_size=6)
)
def test_marks_come_in_pairs_and_enclose_just_the_spans(spans):
    text = "abcdefghijklmnopqrst"
    shown, inside, kept = marked(text, spans, "[", "]"), False, []
    for character in shown:
        if character in "[]":
            assert inside is (character == "]")
            inside = not inside
        elif inside:
            kept.append(character)
    assert not inside
    assert "".join(kept) == "".join(text[n] for n in range(20) if any(s.start <= n < s.end for s in spans))


def match(spans, sentences, context=""):
    document = Document("zero. One here. Two there. Three everywhere.", "d")
    chunk = Chunk(document, tuple(Span(*span) for span in spans), context=context)
    return Match(chunk, 0.5, tuple(Span(*span) for span in sentences))


@pytest.mark.parametrize(
    ("spans", "sentences", "expected"),
    [
        ([(6, 26)], [(16, 26), (6, 15)], ["Two there.", "One here."]),
        ([(0, 5), (16, 44)], [(27, 44), (0, 5)], ["Three everywhere.", "zero."]),
        ([(6, 26)], [], []),
    ],
)
@pytest.mark.parametrize("context", ["", "A > B\nAll numbers are in millions."])
def test_what_our_search_matched_is_found_in_the_text_a_framework_shows(spans, sentences, expected, context):
    found = match(spans, sentences, context)
    for text in (found.chunk.text, found.chunk.embedding_text):
        places = matched_sentences(text, found.metadata())
        assert slices(text, places) == expected
        assert highlighted("?", [(text, found.metadata())], None, 1) == [places[:1]]


def test_other_passages_need_something_to_find_sentences_with():
    foreign = (PASSAGE, {"source": "elsewhere"})
    ours = match([(6, 26)], [(16, 26)])
    with pytest.raises(ValueError, match="1 of 2 passages do not say"):
        highlighted("cats", [(ours.chunk.text, ours.metadata()), foreign], None, 2)
    found = highlighted("cats purr", [(ours.chunk.text, ours.metadata()), foreign], Highlighter(ENCODER, 1), 1)
    assert slices(ours.chunk.text, found[0]) == ["Two there."]
    assert slices(PASSAGE, found[1]) == ["Cats purr at night."]
    assert highlighted("cats", [], None, 1) == []


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {"matches": "x"},
        {"matches": [[0, 3]]},
        {"matches": [[0, 3]], "start_index": 0, "end_index": "x"},
        {"matches": ["ab"], "start_index": 0, "end_index": 7},
        {"matches": [[0, 3]], "start_index": 0, "end_index": 7, "spans": "first"},
        {"matches": [[0, 3]], "start_index": 0, "end_index": 7, "spans": "7-0"},
        {"matches": [[0, 3]], "start_index": 0, "end_index": 7, "spans": [[0, 7]]},
    ],
)
def test_what_only_looks_like_ours_is_not(metadata):
    assert matched_sentences("abc def", metadata) is None


def test_a_changed_text_is_not_ours_any_more():
    found = match([(6, 26)], [(16, 26)])
    assert matched_sentences("One here.", found.metadata()) is None
    assert matched_sentences("**One** here. Two there.", found.metadata()) is None


def test_impossible_number():
    with pytest.raises(ValueError, match="at least 1 sentence"):
        Highlighter(ENCODER, most=0)
