"""Chunks of chunks: where a part of a chunk stands in the text that the chunk itself was taken from."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING

from rag_embeddings.text import Span

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

_SPELLED = re.compile(r"\d{1,18}-\d{1,18}(?:,\d{1,18}-\d{1,18})*")


def spelled(spans: Iterable[Span]) -> str:
    """Spell spans as metadata can hold them in any store: ``"0-57,120-188"``."""
    return ",".join(f"{span.start}-{span.end}" for span in spans)


def inherited(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metadata of a text that hold for any part of it: the slices that a chunk is made of do not."""
    stale = "source_id" in metadata and isinstance(metadata.get("spans"), str)
    return {key: value for key, value in metadata.items() if not (stale and key == "spans")}


def slices_of(text: str, start: object, end: object, several: object = None) -> list[Span] | None:
    """Read from a chunk's metadata which slices of another text it is made of.

    Args:
        text: The text of the chunk: its slices, on lines of their own.
        start: First character of the first slice.
        end: Behind the last character of the last slice.
        several: What `spelled` returned, if there is more than one slice.

    Returns:
        The slices; None if that is not said, or not true of a text of this length.
    """
    if isinstance(several, str) and _SPELLED.fullmatch(several):
        ends = [tuple(map(int, part.split("-"))) for part in several.split(",")]
    else:
        ends = [(start, end)] if isinstance(start, int) and isinstance(end, int) else []
    if not ends or not all(0 <= first <= last for first, last in ends):
        return None
    found = [Span(first, last) for first, last in ends]
    ordered = all(before.end <= after.start for before, after in pairwise(found))
    enclosed = (found[0].start, found[-1].end) == (start, end)
    fits = sum(map(len, found)) + len(found) - 1 == len(text)
    return found if ordered and enclosed and fits else None


def traced(spans: Iterable[Span], slices: Sequence[Span]) -> list[Span]:
    """Map spans of a text that is made of slices of another one, on lines of their own, to that other text.

    Args:
        spans: Ordered, disjoint spans, none of them outside of the slices but for the line ends between these.
        slices: The slices, ordered and disjoint.

    Returns:
        Ordered, disjoint spans. Joined by line ends, what they cover is what the given ones cover.
    """
    found: list[Span] = []
    position = index = 0
    for span in spans:
        while index < len(slices):
            first, last = max(span.start, position), min(span.end, position + len(slices[index]))
            shift = slices[index].start - position
            if first < last:
                found.append(Span(first + shift, last + shift))
            if span.end <= position + len(slices[index]):
                break  # the next one may begin in the same slice
            position += len(slices[index]) + 1
            index += 1
    return found
