"""What unstructured and docling have read is taken over, whatever version made it."""

from types import SimpleNamespace

import pytest

from block_laws import check_blocks
from rag_embeddings import from_docling, from_unstructured
from rag_embeddings.errors import DocumentError


def shown(document) -> list[tuple]:
    check_blocks(document)
    return [(block.kind, block.level, block.page, block.span.of(document.text)) for block in document.blocks]


def element(category, text, **about):
    return SimpleNamespace(category=category, text=text, metadata=SimpleNamespace(**about))


def test_unstructured():
    table = "<table><thead><tr><th>a</th><th>b</th></tr></thead><tbody><tr><td>1</td><td>2</td></tr></tbody></table>"
    elements = [
        element("Header", "running", page_number=1),
        element("Title", "One", page_number=1, category_depth=0),
        element("Title", "Two", page_number=1, category_depth=1),
        element("NarrativeText", "text", page_number=1),
        element("ListItem", "item", page_number=2, category_depth=1),
        element("Table", "a b 1 2", page_number=2, text_as_html=table),
        element("Table", "a b 1 2", page_number=2),
        element("PageBreak", ""),
        element("UncategorizedText", "more"),
    ]
    assert shown(from_unstructured(elements, id="x")) == [
        ("furniture", 0, 1, "running"),
        ("heading", 1, 1, "One"),
        ("heading", 2, 1, "Two"),
        ("paragraph", 0, 1, "text"),
        ("list_item", 2, 2, "item"),
        ("table", 0, 2, "a | b\n1 | 2"),
        ("table_header", 0, 2, "a | b"),
        ("table_row", 0, 2, "1 | 2"),
        ("table", 0, 2, "a b 1 2"),
        ("paragraph", 0, None, "more"),
    ]


def cell(text, row, column, *, header=False):
    return SimpleNamespace(text=text, start_row_offset_idx=row, start_col_offset_idx=column, column_header=header)


EXPECTED = [
    ("heading", 1, 1, "The Title"),
    ("heading", 2, 1, "One"),
    ("paragraph", 0, 2, "text"),
    ("list_item", 1, None, "- a"),
    ("list_item", 2, None, "1. b"),
    ("caption", 0, None, "Table 1: cap"),
    ("table", 0, 2, "A | B\n1 | 2\nwide |"),
    ("table_header", 0, 2, "A | B"),
    ("table_row", 0, 2, "1 | 2"),
    ("table_row", 0, 2, "wide |"),
    ("code", 0, None, "x = 1"),
]


def test_docling():
    def item(label, text="", page=None, **more):
        prov = [SimpleNamespace(page_no=page)] if page else []
        return SimpleNamespace(label=SimpleNamespace(value=label), text=text, prov=prov, **more)

    wide = cell("wide", 2, 0)
    grid = [
        [cell("A", 0, 0, header=True), cell("B", 0, 1, header=True)],
        [cell("1", 1, 0), cell("2", 1, 1)],
        [wide, wide],
    ]
    items = [
        (item("title", "The Title", 1), 1),
        (item("section_header", "One", 1, level=1), 1),
        (item("text", "text", 2), 1),
        (item("list_item", "a", marker="-"), 2),
        (item("list_item", "b", marker="1."), 4),
        (item("caption", "Table 1: cap"), 1),
        (item("table", page=2, data=SimpleNamespace(grid=grid)), 1),
        (item("code", "x = 1"), 1),
        (item("picture"), 1),
    ]
    assert shown(from_docling(SimpleNamespace(iterate_items=lambda: iter(items)))) == EXPECTED


def test_a_real_docling_document():
    doc = pytest.importorskip("docling_core.types.doc", reason="docling-core is not installed")
    labels = doc.DocItemLabel
    made = doc.DoclingDocument(name="x")

    def on(page):
        return doc.ProvenanceItem(page_no=page, bbox=doc.BoundingBox(l=0, t=0, r=1, b=1), charspan=(0, 1))

    for page in (1, 2):
        made.add_page(page_no=page, size=doc.Size(width=1, height=1))
    made.add_title("The Title", prov=on(1))
    made.add_heading("One", level=1, prov=on(1))
    made.add_text(labels.TEXT, "text", prov=on(2))
    first = made.add_list_item("a", parent=made.add_list_group())
    made.add_list_item("b", parent=made.add_list_group(parent=first), enumerated=True, marker="1.")
    caption = made.add_text(labels.CAPTION, "Table 1: cap")

    def cell(text, row, column, width=1):
        return doc.TableCell(
            text=text, start_row_offset_idx=row, end_row_offset_idx=row + 1, start_col_offset_idx=column,
            end_col_offset_idx=column + width, col_span=width, column_header=row == 0,
        )  # fmt: skip

    cells = [cell("A", 0, 0), cell("B", 0, 1), cell("1", 1, 0), cell("2", 1, 1), cell("wide", 2, 0, 2)]
    made.add_table(doc.TableData(num_rows=3, num_cols=2, table_cells=cells), caption=caption, prov=on(2))
    made.add_code("x = 1")
    made.add_text(labels.PAGE_FOOTER, "3", content_layer=doc.ContentLayer.FURNITURE)
    assert shown(from_docling(made)) == EXPECTED


def test_what_is_given_must_be_theirs():
    with pytest.raises(DocumentError, match="iterate_items"):
        from_docling("text")
    with pytest.raises(DocumentError, match="category and text"):
        from_unstructured(["text"])
