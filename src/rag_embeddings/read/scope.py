"""Scope notes: declarations that govern more text than their own, and what they govern.

"All numbers in this document are in millions" on page 5 decides what an amount on page 84 means, and nothing on page 84
says so. Declarations are found sentence by sentence (`rag_embeddings.read.declarations`); the layout says how far each
reaches, and nearer or later declarations of the same thing take back what they override.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from rag_embeddings.read.declarations import Declaration, declarations
from rag_embeddings.split.sentences import sentence_spans
from rag_embeddings.text import Note, Span, heading_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from rag_embeddings.text import Block, Document

_UNREAD = frozenset({"code", "table", "table_row"})  # a table's rows are figures, not sentences
_LABELS = frozenset({"heading", "caption", "table_header"})
_TABLE_PARTS = frozenset({"table_header", "table_row"})
# Sections whose declarations are meant for the whole document.
_GENERAL = re.compile(
    r"\b(?:about|basis|conventions?|general|notation|notes?|preface|foreword|introduction|definitions?|interpretation|"
    r"units?|presentation|terminology|terms|glossary|abbreviations|overview|how to|before you|reading|scope|parties)\b",
    re.IGNORECASE,
)
_OUTER = frozenset({"chapter", "part", "appendix", "annex", "annexe", "schedule", "exhibit"})
_OWN = frozenset({"paragraph", "definition", "note", "figure"})


class _Section(NamedTuple):
    span: Span
    level: int
    title: str
    parent: int  # -1: none


@dataclass(frozen=True)
class _Found:
    """A declaration and the stretch it governs."""

    span: Span
    said: Declaration
    reach: Span


@dataclass(frozen=True)
class ScopeNotes:
    """Finds declarations in a document and what they govern, by rules for English.

    Found are units, scales and currencies ("amounts are in thousands of euros", "(in millions)" as a sentence or over
    a table), definitions ("'Company' means", "Aldred Ltd (the 'Supplier')"), conventions ("throughout this manual",
    "unless otherwise stated") and dates of effect. A declaration governs

    - what it names: this section, chapter, part, table, document, what follows from here on;
    - else, if it is a definition or a date of effect, the document;
    - else its section, or the document if it stands above the first section or in one about conventions, definitions,
      the basis of presentation and the like.

    A nearer declaration of the same thing (the same unit of the same amounts, the same term) takes its own section or
    table from a wider one, and a later one of the same width everything from itself on. Code and page furniture are not
    read. A definition concerns only text that uses the term.

    Use it as ``LayoutSplitter(notes=ScopeNotes())``. Anything else that takes a document and returns a list of `Note`
    can stand in its place, a call of a language model included.

    Attributes:
        language: ISO 639-1 code, for sentence boundaries.
        limit: Most notes of one document; the first ones are kept. It bounds the time.
    """

    language: str = "en"
    limit: int = 200

    @property
    def name(self) -> str:
        """Spelling for fingerprints; changes whenever the rules do."""
        return f"scope-rules-2 {self.language} {self.limit}"

    def __call__(self, document: Document) -> list[Note]:
        """Find the notes of a document.

        Args:
            document: The document. Without blocks it is read as one section.

        Returns:
            The notes, in order of their place.
        """
        layout = _Layout(document)
        found: list[_Found] = []
        for span, block, label in layout.sentences(self.language):
            said = declarations(" ".join(span.of(document.text).split()), label=label)
            found.extend(_Found(span, item, layout.reach(span, block, item)) for item in said)
            if len(found) >= self.limit:
                break
        notes = ((item, tuple(_minus(item.reach, _taken(item, found)))) for item in found[: self.limit])
        return [Note(item.span, scopes, item.said.term) for item, scopes in notes if scopes]


class _Layout:
    """Where the sections and tables of a document are."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.whole = Span(0, len(document.text))
        blocks = (block for block in document.blocks if block.kind != "furniture" and len(block.span))
        self.blocks = sorted(blocks, key=lambda block: (block.span.start, -block.span.end))
        self.tables = [block.span for block in self.blocks if block.kind == "table"]
        self.sections = _sections(document, self.blocks)
        tops = [section for section in self.sections if section.parent < 0]
        # A single heading above all others is the document's title, not a section.
        self.title = 0 if len(tops) == 1 and len(self.sections) > 1 else -1

    def sentences(self, language: str) -> Iterator[tuple[Span, int, bool]]:
        """Yield each sentence with the index of its block (-1: none), and whether it is a heading or another label."""
        text = self.document.text
        parts = [(block.span, index, block.kind) for index, block in enumerate(self.blocks)]
        if not self.document.blocks:
            parts = [(self.whole, -1, "paragraph")]
        for span, index, kind in parts:
            if kind in _LABELS:
                yield span, index, True
            elif kind not in _UNREAD:
                for sentence in sentence_spans(span.of(text), language):
                    start, end = span.start + sentence.start, span.start + sentence.end
                    piece = text[start:end]
                    if piece.isspace():
                        continue
                    inner = Span(start + len(piece) - len(piece.lstrip()), start + len(piece.rstrip()))
                    yield inner, index, self._labels(inner, index)

    def reach(self, span: Span, index: int, said: Declaration) -> Span:
        """Return what a declaration governs."""
        reach = self._named(span, index, said)
        return Span(max(span.start, reach.start), reach.end) if said.onward else reach

    def _labels(self, span: Span, index: int) -> bool:
        """Tell what ends like a label, directly above a table."""
        words = span.of(self.document.text)
        above = index >= 0 and index + 1 < len(self.blocks) and self.blocks[index + 1].kind == "table"
        return (
            above
            and not words.startswith("(")
            and words.endswith((")", "):"))
            and span.end == self.blocks[index].span.end
        )

    def _named(self, span: Span, index: int, said: Declaration) -> Span:
        block = self.blocks[index] if index >= 0 else None
        path = self._path(span.start)
        if block is not None and (
            said.place == "table" or self._labels(span, index) or block.kind in _LABELS - {"heading"}
        ):
            table = self._table(span, index)
            if table is not None:
                return table
        if said.place in _OWN:
            return block.span if block is not None else _paragraph(self.document.text, span)
        if said.place and said.place != "document":
            return self._place(path, said.place)
        general = not path or bool(_GENERAL.search(path[-1].title))
        if said.place == "document" or said.onward or said.term or "effective" in said.keys or general:
            return self.whole
        return path[-1].span

    def _path(self, position: int) -> list[_Section]:
        """Return the sections around a position, outermost first, without the title."""
        index = bisect_right(self.sections, position, key=lambda section: section.span.start) - 1
        path: list[_Section] = []
        while index >= 0:
            section = self.sections[index]
            if section.span.end > position and index != self.title:
                path.append(section)
            index = section.parent
        return path[::-1]

    def _place(self, path: list[_Section], place: str) -> Span:
        """Return the section that a word such as "chapter" means."""
        if not path:
            return self.whole
        named = [section for section in path if section.title.lower().startswith(place)]
        if named:
            return named[-1].span
        return path[0 if place in _OUTER else -1].span

    def _table(self, span: Span, index: int) -> Span | None:
        """Return the table that a sentence is about: the one around it, directly below it, or directly above."""
        place = bisect_right(self.tables, span.start, key=lambda table: table.start) - 1
        if place >= 0 and self.tables[place].end >= span.end:
            return self.tables[place]
        if index + 1 < len(self.blocks) and self.blocks[index + 1].kind == "table":
            return self.blocks[index + 1].span
        if index > 0 and self.blocks[index - 1].kind in _TABLE_PARTS | {"table"}:
            return self.tables[place]
        return self.tables[place + 1] if place + 1 < len(self.tables) else None


def _paragraph(text: str, span: Span) -> Span:
    """Return the stretch between empty lines that a span of text without layout begins in."""
    before, behind = text.rfind("\n\n", 0, span.start), text.find("\n\n", span.end)
    return Span(before + 2 if before >= 0 else 0, behind if behind >= 0 else len(text))


def _sections(document: Document, blocks: Sequence[Block]) -> list[_Section]:
    """Return the sections of a document in order; each reaches to the next heading of its level or a higher one."""
    headings = [block for block in blocks if block.kind == "heading"]
    ends = [len(document.text)] * len(headings)
    parents = [-1] * len(headings)
    open_: list[int] = []
    for index, block in enumerate(headings):
        while open_ and headings[open_[-1]].level >= block.level:
            ends[open_.pop()] = block.span.start
        parents[index] = open_[-1] if open_ else -1
        open_.append(index)
    return [
        _Section(Span(block.span.start, end), block.level, heading_text(document, block), parent)
        for block, end, parent in zip(headings, ends, parents, strict=True)
    ]


def _taken(item: _Found, found: Sequence[_Found]) -> list[Span]:
    """Return what others take from a declaration: the stretches where everything it settles is settled anew."""
    losses: list[Span] | None = None
    for key in item.said.keys:
        taken = [loss for other in found if other is not item and key in other.said.keys for loss in _loss(item, other)]
        losses = _union(taken) if losses is None else _common(losses, _union(taken))
    return losses or []


def _loss(item: _Found, other: _Found) -> list[Span]:
    """Return what one declaration takes from another about the same thing."""
    shared = Span(
        max(item.reach.start, other.reach.start),
        max(item.reach.start, other.reach.start, min(item.reach.end, other.reach.end)),
    )
    if len(shared) == 0:
        return []
    if len(other.reach) != len(item.reach):
        return [shared] if len(other.reach) < len(item.reach) else []
    if item.said.adds or other.said.adds:
        return []
    if other.span.start > item.span.start:  # from there on, the later one holds
        return [Span(max(shared.start, min(other.span.start, shared.end)), shared.end)]
    return [Span(shared.start, min(max(item.span.start, shared.start), shared.end))]  # up to here, the earlier one does


def _union(spans: Iterable[Span]) -> list[Span]:
    """Join spans that overlap or touch; those that are left are disjoint and in order."""
    joined: list[Span] = []
    for span in sorted(filter(len, spans)):
        if joined and span.start <= joined[-1].end:
            joined[-1] = Span(joined[-1].start, max(joined[-1].end, span.end))
        else:
            joined.append(span)
    return joined


def _common(ones: Sequence[Span], others: Sequence[Span]) -> list[Span]:
    """Return what two lists of disjoint spans in order share, as another one."""
    shared: list[Span] = []
    one = other = 0
    while one < len(ones) and other < len(others):
        start, end = max(ones[one].start, others[other].start), min(ones[one].end, others[other].end)
        if start < end:
            shared.append(Span(start, end))
        if ones[one].end < others[other].end:
            one += 1
        else:
            other += 1
    return shared


def _minus(span: Span, taken: Sequence[Span]) -> Iterator[Span]:
    position = span.start
    for loss in taken:
        if loss.start > position:
            yield Span(position, loss.start)
        position = loss.end
    if position < span.end:
        yield Span(position, span.end)
