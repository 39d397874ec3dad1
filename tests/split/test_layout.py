"""The layout splitter on documents whose layout is known."""

from __future__ import annotations

import json
import pickle
from functools import partial
from itertools import pairwise

import pytest

from rag_embeddings.errors import BudgetError, DocumentError
from rag_embeddings.read.html import read_html
from rag_embeddings.read.markdown import read_markdown
from rag_embeddings.split.boundaries import Boundary
from rag_embeddings.split.layout import LayoutSplitter
from rag_embeddings.split.recursive import RecursiveSplitter
from rag_embeddings.testing.splitter import check_splitter
from rag_embeddings.text import Block, Document, Note, Span


def words(text: str) -> int:
    return len(text.split())


def made(*parts: tuple[str, str] | tuple[str, str, int] | tuple[str, str, int, int], metadata=None) -> Document:
    """A document of (kind, text, level, page), one block each, blank lines between; tables get a block per line."""
    text, blocks = "", []
    for kind, body, *rest in parts:
        level, page = [*rest, *[0, None][len(rest) :]]
        text += "\n\n" if text else ""
        start = len(text)
        text += body
        blocks.append(Block(Span(start, len(text)), kind, level, page))
        if kind == "table":
            for index, row in enumerate(body.split("\n")):
                end = start + len(row)
                blocks.append(Block(Span(start, end), "table_row" if index else "table_header", 0, page))
                start = end + 1
    return Document(text, id="made", blocks=tuple(blocks), metadata=metadata or {})


def sentences(count: int, about: str = "water") -> str:
    return " ".join(f"The mill has {about} number {number} today." for number in range(count))  # seven words each


GUIDE = made(
    ("heading", "Guide", 1, 1),
    ("paragraph", sentences(3), 0, 1),
    ("heading", "Gates", 2, 1),
    ("paragraph", sentences(9, "gate"), 0, 1),
    ("furniture", "Page 1", 0, 1),
    ("furniture", "The Guide", 0, 2),
    ("heading", "Upper gates", 3, 2),
    ("paragraph", sentences(9, "upper"), 0, 2),
    ("heading", "Wheels", 2, 3),
    ("paragraph", sentences(9, "wheel"), 0, 3),
)


def test_a_chunk_from_deep_inside_shows_its_heading_path():
    chunks = LayoutSplitter(45, tokenizer=words).split(GUIDE)
    deep = next(chunk for chunk in chunks if "upper number 8" in chunk.text)
    assert deep.headings == ("Guide", "Gates", "Upper gates")
    assert deep.metadata["headings"] == "Guide > Gates > Upper gates"
    assert f"{deep.context}\n\n{deep.text}" == deep.embedding_text
    seen = deep.embedding_text
    assert all(heading in seen for heading in deep.headings)
    assert all(seen.count(heading) == 1 for heading in ("Guide", "Upper gates"))
    assert all(words(chunk.embedding_text) <= 45 for chunk in chunks)


def test_the_context_leaves_out_the_heading_that_a_chunk_begins_with():
    chunks = LayoutSplitter(70, tokenizer=words).split(GUIDE)
    begins = next(chunk for chunk in chunks if chunk.text.startswith("Upper gates"))
    assert begins.context == "Guide > Gates"
    assert begins.headings == ("Guide", "Gates", "Upper gates")
    assert chunks[0].context == ""
    assert chunks[0].headings == ("Guide",)


def test_a_heading_without_words_is_in_no_path():
    document = read_markdown("# Guide\n\n##\n\nThe mill has water.\n\n### Gates ###\n\n" + sentences(2))
    chunks = LayoutSplitter(9, tokenizer=words).split(document)
    assert {chunk.headings for chunk in chunks} == {("Guide",), ("Guide", "Gates")}
    assert {chunk.context for chunk in chunks} <= {"", "Guide", "Guide > Gates"}


def test_a_section_cut_in_two_repeats_its_path():
    chunks = LayoutSplitter(35, tokenizer=words).split(GUIDE)
    later = [chunk for chunk in chunks if chunk.text.startswith("The mill has gate")]
    assert later
    assert {chunk.context for chunk in later} == {"Guide > Gates"}


def test_pages_and_kinds_are_told_and_furniture_is_left_out():
    chunks = LayoutSplitter(1000, tokenizer=words).split(GUIDE)
    assert len(chunks) == 1
    assert chunks[0].metadata == {"headings": "Guide", "kinds": "heading,paragraph", "page": 1, "last_page": 3}
    assert len(chunks[0].spans) == 2
    assert "Page 1" not in chunks[0].text
    assert "The Guide" not in chunks[0].text
    pages = [
        (chunk.metadata["page"], chunk.metadata["last_page"])
        for chunk in LayoutSplitter(70, tokenizer=words).split(GUIDE)
    ]
    assert pages == [(1, 1), (1, 1), (2, 2), (3, 3)]


def test_text_goes_on_behind_page_furniture_without_being_cut():
    broken = made(
        ("paragraph", sentences(5) + " And then the", 0, 1),
        ("furniture", "7", 0, 1),
        ("paragraph", "miller came home. " + sentences(5), 0, 2),
    )
    cut = LayoutSplitter(40, tokenizer=words).split(broken)
    together = [chunk for chunk in cut if "And then the\nmiller came home." in chunk.text]
    assert together
    assert len(together[0].spans) == 2


def test_a_grapheme_that_is_partly_furniture_stays():
    text = "00\U0001f5fa\u200d\U0001f5fa"
    blocks = (Block(Span(0, 3), "furniture"), Block(Span(0, 4), "furniture"))
    assert [chunk.text for chunk in LayoutSplitter(9, tokenizer=len).split(Document(text, blocks=blocks))] == [text[2:]]


def test_sections_begin_chunks_and_small_neighbours_share_one():
    small = made(*[part for name in "ABCDEF" for part in [("heading", name, 2), ("paragraph", sentences(2))]])
    chunks = LayoutSplitter(46, tokenizer=words).split(small)
    assert [chunk.text[0] for chunk in chunks] == ["A", "D"]
    large = made(*[part for name in "ABC" for part in [("heading", name, 2), ("paragraph", sentences(5))]])
    assert [chunk.text[0] for chunk in LayoutSplitter(40, tokenizer=words).split(large)] == ["A", "B", "C"]


def test_a_heading_stays_with_what_it_is_above():
    parts = [("paragraph", sentences(4)), ("heading", "Next", 1), ("heading", "Nearer", 2), ("paragraph", sentences(3))]
    assert LayoutSplitter(30, tokenizer=words).split(made(*parts))[1].text.startswith("Next\n\nNearer\n\nThe")


HEADER = "| name | price | unit |"
ROWS = [f"| part {number} | {number}00 | cents |" for number in range(12)]


def test_a_table_that_fits_is_whole():
    table = "\n".join([HEADER, *ROWS[:5]])
    for before in range(8):
        document = made(("paragraph", sentences(before) or "x"), ("table", table), ("paragraph", sentences(5)))
        chunks = LayoutSplitter(55, tokenizer=words).split(document)
        assert sum(table in chunk.text for chunk in chunks) == 1


def test_a_larger_table_is_cut_between_rows_under_its_header():
    document = made(("heading", "Prices", 1), ("table", "\n".join([HEADER, *ROWS])), ("paragraph", sentences(2)))
    chunks = LayoutSplitter(50, tokenizer=words).split(document)
    seen = [line for chunk in chunks for line in chunk.text.split("\n") if line in ROWS]
    assert seen == ROWS
    rows = [chunk for chunk in chunks if any(row in chunk.text for row in ROWS)]
    assert len(rows) > 1
    assert all(HEADER in chunk.embedding_text for chunk in rows)
    assert [HEADER in chunk.text for chunk in rows] == [True] + [False] * (len(rows) - 1)
    assert rows[1].context == f"Prices\n{HEADER}"
    assert all(words(chunk.embedding_text) <= 50 for chunk in chunks)


def test_a_table_without_marked_rows_repeats_its_first_line_and_one_without_header_nothing():
    text = "\n".join([HEADER, *ROWS])
    bare = Document(text, blocks=(Block(Span(0, len(text)), "table"),))
    chunks = LayoutSplitter(50, tokenizer=words).split(bare)
    assert {chunk.context for chunk in chunks} == {"", HEADER}
    rows = made(("table", text)).blocks
    headless = Document(
        text, blocks=tuple(Block(row.span, "table_row") if row.kind == "table_header" else row for row in rows)
    )
    assert {chunk.context for chunk in LayoutSplitter(50, tokenizer=words).split(headless)} == {""}


def test_a_header_that_finds_no_room_is_reported():
    wide = "| " + " | ".join(f"column {number}" for number in range(20)) + " |"
    document = made(("table", "\n".join([wide, *ROWS])))
    chunks = LayoutSplitter(70, tokenizer=words).split(document)
    assert chunks[1].metadata["context_left_out"] == 1
    assert all(words(chunk.embedding_text) <= 70 for chunk in chunks)


@pytest.mark.parametrize("kind", ["code", "list_item"])
def test_code_and_list_items_that_fit_are_whole(kind):
    body = "\n".join(f"step {number} does this. And that." for number in range(5))
    for before in range(9):
        document = made(("paragraph", sentences(before) or "x"), (kind, body, 1), ("paragraph", sentences(5)))
        assert sum(body in chunk.text for chunk in LayoutSplitter(50, tokenizer=words).split(document)) == 1


def test_code_that_does_not_fit_is_cut_at_blank_lines():
    functions = [f"def f{number}():\n    a = 1\n    b = 2\n    return a + b" for number in range(6)]
    chunks = LayoutSplitter(30, tokenizer=words).split(made(("code", "\n\n".join(functions))))
    assert all(chunk.text.startswith("def") for chunk in chunks)


def test_context_never_takes_more_than_it_may():
    deep = made(
        *[("heading", f"Part {level} of a very long winding path", level) for level in range(1, 7)],
        ("paragraph", sentences(30)),
    )
    chunks = LayoutSplitter(40, tokenizer=words, context_tokens=12).split(deep)
    inner = next(chunk for chunk in chunks if "number 29" in chunk.text)
    assert inner.context == "Part 6 of a very long winding path"
    assert len(inner.headings) == 6
    assert LayoutSplitter(40, tokenizer=words, context_tokens=0).split(deep)[-1].context == ""


def test_overlap_stays_within_the_budget_and_off_the_furniture():
    check_splitter(LayoutSplitter(40, 15, tokenizer=words), [GUIDE])
    chunks = LayoutSplitter(40, 15, tokenizer=words).split(GUIDE)
    assert any(after.start < before.end for before, after in pairwise(chunks))


def test_boundaries_by_page_section_block():
    def starts(*boundaries):
        return [
            chunk.text.split(" number")[0]
            for chunk in LayoutSplitter(1000, tokenizer=words, boundaries=boundaries).split(GUIDE)
        ]

    assert [text.split("\n")[0] for text in starts("page")] == ["Guide", "Upper gates", "Wheels"]
    assert [text.split("\n")[0] for text in starts("section")] == ["Guide", "Gates", "Upper gates", "Wheels"]
    assert [text.split("\n")[0] for text in starts(Boundary("section", level=2))] == ["Guide", "Gates", "Wheels"]
    assert len(starts("block")) == 8


def test_boundaries_from_metadata_carry_their_values():
    text = "Good morning. How are you? Fine. And you? Very well."
    document = Document(text, metadata={"speaker": [[0, "Alice"], [27, "Bob"], [42, "Alice"]], "topic": "small talk"})
    chunks = LayoutSplitter(50, 5, tokenizer=words, boundaries=["speaker", "topic"]).split(document)
    assert [(chunk.metadata["speaker"], chunk.text) for chunk in chunks] == [
        ("Alice", "Good morning. How are you?"),
        ("Bob", "Fine. And you?"),
        ("Alice", "Very well."),
    ]
    places = Document(text, metadata={"turns": [27, 42]})
    assert len(LayoutSplitter(50, tokenizer=words, boundaries=["turns"]).split(places)) == 3


def test_a_term_stays_with_what_explains_it():
    entry = "<dt>term {0}</dt><dd><p>Explained {0} in some words.</p><p>More of {0} is said here.</p></dd>"
    document = read_html("<dl>" + "".join(entry.format(number) for number in range(30)) + "</dl>")
    for size in range(20, 40):
        for chunk in LayoutSplitter(size, tokenizer=words).split(document):
            assert not chunk.text.rpartition("\n")[2].startswith("term"), "a chunk ends with a term"


def test_a_single_boundary_is_not_taken_for_its_letters():
    assert LayoutSplitter(boundaries="page").boundaries == (Boundary("page"),)


def test_a_boundary_that_is_nowhere_is_told():
    """A misspelt name had no effect in silence."""
    splitter = LayoutSplitter(tokenizer=words, boundaries="pgae")
    with pytest.warns(UserWarning, match=r"boundary 'pgae' cuts nothing.*'page'"):
        splitter.split(Document("a b c"))
    assert len(splitter.split(Document("a b c", metadata={"pgae": None}))) == 1  # it is known, and there is none


def test_a_chunk_never_carries_a_list_of_places():
    """Stores refuse lists in metadata, and the whole list says nothing of one chunk."""
    document = Document("a b c d e f g", metadata={"turns": [4, 8], "none": []})
    chunks = LayoutSplitter(50, tokenizer=words, boundaries=["turns", "none"]).split(document)
    assert [chunk.metadata for chunk in chunks] == [{"turns": place, "none": None} for place in (None, 4, 8)]


def test_a_boundary_that_is_not_forced_is_weighed():
    text = sentences(10)
    middle = text.index("The mill has water number 3")
    document = Document(text, metadata={"topic": [middle]})
    free = LayoutSplitter(52, tokenizer=words, boundaries=[Boundary("topic", forced=False)]).split(document)
    assert middle in {chunk.start for chunk in free}
    whole = LayoutSplitter(100, tokenizer=words, boundaries=[Boundary("topic", forced=False)]).split(document)
    assert len(whole) == 1


@pytest.mark.parametrize("listed", [["x"], [[1.5, "a"]], [-1], [10_000], [True]])
def test_boundaries_that_are_no_places_are_refused(listed):
    with pytest.raises(DocumentError, match="speaker"):
        LayoutSplitter(tokenizer=words, boundaries=["speaker"]).split(Document("text", metadata={"speaker": listed}))


@pytest.mark.parametrize(
    "wrong", [{"by": ""}, {"by": "x", "cost": -1}, {"by": "x", "cost": float("nan")}, {"by": "x", "level": -1}]
)
def test_impossible_boundaries_are_refused(wrong):
    with pytest.raises(DocumentError, match="boundary"):
        Boundary(**wrong)


def test_notes_stand_in_the_chunks_they_govern():
    text = sentences(20)
    said, late = Span(0, 34), text.index("The mill has water number 15")
    notes = [Note(said, (Span(0, late),)), Note(Span(late, late + 35), (Span(late, len(text)),), term="number 18")]
    chunks = LayoutSplitter(40, tokenizer=words, notes=lambda _: notes).split(Document(text))
    wording = "Note: The mill has water number 0 today."
    for chunk in chunks:
        assert (wording in chunk.context) == (0 < chunk.start < late)
        assert ("number 15" in chunk.context) == ("number 18" in chunk.text and chunk.start > late)
        assert words(chunk.embedding_text) <= 40
    assert any("number 15" in chunk.context for chunk in chunks)


def test_a_note_says_on_which_page_it_stands():
    note = Note(GUIDE.blocks[1].span, (Span(0, len(GUIDE.text)),))
    chunks = LayoutSplitter(60, tokenizer=words, notes=lambda _: [note]).split(GUIDE)
    assert "Note (page 1): The mill has water" in chunks[-1].context


def test_what_lies_outside_of_the_text_is_refused():
    with pytest.raises(DocumentError, match="ends behind"):
        LayoutSplitter(tokenizer=words).split(Document("text", blocks=(Block(Span(0, 5), "paragraph"),)))
    with pytest.raises(DocumentError, match="behind the end"):
        LayoutSplitter(tokenizer=words, notes=lambda _: [Note(Span(0, 1), (Span(0, 9),))]).split(Document("text"))


@pytest.mark.parametrize(
    "wrong", [{"max_tokens": 0}, {"overlap": 256}, {"target": 500}, {"context_tokens": 256}, {"context_tokens": -1}]
)
def test_impossible_budgets_are_refused(wrong):
    with pytest.raises(BudgetError):
        LayoutSplitter(**wrong)


def find_nothing(document):
    return []


def test_settings_are_json_and_tell_everything_apart():
    variants = [
        LayoutSplitter(20, tokenizer=len),
        LayoutSplitter(20, tokenizer=len, context_tokens=3),
        LayoutSplitter(20, tokenizer=len, boundaries=["page"]),
        LayoutSplitter(20, tokenizer=len, boundaries=[Boundary("page", forced=False)]),
        LayoutSplitter(20, tokenizer=len, notes=find_nothing),
        RecursiveSplitter(20, tokenizer=len),
    ]
    assert len({json.dumps(variant.settings(), sort_keys=True) for variant in variants}) == len(variants)


def find_by(document: Document, mark: str) -> list[Note]:
    return [Note(document.blocks[0].span, ()) for _ in range(document.text.count(mark))]


def test_functions_with_other_arguments_are_other_settings():
    """What makes another context has to index a document anew."""
    named = [LayoutSplitter(notes=partial(find_by, mark=mark)).settings()["notes"] for mark in ("a", "b", "a")]
    assert named[0] == named[2] != named[1]
    assert "find_by" in named[0]


def test_it_pickles():
    splitter = LayoutSplitter(40, tokenizer=words, boundaries=["page"], notes=find_nothing)
    expected = splitter.split(GUIDE)
    copy = pickle.loads(pickle.dumps(splitter))  # noqa: S301
    assert copy.split(GUIDE) == expected
    assert copy.settings() == splitter.settings()


class Recorder:
    """Counts words, and what it was asked."""

    def __init__(self) -> None:
        self.calls = self.characters = 0

    def __call__(self, text: str) -> int:
        self.calls += 1
        self.characters += len(text)
        return -(-len(text) // 4)


def _blocks(
    length: int, step: int, kinds: list[str], level=lambda index: 1, size: int | None = None
) -> tuple[Block, ...]:
    starts = range(0, length, step)
    return tuple(
        Block(Span(start, min(start + (size or step), length)), kinds[index % len(kinds)], level(index))
        for index, start in enumerate(starts)
    )


@pytest.mark.parametrize(
    "blocks",
    [
        lambda n: _blocks(n, 40, ["heading", "paragraph"], level=lambda index: index + 1),
        lambda n: _blocks(n, 40, ["heading"], level=lambda index: index % 6 + 1),
        lambda n: _blocks(n, 30, ["furniture", "paragraph"]),
        lambda n: _blocks(n, 50, ["list_item"], size=n),  # each inside the one before
        lambda n: _blocks(n, 70, ["table", "table_header", "table_row"], size=n),
        lambda n: (Block(Span(0, n), "table"),),
        lambda n: (Block(Span(0, n), "heading", 1),),
        lambda n: (Block(Span(0, n), "furniture"),),
        lambda n: _blocks(n, 1, ["code", "furniture"]),
    ],
    ids=[
        "deepening",
        "headings",
        "furniture",
        "nested",
        "tables",
        "one table",
        "one heading",
        "all furniture",
        "crumbs",
    ],
)
def test_cost_grows_linearly(blocks):
    """Work is what the counter is asked: twice the text, at most twice the calls and characters."""
    figures = []
    for length in (10_000, 20_000, 40_000):
        recorder = Recorder()
        text = ("One line. | two\n" * length)[:length]
        splitter = LayoutSplitter(64, 8, tokenizer=recorder, boundaries=["page"])
        splitter.split(Document(text, blocks=blocks(length)))
        figures.append((recorder.calls, recorder.characters))
    for smaller, larger in pairwise(figures):
        assert larger[0] <= 2.1 * smaller[0] + 100
        assert larger[1] <= 2.1 * smaller[1] + 1000
    assert figures[2][1] <= 8 * 40_000
