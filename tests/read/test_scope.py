"""Scope notes against documents whose declarations are labelled."""

from __future__ import annotations

import pickle
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scope_cases import HELD_OUT, TECHNICAL, TUNED, Case

import layouts
from rag_embeddings.read.markdown import read_markdown
from rag_embeddings.read.scope import ScopeNotes
from rag_embeddings.split.layout import LayoutSplitter
from rag_embeddings.text import Block, Document, Note, Span


def errors(case: Case) -> tuple[int, list[str], list[str]]:
    """Return how many places were right, what was missed, and what was claimed wrongly."""
    document = Document(case.text, id=case.name) if case.plain else read_markdown(case.text, id=case.name)
    notes = ScopeNotes()(document)
    right, missed, wrong = 0, [], []
    known = set()
    for declared in case.declared:
        said = case.text.index(declared.words)
        own = [note for note in notes if note.span.start < said + len(declared.words) and said < note.span.end]
        own = [note for note in own if not note.term or note.term in declared.words]
        known.update(own)
        for place in declared.holds + declared.fails:
            at = case.text.index(place)
            held = any(
                scope.start <= at < scope.end and (not note.term or note.mentions(place))
                for note in own
                for scope in note.scopes
            )
            label = f"{case.name}: {declared.words!r} at {place!r}"
            if place in declared.holds:
                right += held
                missed += [] if held else [label]
            elif held:
                wrong.append(label)
    wrong += [f"{case.name}: {note.span.of(case.text)!r}" for note in notes if note not in known]
    return right, missed, wrong


def figures(cases) -> tuple[float, float, list[str], list[str]]:
    """Return precision, recall, what was missed and what was wrong."""
    results = [errors(case) for case in cases]
    right = sum(result[0] for result in results)
    missed = [label for result in results for label in result[1]]
    wrong = [label for result in results for label in result[2]]
    return right / (right + len(wrong)), right / (right + len(missed)), missed, wrong


@pytest.mark.parametrize("cases", [TUNED, HELD_OUT, TECHNICAL], ids=["tuned", "held out", "technical"])
def test_declarations_are_found_with_their_scopes(cases):
    precision, recall, missed, wrong = figures(cases)
    assert precision >= 0.9, wrong
    assert recall >= 0.9, missed


def test_there_are_enough_labels():
    assert sum(len(case.declared) for case in (*TUNED, *HELD_OUT)) >= 40
    assert any(declared.fails for case in HELD_OUT for declared in case.declared)


def scopes(markdown: str) -> dict[str, list[str]]:
    """Return what each note governs, by the note's words."""
    notes = ScopeNotes()(read_markdown(markdown))
    return {note.span.of(markdown): [scope.of(markdown) for scope in note.scopes] for note in notes}


def test_the_rest_is_from_here_on():
    text = "# A\n\nOne.\n\n# B\n\nTwo.\n\nFrom this point on, amounts are in euros.\n\n# C\n\nThree.\n"
    assert scopes(text)["From this point on, amounts are in euros."] == [text[text.index("From") :]]


def test_a_later_declaration_of_the_same_takes_over_and_the_first_reaches_back():
    text = "Zero. All amounts are in dollars. One. All amounts are in euros. Two."
    found = ScopeNotes()(Document(text))
    first, second = (note.scopes for note in found)
    change = text.index("All amounts are in euros")
    assert [scope.of(text) for scope in first] == [text[:change]]
    assert [scope.of(text) for scope in second] == [text[change:]]


def test_a_single_title_is_no_section():
    text = "# Report\n\nAmounts are in millions.\n\n## A\n\n5.\n\n## B\n\nAmounts are in thousands.\n"
    found = scopes(text)
    assert found["Amounts are in thousands."] == [text[text.index("## B") :]]
    assert found["Amounts are in millions."] == [text[: text.index("## B")]]


def test_code_and_furniture_are_not_read():
    assert scopes("```\nAll amounts are in cents.\n```\n\n<!-- All amounts are in cents. -->\n") == {}


@pytest.mark.parametrize(
    ("term", "used", "unused"),
    [
        ("Company", "the Company's", "a company"),
        ("you", "You may", "young"),
        ("(a", "x (a b", "a"),
        ("Fee", "Fees", "Feed"),
    ],
)
def test_a_term_is_mentioned_as_a_word(term, used, unused):
    note = Note(Span(0, 1), (Span(0, 9),), term)
    assert len(note.mentions(f"{used} {used}")) == 2
    assert note.mentions(unused) == []


@settings(max_examples=150, deadline=None)
@given(layouts.documents)
def test_notes_lie_inside_of_any_document(document):
    for note in ScopeNotes()(document):
        assert note.span.of(document.text).strip()
        assert all(0 <= before.end < after.start for before, after in pairwise(note.scopes))
        assert note.scopes[-1].end <= len(document.text)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            [
                "All amounts",
                " in this section",
                " are",
                " in",
                " millions",
                ".",
                '"X"',
                " means",
                "\n\n",
                " (",
                ")",
                "# A\n\n",
                "| a |\n|--|\n",
                " unless",
                " noted",
                " of the rest",
            ]
        ),
        max_size=30,
    ).map("".join)
)
def test_notes_of_anything_like_a_declaration_lie_inside(text):
    for note in ScopeNotes()(read_markdown(text)):
        assert 0 <= note.span.start < note.span.end <= len(text)
        assert all(len(scope) for scope in note.scopes)


@pytest.mark.parametrize(
    "piece", ["(dollars ", '"a" "b" ', 'words "X" and ', "amounts are ", "this unless effective ", "(the "]
)
def test_hostile_sentences_end(piece):
    """Rules that backtracked without bound would not come back from these."""
    assert isinstance(ScopeNotes()(Document(piece * 5000)), list)


@pytest.mark.parametrize(
    "sentence",
    [
        "in this deed, " + "A" * 1100,
        "in this deed, " + "A B-" * 280,
        "this term " + "'" * 1100,
        "this term " + "'a' " * 280,
        "this term " + "'a','a' and " * 90,
        "(amounts in " + "USD thousands and " * 60,
        "this is effective as of " * 45,
    ],
)
def test_hostile_sentences_of_a_length_that_is_read_end(sentence):
    """Longer ones are not looked at. The first took an hour, those of quotation marks would have outlived the Earth."""
    assert ScopeNotes()(Document(sentence)) == []


def test_declarations_of_many_things_at_once_override_each_other_in_bounded_time():
    """Each settles seven things, and every other one settles them anew: stretches must not multiply."""
    line = "(in millions of euros, kg, mm, hours, percent, bytes)"
    text = "\n\n".join([line] * 100)
    notes = ScopeNotes()(Document(text))
    assert len(notes) == 100
    for note, following in pairwise(notes[1:]):  # each holds up to the next
        assert note.scopes == (Span(note.span.start, following.span.start),)


def test_the_number_of_notes_is_bounded():
    text = " ".join(f'"Term{number}" means thing {number}.' for number in range(500))
    assert len(ScopeNotes(limit=50)(Document(text))) == 50


def test_a_note_of_page_5_stands_in_a_chunk_of_page_84():
    pages = [f"Page {number} tells of the mills. " * 6 for number in range(1, 91)]
    pages[4] = "All numbers in the document are in millions."
    pages[83] = "The Lisbon mill earned 412 in spring."
    text, blocks = "", []
    for number, page in enumerate(pages, start=1):
        blocks.append(Block(Span(len(text), len(text) + len(page)), "paragraph", 0, number))
        text += page + "\n\n"
    splitter = LayoutSplitter(100, tokenizer=lambda text: len(text.split()), notes=ScopeNotes())
    chunk = next(chunk for chunk in splitter.split(Document(text, blocks=tuple(blocks))) if "412" in chunk.text)
    assert chunk.metadata["page"] <= 84 <= chunk.metadata["last_page"]
    assert chunk.context == "Note (page 5): All numbers in the document are in millions."
    assert chunk.embedding_text.startswith(chunk.context)
    assert "412" in chunk.embedding_text


def test_notes_pickle_and_name_their_rules():
    notes = ScopeNotes()
    assert pickle.loads(pickle.dumps(notes)) == notes  # noqa: S301
    assert LayoutSplitter(notes=notes).settings()["notes"] == notes.name
    assert ScopeNotes(limit=3).name != notes.name


def test_kinds_of_ones_own_are_read_and_figures_are_not():
    text = "All amounts are in euros."
    span = Span(0, len(text))
    assert ScopeNotes()(Document(text, blocks=(Block(span, "abstract"),)))
    for kind in ("code", "table_row", "furniture"):
        assert ScopeNotes()(Document(text, blocks=(Block(span, kind),))) == []
