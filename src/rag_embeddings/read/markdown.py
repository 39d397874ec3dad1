"""Markdown to a document with layout. The text stays what the file holds; blocks are whole lines of it."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from rag_embeddings.errors import require
from rag_embeddings.text import Block, Document, Span

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

MARKDOWN_SUFFIXES = (".md", ".markdown", ".mdown", ".mkd", ".qmd")
"""What names of such files end in."""

_LINE_END = re.compile(r"\r\n?|\n")  # as markdown-it-py counts lines
_FRONT_MATTER = re.compile(r"---[ \t]*$")
_FRONT_MATTER_END = re.compile(r"(?:---|\.\.\.)[ \t]*$")
_DEFINITION = re.compile(r" {0,3}\[[^\]]*\]:")
_QUOTE_MARKS = re.compile(r"[ \t>]+$")
_COMMENTS = re.compile(r"(?:\s*+<!--(?:(?!-->).)*+-->)++\s*+", re.DOTALL)  # possessive, hence linear
_LISTS = {"bullet_list_open", "ordered_list_open", "bullet_list_close", "ordered_list_close"}
_CONTAINERS = {
    "blockquote_open": "quote",
    "blockquote_close": "quote",
    "list_item_open": "list_item",
    "list_item_close": "list_item",
}
_LEAVES = {
    "heading_open": "heading",
    "paragraph_open": "paragraph",
    "fence": "code",
    "code_block": "code",
    "html_block": "paragraph",
    "hr": "furniture",
    "table_open": "table",
    "thead_open": "table_header",
    "tr_open": "table_row",
}


def read_markdown(text: str, *, id: str = "", metadata: Mapping[str, Any] | None = None) -> Document:  # noqa: A002 - the document's field
    """Find the layout of Markdown: CommonMark with GitHub's tables.

    Args:
        text: Markdown. It becomes the document's text as it is.
        id: The document's id; derived from text and metadata if empty.
        metadata: The document's metadata.

    Returns:
        A document whose blocks cover every line that is not blank. A block begins at the first and ends behind the last
        character that is not white space, marks (``#``, ``-``, ``>``, fences) included; `heading_text` gives a heading
        without them. A front matter is a block of ``code``; rules, comments, link definitions and a byte order mark are
        ``furniture``. The paragraphs of one list item are one block, and so are those of one quotation; a heading in a
        quotation is part of it.

    Raises:
        MissingExtraError: If markdown-it-py is not installed.
    """
    lines = _Lines(text)
    body = _front_matter(lines)
    leaves = [_Leaf("code", 0, 0, body)] if body else []
    leaves += [
        _Leaf(kind, level, start + body, end + body)
        for kind, level, start, end in _leaves(_parser().parse(lines.after(body)))
    ]
    leaves += _rest(lines, leaves)
    leaves.sort(key=lambda leaf: (leaf.start, -leaf.end, leaf.kind))  # a table stands before its rows
    spans = ((lines.span(leaf.start, leaf.end), leaf) for leaf in leaves)
    blocks = tuple(Block(span, leaf.kind, leaf.level) for span, leaf in spans if len(span))
    mark = (Block(Span(0, lines.begin), "furniture"),) if lines.begin else ()
    return Document(text, id=id, metadata=metadata or {}, blocks=mark + blocks)


class _Leaf(NamedTuple):
    """A block in lines: from ``start`` to before ``end``."""

    kind: str
    level: int
    start: int
    end: int


class _Lines:
    """Where the lines of a text begin, the first behind a byte order mark: what loaders leave hides a heading."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.begin = int(text.startswith("\ufeff"))
        self.starts = [self.begin, *(end.end() for end in _LINE_END.finditer(text))]

    def __len__(self) -> int:
        return len(self.starts)

    def start(self, index: int) -> int:
        """Return where a line begins; the text's end for one behind the last."""
        return self.starts[index] if index < len(self.starts) else len(self.text)

    def line(self, index: int) -> str:
        """Return a line without its end."""
        return self.text[self.start(index) : self.start(index + 1)].rstrip("\r\n")

    def after(self, index: int) -> str:
        """Return the text from a line on."""
        return self.text[self.start(index) :]

    def span(self, start: int, end: int) -> Span:
        """Return the span of some lines without outer white space."""
        first = self.start(start)
        part = self.text[first : self.start(end)]
        left = len(part) - len(part.lstrip())
        return Span(first + left, first + max(left, len(part.rstrip())))


@cache
def _parser() -> Any:
    # Only block structure is needed. Without the inline rule its cost and its hostile inputs are gone, too.
    return require("markdown_it", "read").MarkdownIt("commonmark").enable("table").disable("inline")


def _front_matter(lines: _Lines) -> int:
    """Return how many lines a YAML front matter takes; 0 if there is none."""
    if not _FRONT_MATTER.match(lines.line(0)) or not lines.line(1).strip():
        return 0
    return next((index + 1 for index in range(1, len(lines)) if _FRONT_MATTER_END.match(lines.line(index))), 0)


def _leaves(tokens: Iterable[Any]) -> list[_Leaf]:
    """Find the blocks that hold text in markdown-it-py's tokens."""
    found: list[_Leaf] = []
    containers: list[Any] = []  # the list items and quotations around
    owner = None  # the innermost of them, if the last block found is made of its paragraphs
    depth = 0
    for token in tokens:
        if token.type in _LISTS:
            depth += token.nesting
        elif token.type in _CONTAINERS:
            containers.append(token) if token.nesting > 0 else containers.pop()
        kind = _LEAVES.get(token.type)
        if kind is None:
            continue
        start, end = token.map
        inner = containers[-1] if containers else None
        kind, level = _kind(token, kind, [_CONTAINERS[container.type] for container in containers], depth)
        if kind == "table_row" and found[-1] == ("table_header", 0, start, end + 1):
            continue
        own = inner is not None and kind == _CONTAINERS[inner.type]
        if own and inner is owner:
            found[-1] = _Leaf(kind, level, found[-1].start, end)
        else:
            # With the line of dashes below it, a header makes a table of any rows.
            found.append(_Leaf(kind, level, start, end + (kind == "table_header")))
        owner = inner if own else None
    return found


def _kind(token: Any, kind: str, around: Sequence[str], depth: int) -> tuple[str, int]:
    """Return kind and level of a block, given the kinds of its containers and how many lists it is in."""
    if kind == "heading":
        # What a quoted heading governs ends with the quotation.
        return ("quote", 0) if "quote" in around else ("heading", int(token.tag[1]))
    if kind == "paragraph":
        if around:
            return around[-1], depth if around[-1] == "list_item" else 0
        comment = token.type == "html_block" and _COMMENTS.fullmatch(token.content)
        return ("furniture", 0) if comment else ("paragraph", 0)
    return kind, 0


def _rest(lines: _Lines, leaves: Iterable[_Leaf]) -> Iterator[_Leaf]:
    """Give the lines that are in no block: link definitions, lone marks, what is nested too deeply for the parser."""
    covered = bytearray(len(lines))
    for leaf in leaves:
        covered[leaf.start : leaf.end] = b"\1" * (min(leaf.end, len(lines)) - leaf.start)
    for index in range(len(lines)):
        line = "" if covered[index] else lines.line(index)
        if not line.strip():
            continue
        kind = "furniture" if _DEFINITION.match(line) else "quote" if _QUOTE_MARKS.match(line) else "paragraph"
        yield _Leaf(kind, 0, index, index + 1)
