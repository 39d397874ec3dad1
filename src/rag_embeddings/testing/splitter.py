"""What every splitter promises, as a function that any splitter can be put through."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rag_embeddings.split.graphemes import boundaries

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rag_embeddings.split.base import Splitter
    from rag_embeddings.text import Chunk, Document


def check_splitter(splitter: Splitter, documents: Iterable[Document]) -> None:
    """Check the laws of splitting on documents.

    Chunks are slices of the document in strictly ascending order (of their beginnings, where a chunk has several
    spans), without outer white space; together they cover every
    character that is not white space (blocks of the kind ``"furniture"`` may be left out); no cut lies inside a
    grapheme; ids are unique; the same document gives the same chunks again, with the same context. Where the splitter
    has a ``counter`` and ``max_tokens``, no chunk exceeds the budget with its context, except a single grapheme.

    Args:
        splitter: The splitter.
        documents: What to split. Any text will do, the stranger the better.

    Raises:
        AssertionError: Naming the law that was broken, the document and the chunk.
    """
    for document in documents:
        chunks = splitter.split(document)
        _check_places(document, chunks)
        _check_cover(document, chunks)
        _check_budget(splitter, document, chunks)
        again = splitter.split(document)
        _require(_told(chunks) == _told(again), "deterministic", document)
        _require(len({chunk.id for chunk in chunks}) == len(chunks), "ids are unique", document)


def _told(chunks: list[Chunk]) -> list[object]:
    return [(chunk.spans, chunk.headings, chunk.context, dict(chunk.metadata)) for chunk in chunks]


def _check_places(document: Document, chunks: list[Chunk]) -> None:
    graphemes = boundaries(document.text)
    previous = -1, -1
    for chunk in chunks:
        _require(chunk.document == document, "chunks belong to their document", document, chunk)
        _require(previous[0] < chunk.start, "chunks are ordered", document, chunk)
        if len(chunk.spans) == 1:
            _require(previous[1] < chunk.end, "chunks are ordered", document, chunk)
            previous = chunk.start, chunk.end
        else:  # others may lie between its spans, and end before it does
            previous = chunk.start, previous[1]
        end = -1
        for span in chunk.spans:
            _require(end < span.start < span.end, "spans are ordered and not empty", document, chunk)
            end = span.end
            whole = bool(graphemes[span.start] and graphemes[span.end])
            _require(whole, "no cut lies inside a grapheme", document, chunk)
        if len(chunk.spans) == 1:
            _require(chunk.text == document.text[chunk.start : chunk.end], "a chunk is a slice", document, chunk)
            first = _grapheme(document.text, graphemes.tobytes(), chunk.start)
            _require(not first.isspace(), "chunks have no outer white space", document, chunk)


def _grapheme(text: str, flags: bytes, start: int) -> str:
    return text[start : flags.index(b"\x01", start + 1)]


def _check_cover(document: Document, chunks: list[Chunk]) -> None:
    covered = 0
    spans = [span for chunk in chunks for span in chunk.spans]
    furniture = [block.span for block in document.blocks if block.kind == "furniture"]
    for span in sorted(spans + furniture):
        if span.start > covered:
            missing = document.text[covered : span.start]
            _require(missing.isspace(), f"everything but white space is covered ({missing[:40]!r} is not)", document)
        covered = max(covered, span.end)
    rest = document.text[covered:]
    _require(not rest or rest.isspace(), f"everything but white space is covered ({rest[:40]!r} is not)", document)


def _check_budget(splitter: Splitter, document: Document, chunks: list[Chunk]) -> None:
    counter, maximum = getattr(splitter, "counter", None), getattr(splitter, "max_tokens", None)
    if counter is None or maximum is None:
        return
    for chunk, count in zip(chunks, counter.count([chunk.embedding_text for chunk in chunks]), strict=True):
        if count > maximum:
            single = boundaries(document.text)[chunk.start : chunk.end + 1].sum() == 2  # noqa: PLR2004
            _require(bool(single), f"chunks keep to the budget ({count} tokens, allowed {maximum})", document, chunk)


def _require(holds: bool, law: str, document: Document, chunk: Chunk | None = None) -> None:  # noqa: FBT001
    if not holds:
        where = f", chunk {chunk.start}-{chunk.end} {chunk.text[:60]!r}" if chunk else ""
        raise AssertionError(f"broken law: {law}; document {document.id}{where}; text {document.text[:200]!r}")
