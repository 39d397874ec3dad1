"""Markdown: blocks are exact spans of the file's own text."""

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from block_laws import check_blocks
from rag_embeddings.read.markdown import read_markdown
from rag_embeddings.split.layout import LayoutSplitter
from rag_embeddings.text import Block, Document, Span, heading_text

LINES = st.sampled_from(
    [
        "",
        "a",
        "\ufeff",
        "\ufeff# b",
        "# h",
        "## h ##",
        "- x",
        "  - y",
        "1. z",
        "> q",
        ">",
        "> - x",
        "```",
        "    c",
        "|a|b|",
        "|-|-|",
        "|1|2|",
        "===",
        "---",
        "[x]: /y",
        "<!-- c -->",
        "<div>",
        "***",
        "  t",
        "\t- x",
        "> # h",
        "\x0b",
        "#",
        "[",
        "~~~",
        "<!--",
    ]
)


def shown(text: str) -> list[tuple]:
    document = read_markdown(text)
    check_blocks(document)
    return [(block.kind, block.level, block.span.of(text)) for block in document.blocks]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(LINES, st.sampled_from(["\n", "\r\n", "\r"])), max_size=12), st.booleans())
def test_laws_of_blocks(lines, front):
    text = "".join(line + end for line, end in lines)
    document = read_markdown("---\nx: 1\n---\n" + text if front else text)
    assert document.text.endswith(text)
    check_blocks(document)


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="#-+*>|`~=_[]()<>!:1. \t\n\r\0ab\u2028\x85\ud800é", max_size=60))
def test_laws_of_blocks_on_any_text(text):
    document = read_markdown(text)
    assert document.text == text
    check_blocks(document)


def test_every_kind():
    assert shown(
        "---\ntitle: T\n---\n# One #\n\ntext\nmore\n\n- x\n\n  y\n  - z\n\n> q\n>\n> # r\n\nTwo\n===\n\n"
        "|a|b|\n|-|-|\n|1|2|\n|3|4|\n\n[x]: /y\n\n<!-- c -->\n\n***\n\n    code\n\n```py\nunclosed\n\n# no heading"
    ) == [
        ("code", 0, "---\ntitle: T\n---"),
        ("heading", 1, "# One #"),
        ("paragraph", 0, "text\nmore"),
        ("list_item", 1, "- x\n\n  y"),
        ("list_item", 2, "- z"),
        ("quote", 0, "> q\n>\n> # r"),
        ("heading", 1, "Two\n==="),
        ("table", 0, "|a|b|\n|-|-|\n|1|2|\n|3|4|"),
        ("table_header", 0, "|a|b|\n|-|-|"),
        ("table_row", 0, "|1|2|"),
        ("table_row", 0, "|3|4|"),
        ("furniture", 0, "[x]: /y"),
        ("furniture", 0, "<!-- c -->"),
        ("furniture", 0, "***"),
        ("code", 0, "code"),
        ("code", 0, "```py\nunclosed\n\n# no heading"),
    ]


def test_what_a_list_item_holds_beside_its_paragraphs_is_a_block_of_its_own():
    assert shown("1. a\n\n   ```\n   c\n   ```\n\n   b\n2. # h\n") == [
        ("list_item", 1, "1. a"),
        ("code", 0, "```\n   c\n   ```"),
        ("list_item", 1, "b"),
        ("heading", 1, "2. # h"),
    ]


def test_several_comments_are_furniture():
    document = read_markdown("<!-- a --> <!-- b --><!--c-->\n\nx\n\n<!-- c --> d <!-- e -->")
    assert [block.kind for block in document.blocks] == ["furniture", "paragraph", "paragraph"]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_byte_order_mark_hides_nothing(end):
    """Loaders that decode as UTF-8 leave it in the text."""
    text = f"\ufeff---{end}a: b{end}---{end}# Title{end}{end}Body."
    for marked, kinds in ((text, ["code"]), ("\ufeff" + text[text.index("#") :], [])):
        document = read_markdown(marked)
        assert document.text == marked
        assert [block.kind for block in document.blocks] == ["furniture", *kinds, "heading", "paragraph"]
        assert document.blocks[0].span == Span(0, 1)
        heading = document.blocks[-2]
        assert (heading_text(document, heading), heading.span.of(marked)) == ("Title", "# Title")
        assert LayoutSplitter(100, tokenizer=len).split(document)[0].start == 1


def test_text_behind_an_unclosed_comment_is_no_furniture():
    assert [kind for kind, *_ in shown("<!-- todo\n\nThe price is 5.")] == ["paragraph"]


def test_a_rule_at_the_top_is_no_front_matter():
    assert [kind for kind, *_ in shown("---\n\ntext")] == ["furniture", "paragraph"]


@pytest.mark.parametrize(
    ("markdown", "heading"),
    [("# a", "a"), ("### a b  ##", "a b"), ("a\nb\n---", "a b"), ("# C#", "C#"), ("#", ""), ("## #", ""), ("#1 rule", "#1 rule"), ("2. - # a", "a"), ("2. a", "2. a")],
)  # fmt: skip
def test_heading_text(markdown, heading):
    document = Document(markdown, blocks=(Block(Span(0, len(markdown)), "heading", 1),))
    assert heading_text(document, document.blocks[0]) == heading


@pytest.mark.parametrize(
    "text",
    [">" * 50000, "- " * 50000, "```\n" + "a\n" * 20000, "[a]: '\n" * 20000, "# a\n" * 20000, "|a" * 5000 + "\n" + "|-" * 5000 + "\n", "<!--\n\n" * 20000, "> - " * 8000, "\n".join("  " * i + "- a" for i in range(300))],
    ids=range(9),
)  # fmt: skip
def test_hostile_markdown_ends(text):
    check_blocks(read_markdown(text))


BOOK = Path("/usr/share/doc/nodejs/api")


@pytest.mark.parametrize("name", ["fs", "http", "n-api", "packages", "test"])
def test_a_real_books_headings_and_tables(name):
    """Against a second opinion: the lines that begin with hashes, or with a bar, outside of fences and comments."""
    path = BOOK / f"{name}.md"
    if not path.exists():
        pytest.skip(f"{path} is absent: apt-get install nodejs")
    text = path.read_text("utf-8")
    bare = re.sub(r"^( *)```.*?^\1```|<!--.*?-->", "", text, flags=re.DOTALL | re.MULTILINE)
    document = read_markdown(text)
    check_blocks(document)
    expected = [
        (len(hashes), " ".join(title.split())) for hashes, title in re.findall(r"^(#{1,6}) +(.+)$", bare, re.MULTILINE)
    ]
    assert len(expected) > 20
    headings = [block for block in document.blocks if block.kind == "heading"]
    assert [(block.level, heading_text(document, block)) for block in headings] == expected
    rows = [block for block in document.blocks if block.kind in {"table_row", "table_header"}]
    bars = re.findall(r"^\|.*$", bare, re.MULTILINE)
    assert sum(block.span.of(text).count("\n") + 1 for block in rows) == len(bars)
