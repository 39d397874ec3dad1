"""HTML: the text as a browser shows it, and where its blocks are."""

import re
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from block_laws import check_blocks
from rag_embeddings.errors import DocumentError
from rag_embeddings.read.html import read_html
from rag_embeddings.text import heading_text

PYTHON = Path("/usr/share/doc/python3-doc/html")
POLICY = Path("/usr/share/doc/debian-policy/policy.html")
POSTGRES = Path("/usr/share/doc/postgresql-doc-15/html")

SOUP = (
    "<p> </p> <div> </div> <h1> </h2> <ul> <li> </ul> <ol\tstart=4> <dl> <dt> <dd> <table> <tr> <td> <td\tcolspan=3\trowspan=2> <th> "
    "</td> </tr> </table> <thead> <caption> <pre> </pre> <b> </b> <br> &amp; &#0; &nbsp; a b | <nav> </nav> <main> </main> <blockquote> "
    "</blockquote> <script> </script> <a\thref=#x>¶</a> <!-- --> <hr> < > <p\thidden> <x:p> \0 \ud800 \u2028 \n \t é <h3\trole=heading>"
)
PIECES = st.sampled_from(SOUP.split(" "))


def shown(html: str, **options) -> list[tuple]:
    document = read_html(html, **options)
    check_blocks(document)
    return [(block.kind, block.level, block.span.of(document.text)) for block in document.blocks]


@settings(max_examples=400, deadline=None)
@given(st.lists(PIECES, max_size=25), st.booleans())
def test_laws_of_blocks(pieces, main_only):
    html = "".join(pieces)
    document = read_html(html, main_only=main_only)
    check_blocks(document)
    assert document == read_html(html, main_only=main_only)


def test_every_kind():
    assert shown(
        "<html><head><title>T</title><style>s</style></head><body><h1>One &amp; <b>t</b>wo<a href='#o'>¶</a></h1>"
        "<p>a <i>b</i>c<br>d   e<script>s()</script><ul><li>one<li><p>two</p><p>more</p><ol start=3><li>x<li>y</ol></ul>"
        "<pre>\n  code\n    more</pre><table><caption>Cap</caption><tr><th>a<th>b<tr><td rowspan=2>1<td>2<tr><td>3</table>"
        "<blockquote><p>q</p><h2>r</h2></blockquote><dl><dt>term<dd>meaning</dl><p hidden>no</p><p style='display: none'>no"
    ) == [
        ("heading", 1, "One & two"),
        ("paragraph", 0, "a bc\nd e"),
        ("list_item", 1, "- one"),
        ("list_item", 1, "- two\nmore"),
        ("list_item", 2, "3. x"),
        ("list_item", 2, "4. y"),
        ("code", 0, "code\n    more"),
        ("caption", 0, "Cap"),
        ("table", 0, "a | b\n1 | 2\n | 3"),
        ("table_header", 0, "a | b"),
        ("table_row", 0, "1 | 2"),
        ("table_row", 0, "| 3"),
        ("quote", 0, "q"),
        ("quote", 0, "r"),
        ("list_item", 1, "term"),
        ("paragraph", 0, "meaning"),
    ]


def test_headings_in_any_nesting():
    html = "<div><section><div><h2>a</h2><div><div><h3>b</h3></div></div></div></section></div><div role=heading aria-level=4>c</div>"
    assert shown(html) == [("heading", 2, "a"), ("heading", 3, "b"), ("heading", 4, "c")]


def test_what_stands_around_the_content_is_left_out():
    html = "<header>h</header><nav>n</nav><p>a</p><main><header><h1>t</h1></header><p>b</p><nav>m</nav></main><footer>f</footer>"
    assert shown(html) == [("heading", 1, "t"), ("paragraph", 0, "b")]
    assert [text for *_, text in shown(html.replace("main>", "article>"))] == ["a", "t", "b"]
    assert [text for *_, text in shown(html, main_only=False)] == ["h", "n", "a", "t", "b", "m", "f"]
    assert [text for *_, text in shown("<nav>only</nav>")] == ["only"]


@pytest.mark.parametrize("body", ["<p>x</p>", "<main><h2>A</h2><p>x</p></main>"])
def test_a_title_in_the_header_of_the_page_stays(body):
    page = f"<body><header><h1>Title</h1><p>site</p></header><nav>menu</nav>{body}</body>"
    document = read_html(page)
    assert document.text.startswith("Title\n\n")
    assert not {"site", "menu"} & set(document.text.split())
    assert read_html(page.replace("x</p>", "x</p><h1>Own</h1>")).text.startswith(("x", "A"))


def test_tables_that_lay_out_a_page_are_taken_apart():
    assert shown("<table><tr><td><h1>t</h1></td><td>x</td></tr></table>") == [
        ("heading", 1, "t"),
        ("paragraph", 0, "x"),
    ]
    inner = "<table><tr><td>1<td>2</table>"
    assert [kind for kind, *_ in shown(f"<table><tr><td>a</td><td>{inner}</td></tr></table>")] == [
        "paragraph",
        "table",
        "table_row",
    ]


def test_a_table_head_of_two_rows_is_one_header():
    html = "<table><thead><tr><th colspan=2>a<tr><th>b<th>c<tbody><tr><td>1<td>2</table>"
    assert shown(html)[1:] == [("table_header", 0, "a |\nb | c"), ("table_row", 0, "1 | 2")]


def test_cells_cover_a_bounded_number_of_fields():
    html = "<table>" + "<td colspan=99999 rowspan=99999>a" * 100 + "<tr><td>b" * 100 + "</table>"
    assert len(read_html(html).text) < 10 * len(html)


def test_deep_nesting_is_refused_and_costs_no_more_than_its_beginning():
    for tag in ("<div>", "<b>", "<table><tr><td>", "<ul><li>", "<span><p>"):
        with pytest.raises(DocumentError, match="more than 1000 tags"):
            read_html(tag * 200_000)


@pytest.mark.parametrize(
    "html",
    [
        "<b>" * 900 + "</p>" * 50_000,
        "<a x='" + "y" * 1_000_000,
        "<a " + " ".join(f"a{index}=1" for index in range(50_000)) + ">",
        '<!DOCTYPE html [<!ENTITY a "aaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]>' + "&b;" * 50_000,
        "&" * 200_000,
        "<" * 200_000,
        "<!--" * 50_000,
        "<script>" * 50_000,
        "<table><tr><td>" * 300 + "<p>a" * 20_000,
        "<li>" + "<p>a" * 20_000,
        "<pre>" + "a\n" * 100_000,
    ],
    ids=range(11),
)
def test_hostile_html_ends(html):
    document = read_html(html)
    check_blocks(document)
    assert len(document.text) < 3 * len(html) + 100


def pages() -> list:
    names = "tutorial/errors library/os library/stdtypes library/unittest reference/expressions howto/regex using/windows whatsnew/3.11 faq/design c-api/init"
    found = [PYTHON / f"{name}.html" for name in names.split()]
    found += [POLICY / f"ch-{name}.html" for name in ("binary", "controlfields", "relationships", "source")]
    found += [
        POSTGRES / f"{name}.html"
        for name in ("sql-select", "datatype-numeric", "functions-json", "app-psql", "runtime-config-wal")
    ]
    return [pytest.param(page, id=page.stem) for page in found]


def truth(page: Path) -> etree._Element:
    """The main content of a page as lxml's own tree, without what is not shown."""
    root = etree.fromstring(page.read_bytes(), etree.HTMLParser(encoding="utf-8", huge_tree=True))
    found = root.xpath("//*[@role='main']") or root.xpath("//main") or root.xpath("//body")
    for gone in found[0].xpath(
        ".//script | .//style | .//nav | .//*[@role='navigation'] | .//comment() | .//button"
        "| .//a[contains(@class, 'headerlink') or contains(@class, 'id_link')][string-length(.) = 1]"
        "| .//*[contains(@class, 'navheader') or contains(@class, 'navfooter')] | .//svg"
    ):
        gone.tail, tail = None, gone.tail
        before = gone.getprevious()
        if before is not None:
            before.tail = (before.tail or "") + (tail or "")
        else:
            gone.getparent().text = (gone.getparent().text or "") + (tail or "")
        gone.getparent().remove(gone)
    return found[0]


def squeezed(text: str) -> str:
    return re.sub(r"\s+", "", text)


@pytest.mark.parametrize("page", pages())
def test_real_pages_lose_nothing(page):
    """Headings are those of the tags, tables are whole, and no character of the page is lost or made up."""
    if not page.exists():
        pytest.skip(f"{page} is absent: apt-get install python3-doc debian-policy postgresql-doc-15")
    main = truth(page)
    document = read_html(page.read_text("utf-8"))
    check_blocks(document)

    tags = main.xpath(".//h1 | .//h2 | .//h3 | .//h4 | .//h5 | .//h6")
    expected = [(int(tag.tag[1]), " ".join("".join(tag.itertext()).split())) for tag in tags]
    assert [
        (block.level, heading_text(document, block)) for block in document.blocks if block.kind == "heading"
    ] == expected

    tables = [
        squeezed(block.span.of(document.text).replace("|", "")) for block in document.blocks if block.kind == "table"
    ]
    data = [
        table
        for table in main.xpath(".//table")
        if len(table.xpath(".//tr")) > 1 and not table.xpath(".//pre[contains(., '\n')]")
    ]
    caption_free = ["".join(text for row in table.xpath(".//tr") for text in row.itertext()) for table in data]
    assert tables == [squeezed(text.replace("|", "")) for text in caption_free]

    text, ours = squeezed("".join(main.itertext())), squeezed(document.text)
    marks = Counter("".join(re.findall(r"^ *(?:- |\d+\. )", document.text, re.MULTILINE))) + Counter("|" * len(ours))
    assert Counter(text) <= Counter(ours)
    assert Counter(ours) - Counter(text) <= marks


LABELLED = {
    PYTHON / "tutorial/errors.html": (
        "8. Errors and Exceptions|8.1. Syntax Errors|8.2. Exceptions|8.3. Handling Exceptions|8.4. Raising Exceptions|8.5. Exception Chaining|"
        "8.6. User-defined Exceptions|8.7. Defining Clean-up Actions|8.8. Predefined Clean-up Actions|"
        "8.9. Raising and Handling Multiple Unrelated Exceptions|8.10. Enriching Exceptions with Notes"
    ),
    PYTHON / "howto/sorting.html": (
        "Sorting HOW TO|Sorting Basics|Key Functions|Operator Module Functions|Ascending and Descending|Sort Stability and Complex Sorts|"
        "Decorate-Sort-Undecorate|Comparison Functions|Odds and Ends"
    ),
}  # fmt: skip


@pytest.mark.parametrize("page", LABELLED, ids=lambda page: page.stem)
def test_headings_of_pages_labelled_by_hand(page):
    if not page.exists():
        pytest.skip(f"{page} is absent: apt-get install python3-doc")
    document = read_html(page.read_text("utf-8"))
    found = "|".join(heading_text(document, block) for block in document.blocks if block.kind == "heading")
    assert found == LABELLED[page]
