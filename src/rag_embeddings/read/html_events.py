"""A parser's events to the blocks of an HTML page."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from rag_embeddings.read.base import grid

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MAX_DEPTH = 1000
"""Tags that may be open at once. What goes deeper was made to break parsers, whose work grows with the depth."""

_MAX_TABLES = 20  # inside each other; the cells of those further in are blocks like any others
_SPACE = re.compile(r"[ \t\n\r\f]+")
_HIDDEN = re.compile(r"display\s{0,9}:\s{0,9}none", re.IGNORECASE)

# Elements whose text a browser does not show as part of the page.
_UNSHOWN = {
    *(
        "head",
        "title",
        "script",
        "style",
        "template",
        "noscript",
        "iframe",
        "object",
        "svg",
        "canvas",
        "audio",
        "video",
    ),
    *("select", "datalist", "textarea", "button", "rp", "annotation", "noframes"),
}
_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_BLOCKS = {
    *(
        "html",
        "body",
        "main",
        "article",
        "section",
        "header",
        "footer",
        "nav",
        "aside",
        "div",
        "p",
        "blockquote",
        "pre",
    ),
    *("ul", "ol", "menu", "dl", "dt", "dd", "li", "table", "caption", "thead", "tbody", "tfoot", "tr", "td", "th"),
    *("figure", "figcaption", "details", "summary", "address", "fieldset", "legend", "form", "center", "hgroup"),
    *("search", "hr"),
    *_HEADINGS,
}
_LISTS = {"ul", "ol", "menu", "dl"}
_TABLES = {"table", "thead", "tr", "td", "th"}
# Containers whose own text takes its kind from them.
_KINDS = {
    "li": "list_item",
    "dt": "list_item",
    "blockquote": "quote",
    "pre": "code",
    "caption": "caption",
    "figcaption": "caption",
    **dict.fromkeys(_HEADINGS, "heading"),
}
_CHANGING = {*_LISTS, *_KINDS, *_TABLES, "dd"}  # elements that change what holds inside of them
_SECTIONS = {"main", "article", "section"}
_AROUND = {"header", "footer", "aside"}  # of the page, unless they stand in a section
_AROUND_ROLES = {"navigation", "banner", "contentinfo", "search"}
_AROUND_CLASSES = {"navheader", "navfooter", "navbar", "sidebar", "breadcrumb", "breadcrumbs"}
_ANCHOR_MARKS = {"¶", "#", "§", "🔗", "\uf0c1"}  # links of headings to themselves


@dataclass(slots=True, eq=False)
class Piece:
    """A block found in the page."""

    kind: str
    parts: list[str]
    level: int
    main: bool
    around: bool
    item: _Item | None = None

    @property
    def text(self) -> str:
        """The text, with a line for each paragraph."""
        return "\n".join(self.parts)


@dataclass(slots=True, eq=False)
class Table:
    """A table found in the page, or still being read."""

    main: bool
    around: bool
    presentational: bool = False
    rows: list[list[str]] = field(default_factory=list)
    headers: int = 0
    open_rows: list[list[_Cell]] = field(default_factory=list)
    in_head: bool = False
    head_rows: int = 0


@dataclass(slots=True, eq=False)
class _Cell:
    """A cell of a table."""

    columns: int
    rows: int
    heads: bool
    pieces: list[Piece | Table] = field(default_factory=list)

    @property
    def text(self) -> str:
        """The text of all blocks in the cell."""
        return " ".join(piece.text for piece in self.pieces if isinstance(piece, Piece))


@dataclass(slots=True, eq=False)
class _List:
    """A list and the number of its next item; None where items have no numbers."""

    next: int | None


@dataclass(slots=True, eq=False)
class _Item:
    """A list item and the mark that its first line still needs."""

    mark: str


@dataclass(slots=True, eq=False)
class _Inside:
    """What holds inside an open tag. Inherited, so that most tags share that of the tag around them."""

    sink: list[Piece | Table]
    kind: str = "paragraph"
    level: int = 0
    depth: int = 0  # of lists
    unshown: bool = False
    main: bool = False
    around: bool = False
    in_section: bool = False
    quoted: bool = False
    list: _List | None = None
    item: _Item | None = None
    table: Table | None = None  # None again in its cells
    tables: int = 0  # around


class Target:
    """Takes lxml's parse events. No tree is built, so depth costs nothing but the stack of open tags."""

    def __init__(self) -> None:
        self.depth_exceeded = False
        self._found: list[Piece | Table] = []
        self._here = _Inside(self._found)
        # Tag, what held outside of it, and where in the text so far it began if it links into the page.
        self._open: list[tuple[str, _Inside, int]] = []
        self._inline: list[str] = []

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        """Begin an element."""
        if len(self._open) >= MAX_DEPTH:
            self.depth_exceeded = True
            return
        tag = tag.rpartition(":")[2].lower()
        if tag in _BLOCKS:
            self._flush()
        elif tag == "br" and not self._here.unshown:
            self._inline.append("\0")
        to_page = tag == "a" and attributes.get("href", "").startswith("#")
        self._open.append((tag, self._here, len(self._inline) if to_page else -1))
        self._here = _inside(self._here, tag, attributes)

    def end(self, _tag: str) -> None:
        """End an element: lxml ends all that were begun, the last one first."""
        if self.depth_exceeded or not self._open:
            return
        tag, outside, begun = self._open.pop()
        inside = self._here
        if tag in _BLOCKS:
            self._flush()
        elif 0 <= begun < len(self._inline) <= begun + 2 and "".join(self._inline[begun:]).strip() in _ANCHOR_MARKS:
            del self._inline[begun:]
        self._here = outside
        if tag == "table" and inside.table is not None and not inside.unshown:
            outside.sink.extend(_closed(inside.table))
        elif tag == "thead" and inside.table is not None:
            inside.table.in_head = False

    def data(self, text: str) -> None:
        """Take text."""
        if not self._here.unshown:
            self._inline.append(text)

    def close(self) -> None:
        """End the page; `finish` gives what was found."""

    def finish(self) -> list[Piece | Table]:
        """Close what is still open and return the blocks of the page."""
        while self._open:
            self.end(self._open[-1][0])
        self._flush()
        return self._found

    def _flush(self) -> None:
        """Make a block of the text since the last block began or ended."""
        if not self._inline:
            return
        here = self._here
        joined, self._inline = "".join(self._inline).replace("\xad", ""), []
        if here.kind == "code":
            text = joined.replace("\0", "\n").strip("\n").rstrip()
        else:
            text = "\n".join(line.strip() for line in _SPACE.sub(" ", joined).split("\0")).strip()
        if not text.strip():
            return
        item = here.item if here.kind == "list_item" else None
        last = here.sink[-1] if here.sink else None
        if item is not None and isinstance(last, Piece) and last.item is item:
            last.parts.append(text)
            return
        if item is not None:
            text, item.mark = item.mark + text, ""
        here.sink.append(Piece(here.kind, [text], here.level, here.main, here.around, item))


def _inside(outside: _Inside, tag: str, attributes: Mapping[str, str]) -> _Inside:
    """Return what holds inside a new element."""
    role = attributes.get("role", "") if attributes else ""
    main = tag == "main" or role == "main"
    unshown = tag in _UNSHOWN or _is_hidden(attributes)
    around = _is_around(tag, role, attributes, in_section=outside.in_section)
    section = main or tag in _SECTIONS
    if not (main or unshown or around or section or role == "heading" or tag in _CHANGING):
        return outside
    here = replace(outside)
    here.unshown |= unshown
    here.main |= main
    here.around |= around
    here.in_section |= section
    if tag in _LISTS:
        here.list = _List(_number(attributes.get("start"), 1) if tag == "ol" else None)
        here.depth += 1
    elif tag in _KINDS or role == "heading":
        _set_kind(here, tag, attributes)
    elif tag in {"dd", "table", "td", "th"}:
        here.kind, here.level, here.item = "paragraph", 0, None
    if tag in _TABLES:
        _in_table(here, tag, attributes)
    return here


def _set_kind(here: _Inside, tag: str, attributes: Mapping[str, str]) -> None:
    """Give an element with a kind of its own that kind, its level, and a mark to a list item."""
    here.kind, here.level, here.item = _KINDS.get(tag, "heading"), 0, None
    if here.kind == "list_item":
        here.depth = here.level = max(here.depth, 1)
        mark = "- " if tag == "li" else ""
        if here.list is not None and here.list.next is not None:
            number = _number(attributes.get("value"), here.list.next)
            here.list.next = number + 1
            mark = f"{number}. "
        here.item = _Item(mark)
    elif here.kind == "heading":
        here.level = _HEADINGS.get(tag) or min(max(_number(attributes.get("aria-level"), 2), 1), 6)
        if here.quoted:  # what a quoted heading governs ends with the quotation
            here.kind, here.level = "quote", 0
    here.quoted |= here.kind == "quote"


def _in_table(here: _Inside, tag: str, attributes: Mapping[str, str]) -> None:
    """Open a table, a row or a cell."""
    if tag == "table":
        here.tables += 1
        table = Table(here.main, here.around, attributes.get("role") in {"presentation", "none"})
        here.table = table if here.tables <= _MAX_TABLES else None
    elif here.table is None:
        return
    elif tag == "thead":
        here.table.in_head = True
    elif tag == "tr":
        here.table.open_rows.append([])
        here.table.head_rows += here.table.in_head
    else:
        cell = _Cell(_span(attributes, "colspan"), _span(attributes, "rowspan"), heads=tag == "th")
        if not here.table.open_rows:
            here.table.open_rows.append([])
        here.table.open_rows[-1].append(cell)
        here.sink, here.table = cell.pieces, None


def _closed(table: Table) -> Sequence[Piece | Table]:
    """Lay out a table whose end was read, or give the pieces in its cells if it only lays out the page."""
    rows = table.open_rows
    pieces = [piece for row in rows for cell in row for piece in cell.pieces]
    if table.presentational or sum(map(len, rows)) == 1 or any(map(_breaks_a_cell, pieces)):
        return pieces
    heads = table.head_rows
    while not table.head_rows and heads < len(rows) and rows[heads] and all(cell.heads for cell in rows[heads]):
        heads += 1
    table.rows = grid([(cell.text, cell.columns, cell.rows) for cell in row] for row in rows)
    table.open_rows = []
    table.headers = heads if heads < len(rows) else 0
    return [table]


def _breaks_a_cell(piece: Piece | Table) -> bool:
    return isinstance(piece, Table) or piece.kind == "heading" or (piece.kind == "code" and "\n" in piece.text)


def _is_hidden(attributes: Mapping[str, str]) -> bool:
    return bool(attributes) and ("hidden" in attributes or bool(_HIDDEN.search(attributes.get("style", ""))))


def _is_around(tag: str, role: str, attributes: Mapping[str, str], *, in_section: bool) -> bool:
    """Tell whether an element holds what stands around a page's content."""
    if tag == "nav" or role in _AROUND_ROLES or (tag in _AROUND and not in_section):
        return True
    return bool(attributes) and not _AROUND_CLASSES.isdisjoint(attributes.get("class", "").split())


def _span(attributes: Mapping[str, str], name: str) -> int:
    return max(1, _number(attributes.get(name), 1))


def _number(value: str | None, default: int) -> int:
    """Read a number of at most nine digits from an attribute."""
    value = (value or "").strip()
    return int(value) if value.isascii() and value.isdigit() and len(value) <= 9 else default  # noqa: PLR2004
