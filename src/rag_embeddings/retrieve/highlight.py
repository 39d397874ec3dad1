"""Which sentences of a passage speak to a query, and how they are marked."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from rag_embeddings.encode.base import Role, validated
from rag_embeddings.split.sentences import sentence_spans, sentences_of
from rag_embeddings.store.records import similarities
from rag_embeddings.text import Chunk, Document, Span

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from rag_embeddings.encode.base import Encoder


_SPANS = re.compile(r"\d{1,12}-\d{1,12}(?:,\d{1,12}-\d{1,12})*", re.ASCII)


@dataclass(frozen=True)
class Highlighter:
    """Finds the sentences of any passages that are most similar to a query.

    Attributes:
        encoder: Compares query and sentences.
        most: How many sentences of a passage, at most.
        least: Least similarity of a sentence; None: the best ones, whatever their similarity.
        language: ISO 639-1 code, for sentence boundaries.

    Raises:
        ValueError: If ``most`` is below 1.
    """

    encoder: Encoder
    most: int = 2
    least: float | None = None
    language: str = "en"

    def __post_init__(self) -> None:
        if self.most < 1:
            raise ValueError(f"at least 1 sentence is to be marked, got most={self.most}")

    def sentences(self, query: str, texts: Sequence[str]) -> list[list[Span]]:
        """Return for each text its sentences most similar to a query, best first.

        All sentences are encoded in one call, equal ones once.

        Args:
            query: The question.
            texts: Passages.

        Returns:
            Spans in characters of each text, without white space around them.
        """
        cut = [_sentences(text, self.language) for text in texts]
        unique = list(dict.fromkeys(span.of(text) for text, spans in zip(texts, cut, strict=True) for span in spans))
        if not unique:
            return [[] for _ in texts]
        dimensions = self.encoder.profile.dimensions
        vectors = validated(self.encoder.encode(unique, Role.DOCUMENT), unique, dimensions)
        asked = validated(self.encoder.encode([query], Role.QUERY), [query], dimensions)[0]
        scores = dict(zip(unique, similarities(vectors, asked, self.encoder.profile.similarity).tolist(), strict=True))
        return [self._best(text, spans, scores) for text, spans in zip(texts, cut, strict=True)]

    def _best(self, text: str, spans: Sequence[Span], scores: Mapping[str, float]) -> list[Span]:
        least = -np.inf if self.least is None else self.least
        ranked = sorted(spans, key=lambda span: -scores[span.of(text)])
        return [span for span in ranked[: self.most] if scores[span.of(text)] >= least]


def matched_sentences(text: str, metadata: Mapping[str, Any]) -> list[Span] | None:
    """Return the sentences that a search of this package matched in a passage.

    Args:
        text: The passage as a framework shows it: its slices on lines of their own, behind any context.
        metadata: `Match.metadata`, as the framework carried it.

    Returns:
        Spans in characters of ``text``, best first; none where the passage was fetched along by a link. None if the
        passage is not one of ours, or its text has been changed.
    """
    places: Any = metadata.get("matches")
    spelled = metadata.get("spans", f"{metadata.get('start_index')}-{metadata.get('end_index')}")
    if not _are_pairs(places) or not isinstance(spelled, str) or not _SPANS.fullmatch(spelled):
        return None
    ends = [part.split("-") for part in spelled.split(",")]
    if any(int(first) > int(last) for first, last in ends):
        return None
    slices = [Span(int(first), int(last)) for first, last in ends]
    position = len(text) - sum(map(len, slices)) - (len(slices) - 1)
    if position < 0 or (position > 0 and not text[:position].endswith("\n\n")):
        return None
    shifts = []
    for span in slices:
        shifts.append((span, position - span.start))
        position += len(span) + 1
    found = []
    for first, last in places:
        inside = [shift for span, shift in shifts if span.start <= first and last <= span.end]
        found += [Span(first + inside[0], last + inside[0])] if inside else []
    return found


def highlighted(
    query: str, passages: Sequence[tuple[str, Mapping[str, Any]]], highlighter: Highlighter | None, most: int
) -> list[list[Span]]:
    """Return which sentences to mark in what any retriever found.

    Args:
        query: The question.
        passages: Texts and metadata.
        highlighter: Finds sentences in passages that do not say which matched; None if there is nothing to find them.
        most: How many sentences of a passage, at most.

    Returns:
        For each passage spans in characters of its text, best first.

    Raises:
        ValueError: If a passage does not say which sentences matched and there is no highlighter.
    """
    found = [matched_sentences(text, metadata) for text, metadata in passages]
    missing = [number for number, spans in enumerate(found) if spans is None]
    if missing and highlighter is None:
        raise ValueError(
            f"{len(missing)} of {len(passages)} passages do not say which of their sentences matched: they come from "
            "another retriever, or their text was changed. Give embeddings that can find the sentences"
        )
    if missing and highlighter is not None:
        computed = highlighter.sentences(query, [passages[number][0] for number in missing])
        for number, spans in zip(missing, computed, strict=True):
            found[number] = spans
    return [(spans or [])[:most] for spans in found]


def marked(text: str, spans: Iterable[Span], before: str = "**", after: str = "**") -> str:
    """Return a text with marks around some spans; those that overlap or touch get one pair.

    Args:
        text: Any text.
        spans: In characters of it, in any order.
        before: Put in front of each.
        after: Put behind each.
    """
    pieces: list[str] = []
    done = 0
    for start, end in _joined(spans):
        pieces += [text[done:start], before, text[start:end], after]
        done = end
    return "".join([*pieces, text[done:]])


def _are_pairs(places: Any) -> bool:
    """Whether something is what `Match.metadata` says of sentences; any retriever may have such a key."""
    return isinstance(places, list) and all(
        isinstance(place, list | tuple) and [type(end) for end in place] == [int, int] and 0 <= place[0] <= place[1]
        for place in places
    )


def _joined(spans: Iterable[Span]) -> list[tuple[int, int]]:
    joined: list[tuple[int, int]] = []
    for span in sorted(spans):
        if joined and span.start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(joined[-1][1], span.end))
        elif len(span):
            joined.append((span.start, span.end))
    return joined


def _sentences(text: str, language: str) -> list[Span]:
    if not text.strip():
        return []
    return sentences_of(Chunk(Document(text, "passage"), (Span(0, len(text)),)), sentence_spans(text, language))
