"""Chunks that follow the layout: sections, paragraphs, lists, tables and code, each with the headings above it."""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from rag_embeddings.errors import BudgetError
from rag_embeddings.split.atoms import Measure
from rag_embeddings.split.base import DEFAULT_MAX_TOKENS, DEFAULT_TOKENIZER, Cut
from rag_embeddings.split.boundaries import Boundary
from rag_embeddings.split.context import SEPARATOR, Contexts
from rag_embeddings.split.fit import fit, trim
from rag_embeddings.split.graphemes import boundaries as grapheme_boundaries
from rag_embeddings.split.layout_atoms import PROSE, layout_atoms, mark_places
from rag_embeddings.split.pack import pack
from rag_embeddings.split.packing import SentencePacker
from rag_embeddings.split.recursive import RecursiveSplitter
from rag_embeddings.split.segments import FURNITURE, TABLE, TABLE_KINDS, outline
from rag_embeddings.split.tokens import spelling
from rag_embeddings.text import Chunk, Span

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from rag_embeddings.split.segments import Outline
    from rag_embeddings.text import Document, Note


class LayoutSplitter(SentencePacker):
    """Splits at blocks, and tells each chunk where in the document it stands.

    Sections are the best places to cut, then blocks; small neighbouring sections share a chunk. Tables, code blocks
    and list items stay whole where they fit into the budget; a larger table is cut between rows, and what is in front
    of its first row is repeated as context. Page furniture (running headers, page numbers) is left out: a chunk that
    goes on behind it has several spans.

    ``chunk.headings`` is the path of headings of the section in which a chunk begins. ``chunk.context`` holds those of
    them that the chunk does not begin with itself, the notes in force, and a repeated table header; with
    ``chunk.embedding_text`` it stands in front of the text, and counts in the budget. ``chunk.metadata`` has
    ``headings`` (the path as one string), ``kinds`` (of its blocks, separated by commas), where they are known
    ``page`` and ``last_page``, what holds at the chunk's beginning for each `Boundary` of places, and
    ``context_left_out``: how many notes and table headers found no room, if any.

    A document without blocks is split as by `RecursiveSplitter`.

    Args:
        max_tokens: Most tokens of a chunk, its context included.
        overlap: Most tokens that a chunk repeats of the one before.
        tokenizer: What counts the tokens; see `rag_embeddings.split.tokens.token_counter`. Give the encoder that will
            embed the chunks.
        language: ISO 639-1 code, for sentence boundaries.
        target: Tokens that a chunk should have; ``max_tokens`` by default.
        boundaries: Places that must be cut, whatever the layout: `Boundary` objects or names, as in
            ``["page", "speaker"]``, or a single name.
        notes: Finds declarations that govern more text than their own, which then stand in the context of every chunk
            in their scope; see `rag_embeddings.read.scope.ScopeNotes`. None: there are no such notes.
        context_tokens: Most tokens of a context; half of ``max_tokens`` by default, 0 for chunks without context.
        reader: Finds the layout of documents that have no blocks; see `rag_embeddings.read.layout.LayoutReader`. The
            chunks' document is then the one that it returns. None: documents are split as they are.

    Raises:
        BudgetError: If max_tokens < 1, overlap < 0, overlap >= max_tokens, or target or context_tokens do not go
            together with max_tokens.
    """

    kind: ClassVar[str] = "layout"
    costs: ClassVar[Mapping[int, float]] = RecursiveSplitter.costs

    def __init__(
        self,
        max_tokens: int = DEFAULT_MAX_TOKENS,
        overlap: int = 0,
        *,
        tokenizer: Any = DEFAULT_TOKENIZER,
        language: str = "en",
        target: int | None = None,
        boundaries: Iterable[Boundary | str] | str = (),
        notes: Callable[[Document], Sequence[Note]] | None = None,
        context_tokens: int | None = None,
        reader: Callable[[Document], Document] | None = None,
    ) -> None:
        super().__init__(max_tokens, overlap, tokenizer, language, target)
        self.context_tokens = max_tokens // 2 if context_tokens is None else context_tokens
        if not 0 <= self.context_tokens < max_tokens:
            raise BudgetError(f"context_tokens must be between 0 and max_tokens ({max_tokens}), got {context_tokens}")
        boundaries = [boundaries] if isinstance(boundaries, str) else boundaries  # and not a list of its letters
        self.boundaries = tuple(Boundary(item) if isinstance(item, str) else item for item in boundaries)
        self.notes = notes
        self.reader = reader

    def split(self, document: Document) -> list[Chunk]:
        """Split a document; see `rag_embeddings.split.base.Splitter`. Takes linear time.

        Raises:
            DocumentError: If a block or a note ends behind the text, or a boundary's metadata is not a list of places.
        """
        if self.reader is not None and not document.blocks:
            document = self.reader(document)
        graphemes = grapheme_boundaries(document.text)
        plan = outline(document, graphemes)
        if not plan.segments:
            return []
        places = [boundary.places(document, plan.segments) for boundary in self.boundaries]
        cuts = self._cuts(places, graphemes)
        measure = Measure(document.text, graphemes, self.counter, PROSE if document.blocks else self.costs)
        atoms = layout_atoms(measure, plan, self.max_tokens, language=self.language, places=[cut.at for cut in cuts])
        notes = self.notes(document) if self.notes else ()
        contexts = Contexts(document, plan, self.counter, self.context_tokens, notes)
        sums = np.cumsum(np.maximum(atoms.tokens, 1))
        reach = atoms.marks[np.minimum(np.searchsorted(sums, sums + self.max_tokens), len(atoms))]
        heads = contexts.sizes(atoms.marks[:-1], reach)
        packs = pack(
            atoms,
            self.max_tokens,
            target=self.target,
            overlap=self.overlap,
            overhead=heads.__getitem__ if heads.any() else None,
            cuts=cuts,
        )
        found = zip(self.boundaries, places, strict=True)
        values = {boundary.by: listed for boundary, listed in found if boundary.is_listed(document)}
        maker = _Maker(plan, contexts, graphemes, values)
        return fit(document, measure, atoms, packs, self.max_tokens, make=maker.make)

    def settings(self) -> dict[str, Any]:
        """Return everything that changes the result; see `rag_embeddings.split.base.Splitter`."""
        settings = super().settings() | {"context_tokens": self.context_tokens}
        if self.boundaries:
            settings["boundaries"] = [[item.by, item.forced, item.cost, item.level] for item in self.boundaries]
        if self.notes is not None:
            settings["notes"] = _name(self.notes)
        if self.reader is not None:
            settings["reader"] = _name(self.reader)
        return settings

    def _cuts(self, places: Sequence[Sequence[tuple[int, Any]]], graphemes: NDArray[np.bool_]) -> list[Cut]:
        cuts: dict[int, Cut] = {}
        for boundary, listed in zip(self.boundaries, places, strict=True):
            for at in mark_places((place for place, _ in listed), graphemes):
                cut = Cut(at, boundary.cost, boundary.forced)
                cuts[at] = min(cuts.get(at, cut), cut, key=lambda found: (not found.forced, found.cost))
        return list(cuts.values())


class _Maker:
    """Makes the chunks of one document."""

    def __init__(
        self,
        plan: Outline,
        contexts: Contexts,
        graphemes: NDArray[np.bool_],
        values: Mapping[str, Sequence[tuple[int, Any]]],
    ) -> None:
        self._furniture = [(segment.start, segment.end) for segment in plan.segments if segment.kind == FURNITURE]
        self._contexts = contexts
        self._graphemes = graphemes
        self._values = values

    def make(self, document: Document, stretch: Span) -> Chunk | None:
        spans = tuple(self._spans(document.text, stretch))
        if not spans:
            return None
        start, end = spans[0].start, spans[-1].end
        context, left_out = self._contexts.of(spans)
        headings = self._contexts.headings(start, end)
        segments = [segment for segment in self._contexts.segments(start, end) if segment.kind != FURNITURE]
        metadata: dict[str, Any] = {"headings": SEPARATOR.join(headings)} if headings else {}
        if any(segment.block >= 0 for segment in segments):
            kinds = (TABLE if segment.kind in TABLE_KINDS else segment.kind for segment in segments)
            metadata["kinds"] = ",".join(dict.fromkeys(kinds))
        pages = [segment.page for segment in segments if segment.page is not None]
        if pages:
            metadata |= {"page": min(pages), "last_page": max(pages)}
        for name, listed in self._values.items():
            index = bisect_right(listed, start, key=lambda place: place[0]) - 1
            metadata[name] = listed[index][1] if index >= 0 else None
        if left_out:
            metadata["context_left_out"] = left_out
        return Chunk(document, spans, headings, context, metadata)

    def _spans(self, text: str, stretch: Span) -> Iterable[Span]:
        position = stretch.start
        index = max(bisect_right(self._furniture, (position, 0)) - 1, 0)
        while index < len(self._furniture) and self._furniture[index][0] < stretch.end:
            start, end = self._furniture[index]
            if end > position:
                yield from self._trimmed(text, position, start)
                position = end
            index += 1
        yield from self._trimmed(text, position, stretch.end)

    def _trimmed(self, text: str, start: int, end: int) -> Iterable[Span]:
        if start < end and len(span := trim(text, start, end, self._graphemes)):
            yield span


def _name(function: Callable[..., Any]) -> str:
    """Spell a function: by its own name if it has one, as `ScopeNotes` has, else by where it is defined."""
    return str(getattr(function, "name", None) or spelling(function))
