"""PDF: headings, columns, tables, furniture, pages; nothing lost; hostile files refused."""

import re
import shutil
import subprocess
import unicodedata
import zlib
from collections import Counter
from functools import cache
from pathlib import Path

import made_files
import pypdfium2
import pytest

from block_laws import check_blocks
from rag_embeddings.errors import DocumentError
from rag_embeddings.read.pdf import read_pdf
from rag_embeddings.text import Document, heading_text

MANUALS = Path("/usr/share/R/doc/manual")
KEY = "open sesame"
BOOK = made_files.book(6)


def headings(document: Document, pages=None) -> list[tuple]:
    return [
        (block.level, heading_text(document, block))
        for block in document.blocks
        if block.kind == "heading" and (pages is None or block.page in pages)
    ]


def squeezed(text: str) -> str:
    return re.sub(r"\s+", "", unicodedata.normalize("NFKC", text))


@pytest.mark.parametrize("outline", [False, True], ids=["plain", "outline"])
@pytest.mark.parametrize("ruled", [False, True], ids=["aligned", "ruled"])
@pytest.mark.parametrize("columns", [1, 2])
def test_a_book_made_from_markdown(columns, ruled, outline):
    document = read_pdf(made_files.pdf(BOOK, columns, ruled=ruled, outline=outline))
    check_blocks(document)
    truth = made_files.parsed(BOOK)

    assert headings(document) == [(level, content) for kind, level, content in truth if kind == "heading"]
    tables = [block.span.of(document.text) for block in document.blocks if block.kind == "table"]
    assert tables == ["\n".join(map(" | ".join, content)) for kind, _, content in truth if kind == "table"]
    assert sum(block.kind == "table_header" for block in document.blocks) == len(tables)

    # Every character once, and in order: columns are read one after the other.
    body = [block for block in document.blocks if block.kind not in {"furniture", "table_header", "table_row"}]
    ours = "".join(block.span.of(document.text) for block in body).replace("\u2022", "").replace(" | ", "")
    flat = ("".join(map("".join, content)) if kind == "table" else content for kind, _, content in truth)
    assert squeezed(ours) == squeezed("".join(flat))

    paragraphs = {block.span.of(document.text) for block in document.blocks if block.kind == "paragraph"}
    expected = [content for kind, _, content in truth if kind == "paragraph"]
    pages = document.blocks[-1].page
    whole = sum(paragraph in paragraphs for paragraph in expected)
    assert whole >= len(expected) - columns * pages  # one may go on in the next column or page
    items = [block.span.of(document.text) for block in document.blocks if block.kind == "list_item"]
    assert items == [f"\u2022 {content}" for kind, _, content in truth if kind == "list_item"]


def test_furniture_and_pages_of_a_book_made_from_markdown():
    data = made_files.pdf(BOOK)
    document = read_pdf(data)
    furniture = [(block.page, block.span.of(document.text)) for block in document.blocks if block.kind == "furniture"]
    pages = range(1, document.blocks[-1].page + 1)
    assert furniture == [entry for page in pages for entry in ((page, "A Book of Mills and Rivers"), (page, str(page)))]
    check_pages(document, data)


def check_pages(document: Document, source) -> None:
    """Each block's first words are on the page it names."""
    pdf = pypdfium2.PdfDocument(source)
    texts = []
    for page in pdf:
        text = page.get_textpage()
        texts.append(re.sub(r"\W", "", unicodedata.normalize("NFKC", text.get_text_range())))
        text.close()
        page.close()
    pdf.close()
    for block in document.blocks:
        first = next(iter(re.findall(r"\w+", unicodedata.normalize("NFKC", block.span.of(document.text)))), "")
        assert first in texts[block.page - 1], block


def test_words_broken_at_line_ends_are_put_together():
    lines = [
        "They made inter-",
        "national arrangements, a well-",
        "known fact and a well-known one,",
        "in the Wiener-",
        "Philharmonie.",
    ]
    assert read_pdf(text_pdf(lines)).text == (
        "They made international arrangements, a well-known fact and a well-known one, in the Wiener-Philharmonie."
    )


def text_pdf(lines, size=12, operators: bytes | None = None) -> bytes:
    """A PDF of one page, written by hand."""
    content = operators
    if content is None:
        shown = " ".join(f"({line}) Tj T*" for line in lines)
        content = f"BT /F {size} Tf {size * 1.2} TL 72 700 Td {shown} ET".encode()
    packed = zlib.compress(content)
    parts = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 612 792]/Contents 4 0 R/Resources<</Font<</F 5 0 R>>>>>>",
        b"<</Filter/FlateDecode/Length %d>>stream\n%s\nendstream" % (len(packed), packed),
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
    ]
    body = b"%PDF-1.4\n" + b"".join(b"%d 0 obj%s\nendobj\n" % (number, part) for number, part in enumerate(parts, 1))
    return body + b"trailer<</Root 1 0 R/Size 6>>\n%%EOF"


def test_text_that_runs_upwards_is_read_as_if_the_page_were_turned():
    shown = b"BT /F 12 Tf 0 1 -1 0 100 100 Tm 14 TL (First line of text) Tj T* (and the second.) Tj ET"
    assert read_pdf(text_pdf([], operators=shown)).text == "First line of text and the second."


def test_encrypted():
    data = made_files.pdf("# A\n\nsecret", password=KEY)
    with pytest.raises(DocumentError, match="encrypted"):
        read_pdf(data)
    with pytest.raises(DocumentError, match="encrypted"):
        read_pdf(data, password=KEY[:4])
    assert "secret" in read_pdf(data, password=KEY).text


@pytest.mark.parametrize("cut", [0, 10, 500, 5000], ids=str)
def test_broken(cut):
    with pytest.raises(DocumentError, match="broken"):
        read_pdf(made_files.pdf("# A\n\ntext")[:cut] if cut < 5000 else b"%PDF-1.7\n" + b"\xff" * cut)


def test_a_flipped_byte_gives_a_document_or_a_clear_error():
    data = bytearray(made_files.pdf("# A\n\ntext that is long enough to be compressed, and some more of it"))
    read = 0
    for place in range(0, len(data), 97):
        changed = data.copy()
        changed[place] ^= 0x55
        try:
            check_blocks(read_pdf(bytes(changed)))
            read += 1
        except DocumentError:
            continue
    assert read


def test_limits():
    data = made_files.pdf(BOOK)
    for limit in ({"max_bytes": 1000}, {"max_pages": 2}, {"max_characters": 100}, {"max_seconds": -1.0}):
        with pytest.raises(DocumentError, match=next(iter(limit))):
            read_pdf(data, **limit)


@pytest.mark.parametrize(
    "operators",
    [
        b"BT /F 9 Tf 10 TL 72 700 Td " + b"(a) Tj T* " * 20_000 + b"ET",
        b"BT /F 9 Tf 72 700 Td " + b"(a    b    c) Tj 0 -1 Td " * 5_000 + b"ET",
        b"BT /F 1 Tf 72 700 Td (" + b"word " * 20_000 + b") Tj ET",
        b"".join(b"0 %d 500 .5 re f " % y for y in range(4_000)) + b"BT /F 9 Tf 72 700 Td (a) Tj ET",
        b"q " * 100_000,
        b"BT /F 0 Tf (zero) Tj /F 9 Tf 1e30 0 0 1e30 0 0 Tm (far) Tj 0 0 0 0 0 0 Tm (flat) Tj ET",
    ],
    ids=["lines", "cells", "words", "rules", "states", "numbers"],
)
def test_hostile_pages_end(operators):
    check_blocks(read_pdf(text_pdf([], operators=operators)))


@cache
def manual(name: str) -> Document:
    path = MANUALS / name
    if not path.exists():
        pytest.skip(f"{path} is absent: apt-get install r-doc-pdf")
    return read_pdf(path)


def plain(title: str) -> str:
    """A title without numbers, as outlines leave them out, and without marks."""
    return "".join(filter(str.isalnum, re.sub(r"^(?:Appendix )?[A-Z\d]{1,2}(?:\.\d+)*\.? ", "", title)))


@pytest.mark.parametrize("name", ["R-data.pdf", "R-lang.pdf", "R-FAQ.pdf"])
def test_manuals_headings_are_those_of_the_outline(name):
    document = manual(name)
    check_blocks(document)
    pdf = pypdfium2.PdfDocument(MANUALS / name)
    outline = [(mark.level + 1, plain(mark.get_title()), mark.get_dest().get_index() + 1) for mark in pdf.get_toc()]
    pdf.close()
    found = {
        (block.level, plain(heading_text(document, block)), block.page)
        for block in document.blocks
        if block.kind == "heading"
    }
    assert len([entry for entry in outline if entry in found]) >= 0.95 * len(outline)


# Read off the pages by eye.
LABELLED = {
    "R-data.pdf": {
        7: "1 Introduction|1.1 Imports",
        8: "1.1.1 Encodings|1.2 Export to text files",
        9: "",
        10: "1.3 XML",
        11: "",
        12: "2 Spreadsheet-like data|2.1 Variations on read.table",
    },
    "R-intro.pdf": {107: "C.3 Command-line editor summary|Command recall and vertical motion|Horizontal motion of the cursor|Editing and re-submission"},
}  # fmt: skip


@pytest.mark.parametrize("name", LABELLED)
def test_headings_of_pages_labelled_by_hand(name):
    document = manual(name)
    for page, labels in LABELLED[name].items():
        assert "|".join(text for _, text in headings(document, {page})) == labels, page


def test_a_manuals_table_is_whole():
    document = manual("R-intro.pdf")
    tables = [block.span.of(document.text) for block in document.blocks if block.kind == "table" and block.page == 42]
    assert len(tables) == 1
    rows = tables[0].split("\n")
    assert rows[0] == "Distribution | R name | additional arguments"
    assert rows[-1] == "Wilcoxon | wilcox | m, n"
    assert len(rows) == 20


@pytest.mark.parametrize("name", ["R-data.pdf", "R-lang.pdf"])
def test_a_manual_loses_no_text(name):
    document = manual(name)
    if shutil.which("pdftotext") is None:
        pytest.skip("pdftotext is absent: apt-get install poppler-utils")
    theirs = subprocess.run(["pdftotext", MANUALS / name, "-"], capture_output=True, text=True, check=True).stdout
    lost = Counter(squeezed(theirs)) - Counter(squeezed(document.text))
    made = Counter(squeezed(document.text)) - Counter(squeezed(theirs))
    del lost["-"]  # of broken words that were put together
    del made["|"]  # between cells
    assert lost.total() <= 0.0002 * len(theirs), lost
    assert made.total() <= 0.0002 * len(theirs), made


def test_a_manuals_pages_are_right():
    check_pages(manual("R-data.pdf"), MANUALS / "R-data.pdf")
