"""Retrieved passages under a budget of tokens: the fair comparison between chunks of different sizes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rag_embeddings.errors import DocumentError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rag_embeddings.evaluate.intervals import Range
    from rag_embeddings.split.tokens import TokenCounter
    from rag_embeddings.text import Document


class Sizes:
    """Sizes of passages in tokens, each counted once however often it is retrieved.

    Args:
        documents: The documents evaluated. Others may be added as their passages turn up.
        counter: Counts tokens.
    """

    def __init__(self, documents: Iterable[Document], counter: TokenCounter) -> None:
        self._documents = {document.id: document for document in documents}
        self._counter = counter
        self._known: dict[Range, int] = {}

    def add(self, document: Document) -> None:
        """Make a document known.

        Raises:
            DocumentError: If another text is known under its id: ranges of the two cannot be compared.
        """
        known = self._documents.setdefault(document.id, document)
        if known is not document and known.digest != document.digest:
            raise DocumentError(
                f"a retrieved passage is of another version of document {document.id!r} than the one given; index again"
            )

    def of(self, ranges: Sequence[Range]) -> list[int]:
        """Return the tokens of each range, counted by itself."""
        unknown = [item for item in dict.fromkeys(ranges) if item not in self._known]
        if unknown:
            counts = self._counter.count(
                [self._documents[item.document].text[item.start : item.end] for item in unknown]
            )
            self._known.update(zip(unknown, counts, strict=True))
        return [self._known[item] for item in ranges]

    def cut(self, item: Range, tokens: int) -> Range:
        """Return the longest beginning of a range that has at most ``tokens`` whole tokens."""
        text = self._documents[item.document].text[item.start : item.end]
        counts = self._counter.cumulative(text, np.arange(len(text) + 1, dtype=np.int64))
        # The end of the last whole token, not of the characters of the next one that is not whole yet.
        length = int(np.searchsorted(counts, min(tokens, int(counts[-1])), side="left"))
        return item._replace(end=item.start + length)


def within(ranges: Iterable[Range], budget: int, sizes: Sizes) -> list[Range]:
    """Take ranges in rank order until a budget is spent; the last is cut where it ends.

    Args:
        ranges: Ranges of the retrieved passages, best first.
        budget: Tokens that may be taken.
        sizes: Counts them.

    Returns:
        The ranges that fit, and the beginning of the first that does not.
    """
    ranges = list(ranges)
    taken: list[Range] = []
    for item, size in zip(ranges, sizes.of(ranges), strict=True):
        if size > budget:
            beginning = sizes.cut(item, budget)
            return [*taken, beginning] if beginning.end > beginning.start else taken
        taken.append(item)
        budget -= size
    return taken
