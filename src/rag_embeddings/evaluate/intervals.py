"""Ranges of characters of named documents, and the arithmetic on them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable


class Range(NamedTuple):
    """A half-open range of characters of one document.

    Attributes:
        document: Id of the document.
        start: Index of the first character (Python code points).
        end: Index after the last character.
    """

    document: str
    start: int
    end: int


def total(ranges: Iterable[Range]) -> int:
    """Add up the lengths in characters; what several ranges share is counted each time."""
    return sum(item.end - item.start for item in ranges)


def merge(ranges: Iterable[Range]) -> list[Range]:
    """Unite ranges.

    Args:
        ranges: Any ranges, in any order, overlapping or not.

    Returns:
        The same characters as sorted, disjoint, non-empty ranges.
    """
    merged: list[Range] = []
    for item in sorted(ranges):
        if item.start >= item.end:
            continue
        if merged and merged[-1].document == item.document and item.start <= merged[-1].end:
            if item.end > merged[-1].end:
                merged[-1] = merged[-1]._replace(end=item.end)
        else:
            merged.append(item)
    return merged


def intersect(one: Range, other: Range) -> Range | None:
    """Return what two ranges share, or None if that is no character."""
    if one.document != other.document:
        return None
    start, end = max(one.start, other.start), min(one.end, other.end)
    return Range(one.document, start, end) if start < end else None
