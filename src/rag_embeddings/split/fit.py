"""From packed atoms to chunks: trim, count once more, shrink what is over budget."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from rag_embeddings.split.atoms import Atoms, Measure
from rag_embeddings.split.pack import Pack, pack
from rag_embeddings.text import Chunk, Document, Span

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray


class _Draft(NamedTuple):
    atoms: Atoms
    pack: Pack

    def start(self) -> int:
        return int(self.atoms.marks[self.pack.first])

    def end(self) -> int:
        return int(self.atoms.marks[self.pack.end])


def plain(document: Document, span: Span) -> Chunk:
    """Make a chunk without context."""
    return Chunk(document, (span,))


def fit(
    document: Document,
    measure: Measure,
    atoms: Atoms,
    packs: Sequence[Pack],
    maximum: int,
    *,
    make: Callable[[Document, Span], Chunk | None] = plain,
) -> list[Chunk]:
    """Turn packed atoms into chunks that are within the budget by the counter's own word.

    One tokenisation of a document undercounts its chunks by a few tokens, so each is counted once more as it will be
    embedded, and what is over is taken apart until it fits.

    Args:
        document: The document.
        measure: How its text is taken apart.
        atoms: What was packed.
        packs: What `pack` chose.
        maximum: Most tokens of a chunk, context included.
        make: Makes the chunk of a stretch, with its context; None if nothing of the stretch is to be kept.

    Returns:
        Chunks without outer white space, starts and ends strictly increasing. White space alone gives none. Only a
        chunk of a single grapheme may exceed the budget.
    """
    fitting: list[Chunk] = []
    drafts = [_Draft(atoms, choice) for choice in packs]
    while drafts:
        trimmed = ((draft, trim(document.text, draft.start(), draft.end(), measure.graphemes)) for draft in drafts)
        chunks = ((draft, make(document, span)) for draft, span in trimmed if len(span))
        made = [(draft, chunk) for draft, chunk in chunks if chunk is not None]
        counts = measure.counter.count([chunk.embedding_text for _, chunk in made])
        drafts = []
        for (draft, chunk), count in zip(made, counts, strict=True):
            smaller = [] if count <= maximum else list(_smaller(draft, chunk, count, maximum, measure))
            drafts.extend(smaller)
            if not smaller:  # a single grapheme that leaves no room for context stands without
                fitting.append(chunk if count <= maximum else replace(chunk, context=""))
    return _ordered(fitting)


def trim(text: str, start: int, end: int, graphemes: NDArray[np.bool_]) -> Span:
    """Take white space off both ends, but not from inside a grapheme (a space with an accent is one).

    Args:
        text: The text.
        start: First character.
        end: Behind the last character.
        graphemes: The text's `graphemes.boundaries`.

    Returns:
        The span left over, empty if there is nothing but white space.
    """
    piece = text[start:end]
    inner = piece.strip()
    if not inner:
        return Span(start, start)
    first = start + len(piece) - len(piece.lstrip())
    last = first + len(inner)
    while not graphemes[first]:
        first -= 1
    while not graphemes[last]:
        last += 1
    return Span(first, last)


def _smaller(draft: _Draft, chunk: Chunk, count: int, maximum: int, measure: Measure) -> Iterator[_Draft]:
    """Yield drafts that cover a draft which is over budget; none if it is a single grapheme."""
    atoms, (first, own, end) = draft
    if first < own:  # repeat less of the chunk before
        excess = count - maximum
        while first < own and excess > 0:
            excess -= max(int(atoms.tokens[first]), 1)
            first += 1
        yield _Draft(atoms, Pack(first, own, end))
        return
    if end - own > 1:
        inner = Atoms(atoms.marks[own : end + 1], atoms.tokens[own:end], atoms.costs[own:end])
    else:
        inner = measure.finer(chunk.start, chunk.end, maximum)
        if len(inner) == 1:
            return
    total = int(inner.tokens.clip(min=1).sum())
    # What is too much may be the text's (it has more tokens alone than inside the document) or the context's.
    allowed = max(min(maximum * total // count, total - (count - maximum), total - 1), 1)
    even = -(-total // -(-total // allowed))
    yield from (_Draft(inner, choice) for choice in pack(inner, allowed, target=even))


def _ordered(chunks: list[Chunk]) -> list[Chunk]:
    """Sort, and drop what another chunk contains (overlaps that became equal when white space went)."""
    chunks.sort(key=lambda chunk: (chunk.start, -chunk.end))
    kept: list[Chunk] = []
    for chunk in chunks:
        if not kept or chunk.end > kept[-1].end:
            kept.append(chunk)
    return kept
