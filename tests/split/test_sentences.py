"""Sentences tile the text, and stand where a reader sees them."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings

from hostile_texts import texts
from rag_embeddings.split import sentences
from rag_embeddings.split.graphemes import boundaries
from rag_embeddings.split.sentences import Level, sentence_marks, sentence_spans


def slices(text: str, language: str = "en") -> list[str]:
    return [span.of(text) for span in sentence_spans(text, language)]


@settings(max_examples=800, deadline=None)
@given(texts)
def test_sentences_tile_the_text_on_grapheme_boundaries(text):
    spans = sentence_spans(text)
    assert "".join(span.of(text) for span in spans) == text
    assert all(before.end == after.start for before, after in pairwise(spans))
    marks = boundaries(text)
    assert all(len(span) and marks[span.start] for span in spans)


@settings(max_examples=500, deadline=None)
@given(texts)
def test_white_space_belongs_to_the_sentence_before_it(text):
    marks = boundaries(text).tobytes()
    for span in sentence_spans(text)[1:]:
        first = text[span.start : marks.index(b"\x01", span.start + 1)]
        assert not first.isspace()


@settings(max_examples=300, deadline=None)
@given(texts)
def test_every_sentence_has_a_level(text):
    marks, levels = sentence_marks(text, boundaries(text))
    assert len(levels) == len(marks) - 1
    assert set(levels.tolist()) <= set(Level)


@pytest.mark.parametrize(
    ("language", "text", "expected"),
    [
        ("en", "Dr. Smith paid $3.50. He left.", ["Dr. Smith paid $3.50. ", "He left."]),
        ("en", "See example.org.  Then go!\n", ["See example.org.  ", "Then go!\n"]),
        ("en", "Hi 😀. Next one.", ["Hi 😀. ", "Next one."]),
        ("de", "Das kostet z. B. drei Euro. Gut.", ["Das kostet z. B. drei Euro. ", "Gut."]),
        ("zh", "河水上涨。他打开了门。", ["河水上涨。", "他打开了门。"]),
        ("hi", "वह आया। वह गया।", ["वह आया। ", "वह गया।"]),
        ("ja", "水は安全ですか？はい。", ["水は安全ですか？", "はい。"]),
        ("en", "  \n Leading space.", ["  \n Leading space."]),
        ("en", "a\ud800 bee. Lone surrogates stay.", ["a\ud800 bee. ", "Lone surrogates stay."]),
        ("en", "", []),
        ("en", " \n ", [" \n "]),
    ],
)
def test_known_sentences(language, text, expected):
    assert slices(text, language) == expected


def test_a_heading_is_a_sentence_of_its_own():
    assert slices("# The mill\nIt stands by the river.\n") == ["# The mill\n", "It stands by the river.\n"]
    assert slices("The mill\n\nIt stands here.") == ["The mill\n\n", "It stands here."]


def test_wrapped_lines_are_joined():
    text = (
        "The river rose slowly in the spring, and the miller\n"
        "opened both of the gates before the village woke. A\n"
        "good ledger says what was sold.\n"
    )
    assert slices(text) == [text[:102], text[102:]]


def test_lists_and_verses_keep_their_lines():
    assert slices("- one\n- two\n- three") == ["- one\n", "- two\n", "- three"]
    long = "1. The river rose slowly in the spring, and the\n2. miller opened both of the gates\n"
    assert len(slices(long)) == 2
    assert slices("roses are red\nviolets are blue\n") == ["roses are red\n", "violets are blue\n"]


def test_paragraphs_kept_on_one_line_each_are_apart():
    paragraph = "The river rose slowly in the spring, and the miller opened both of the gates before the village woke; "
    text = f"{paragraph * 3}\nit did so for ninety years\n"
    assert len(slices(text)) == 2


def test_levels_tell_paragraphs_lines_sentences_and_what_stands_below_a_heading():
    text = "Title\n\nOne. Two.\n- item a.\n\nThree.\n# Head\nFour."
    marks, levels = sentence_marks(text, boundaries(text))
    found = [
        (text[start:end].strip(), Level(level)) for (start, end), level in zip(pairwise(marks), levels, strict=True)
    ]
    assert found == [
        ("Title", Level.PARAGRAPH),
        ("One.", Level.TITLE),
        ("Two.", Level.SENTENCE),
        ("- item a.", Level.LINE),
        ("Three.", Level.PARAGRAPH),
        ("# Head", Level.LINE),
        ("Four.", Level.TITLE),
    ]


@pytest.mark.parametrize(("opening", "closing"), ['""', "“”", "«»", "''"])
def test_windows_do_not_begin_inside_a_quotation(opening, closing):
    """A window that sees the closing mark alone takes it for an opening one, and so do all behind it."""
    said = [
        f"{opening}Term {n}{closing} means thing {n}." if n % 3 else f"He called thing {n} {opening}good{closing}."
        for n in range(500)
    ]
    text = " ".join(said)
    assert [span.of(text).strip() for span in sentence_spans(text)] == said


def test_a_sentence_longer_than_the_first_window_stays_whole():
    long = "word " * 900 + "end. "
    assert slices(long + "Next one.") == [long, "Next one."]


def test_what_never_ends_is_cut_behind_white_space():
    text = "word " * 4000
    found = slices(text)
    assert len(found) > 1
    assert all(len(sentence) <= sentences.LONGEST and sentence.endswith(" ") for sentence in found)


@pytest.mark.parametrize("text", ["a" * 20_000, "河" * 20_000, "🇩🇪" * 10_000, "e\u0301" * 10_000])
def test_what_has_no_white_space_is_cut_between_graphemes(text):
    found = sentence_spans(text)
    assert len(found) > 1
    assert max(map(len, found)) <= sentences.LONGEST + 2


@pytest.mark.parametrize("pattern", ["河水上涨。", "Yes! No? ", "word ", "é", "one line\n", "a\n\n"])
def test_the_library_sees_linearly_many_characters(pattern, monkeypatch):
    seen = []
    original = sentences.get_sentence_boundaries

    def counting(language, text):
        seen.append(len(text))
        return original(language, text)

    monkeypatch.setattr(sentences, "get_sentence_boundaries", counting)
    totals = []
    for length in (30_000, 60_000, 120_000):
        seen.clear()
        sentence_spans((pattern * length)[:length])
        assert max(seen) <= sentences.LONGEST
        totals.append(sum(seen))
    assert totals[2] <= 2.1 * totals[1] <= 4.4 * totals[0]
    assert totals[2] <= 4 * 120_000
