"""What holds for the blocks of every reader."""

from rag_embeddings.text import KINDS, Document

IN_TABLES = {"table_header", "table_row"}


def check_blocks(document: Document) -> None:
    """Blocks are in order, trimmed, disjoint but for rows in tables, and leave out nothing but white space."""
    text = document.text
    end = table_end = 0
    for block in document.blocks:
        slice_ = block.span.of(text)
        assert block.kind in KINDS
        assert slice_, block
        assert slice_ == slice_.strip(), (block, slice_)
        assert (block.level > 0) == (block.kind in {"heading", "list_item"}), block
        if block.kind in IN_TABLES:
            assert block.span.end <= table_end, f"{block} outside of a table"
        if block.kind in IN_TABLES and end == table_end and block.span.start < end:
            row_end = block.span.end  # the first row goes back to where its table begins
        else:
            assert block.span.start >= end, f"{block} begins before {end}"
            assert not text[end : block.span.start].strip(), f"{text[end : block.span.start]!r} is in no block"
            row_end = block.span.end
        if block.kind == "table":
            table_end = block.span.end
        end = row_end
    assert not text[end:].strip() or end < table_end
