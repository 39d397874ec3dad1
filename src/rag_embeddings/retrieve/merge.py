"""Passages that stand side by side become one; a section most of which was found comes back whole."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import reduce
from itertools import groupby, takewhile
from typing import TYPE_CHECKING, Any

from rag_embeddings.split.context import SEPARATOR
from rag_embeddings.store.neighbours import parts
from rag_embeddings.text import Chunk, Span

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from rag_embeddings.retrieve.base import Match
    from rag_embeddings.split.tokens import TokenCounter
    from rag_embeddings.store.ledger import Ledger
    from rag_embeddings.store.neighbours import Part
    from rag_embeddings.store.version import Place
    from rag_embeddings.text import Document


@dataclass(frozen=True)
class Merge:
    """When chunks that were found are merged. Those that touch or overlap always are.

    A section is the chunks of one document that stand in a row under the same headings; in a document without
    headings, all of them. What LlamaIndex's auto-merging retriever does with a hierarchy of nodes is done here
    with sections, and nothing has to be stored for it.

    Attributes:
        ratio: A section of which more than this part of the chunks was found comes back whole.
        max_tokens: Sections larger than this, counted chunk by chunk, never do.

    Raises:
        ValueError: If the ratio is not within 0..1, or ``max_tokens`` is below 1.
    """

    ratio: float = 0.5
    max_tokens: int = 2048

    def __post_init__(self) -> None:
        if not 0 <= self.ratio <= 1:
            raise ValueError(f"ratio must be within 0..1, got {self.ratio}")
        if self.max_tokens < 1:
            raise ValueError(f"max_tokens must be at least 1, got {self.max_tokens}")


class Sections:
    """Remembers which chunks were found, for one search.

    Args:
        ledger: Knows the chunks of each document.
        merge: When a section is whole.
        counter: Counts the tokens of sections.
    """

    def __init__(self, ledger: Ledger, merge: Merge, counter: TokenCounter) -> None:
        self._ledger = ledger
        self._merge = merge
        self._counter = counter
        self._sections: dict[int, list[list[Part]]] = {}
        self._found: dict[tuple[int, int], set[int]] = {}  # by version and number of the section
        self._sizes: dict[tuple[int, int], int] = {}

    def completed(self, match: Match, place: Place) -> Match:
        """Note that a chunk was found.

        Returns:
            The match; with the whole section as its passage, if enough of it has been found by now.
        """
        if place.version not in self._sections:
            chunks = parts(self._ledger, place.version)
            self._sections[place.version] = [list(row) for _, row in groupby(chunks, key=lambda part: part.headings)]
        sections = self._sections[place.version]
        number = next(
            index
            for index, section in enumerate(sections)
            if section[0].ordinal <= place.ordinal <= section[-1].ordinal
        )
        section, key = sections[number], (place.version, number)
        found = self._found.setdefault(key, set())
        found.add(place.ordinal)
        if len(found) <= self._merge.ratio * len(section) or self._size(key, section, match) > self._merge.max_tokens:
            return match
        spans = [span for part in section for span in part.spans]
        return replace(match, chunk=grown(match.chunk, spans))

    def _size(self, key: tuple[int, int], section: Sequence[Part], match: Match) -> int:
        if key not in self._sizes:
            text = match.chunk.document.text
            self._sizes[key] = sum(self._counter.count([span.of(text) for part in section for span in part.spans]))
        return self._sizes[key]


def unite(matches: Iterable[Match]) -> list[Match]:
    """Make one passage of those of a document that overlap, or have nothing but white space between them.

    Args:
        matches: In rank order.

    Returns:
        Passages that do not touch, each where its best part stood, with the score of that part and the sentences of
        all parts. What differs between the parts is kept where it can be: all lines of their contexts, the headings
        they share, the pages they span; other metadata only where the parts agree.
    """
    start: list[Match] = []
    return reduce(joined, matches, start)


def joined(passages: list[Match], new: Match) -> list[Match]:
    """Add one passage to passages that do not touch each other; see `unite`."""
    touched = [index for index, passage in enumerate(passages) if _touch(passage.chunk, new.chunk)]
    if not touched:
        return [*passages, new]
    first = touched[0]
    whole = _united([*(passages[index] for index in touched), new])
    kept = [passage if index != first else whole for index, passage in enumerate(passages)]
    return [passage for index, passage in enumerate(kept) if index == first or index not in touched]


def grown(chunk: Chunk, spans: Iterable[Span]) -> Chunk:
    """Return a chunk that covers some more of its document, with the same context."""
    return replace(chunk, spans=closed(chunk.document, [*chunk.spans, *spans]))


def closed(document: Document, spans: Iterable[Span]) -> tuple[Span, ...]:
    """Return ordered spans that cover the same text, those that touch made one."""
    ordered = sorted(spans)
    result = ordered[:1]
    for span in ordered[1:]:
        if _gap(document.text, result[-1], span):
            result.append(span)
        else:
            result[-1] = Span(result[-1].start, max(result[-1].end, span.end))
    return tuple(result)


def _gap(text: str, before: Span, after: Span) -> bool:
    return after.start > before.end and not text[before.end : after.start].isspace()


def _touch(one: Chunk, other: Chunk) -> bool:
    if one.document.id != other.document.id:
        return False
    text = one.document.text
    return any(not _gap(text, *sorted((mine, its))) for mine in one.spans for its in other.spans)


def _united(matches: Sequence[Match]) -> Match:
    """Unite passages of one document, given in rank order."""
    by_place = sorted((match.chunk for match in matches), key=lambda chunk: chunk.spans)
    document = by_place[0].document
    headings = _common([chunk.headings for chunk in by_place])
    lines = [line for chunk in by_place for line in chunk.context.split("\n") if line]
    chunk = Chunk(
        document,
        closed(document, [span for chunk in by_place for span in chunk.spans]),
        headings,
        "\n".join(dict.fromkeys(lines)),
        _shared([chunk.metadata for chunk in by_place], headings),
    )
    sentences = tuple(dict.fromkeys(span for match in matches for span in match.sentences))
    return replace(matches[0], chunk=chunk, score=max(match.score for match in matches), sentences=sentences)


def _common(paths: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    levels = zip(*paths, strict=False)
    return tuple(level[0] for level in takewhile(lambda level: len(set(level)) == 1, levels))


def _shared(found: Sequence[Mapping[str, Any]], headings: tuple[str, ...]) -> dict[str, Any]:
    """Join the metadata of parts: what all agree on, and what the layout splitter says about pages and headings."""
    first = found[0]
    shared = {key: value for key, value in first.items() if all(key in one and one[key] == value for one in found)}
    pages = [one[key] for one in found for key in ("page", "last_page") if isinstance(one.get(key), int)]
    if pages:
        shared |= {"page": min(pages), "last_page": max(pages)}
    if any("headings" in one for one in found) and "headings" not in shared and headings:
        shared["headings"] = SEPARATOR.join(headings)
    if all(isinstance(one.get("kinds"), str) for one in found):
        shared["kinds"] = ",".join(dict.fromkeys(kind for one in found for kind in one["kinds"].split(",")))
    return shared
