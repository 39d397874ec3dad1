"""DOCX: styles, lists, tables, notes; zip bombs and broken files refused."""

import io
import random
import re
import zipfile

import docx
import made_files
import pytest
from docx.oxml import OxmlElement
from docx.oxml.ns import qn

from block_laws import check_blocks
from rag_embeddings.errors import DocumentError
from rag_embeddings.read.docx import read_docx
from rag_embeddings.text import heading_text

BOOK = made_files.book(6)
W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'


def saved(document) -> bytes:
    data = io.BytesIO()
    document.save(data)
    return data.getvalue()


def packed(xml: str, name: str = "word/document.xml") -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, xml)
    return data.getvalue()


def shown(data: bytes) -> list[tuple]:
    document = read_docx(data)
    check_blocks(document)
    return [(block.kind, block.level, block.span.of(document.text)) for block in document.blocks]


def test_a_book_made_from_markdown():
    document = read_docx(made_files.docx(BOOK))
    check_blocks(document)
    found = [
        (
            block.kind,
            block.level,
            heading_text(document, block) if block.kind == "heading" else block.span.of(document.text),
        )
        for block in document.blocks
        if block.kind not in {"table_row", "table_header"}
    ]
    expected = []
    for kind, level, content in made_files.parsed(BOOK):
        text = "\n".join(map(" | ".join, content)) if kind == "table" else content
        expected.append((kind, level, f"- {text}" if kind == "list_item" else text))
    assert found == expected
    assert sum(block.kind == "table_header" for block in document.blocks) == sum(kind == "table" for kind, *_ in found)
    assert "Running" not in document.text


def test_lists_are_numbered_as_word_shows_them():
    document = docx.Document()
    for text in ("a", "b"):
        document.add_paragraph(text, style="List Number")
    document.add_paragraph("x", style="List Bullet")
    document.add_paragraph("c", style="List Number")
    document.add_paragraph("plain")
    assert shown(saved(document)) == [
        ("list_item", 1, "1. a"),
        ("list_item", 1, "2. b"),
        ("list_item", 1, "- x"),
        ("list_item", 1, "3. c"),
        ("paragraph", 0, "plain"),
    ]


def test_styles_of_nested_lists_have_levels():
    document = docx.Document()
    for style in ("List Bullet", "List Bullet 2", "List Number 3", "List Number"):
        document.add_paragraph("x", style=style)
    levels = [block.level for block in read_docx(saved(document)).blocks]
    assert levels == [1, 2, 3, 1]


def test_kinds_of_styles():
    document = docx.Document()
    document.add_heading("Title", 0)
    document.add_paragraph("said", style="Intense Quote")
    document.add_paragraph("Figure 1", style="Caption")
    for line in ("if a:", "    b"):
        document.add_paragraph(line, style="macro")
    document.add_paragraph("a\tb\nc")
    assert shown(saved(document)) == [
        ("heading", 1, "Title"),
        ("quote", 0, "said"),
        ("caption", 0, "Figure 1"),
        ("code", 0, "if a:\n    b"),
        ("paragraph", 0, "a\tb\nc"),
    ]


def test_headings_stand_below_the_title():
    document = docx.Document()
    document.add_heading("", 0)
    for text, level in (("Foreword", 1), ("Book", 0), ("Part", 1), ("Chapter", 2), ("Deep", 9), ("More", 0)):
        document.add_heading(text, level)
    levels = [("Foreword", 1), ("Book", 1), ("Part", 2), ("Chapter", 3), ("Deep", 6), ("More", 1)]
    assert shown(saved(document)) == [("heading", level, text) for text, level in levels]


def test_merged_cells_stand_once():
    document = docx.Document()
    table = document.add_table(3, 3, style="Table Grid")
    for row in range(3):
        for column in range(3):
            table.cell(row, column).text = f"{row}{column}"
    table.cell(0, 0).merge(table.cell(0, 1)).text = "wide"
    table.cell(1, 2).merge(table.cell(2, 2)).text = "high"
    assert shown(saved(document))[0][2] == "wide |  | 02\n10 | 11 | high\n20 | 21 |"


def test_changes_boxes_and_controls():
    inner = f"<w:document {W}><w:body>%s</w:body></w:document>"
    text = "<w:r><w:t>%s</w:t></w:r>"
    body = (
        f"<w:p>{text % 'a'}<w:ins>{text % 'b'}</w:ins><w:del><w:r><w:delText>x</w:delText></w:r></w:del><w:hyperlink>{text % 'c'}</w:hyperlink></w:p>"
        f"<w:sdt><w:sdtContent><w:p>{text % 'd'}</w:p></w:sdtContent></w:sdt>"
        f"<w:p>{text % 'e'}<w:r><w:pict><w:txbxContent><w:p>{text % 'f'}</w:p></w:txbxContent></w:pict></w:r></w:p>"
    )
    assert [entry[2] for entry in shown(packed(inner % body))] == ["abc", "d", "e", "f"]
    box = f"<w:r><w:txbxContent><w:p>{text % 'in a box'}</w:p></w:txbxContent></w:r>"
    both = f"<a><Choice>{box}</Choice><Fallback>{box}</Fallback></a>"  # the same twice, for new and for old programs
    cell = f"<w:tc><w:p>{text % 'cell'}{both}</w:p></w:tc>"
    assert shown(packed(inner % f"<w:tbl><w:tr>{cell}<w:tc/></w:tr></w:tbl>"))[0][2] == "cell in a box |"


def test_footnotes_follow():
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr(
            "word/document.xml", f"<w:document {W}><w:body><w:p><w:r><w:t>a</w:t></w:r></w:p></w:body></w:document>"
        )
        note = "<w:footnote{}><w:p><w:r><w:t>{}</w:t></w:r></w:p></w:footnote>"
        notes = note.format(' w:type="separator"', "-") + note.format("", "the note")
        archive.writestr("word/footnotes.xml", f"<w:footnotes {W}>{notes}</w:footnotes>")
    assert [entry[2] for entry in shown(data.getvalue())] == ["a", "the note"]


def test_heading_numbers_that_word_makes_are_part_of_the_heading():
    document = docx.Document()
    number = OxmlElement("w:numPr")
    for name, value in (
        ("w:ilvl", "0"),
        ("w:numId", document.styles["List Number"].element.find(f".//{qn('w:numId')}").get(qn("w:val"))),
    ):
        entry = OxmlElement(name)
        entry.set(qn("w:val"), value)
        number.append(entry)
    document.add_heading("Aims", 1)._p.get_or_add_pPr().append(number)
    assert shown(saved(document)) == [("heading", 1, "1. Aims")]


BOMB = '<!DOCTYPE w [<!ENTITY a "aaaaaaaaaa">' + "".join(
    f'<!ENTITY {after} "{f"&{before};" * 10}">' for before, after in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "broken"),
        (b"PK\x03\x04 no", "broken"),
        (packed("<a/>", "other.xml"), "no part"),
        (packed("<w:document"), "broken"),
        (packed(f"<w:document {W}><w:body>" + "<w:p>" * 100_000), "broken"),
        (packed(" " * 60_000_000), "max_bytes"),
    ],
    ids=["empty", "cut", "other", "xml", "deep", "bomb"],
)
def test_broken_and_hostile_files_are_refused(data, message):
    with pytest.raises(DocumentError, match=message):
        read_docx(data)


def test_a_changed_byte_gives_a_document_or_a_clear_error():
    data, rng = made_files.docx("# A\n\ntext\n\n- item"), random.Random(1)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        parts = {name: archive.read(name) for name in archive.namelist() if name.startswith("word/")}
    read = 0
    for _ in range(300):
        name = rng.choice(["word/document.xml", "word/styles.xml", "word/numbering.xml"])
        changed = bytearray(parts[name])
        place = rng.choice([match.start(1) for match in re.finditer(rb'"([^"])', changed)])  # the value of an attribute
        changed[place] = rng.choice(b"-9aZ ")
        whole = io.BytesIO()
        with zipfile.ZipFile(whole, "w") as archive:
            for part, content in {**parts, name: bytes(changed)}.items():
                archive.writestr(part, content)
        outer = bytearray(data)
        outer[rng.randrange(len(outer))] ^= 1 << rng.randrange(8)
        for source in (whole.getvalue(), bytes(outer)):
            try:
                check_blocks(read_docx(source))
                read += 1
            except DocumentError:
                continue
    assert read


def test_entities_are_not_expanded():
    body = f"<w:document {W}><w:body><w:p><w:r><w:t>x&i;</w:t></w:r></w:p></w:body></w:document>"
    with pytest.raises(DocumentError, match="broken"):
        read_docx(packed(BOMB + "]>" + body))
    few = '<!DOCTYPE w [<!ENTITY i "expanded">]>'
    assert "expanded" not in read_docx(packed(few + body)).text


def test_many_wide_cells_give_a_bounded_text():
    cell = '<w:tc><w:tcPr><w:gridSpan w:val="9999"/></w:tcPr><w:p><w:r><w:t>a</w:t></w:r></w:p></w:tc>'
    xml = f"<w:document {W}><w:body><w:tbl><w:tr>{cell * 2000}</w:tr><w:tr>{cell}</w:tr></w:tbl></w:body></w:document>"
    assert len(read_docx(packed(xml)).text) < 5 * len(xml)
