"""Documents with blocks: such as readers give, and such as nobody should."""

from __future__ import annotations

from hypothesis import strategies as st

from hostile_texts import texts
from rag_embeddings.text import KINDS, Block, Document, Note, Span

_WORDS = ["river", "gate", "mill", "1,200", "copper", "the Board", "e\u0301", "🇩🇪", "水车", "x" * 30, "a.b", "—"]
_sentence = st.lists(st.sampled_from(_WORDS), min_size=1, max_size=9).map(lambda words: " ".join(words) + ". ")
_line = st.lists(st.sampled_from(_WORDS), min_size=1, max_size=4).map(" | ".join)
_BREAKS = ["\n", "\n\n", "\r\n", " ", "\x0c", "\n\n\n"]


@st.composite
def read_documents(draw: st.DrawFn) -> Document:
    """A document as a reader makes it: blocks in order that do not overlap, rows inside their tables."""
    text, blocks, page = draw(st.sampled_from(["", "\n", " "])), [], 1
    for _ in range(draw(st.integers(1, 14))):
        kind = draw(st.sampled_from([*KINDS, "heading", "paragraph", "paragraph", "footnote"]))
        if kind == "furniture" and draw(st.booleans()):
            page += 1
        number = page if draw(st.booleans()) else None
        if kind in {"table", "table_header", "table_row"}:
            rows = draw(st.lists(_line, min_size=1, max_size=6))
            header = draw(st.integers(0, 1)) if len(rows) > 1 else 0
            inner, start = [], len(text)
            for index, row in enumerate(rows):
                at = len(text)
                text += row + "\n"
                inner.append(
                    Block(Span(at, at + len(row)), "table_header" if index < header else "table_row", 0, number)
                )
            blocks.append(Block(Span(start, len(text) - 1), "table", 0, number))
            blocks.extend(inner if draw(st.booleans()) else [])
        else:
            body = draw(
                _line if kind in {"heading", "furniture"} else st.lists(_sentence, max_size=4).map("".join)
            ).strip()
            if body:
                level = draw(st.integers(1, 6)) if kind in {"heading", "list_item"} else 0
                blocks.append(Block(Span(len(text), len(text) + len(body)), kind, level, number))
                text += body
        text += draw(st.sampled_from(_BREAKS))
    return Document(text, id="read", blocks=tuple(blocks))


@st.composite
def hostile_documents(draw: st.DrawFn) -> Document:
    """Any text with blocks anywhere: crossing each other, empty, inside graphemes."""
    text = draw(texts)
    place = st.integers(0, len(text))
    kinds = st.sampled_from([*KINDS, "furniture", "heading", "anything"])
    blocks = []
    for _ in range(draw(st.integers(1, 10))):
        start, end = sorted((draw(place), draw(place)))
        blocks.append(
            Block(Span(start, end), draw(kinds), draw(st.integers(0, 7)), draw(st.none() | st.integers(0, 5)))
        )
    return Document(text, id="hostile", blocks=tuple(blocks), metadata={"speaker": draw(_turns(len(text)))})


def _turns(length: int) -> st.SearchStrategy[list[object]]:
    place = st.integers(0, length)
    return st.lists(place | st.tuples(place, st.sampled_from(["Alice", "Bob", None])).map(list), max_size=4)


@st.composite
def notes_for(draw: st.DrawFn, length: int) -> list[Note]:
    """Notes anywhere in a text."""
    place = st.integers(0, length)
    made = []
    for _ in range(draw(st.integers(0, 4))):
        said = sorted((draw(place), draw(place)))
        edges = sorted({draw(place) for _ in range(4)})
        scopes = [Span(start, end) for start, end in zip(edges[::2], edges[1::2], strict=False)]
        made.append(Note(Span(*said), tuple(scopes), draw(st.sampled_from(["", "", "river", "a"]))))
    return made


documents = read_documents() | hostile_documents()
