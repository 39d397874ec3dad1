"""What stands in front of a chunk without being part of it: headings above it, notes in force, a table's header."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from rag_embeddings.errors import DocumentError
from rag_embeddings.split.segments import FURNITURE, HEADING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from rag_embeddings.split.segments import Outline, Segment
    from rag_embeddings.split.tokens import TokenCounter
    from rag_embeddings.text import Document, Note, Span

SEPARATOR = " > "
"""Stands between the headings of a path."""
_LONGEST = 400  # characters of a note; a longer declaration is cut


class Context(NamedTuple):
    """What stands in front of a chunk.

    Attributes:
        text: The context, empty if there is nothing to say.
        left_out: How many notes and table headers found no room.
    """

    text: str
    left_out: int


class _Parts(NamedTuple):
    path: tuple[str, ...]
    notes: tuple[int, ...]
    table: int  # -1: no header is repeated


class Contexts:
    """Finds the context of any stretch of one document.

    A table's header comes first when room is short, then the nearest heading, the notes (of the narrowest scope
    first), and the headings further out.

    Args:
        document: The document.
        outline: Its segments and sections.
        counter: Counts tokens.
        limit: Most tokens of a context.
        notes: Declarations and what they govern.

    Raises:
        DocumentError: If a note lies outside of the document.
    """

    def __init__(
        self, document: Document, outline: Outline, counter: TokenCounter, limit: int, notes: Sequence[Note] = ()
    ) -> None:
        self._text = document.text
        self._outline = outline
        self._starts = [segment.start for segment in outline.segments]
        self._counter = counter
        self._limit = limit
        widest = max([len(document.text), *(scope.end for note in notes for scope in note.scopes)])
        if widest > len(document.text):
            raise DocumentError(f"a note governs text up to {widest}, behind the end of document {document.id!r}")
        self._notes = sorted(notes, key=lambda note: (sum(map(len, note.scopes)), note.span))
        self._wordings = [self._wording(note) for note in self._notes]
        # Notes that concern all text in their scope, by scope; and notes about a term, by the places that use it.
        self._general = [(scope, i) for i, note in enumerate(self._notes) if not note.term for scope in note.scopes]
        self._scopes = np.array([(scope.start, scope.end) for scope, _ in self._general], np.int64).reshape(-1, 2)
        self._uses = sorted((at, i) for i, note in enumerate(self._notes) for at in _governed(note, document.text))
        self._tokens = cache(lambda part: counter.count([part])[0])

    def headings(self, start: int, end: int) -> tuple[str, ...]:
        """Return the path of headings of the section in which a stretch begins, its own heading included.

        Args:
            start: First character.
            end: Behind the last character.
        """
        path: tuple[str, ...] = ()
        for segment in self.segments(start, end):
            path = self._outline.paths[segment.section]
            if segment.kind not in {HEADING, FURNITURE}:
                break
        return tuple(filter(None, path))  # a heading may have no words

    def segments(self, start: int, end: int) -> Sequence[Segment]:
        """Return the segments that a stretch has a part of."""
        first = max(bisect_right(self._starts, start) - 1, 0)
        last = first + 1
        while last < len(self._starts) and self._starts[last] < end:
            last += 1
        return self._outline.segments[first:last]

    def of(self, spans: Sequence[Span]) -> Context:
        """Return the context of the text in some spans."""
        parts = self._parts(spans[0].start, [(span.start, span.end) for span in spans])
        kept, left_out = self._kept(parts)
        return Context(self._joined(kept), left_out)

    def sizes(self, starts: NDArray[np.int64], reach: NDArray[np.int64]) -> NDArray[np.int64]:
        """Estimate the tokens of the contexts of chunks.

        Args:
            starts: Where they begin, shape (n,).
            reach: How far they may go, shape (n,).

        Returns:
            Tokens, shape (n,).
        """

        @cache
        def size(parts: _Parts) -> int:
            kept, _ = self._kept(parts)
            found = [*kept.path, *(self._wordings[index] for index in kept.notes), self._header(kept.table)]
            return sum(self._tokens(part) + 1 for part in found if part)

        pairs = zip(starts.tolist(), reach.tolist(), strict=True)
        return np.array([size(self._parts(start, [(start, end)])) for start, end in pairs], dtype=np.int64)

    def _parts(self, start: int, stretches: Sequence[tuple[int, int]]) -> _Parts:
        segment = self._outline.segments[max(bisect_right(self._starts, start) - 1, 0)]
        path = self._outline.paths[segment.section]
        if segment.kind == HEADING:
            path = path[:-1]  # the chunk begins with it
        path = tuple(filter(None, path))
        table = -1
        if segment.table >= 0:
            header = self._outline.tables[segment.table].header
            table = segment.table if len(header) and start >= header.end else -1
        return _Parts(path, tuple(self._in_force(stretches)) if self._notes else (), table)

    def _in_force(self, stretches: Sequence[tuple[int, int]]) -> list[int]:
        found: set[int] = set()
        for start, end in stretches:
            inside = (self._scopes[:, 0] < end) & (self._scopes[:, 1] > start)
            found.update(self._general[place][1] for place in np.flatnonzero(inside).tolist())
            first, last = bisect_left(self._uses, (start, 0)), bisect_left(self._uses, (end, 0))
            found.update(index for _, index in self._uses[first:last])
        told: set[Span] = set()  # one sentence may define several terms
        for index in sorted(found):
            span = self._notes[index].span
            inside_own = any(start <= span.start and span.end <= end for start, end in stretches)
            if inside_own or span in told:
                found.discard(index)
            told.add(span)
        return sorted(found)

    def _kept(self, parts: _Parts) -> tuple[_Parts, int]:
        """Leave out what finds no room."""
        room = self._limit

        def takes(part: str) -> bool:
            nonlocal room
            size = self._tokens(part) + 1  # and a line break
            if size > room:
                return False
            room -= size
            return True

        table = parts.table if parts.table >= 0 and takes(self._header(parts.table)) else -1
        path = [heading for heading in parts.path[-1:] if takes(heading)]
        notes = tuple(index for index in parts.notes if takes(self._wordings[index]))
        path = [heading for heading in parts.path[-2::-1] if takes(heading)][::-1] + path
        left_out = len(parts.notes) - len(notes) + (parts.table != table)
        return _Parts(tuple(path), notes, table), left_out

    def _joined(self, parts: _Parts) -> str:
        lines = [SEPARATOR.join(parts.path)] if parts.path else []
        # What governs more stands first, so that what governs less may correct it.
        lines.extend(self._wordings[index] for index in reversed(parts.notes))
        lines.extend([self._header(parts.table)] if parts.table >= 0 else [])
        return "\n".join(lines)

    def _header(self, table: int) -> str:
        return self._outline.tables[table].header.of(self._text).strip() if table >= 0 else ""

    def _wording(self, note: Note) -> str:
        text = " ".join(note.span.of(self._text).split())
        if len(text) > _LONGEST:
            text = f"{text[:_LONGEST].rstrip()} …"
        page = next((item.page for item in self.segments(note.span.start, note.span.end) if item.page), None)
        return f"Note (page {page}): {text}" if page else f"Note: {text}"


def _governed(note: Note, text: str) -> list[int]:
    """Return where a text uses the term of a note, inside the note's scopes."""
    scopes = sorted(note.scopes)
    places = ((at, bisect_right(scopes, at, key=lambda scope: scope.start) - 1) for at in note.mentions(text))
    return [at for at, index in places if index >= 0 and at < scopes[index].end]
